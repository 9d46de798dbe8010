//! The card in a server of its own, as the board has it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use abi::card::register::{self, Causes};
use abi::card::{Direction, IDENTITY, MEMORY_DEFAULT};
use card_vfio_user::Server;
use machine_bus::pci::{self, Function, command};
use machine_bus::{
    Board, BoardError, BoardEvent, CardTiming, VfioUserBoard, VfioUserConfig, VfioUserServer,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::card::{
    CARD, VECTOR, enable_channel, enable_messages, next_events, pass_pages_on, set_up,
};
use crate::common::events;

/// The server's program.
fn program() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| harness::built("card-vfio-user"))
        .clone()
}

/// The card with the usual memory, in a server that is started.
fn own() -> VfioUserConfig {
    served_by(VfioUserServer::card(program(), MEMORY_DEFAULT, &[]))
}

fn served_by(server: VfioUserServer) -> VfioUserConfig {
    VfioUserConfig::new(server, CARD)
}

pub fn board() -> VfioUserBoard {
    VfioUserBoard::start(&own()).unwrap_or_else(|error| panic!("{error}"))
}

fn kill(board: &VfioUserBoard) {
    let server = Pid::from_raw(board.server_process().unwrap() as i32).unwrap();
    kill_process(server, Signal::KILL).unwrap();
}

/// What a board says of a card that is gone.
fn check_removed(board: &dyn Board, registers: u64) {
    assert_eq!(board.read(registers, 4).unwrap(), 0xffff_ffff);
    assert_eq!(board.read(registers, 8).unwrap(), u64::MAX);
    assert_eq!(board.config_read(CARD, 0, 4).unwrap(), u32::MAX);
    board.write(registers, 4, 1).unwrap();
    board.config_write(CARD, 4, 2, 6).unwrap();
    board.power_off(CARD);
    assert!(!Function::new(board, CARD).is_present().unwrap());
}

#[test]
fn the_served_card_is_the_one_function_on_the_board() {
    let board = board();
    assert_eq!(pci::enumerate(&board).unwrap(), [CARD]);
    let [registers, _] = set_up(&board);
    assert_eq!(board.read(registers, 4).unwrap(), u64::from(IDENTITY));
    assert_eq!(board.read(registers + 0x5000, 4).unwrap(), 0xffff_ffff);
    assert!(matches!(
        board.read(registers, 3),
        Err(BoardError::BadAccess { .. })
    ));
    let function = Function::new(&board, CARD);
    function.change_command(0, command::MEMORY_SPACE).unwrap();
    assert_eq!(board.read(registers, 4).unwrap(), 0xffff_ffff);
}

#[test]
fn the_served_card_tells_of_completions_that_are_there() {
    pass_pages_on(&board());
}

/// Has the card fail a transfer, which it interrupts for.
fn fail(board: &dyn Board, registers: u64) {
    let channel = registers + Direction::ToCard.window() as u64;
    let doorbell = channel + register::DOORBELL.offset() as u64;
    board.write(doorbell, 4, 1).unwrap();
}

#[test]
fn the_line_is_asserted_until_its_cause_is_read() {
    let board = board();
    let [registers, _] = set_up(&board);
    let page = enable_channel(&board, registers, Direction::ToCard);
    board.memory().fill(page, 4096, 0).unwrap();
    let line = board.line(CARD, 1);
    let level = |asserted| [BoardEvent::Line { line, asserted }];
    let function = Function::new(&board, CARD);
    let status = || function.read16(pci::offset::STATUS).unwrap() >> 3 & 1;

    fail(&board, registers);
    assert!(board.wait(Duration::from_secs(10)).unwrap().news);
    assert_eq!(events(&board, 0), level(true));
    assert_eq!(status(), 1);
    // An access that does not release it changes nothing.
    let pending = registers + register::INTERRUPT_PENDING.offset() as u64;
    assert_ne!(board.read(pending, 4).unwrap(), 0);
    assert_eq!(events(&board, 0), []);
    function.change_command(command::INTX_DISABLE, 0).unwrap();
    assert_eq!(events(&board, 0), level(false));
    assert_eq!(status(), 1);
    function.change_command(0, command::INTX_DISABLE).unwrap();
    assert_eq!(events(&board, 0), level(true));
    let cause = registers + register::INTERRUPT_CAUSE.offset() as u64;
    let completion = Causes::completion(Direction::ToCard).bits();
    assert_eq!(board.read(cause, 4).unwrap(), u64::from(completion));
    assert_eq!(events(&board, 0), level(false));
    assert_eq!(status(), 0);
}

