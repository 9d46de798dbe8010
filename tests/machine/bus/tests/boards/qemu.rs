//! The distribution's QEMU, with its edu device, as a board.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::common::{EDU, config, events, qemu, set_up};
use machine_bus::pci::{self, Function};
use machine_bus::{Board, BoardError, BoardEvent, FunctionAddress, QemuBoard, QemuConfig, Zone};

#[test]
fn edu_is_found_by_enumeration() {
    let board = qemu();
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
    let board = qemu();
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
        assert!(board.wait(Duration::from_secs(10)).unwrap().news);
        assert_eq!(
            events(&board, 0),
            [BoardEvent::Line {
                line,
                asserted: true
            }]
        );
        assert_eq!(board.read(registers + 0x24, 4).unwrap(), 0x100);
        board.write(registers + 0x64, 4, 0x100).unwrap();
        assert_eq!(
            events(&board, 0),
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
    let board = qemu();
    let registers = set_up(&board);
    let function = Function::new(&board, EDU);
    let msi = function.msi().unwrap().unwrap();
    assert_eq!((msi.offset, msi.wide, msi.messages), (0x40, true, 1));
    function
        .enable_msi(&msi, board.message_target(0x55))
        .unwrap();
    assert!(!board.wait(Duration::from_millis(5)).unwrap().news);
    board.write(registers + 0x60, 4, 1).unwrap();
    assert!(board.wait(Duration::from_secs(10)).unwrap().news);
    assert_eq!(events(&board, 0), [BoardEvent::Message { vector: 0x55 }]);
    assert_eq!(events(&board, 0), []);

    function.disable_msi(&msi).unwrap();
    board.write(registers + 0x60, 4, 2).unwrap();
    assert!(matches!(
        events(&board, 0)[..],
        [BoardEvent::Line { asserted: true, .. }]
    ));
}

/// Up to about version 9.0 QEMU aborts when the transfer touches the last byte of edu's buffer; later it refuses.
#[test]
fn an_abort_of_qemu_is_reported_with_its_words() {
    let board = qemu();
    let registers = set_up(&board);
    board.write(registers + 0x88, 8, 0x40000).unwrap();
    board.write(registers + 0x90, 8, 4096).unwrap();
    let start = Instant::now();
    let result = board
        .write(registers + 0x98, 8, 5)
        .and_then(|()| board.wait(Duration::from_secs(10)));
    if board.version().numbers() >= (9, 1) {
        assert!(result.unwrap().news);
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
    let board = qemu();
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
        ..config()
    };
    let error = QemuBoard::start(&config).err().expect("an error");
    assert!(
        matches!(&error, BoardError::Exited { output, .. } if output.contains("no-such-device")),
        "{error}"
    );
}

/// A program that says it is some QEMU, and then says no more.
fn pretender(version: &str) -> QemuConfig {
    let path = std::env::temp_dir().join(format!("pretender-{}-{version}", std::process::id()));
    let script = format!(
        "#!/bin/sh\n[ $1 = --version ] || exec sleep 60\necho QEMU emulator version {version}\n"
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    QemuConfig {
        program: path,
        timeout: Duration::from_millis(200),
        ..config()
    }
}

#[test]
fn an_old_qemu_is_refused() {
    let config = pretender("6.2.0");
    let error = QemuBoard::start(&config).err().expect("an error");
    std::fs::remove_file(&config.program).unwrap();
    assert!(
        error
            .to_string()
            .ends_with("is version 6.2.0, at least 7.2 is needed"),
        "{error}"
    );
}

#[test]
fn a_silent_qemu_is_not_waited_for() {
    let config = pretender("7.2.0");
    let start = Instant::now();
    let error = QemuBoard::start(&config).err().expect("an error");
    std::fs::remove_file(&config.program).unwrap();
    assert!(matches!(error, BoardError::Timeout { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_missing_qemu_names_its_package() {
    let config = QemuConfig {
        program: "qemu-system-missing".into(),
        ..config()
    };
    let error = QemuBoard::start(&config).err().expect("an error");
    assert_eq!(
        error.to_string(),
        "qemu-system-missing is not installed: run `apt-get install qemu-system-x86`"
    );
}
