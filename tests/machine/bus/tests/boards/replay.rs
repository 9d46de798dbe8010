//! Sessions with QEMU, recorded and replayed without it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::common::{EDU, qemu, set_up, transfer};
use machine_bus::pci::{self, Function};
use machine_bus::record::{RecordError, ReplayError};
use machine_bus::{
    Board, BoardError, Edu, Engine, FaultyBoard, LocalBoard, MemoryConfig, PAGE_SIZE,
    RecordingBoard, ReplayBoard, Zone,
};

/// A record that is removed with this value.
struct Record(PathBuf);

impl Record {
    fn new(name: &str) -> Self {
        let file = format!("board-{}-{name}", std::process::id());
        Self(std::env::temp_dir().join(file))
    }

    /// What a session with QEMU returns, which is recorded.
    fn of<T>(&self, session: impl FnOnce(Box<dyn Board>) -> T) -> T {
        let board =
            RecordingBoard::create(Box::new(qemu()), &self.0, "a machine", EDU, Engine::EDU)
                .unwrap();
        session(Box::new(board))
    }

    fn open(&self) -> Result<ReplayBoard, RecordError> {
        ReplayBoard::open(&self.0, "a machine")
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A driver of edu that waits for interrupts, and what it experiences.
struct Session<'a> {
    board: &'a dyn Board,
    now: u64,
    log: Vec<String>,
}

impl<'a> Session<'a> {
    fn new(board: &'a dyn Board) -> Self {
        Self {
            board,
            now: 0,
            log: Vec::new(),
        }
    }

    /// Waits for events, as an idle processor does; `false` if there are none for a while.
    fn wait(&mut self) -> bool {
        for _ in 0..20 {
            let waited = self.board.wait(Duration::from_millis(20)).unwrap();
            self.now += waited.elapsed.as_nanos() as u64;
            let mut events = Vec::new();
            self.board.poll(self.now, &mut events).unwrap();
            if !events.is_empty() {
                self.log.push(format!("{} {events:?}", self.now));
                return true;
            }
        }
        false
    }