#[test]
fn a_masked_message_of_the_served_card_is_pending_until_it_is_unmasked() {
    let board = board();
    let [registers, table] = set_up(&board);
    enable_messages(&board, table);
    for number in 0..3 {
        board.write(table + 16 * number + 12, 4, 1).unwrap();
    }
    let page = enable_channel(&board, registers, Direction::ToCard);
    board.memory().fill(page, 4096, 0).unwrap();
    fail(&board, registers);
    let start = Instant::now();
    while board.read(table + 0x800, 8).unwrap() == 0 {
        assert!(start.elapsed() < Duration::from_secs(10));
        board.wait(Duration::from_millis(1)).unwrap();
    }
    assert_eq!(events(&board, 0), []);
    let waiting = board.read(table + 0x800, 8).unwrap();
    for number in (0..3).filter(|number| waiting >> number & 1 != 0) {
        board.write(table + 16 * number + 12, 4, 0).unwrap();
        let vector = VECTOR + number as u8;
        assert_eq!(events(&board, 0), [BoardEvent::Message { vector }]);
    }
    assert_eq!(board.read(table + 0x800, 8).unwrap(), 0);
}

#[test]
fn an_idle_card_whose_server_is_killed_is_gone_at_once() {
    let board = board();
    let [registers, _] = set_up(&board);
    kill(&board);
    assert!(board.wait(Duration::from_secs(10)).unwrap().news);
    assert_eq!(events(&board, 0), [BoardEvent::Removed { function: CARD }]);
    check_removed(&board, registers);
    assert!(!board.wait(Duration::from_millis(1)).unwrap().news);
}

#[test]
fn a_server_that_is_killed_amid_transfers_takes_the_card_and_nothing_else() {
    const LENGTH: u64 = 32 << 20;

    let board = board();
    let [registers, table] = set_up(&board);
    enable_messages(&board, table);
    let page = enable_channel(&board, registers, Direction::FromCard);
    let memory = board.memory();
    let target = memory
        .allocate_run(LENGTH as usize >> 12, 1 << 32..6 << 30, 0, None)
        .unwrap();
    for entry in 0..15 {
        let fields = [target, 0, LENGTH, entry];
        for (index, field) in (0..).zip(fields) {
            let at = page + 32 * entry + 8 * index;
            memory.write(at, &field.to_le_bytes()).unwrap();
        }
    }
    let doorbell = (Direction::FromCard.window() + register::DOORBELL.offset()) as u64;
    memory.fill(target, LENGTH as usize, 0xa5).unwrap();
    board.write(registers + doorbell, 4, 15).unwrap();
    // It has begun, and is not done.
    let start = Instant::now();
    let mut first = [0xa5];
    while first == [0xa5] {
        assert!(start.elapsed() < Duration::from_secs(10));
        memory.read(target, &mut first).unwrap();
    }
    kill(&board);
    while board.read(registers, 4).unwrap() != 0xffff_ffff {}
    let consumed = page + 0x800 + 14 * 32;
    let mut last = [0; 32];
    memory.read(consumed, &mut last).unwrap();
    assert_eq!(last, [0; 32], "the last transfer was carried out");
    let happened = events(&board, 0);
    let removed = BoardEvent::Removed { function: CARD };
    assert_eq!(happened.last(), Some(&removed));
    check_removed(&board, registers);
    assert_eq!(events(&board, 0), []);
    // The memory is ours alone now.
    memory.fill(target, LENGTH as usize, 0x3c).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    let mut bytes = vec![0; LENGTH as usize];
    memory.read(target, &mut bytes).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0x3c));
}

#[test]
fn a_server_that_runs_already_is_connected_to_and_its_end_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("card.sock");
    let arguments = ["--socket".into(), socket.clone().into_os_string()];
    let mut server = Command::new(program()).args(arguments).spawn().unwrap();
    let config = served_by(VfioUserServer::Connect(socket.clone()));
    let start = Instant::now();
    let board = loop {
        match VfioUserBoard::start(&config) {
            Err(BoardError::NoServer { .. }) if start.elapsed() < Duration::from_secs(10) => {
                std::thread::sleep(Duration::from_millis(5));
            }
            result => break result.unwrap(),
        }
    };
    assert_eq!(board.server_process(), None);
    let [registers, _] = set_up(&board);
    assert_eq!(board.read(registers, 4).unwrap(), u64::from(IDENTITY));
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(
        next_events(&board),
        [BoardEvent::Removed { function: CARD }]
    );
    check_removed(&board, registers);
}

