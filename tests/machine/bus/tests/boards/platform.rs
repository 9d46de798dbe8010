//! Platform devices and the system DMA controller: the FIFO peripheral.

use crate::common::events;
use abi::fifo::{CAUSES_ENABLE, CONTROL, Causes, Control, HARDWARE_ID, TX_COUNT, TX_DATA};
use machine_bus::fifo::{self, Faults, Wiring};
use machine_bus::system_dma::{DmaMode, DmaProgram, DmaStop};
use machine_bus::{Board, BoardEvent, LocalBoard, MemoryConfig};

/// A board with a FIFO, and where its registers are.
fn board() -> (LocalBoard, std::ops::Range<u64>) {
    let memory = MemoryConfig::default();
    let board = fifo::board(&memory, Wiring::Duplex, true, &Faults::default()).unwrap();
    let devices = board.platform();
    let [device] = &devices[..] else {
        panic!("{devices:?}");
    };
    assert_eq!(device.hardware_id, HARDWARE_ID);
    let registers = device.registers.clone();
    (board, registers)
}

#[test]
fn a_device_that_is_pulled_out_deasserts_its_line() {
    let (board, registers) = board();
    let set = |offset: usize, value: u32| {
        let address = registers.start + offset as u64;
        board.write(address, 4, value.into()).unwrap();
    };
    set(CONTROL.offset(), Control::TX_ENABLE.bits());
    set(CAUSES_ENABLE.offset(), Causes::TX_DONE.bits());
    set(TX_COUNT.offset(), 4);
    set(TX_DATA.offset(), 0);
    let line = board.platform()[0].line.unwrap();
    let level = |asserted| [BoardEvent::Line { line, asserted }];
    assert_eq!(events(&board, 1_000_000), level(true));
    board.unplug_platform(&registers);
    assert_eq!(events(&board, 1_000_000), level(false));
    assert_eq!(board.read(registers.start, 4).unwrap(), 0xffff_ffff);
    assert!(board.platform().is_empty());
    board.unplug_platform(&registers);
    assert!(events(&board, 1_000_000).is_empty());
}

#[test]
fn a_device_that_is_pulled_out_asks_for_no_data_and_its_transfer_is_stopped() {
    let (board, registers) = board();
    let set = |offset: usize, value: u32| {
        let address = registers.start + offset as u64;
        board.write(address, 4, value.into()).unwrap();
    };
    let connection = board.platform()[0].dma[0];
    let controller = board.dma_controller().unwrap();
    set(
        CONTROL.offset(),
        (Control::TX_ENABLE | Control::TX_DMA).bits(),
    );
    set(TX_COUNT.offset(), 64);
    controller.start(
        connection.channel,
        DmaProgram {
            request_line: connection.request_line,
            device: registers.start + TX_DATA.offset() as u64,
            width: connection.width,
            to_device: true,
            mode: DmaMode::Demand,
            looped: false,
            ranges: vec![(0x1000, 64)],
        },
    );
    assert!(board.next_event().is_some());
    board.unplug_platform(&registers);
    assert_eq!(board.next_event(), None);
    assert!(controller.is_running(connection.channel));
    assert_eq!(controller.stop(connection.channel), DmaStop::Stopped);
}