    /// Transfers to the device and back, at an address that only QEMU's choice of pages determines.
    fn run(&mut self) {
        let functions = pci::enumerate(self.board).unwrap();
        self.log.push(format!("{functions:?}"));
        let registers = set_up(self.board);
        let memory = self.board.memory();
        let pages = memory.allocate(Zone::Low, 2).unwrap();
        memory.fill(pages[1], PAGE_SIZE, 0).unwrap();
        for round in 0..6u64 {
            if round == 3 {
                let function = Function::new(self.board, EDU);
                let msi = function.msi().unwrap().unwrap();
                let message = self.board.message_target(0x61);
                function.enable_msi(&msi, message).unwrap();
            }
            let text: Vec<u8> = (0..600).map(|i| (i * 7 + round * 13) as u8).collect();
            memory.write(pages[0], &text).unwrap();
            for (page, command) in [(pages[0], 0b101), (pages[1] + round, 0b111)] {
                transfer(self.board, registers, page, 600, command);
                let came = self.wait();
                let pending = self.board.read(registers + 0x24, 4).unwrap();
                self.log.push(format!("{came} {pending:#x}"));
                self.board.write(registers + 0x64, 4, pending).unwrap();
                let mut none = Vec::new();
                self.board.poll(self.now, &mut none).unwrap();
                let command = self.board.read(registers + 0x98, 8).unwrap();
                self.log.push(format!("{command} {none:?}"));
            }
            let mut bytes = vec![0; PAGE_SIZE];
            memory.read(pages[1], &mut bytes).unwrap();
            self.log.push(format!("{pages:x?} {bytes:?}"));
        }
        let error = self.board.read(registers + 1, 4).unwrap_err();
        let text = error.to_string();
        self.log
            .push(text.trim_start_matches("recorded: ").to_owned());
    }
}

fn run(board: &dyn Board) -> Vec<String> {
    let mut session = Session::new(board);
    session.run();
    session.log
}

#[test]
fn a_session_replays_without_qemu() {
    let record = Record::new("session");
    let (log, description) = record.of(|board| (run(&*board), board.describe()));
    let replay = record.open().unwrap();
    assert_eq!(
        Some(replay.describe()),
        description
            .strip_suffix("; recorded")
            .map(|text| format!("{text}; replayed"))
    );
    assert!(replay.external_version().is_some());
    assert_eq!(run(&replay), log);
    assert_eq!(replay.rest().entries(), 0);
    let size = std::fs::metadata(&record.0).unwrap().len();
    assert!(size < 32 << 10, "{size} bytes for 12 transfers");
}

#[test]
fn a_session_with_faults_replays_with_the_same_faults() {
    const PLAN: &str = "drop@2,corrupt=0x24=0x7@4,hang@9,spurious@after:3ms,late=1ms@4";
    let record = Record::new("faults");
    let fail = |board: Box<dyn Board>| {
        let board = FaultyBoard::new(board, EDU, Some(Engine::EDU)).unwrap();
        let shim = board.shim();
        shim.arm_plan(&PLAN.parse().unwrap()).unwrap();
        let log = run(&board);
        let fired: Vec<String> = shim.fired().iter().map(ToString::to_string).collect();
        (log, fired)
    };
    let recorded = record.of(fail);
    assert_eq!(recorded.1.len(), 5, "{:?}", recorded.1);
    assert_eq!(fail(Box::new(record.open().unwrap())), recorded);
}

#[test]
fn the_first_difference_ends_the_session() {
    let record = Record::new("difference");
    let registers = record.of(|board| {
        let registers = set_up(&*board);
        board.write(registers + 4, 4, 5).unwrap();
        board.poll(0, &mut Vec::new()).unwrap();
        board.poll(0, &mut Vec::new()).unwrap();
        board.read(registers + 4, 4).unwrap();
        registers
    });
    let replay = record.open().unwrap();
    set_up(&replay);
    let error = replay.write(registers + 4, 4, 6).unwrap_err();
    let BoardError::Replay(ReplayError::Divergence { entry, entries, .. }) = error else {
        panic!("{error}")
    };
    assert_eq!(entry, entries - 2);
    assert_eq!(
        error.to_string(),
        format!(
            "the session differs from its record at entry {entry} of {entries}: recorded is \
             `write 0x5 to 4 bytes at 0xc0000004`, now comes `write 0x6 to 4 bytes at 0xc0000004`"
        )
    );
    let again = replay.write(registers + 4, 4, 5).unwrap_err();
    assert_eq!(again.to_string(), error.to_string(), "nothing goes on");

    // Neither may there be fewer polls, nor more calls.
    let replay = record.open().unwrap();
    set_up(&replay);
    replay.write(registers + 4, 4, 5).unwrap();
    replay.poll(0, &mut Vec::new()).unwrap();
    let error = replay.read(registers + 4, 4).unwrap_err().to_string();
    assert!(
        error.contains("recorded is `1 polls without events`"),
        "{error}"
    );
    let replay = record.open().unwrap();
    set_up(&replay);
    replay.write(registers + 4, 4, 5).unwrap();
    replay.poll(0, &mut Vec::new()).unwrap();
    replay.poll(0, &mut Vec::new()).unwrap();
    assert_eq!(replay.read(registers + 4, 4).unwrap(), 0xffff_fffa);
    replay.poll(0, &mut Vec::new()).unwrap();
    let error = replay.wait(Duration::from_millis(1)).unwrap_err();
    assert!(matches!(
        error,
        BoardError::Replay(ReplayError::Exhausted { entries: e, .. }) if e == entries
    ));
}

#[test]
fn what_is_no_record_is_refused() {
    let record = Record::new("none");
    assert!(matches!(record.open(), Err(RecordError::File { .. })));
    std::fs::write(&record.0, "text").unwrap();
    assert!(matches!(record.open(), Err(RecordError::NoRecord)));
    record.of(|board| set_up(&*board));
    let error = ReplayBoard::open(&record.0, "another").err().unwrap();
    assert_eq!(
        error.to_string(),
        "the record is of another machine: recorded is `a machine`, this is `another`"
    );
    let bytes = std::fs::read(&record.0).unwrap();
    std::fs::write(&record.0, &bytes[..bytes.len() - 1]).unwrap();
    assert!(matches!(record.open(), Err(RecordError::Truncated { .. })));
    let devices: Vec<(_, Box<dyn machine_bus::Device>)> = vec![(EDU, Box::new(Edu::default()))];
    let board = LocalBoard::new(&MemoryConfig::default(), devices).unwrap();
    let error = RecordingBoard::create(
        Box::new(board),
        Path::new("none"),
        "a machine",
        EDU,
        Engine::EDU,
    );
    assert!(matches!(error, Err(RecordError::NotExternal)));
}
