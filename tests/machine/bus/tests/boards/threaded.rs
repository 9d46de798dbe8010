//! The in-process board whose devices run on a thread of their own.

use std::time::Duration;

use crate::common::{EDU, events, set_up, transfer};
use machine_bus::pci::{Function, command};
use machine_bus::{
    Board, BoardError, BoardEvent, Edu, MemoryConfig, MemoryError, ThreadedBoard, Zone,
};

const LONG: Duration = Duration::from_secs(30);

fn board() -> ThreadedBoard {
    let edu = Edu::default().paced(|_| 0);
    ThreadedBoard::new(&MemoryConfig::default(), vec![(EDU, Box::new(edu))]).unwrap()
}

/// Waits until the line rises.
fn wait_line(board: &dyn Board) {
    assert!(board.wait(LONG).unwrap().news);
    let line = board.line(EDU, 1);
    let asserted = BoardEvent::Line {
        line,
        asserted: true,
    };
    assert_eq!(events(board, 0), [asserted]);
}

#[test]
fn transfers_go_on_beside_the_caller() -> Result<(), MemoryError> {
    let board = board();
    let registers = set_up(&board);
    let page = board.memory().allocate(Zone::Low, 1)?[0];
    board.memory().write(page, b"there and back")?;
    transfer(&board, registers, page, 14, 1 | 4);
    wait_line(&board);
    board.write(registers + 0x64, 4, 0x100).unwrap();
    transfer(&board, registers, page + 64, 14, 1 | 2);
    while board.read(registers + 0x98, 8).unwrap() & 1 != 0 {
        std::thread::yield_now();
    }
    let mut back = [0; 14];
    board.memory().read(page + 64, &mut back)?;
    assert_eq!(&back, b"there and back");
    Ok(())
}

/// A read comes after the writes before it, although nobody waits for those.
#[test]
fn a_read_follows_the_writes_before_it() {
    let board = board();
    let registers = set_up(&board);
    for round in 0..2000_u32 {
        board.write(registers + 4, 4, round.into()).unwrap();
        assert_eq!(board.read(registers + 4, 4).unwrap(), u64::from(!round));
    }
}

/// Bus mastering is off once the write that turned it off has returned, whatever was posted before.
#[test]
fn configuration_space_is_not_posted() {
    let board = board();
    let registers = set_up(&board);
    for _ in 0..200 {
        board.write(registers + 0x60, 4, 1).unwrap();
        Function::new(&board, EDU)
            .change_command(command::INTX_DISABLE, 0)
            .unwrap();
        let levels: Vec<bool> = events(&board, 0)
            .into_iter()
            .map(|event| matches!(event, BoardEvent::Line { asserted: true, .. }))
            .collect();
        assert_eq!(levels, [true, false]);
        board.write(registers + 0x64, 4, 1).unwrap();
        Function::new(&board, EDU)
            .change_command(0, command::INTX_DISABLE)
            .unwrap();
        assert_eq!(events(&board, 0), []);
    }
}

#[test]
fn without_an_event_the_wait_ends_in_time() {
    let board = board();
    let waited = board.wait(Duration::from_millis(5)).unwrap();
    assert!(!waited.news && waited.elapsed >= Duration::from_millis(5));
}

#[test]
fn what_is_no_memory_is_a_fault() {
    let small = MemoryConfig {
        total: 64 << 20,
        ..MemoryConfig::default()
    };
    let edu = Edu::default().paced(|_| 0);
    let board = ThreadedBoard::new(&small, vec![(EDU, Box::new(edu))]).unwrap();
    let registers = set_up(&board);
    transfer(&board, registers, 0x0fff_fff0, 16, 1 | 2);
    assert!(board.wait(LONG).unwrap().news);
    let fault = BoardEvent::DmaFault {
        function: EDU,
        address: 0x0fff_fff0,
        write: true,
    };
    assert_eq!(events(&board, 0), [fault]);
}

#[test]
fn an_empty_slot_reads_as_ones_and_what_was_in_it_is_silent() {
    let board = board();
    let registers = set_up(&board);
    assert!(board.unplug(EDU).is_some());
    assert!(board.unplug(EDU).is_none());
    assert_eq!(board.read(registers, 4).unwrap(), 0xffff_ffff);
    board.write(registers + 0x60, 4, 1).unwrap();
    assert_eq!(board.config_read(EDU, 0, 4).unwrap(), 0xffff_ffff);
    assert_eq!(events(&board, 0), []);
}

/// As QEMU would end.
#[test]
fn a_device_that_gives_up_is_reported() {
    let board = board();
    let registers = set_up(&board);
    transfer(&board, registers, 0x10_0000, 4097, 1);
    assert!(board.wait(LONG).unwrap().news);
    assert!(matches!(
        board.poll(0, &mut Vec::new()),
        Err(BoardError::DeviceAborted { .. })
    ));
}