#[test]
fn memory_that_is_not_there_is_a_bus_error_that_the_card_reports() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("card.sock");
    let server = Server::new(&socket, MEMORY_DEFAULT, CardTiming::IMMEDIATE).unwrap();
    let server = std::thread::spawn(move || server.serve());
    let config = served_by(VfioUserServer::Connect(socket));
    let board = VfioUserBoard::start(&config).unwrap();
    let [registers, table] = set_up(&board);
    enable_messages(&board, table);
    let page = enable_channel(&board, registers, Direction::ToCard);
    let hole = board.memory().ranges()[1].end;
    let fields = [hole, 0, 64, 7];
    for (index, field) in (0..).zip(fields) {
        let at = page + 8 * index;
        board.memory().write(at, &field.to_le_bytes()).unwrap();
    }
    fail(&board, registers);
    let vector = VECTOR + 1;
    assert_eq!(next_events(&board)[0], BoardEvent::Message { vector });
    let mut completion = [0; 32];
    let at = page + 0x800;
    board.memory().read(at, &mut completion).unwrap();
    assert_eq!(completion[28..], [1, 0, 0, 0x80]);
    // Connections are closed in order: the server ends as it should.
    drop(board);
    server.join().unwrap().unwrap();
}

#[test]
fn a_missing_server_says_how_it_is_made() {
    let server = VfioUserServer::card("/nowhere/card-vfio-user".into(), MEMORY_DEFAULT, &[]);
    let config = served_by(server);
    let error = VfioUserBoard::start(&config).err().expect("an error");
    assert_eq!(
        error.to_string(),
        "/nowhere/card-vfio-user is not there: run `cargo build -p card-vfio-user`"
    );
}

#[test]
fn a_socket_that_nobody_listens_at_is_named() {
    let config = served_by(VfioUserServer::Connect("/nowhere/card.sock".into()));
    let error = VfioUserBoard::start(&config).err().expect("an error");
    assert_eq!(
        error.to_string(),
        "no vfio-user server answers at /nowhere/card.sock"
    );
}

#[test]
fn a_server_that_ends_or_says_nothing_is_reported_with_its_words() {
    let config = served_by(VfioUserServer::card(program(), 1 << 40, &[]));
    let error = VfioUserBoard::start(&config).err().expect("an error");
    let BoardError::Exited {
        status: Some(status),
        output,
        ..
    } = &error
    else {
        panic!("{error}")
    };
    assert!(!status.success());
    assert!(output.contains("cannot serve at"), "{output}");

    let silent = VfioUserServer::Start {
        program: "sh".into(),
        arguments: vec!["-c".into(), "exec sleep 60".into()],
    };
    let config = VfioUserConfig {
        timeout: Duration::from_millis(100),
        ..served_by(silent)
    };
    let error = VfioUserBoard::start(&config).err().expect("an error");
    assert!(matches!(error, BoardError::Timeout { .. }), "{error}");
}

/// Has the server's process stop where it is, and not end.
fn stop(board: &VfioUserBoard) {
    let server = Pid::from_raw(board.server_process().unwrap() as i32).unwrap();
    kill_process(server, Signal::STOP).unwrap();
}

#[test]
fn a_server_that_neither_answers_nor_ends_is_a_card_pulled_out() {
    let patience = Duration::from_secs(1);
    let board = VfioUserBoard::start(&VfioUserConfig { patience, ..own() }).unwrap();
    let [registers, _] = set_up(&board);
    assert_eq!(board.read(registers, 4).unwrap(), u64::from(IDENTITY));
    stop(&board);
    let start = Instant::now();
    check_removed(&board, registers);
    assert!(start.elapsed() >= patience, "it was not waited for");
    assert!(
        start.elapsed() < 20 * patience,
        "it was waited for again and again"
    );
    let mut happened = Vec::new();
    board.poll(0, &mut happened).unwrap();
    assert_eq!(happened, [BoardEvent::Removed { function: CARD }]);
    // It was ours, and does not come back to write to memory that others have by now.
    let server = Pid::from_raw(board.server_process().unwrap() as i32).unwrap();
    assert!(kill_process(server, Signal::CONT).is_err());
}

#[test]
fn a_server_that_is_slow_and_answers_in_time_is_waited_for() {
    let board = VfioUserBoard::start(&own()).unwrap();
    let [registers, _] = set_up(&board);
    stop(&board);
    let server = Pid::from_raw(board.server_process().unwrap() as i32).unwrap();
    let wake = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        kill_process(server, Signal::CONT).unwrap();
    });
    assert_eq!(board.read(registers, 4).unwrap(), u64::from(IDENTITY));
    wake.join().unwrap();
}

#[test]
fn a_server_that_listens_and_says_nothing_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("silent.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let config = VfioUserConfig {
        timeout: Duration::from_millis(100),
        ..served_by(VfioUserServer::Connect(path))
    };
    let error = VfioUserBoard::start(&config).err().expect("an error");
    assert!(matches!(error, BoardError::Timeout { .. }), "{error}");
}
