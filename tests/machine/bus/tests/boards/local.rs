//! The in-process board, with edu's twin.

use crate::common::{EDU, events, set_up, transfer};
use machine_bus::pci::{self, Function, command};
use machine_bus::{
    Access, Board, BoardError, BoardEvent, Device, Edu, FunctionAddress, LocalBoard, MemoryConfig,
    Zone,
};

const DMA_TIME: u64 = 100_000_000;

fn board() -> LocalBoard {
    LocalBoard::new(
        &MemoryConfig::default(),
        vec![(EDU, Box::new(Edu::default()))],
    )
    .unwrap()
}

#[test]
fn edu_is_found_by_enumeration() {
    let board = board();
    assert_eq!(pci::enumerate(&board).unwrap(), [EDU]);
    let registers = set_up(&board);
    assert_eq!(board.read(registers, 4).unwrap(), 0x0100_00ed);
    assert_eq!(board.read(registers - 8, 8).unwrap(), u64::MAX);
    Function::new(&board, EDU)
        .change_command(0, command::MEMORY_SPACE)
        .unwrap();
    assert_eq!(board.read(registers, 4).unwrap(), 0xffff_ffff);
    assert!(matches!(
        board.read(registers + 1, 4),
        Err(BoardError::BadAccess { .. })
    ));
    assert_eq!(
        board.describe(),
        "in-process board with edu's twin at 00:04.0"
    );
}

#[test]
fn dma_goes_through_mappings_and_takes_its_time() {
    let board = board();
    let registers = set_up(&board);
    let page = board.memory().allocate(Zone::High, 1).unwrap()[0];
    board.memory().write(page, b"through the twin").unwrap();
    let iommu = board.iommu().unwrap();
    iommu.map(EDU, 0x5000, page, 16, Access::Read).unwrap();
    iommu
        .map(EDU, 0x7ff8, page + 0x800, 16, Access::Write)
        .unwrap();
    let line = board.line(EDU, 1);

    assert!(events(&board, 1_500_000).is_empty());
    transfer(&board, registers, 0x5000, 16, 0b101);
    let due = board.next_event().unwrap();
    assert_eq!(
        due,
        1_000_000 + DMA_TIME,
        "as QEMU counts, in whole milliseconds"
    );
    assert!(events(&board, due - 1).is_empty());
    board.write(registers + 0x80, 8, 0x1111).unwrap();
    assert_eq!(
        board.read(registers + 0x80, 8).unwrap(),
        0x5000,
        "writes are dropped while it runs"
    );
    assert_eq!(
        events(&board, due),
        [BoardEvent::Line {
            line,
            asserted: true
        }]
    );
    assert_eq!(board.next_event(), None);
    board.write(registers + 0x64, 4, 0x100).unwrap();

    transfer(&board, registers, 0x7ff8, 16, 0b011);
    assert_eq!(
        events(&board, due + DMA_TIME),
        [BoardEvent::Line {
            line,
            asserted: false
        }]
    );
    let mut back = [0; 16];
    board.memory().read(page + 0x800, &mut back).unwrap();
    assert_eq!(&back, b"through the twin");
}

#[test]
fn a_byte_too_many_is_a_fault_and_moves_nothing() {
    let board = board();
    let registers = set_up(&board);
    let page = board.memory().allocate(Zone::High, 1).unwrap()[0];
    board.memory().fill(page, 64, 0x5a).unwrap();
    board
        .iommu()
        .unwrap()
        .map(EDU, 0x5000, page, 16, Access::Write)
        .unwrap();
    for (command, address) in [(0b011, 0x5010), (0b001, 0x5000)] {
        transfer(&board, registers, 0x5000, 17, command);
        let fault = BoardEvent::DmaFault {
            function: EDU,
            address,
            write: command & 2 != 0,
        };
        assert_eq!(events(&board, board.next_event().unwrap()), [fault]);
        assert_eq!(board.read(registers + 0x98, 8).unwrap() & 1, 0);
    }
    let mut bytes = [0; 64];
    board.memory().read(page, &mut bytes).unwrap();
    assert_eq!(bytes, [0x5a; 64]);
}

#[test]
fn a_function_that_is_no_master_is_silent() {
    let board = board();
    let registers = set_up(&board);
    let function = Function::new(&board, EDU);
    let msi = function.msi().unwrap().unwrap();
    function
        .enable_msi(&msi, board.message_target(0x61))
        .unwrap();
    function.change_command(0, command::BUS_MASTER).unwrap();
    transfer(&board, registers, 0x5000, 16, 0b101);
    assert!(
        events(&board, board.next_event().unwrap()).is_empty(),
        "neither a fault nor a message"
    );
    assert_eq!(board.read(registers + 0x24, 4).unwrap(), 0x100);
    function.change_command(command::BUS_MASTER, 0).unwrap();
    board.write(registers + 0x60, 4, 1).unwrap();
    board.write(registers + 0x60, 4, 1).unwrap();
    assert_eq!(
        events(&board, 0),
        [BoardEvent::Message { vector: 0x61 }; 2],
        "every raise sends one"
    );
}

