//! The distribution's QEMU, with its edu device, as a board.

use std::time::{Duration, Instant};

use machine_bus::pci::{self, Bar, BarKind, Function, RegisterWindow, command};
use machine_bus::{Board, BoardError, BoardEvent, FunctionAddress, QemuBoard, QemuConfig, Zone};

const EDU: FunctionAddress = FunctionAddress::new(0, 4, 0);

fn start() -> QemuBoard {
    let mut config = QemuConfig::default();
    if let Some(program) = std::env::var_os("MACHINE_QEMU") {
        config.program = program.into();
    }
    QemuBoard::start(&config).unwrap_or_else(|error| panic!("{error}"))
}

/// Finds edu, gives its registers an address and turns it on.
fn set_up(board: &QemuBoard) -> u64 {
    let function = Function::new(board, EDU);
    let identity = function.identity().unwrap();
    assert_eq!(
        (
            identity.vendor,
            identity.device,
            identity.revision,
            identity.class
        ),
        (0x1234, 0x11e8, 0x10, 0x00ff00)
    );
    let bars = function.bars().unwrap();
    assert_eq!(
        bars,
        [Bar {
            index: 0,
            kind: BarKind::Memory32,
            prefetchable: false,
            size: 1 << 20,
            address: 0
        }]
    );
    let registers = RegisterWindow::new(board.register_window())
        .take(bars[0].size)
        .unwrap();
    function.assign(&bars[0], registers).unwrap();
    function
        .change_command(command::MEMORY_SPACE | command::BUS_MASTER, 0)
        .unwrap();
    registers
}

fn events(board: &QemuBoard) -> Vec<BoardEvent> {
    let mut events = Vec::new();
    board.poll(0, &mut events).unwrap();
    events
}

#[test]
fn edu_is_found_by_enumeration() {
    let board = start();
    let functions = pci::enumerate(&board).unwrap();
    assert!(functions.contains(&EDU), "{functions:?}");
    assert!(
        functions.len() >= 4,
        "q35 has a host bridge and three functions of ICH9 besides: {functions:?}"
    );
    assert!(functions.is_sorted());
    let registers = set_up(&board);
    assert_eq!(board.read(registers, 4).unwrap(), 0x0100_00ed);
    board.write(registers + 4, 4, 0x1234_5678).unwrap();
    assert_eq!(board.read(registers + 4, 4).unwrap(), 0xedcb_a987);
    assert!(board.describe().starts_with("QEMU "));
}

#[test]
fn dma_reaches_shared_memory_and_interrupts_by_line() {
    let board = start();
    let registers = set_up(&board);
    let page = board.memory().allocate(Zone::Low, 1).unwrap()[0];
    board.memory().write(page, b"through the device").unwrap();
    let line = board.line(
        EDU,
        Function::new(&board, EDU).interrupt_pin().unwrap().unwrap(),
    );

    for (source, destination, command) in [(page, 0x40000, 0b101), (0x40000, page + 0x800, 0b111)] {
        board.write(registers + 0x80, 8, source).unwrap();
        board.write(registers + 0x88, 8, destination).unwrap();
        board.write(registers + 0x90, 8, 18).unwrap();
        board.write(registers + 0x98, 8, command).unwrap();
        assert!(board.wait(Duration::from_secs(10)).unwrap());
        assert_eq!(
            events(&board),
            [BoardEvent::Line {
                line,
                asserted: true
            }]
        );
        assert_eq!(board.read(registers + 0x24, 4).unwrap(), 0x100);
        board.write(registers + 0x64, 4, 0x100).unwrap();
        assert_eq!(
            events(&board),
            [BoardEvent::Line {
                line,
                asserted: false
            }]
        );
    }
    let mut back = [0; 18];
    board.memory().read(page + 0x800, &mut back).unwrap();
    assert_eq!(&back, b"through the device");
}

#[test]
fn messages_arrive_once_each() {
    let board = start();
    let registers = set_up(&board);
    let function = Function::new(&board, EDU);
    let msi = function.msi().unwrap().unwrap();
    assert_eq!((msi.offset, msi.wide, msi.messages), (0x40, true, 1));
    function
        .enable_msi(&msi, board.message_target(0x55))
        .unwrap();
    assert!(!board.wait(Duration::from_millis(5)).unwrap());
    board.write(registers + 0x60, 4, 1).unwrap();
    assert!(board.wait(Duration::from_secs(10)).unwrap());
    assert_eq!(events(&board), [BoardEvent::Message { vector: 0x55 }]);
    assert_eq!(events(&board), []);

    function.disable_msi(&msi).unwrap();
    board.write(registers + 0x60, 4, 2).unwrap();
    assert!(matches!(
        events(&board)[..],
        [BoardEvent::Line { asserted: true, .. }]
    ));
}

/// Up to about version 9.0 QEMU aborts when the transfer touches the last byte of edu's buffer; later it refuses.
#[test]
fn an_abort_of_qemu_is_reported_with_its_words() {
    let board = start();
    let registers = set_up(&board);
    board.write(registers + 0x88, 8, 0x40000).unwrap();
    board.write(registers + 0x90, 8, 4096).unwrap();
    let start = Instant::now();
    let result = board
        .write(registers + 0x98, 8, 5)
        .and_then(|()| board.wait(Duration::from_secs(10)));
    if board.version().numbers() >= (9, 1) {
        assert!(result.unwrap());
        return;
    }
    let error = result.unwrap_err();
    let BoardError::Exited {
        status: Some(status),
        output,
        ..
    } = &error
    else {
        panic!("{error}")
    };
    assert!(!status.success());
    assert!(output.contains("out of bounds"), "{output}");
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(matches!(
        board.read(registers, 4),
        Err(BoardError::Exited { .. })
    ));
}

#[test]
fn bad_accesses_and_bad_devices_are_errors() {
    let board = start();
    assert!(matches!(
        board.read(0xc000_0000, 3),
        Err(BoardError::BadAccess { .. })
    ));
    assert!(matches!(
        board.read(0xc000_0002, 4),
        Err(BoardError::BadAccess { .. })
    ));
    assert!(matches!(
        board.config_read(EDU, 1, 2),
        Err(BoardError::BadAccess { .. })
    ));
    assert_eq!(
        board
            .config_read(FunctionAddress::new(0, 9, 0), 0, 4)
            .unwrap(),
        u32::MAX
    );

    let config = QemuConfig {
        devices: vec!["no-such-device".to_owned()],
        ..QemuConfig::default()
    };
    let error = QemuBoard::start(&config).err().expect("an error");
    assert!(
        matches!(&error, BoardError::Exited { output, .. } if output.contains("no-such-device")),
        "{error}"
    );
}
