//! What the tests of both boards use.

use machine_bus::pci::{Bar, BarKind, Function, RegisterWindow, command};
use machine_bus::{Board, BoardEvent, FunctionAddress, QemuBoard, QemuConfig};

/// Where edu is plugged in.
pub const EDU: FunctionAddress = FunctionAddress::new(0, 4, 0);

/// The QEMU to test with: the distribution's, or the one that `MACHINE_QEMU` names.
pub fn config() -> QemuConfig {
    let mut config = QemuConfig::default();
    if let Some(program) = std::env::var_os("MACHINE_QEMU") {
        config.program = program.into();
    }
    config
}

/// Starts QEMU with an edu device.
pub fn qemu() -> QemuBoard {
    QemuBoard::start(&config()).unwrap_or_else(|error| panic!("{error}"))
}

/// Checks that edu is there, gives its registers an address, and turns it on.
pub fn set_up(board: &dyn Board) -> u64 {
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

/// Starts a transfer between the device's buffer and a logical address.
pub fn transfer(board: &dyn Board, registers: u64, logical: u64, count: u64, command: u64) {
    let (source, destination) = if command & 2 == 0 {
        (logical, 0x40000)
    } else {
        (0x40000, logical)
    };
    for (offset, value) in [
        (0x80, source),
        (0x88, destination),
        (0x90, count),
        (0x98, command),
    ] {
        board.write(registers + offset, 8, value).unwrap();
    }
}

/// What has happened until now.
pub fn events(board: &dyn Board, now: u64) -> Vec<BoardEvent> {
    let mut events = Vec::new();
    board.poll(now, &mut events).unwrap();
    events
}