#[test]
fn the_line_follows_the_command_register() {
    let board = board();
    let registers = set_up(&board);
    let function = Function::new(&board, EDU);
    let line = board.line(EDU, 1);
    board.write(registers + 0x60, 4, 2).unwrap();
    assert_eq!(
        events(&board, 0),
        [BoardEvent::Line {
            line,
            asserted: true
        }]
    );
    function.change_command(command::INTX_DISABLE, 0).unwrap();
    assert_eq!(
        events(&board, 0),
        [BoardEvent::Line {
            line,
            asserted: false
        }]
    );
    function.change_command(0, command::INTX_DISABLE).unwrap();
    assert_eq!(
        events(&board, 0),
        [BoardEvent::Line {
            line,
            asserted: true
        }]
    );
    let msi = function.msi().unwrap().unwrap();
    function
        .enable_msi(&msi, board.message_target(0x61))
        .unwrap();
    assert_eq!(
        events(&board, 0),
        [BoardEvent::Line {
            line,
            asserted: false
        }]
    );
}

#[test]
fn what_makes_qemu_abort_is_reported() {
    let board = board();
    let registers = set_up(&board);
    transfer(&board, registers, 0x5000, 4096, 1);
    let error = board
        .poll(board.next_event().unwrap(), &mut Vec::new())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "edu's twin: DMA of 0x1000 bytes at 0x40000 is out of bounds"
    );
}

#[test]
fn an_unplugged_device_answers_no_more() {
    let board = board();
    let registers = set_up(&board);
    board.write(registers + 0x60, 4, 1).unwrap();
    assert!(board.unplug(EDU).is_some());
    let line = board.line(EDU, 1);
    let levels = [true, false].map(|asserted| BoardEvent::Line { line, asserted });
    assert_eq!(events(&board, 0), levels);
    assert_eq!(board.read(registers + 0x24, 4).unwrap(), 0xffff_ffff);
    assert_eq!(board.config_read(EDU, 0, 2).unwrap(), 0xffff);
    assert!(board.unplug(FunctionAddress::new(0, 5, 0)).is_none());
}

#[test]
fn a_shared_line_is_asserted_as_long_as_anybody_asserts_it() {
    let neighbour = FunctionAddress::new(0, 8, 0);
    let devices: Vec<(_, Box<dyn Device>)> = vec![
        (EDU, Box::new(Edu::default())),
        (neighbour, Box::new(Edu::default())),
    ];
    let board = LocalBoard::new(&MemoryConfig::default(), devices).unwrap();
    let first = set_up(&board);
    let function = Function::new(&board, neighbour);
    let second = first + (1 << 20);
    function
        .assign(&function.bars().unwrap()[0], second)
        .unwrap();
    function.change_command(command::MEMORY_SPACE, 0).unwrap();
    let line = board.line(EDU, 1);
    assert_eq!(board.line(neighbour, 1), line);
    for registers in [first, second] {
        board.write(registers + 0x60, 4, 1).unwrap();
    }
    let asserted = BoardEvent::Line {
        line,
        asserted: true,
    };
    assert_eq!(events(&board, 0), [asserted]);
    board.write(first + 0x64, 4, 1).unwrap();
    assert_eq!(events(&board, 0), []);
    board.unplug(neighbour).unwrap();
    let released = BoardEvent::Line {
        line,
        asserted: false,
    };
    assert_eq!(events(&board, 0), [released]);
}

#[test]
fn a_function_without_power_forgets_everything() {
    let board = board();
    let registers = set_up(&board);
    let function = Function::new(&board, EDU);
    board.write(registers + 0x04, 4, 0x1234).unwrap();
    transfer(&board, registers, 0x5000, 16, 1);
    board.write(registers + 0x60, 4, 1).unwrap();
    let line = board.line(EDU, 1);
    let levels = [true, false].map(|asserted| BoardEvent::Line { line, asserted });
    board.power_off(EDU);
    assert_eq!(events(&board, 0), levels);
    assert_eq!(function.command().unwrap(), 0);
    assert_eq!(function.bars().unwrap()[0].address, 0);
    assert_eq!(board.read(registers, 4).unwrap(), 0xffff_ffff);
    assert_eq!(board.next_event(), None, "the transfer is forgotten");
    assert_eq!(set_up(&board), registers);
    for (register, size) in [(0x04, 4), (0x24, 4), (0x80, 8), (0x98, 8)] {
        assert_eq!(board.read(registers + register, size).unwrap(), 0);
    }
}
