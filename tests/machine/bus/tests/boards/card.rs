//! The card in this process, as the board has it.

use abi::card::register::{self, Causes, ChannelControl};
use abi::card::ring::{Completion, Descriptor, DescriptorFlags};
use abi::card::{Direction, IDENTITY, MEMORY_DEFAULT};
use machine_bus::pci::{BarKind, Function, RegisterWindow, capability, command};
use machine_bus::{
    Access, Board, BoardEvent, CardDevice, CardTiming, FunctionAddress, LocalBoard, MemoryConfig,
    ThreadedBoard, Zone,
};

use crate::common::events;
use std::time::Duration;

pub const CARD: FunctionAddress = FunctionAddress::new(0, 4, 0);

/// The vectors that messages arrive with.
pub const VECTOR: u8 = 0x50;

fn board() -> LocalBoard {
    let card = CardDevice::new(MEMORY_DEFAULT, CardTiming::REAL).unwrap();
    LocalBoard::new(&MemoryConfig::default(), vec![(CARD, Box::new(card))]).unwrap()
}

/// Gives the card's windows addresses, and turns it on.
pub fn set_up(board: &dyn Board) -> [u64; 2] {
    let function = Function::new(board, CARD);
    let bars = function.bars().unwrap();
    let kinds: Vec<_> = bars
        .iter()
        .map(|bar| (bar.index, bar.kind, bar.size))
        .collect();
    let expected = [
        (0, BarKind::Memory64, 0x4000),
        (2, BarKind::Memory64, 0x1000),
    ];
    assert_eq!(kinds, expected);
    let mut window = RegisterWindow::new(board.register_window());
    let addresses = [0, 1].map(|bar: usize| {
        let address = window.take(bars[bar].size).unwrap();
        function.assign(&bars[bar], address).unwrap();
        address
    });
    function
        .change_command(command::MEMORY_SPACE | command::BUS_MASTER, 0)
        .unwrap();
    addresses
}

pub fn capability_at(board: &dyn Board, id: u8) -> u16 {
    let function = Function::new(board, CARD);
    function.capability(id).unwrap().unwrap().offset
}

/// Turns MSI-X on, with a vector for each message.
pub fn enable_messages(board: &dyn Board, table: u64) {
    for number in 0..3 {
        let message = board.message_target(VECTOR + number);
        let entry = table + 16 * u64::from(number);
        board.write(entry, 8, message.address).unwrap();
        board.write(entry + 8, 4, message.data.into()).unwrap();
        board.write(entry + 12, 4, 0).unwrap();
    }
    let control = capability_at(board, capability::MSI_X) + 2;
    Function::new(board, CARD).write16(control, 0x8000).unwrap();
}

/// A channel with rings of 16 entries in a page that is mapped for the card at the same address.
pub fn enable_channel(board: &dyn Board, registers: u64, direction: Direction) -> u64 {
    let page = board.memory().allocate(Zone::High, 1).unwrap()[0];
    if let Some(iommu) = board.iommu() {
        iommu
            .map(CARD, page, page, 0x1000, Access::ReadWrite)
            .unwrap();
    }
    let channel = registers + direction.window() as u64;
    let offset = |offset: usize| channel + offset as u64;
    board
        .write(offset(register::DESCRIPTOR_RING.offset()), 8, page)
        .unwrap();
    board
        .write(offset(register::COMPLETION_RING.offset()), 8, page + 0x800)
        .unwrap();
    board
        .write(offset(register::ENTRIES.offset()), 4, 16)
        .unwrap();
    let message = 1 + direction.index() as u64;
    board
        .write(offset(register::MESSAGE.offset()), 4, message)
        .unwrap();
    let enable = registers + register::INTERRUPT_ENABLE.offset() as u64;
    board.write(enable, 4, Causes::all().bits().into()).unwrap();
    let control = ChannelControl::ENABLE.bits();
    board
        .write(
            offset(register::CHANNEL_CONTROL.offset()),
            4,
            control.into(),
        )
        .unwrap();
    page
}

/// Has a channel carry out its first descriptor, and returns its completion's outcome with what happened.
fn carry_out(
    board: &LocalBoard,
    registers: u64,
    direction: Direction,
    page: u64,
    bus_address: u64,
) -> (u32, Vec<BoardEvent>) {
    let descriptor = Descriptor {
        bus_address,
        card_address: 0x123,
        length: 64,
        flags: DescriptorFlags::INTERRUPT.bits(),
        tag: 7,
        reserved: 0,
    };
    let fields = [
        descriptor.bus_address,
        descriptor.card_address,
        u64::from(descriptor.length) | u64::from(descriptor.flags) << 32,
        descriptor.tag.into(),
    ];
    for (index, field) in (0..).zip(fields) {
        board
            .memory()
            .write(page + 8 * index, &field.to_le_bytes())
            .unwrap();
    }
    let doorbell = direction.window() + register::DOORBELL.offset();
    board.write(registers + doorbell as u64, 4, 1).unwrap();
    let events = events(board, board.next_event().unwrap() + 1_000_000);
    let mut outcome = [0; 4];
    let at = page + 0x800 + Completion::OUTCOME as u64;
    board.memory().read(at, &mut outcome).unwrap();
    (u32::from_le_bytes(outcome), events)
}

#[test]
fn the_card_is_an_endpoint_of_pci_express() {
    let board = board();
    let function = Function::new(&board, CARD);
    let identity = function.identity().unwrap();
    assert_eq!((identity.vendor, identity.device), (0x1234, 0xda7a));
    assert_eq!((identity.class, identity.revision), (0x05_8000, 1));
    assert_eq!((identity.subsystem_vendor, identity.subsystem), (0x1234, 1));
    let found: Vec<u8> = function
        .capabilities()
        .unwrap()
        .iter()
        .map(|c| c.id)
        .collect();
    assert_eq!(found, [0x01, 0x05, 0x10, 0x11]);
    assert_eq!(board.config_read(CARD, 0x100, 4).unwrap(), 0);
    assert_eq!(board.config_read(CARD, 0xffc, 4).unwrap(), 0);
    let [registers, _] = set_up(&board);
    assert_eq!(board.read(registers, 4).unwrap(), u64::from(IDENTITY));
}

#[test]
fn the_card_moves_data_through_mappings_and_sends_the_channels_message() {
    let board = board();
    let [registers, table] = set_up(&board);
    enable_messages(&board, table);
    let data = board.memory().allocate(Zone::High, 2).unwrap();
    board.memory().write(data[0], &[0x5a; 64]).unwrap();
    let iommu = board.iommu().unwrap();
    iommu
        .map(CARD, 0x10_0000, data[0], 64, Access::Read)
        .unwrap();
    iommu
        .map(CARD, 0x20_0000, data[1], 64, Access::Write)
        .unwrap();
    for (direction, address) in [
        (Direction::ToCard, 0x10_0000),
        (Direction::FromCard, 0x20_0000),
    ] {
        let page = enable_channel(&board, registers, direction);
        let (outcome, events) = carry_out(&board, registers, direction, page, address);
        assert_eq!(outcome, 0x8000_0000);
        let vector = VECTOR + 1 + direction.index() as u8;
        assert_eq!(events, [BoardEvent::Message { vector }]);
    }
    let mut bytes = [0; 64];
    board.memory().read(data[1], &mut bytes).unwrap();
    assert_eq!(bytes, [0x5a; 64]);
}

#[test]
fn what_is_not_mapped_is_a_bus_error_that_the_board_reports() {
    let board = board();
    let [registers, _] = set_up(&board);
    let page = enable_channel(&board, registers, Direction::ToCard);
    let (outcome, events) = carry_out(&board, registers, Direction::ToCard, page, 0x10_0000);
    assert_eq!(outcome, 0x8000_0001);
    let fault = BoardEvent::DmaFault {
        function: CARD,
        address: 0x10_0000,
        write: false,
    };
    assert_eq!(events[0], fault);
    let line = board.line(CARD, 1);
    assert_eq!(
        *events.last().unwrap(),
        BoardEvent::Line {
            line,
            asserted: true
        }
    );
    let cause = registers + register::INTERRUPT_CAUSE.offset() as u64;
    assert_eq!(board.read(cause, 4).unwrap(), 1);
    let released = BoardEvent::Line {
        line,
        asserted: false,
    };
    assert_eq!(crate::common::events(&board, 0), [released]);
}

#[test]
fn masked_messages_come_when_they_are_unmasked() {
    let board = board();
    let [registers, table] = set_up(&board);
    enable_messages(&board, table);
    board.write(table + 16 + 12, 4, 1).unwrap();
    let page = enable_channel(&board, registers, Direction::ToCard);
    // The transfer fails, which interrupts as well.
    let function = Function::new(&board, CARD);
    let (_, events) = carry_out(&board, registers, Direction::ToCard, page, page + 0x400);
    assert_eq!(events, []);
    assert_eq!(board.read(table + 0x800, 8).unwrap(), 0b10);
    board.write(table + 16 + 12, 4, 0).unwrap();
    let vector = VECTOR + 1;
    assert_eq!(
        crate::common::events(&board, 0),
        [BoardEvent::Message { vector }]
    );
    assert!(function.is_present().unwrap());
}

#[test]
fn a_function_level_reset_and_sleep_take_everything_but_memory() {
    for sleep in [false, true] {
        let board = board();
        let [registers, _] = set_up(&board);
        enable_channel(&board, registers, Direction::ToCard);
        let function = Function::new(&board, CARD);
        if sleep {
            let control = capability_at(&board, capability::POWER_MANAGEMENT) + 4;
            function.write16(control, 3).unwrap();
            assert_eq!(board.read(registers, 4).unwrap(), 0xffff_ffff);
            assert!(function.is_present().unwrap());
            function.write16(control, 0).unwrap();
        } else {
            let control = capability_at(&board, capability::PCI_EXPRESS) + 8;
            function.write16(control, 0x8000).unwrap();
        }
        assert_eq!(function.command().unwrap(), 0);
        let [registers, _] = set_up(&board);
        let channel = registers + Direction::ToCard.window() as u64;
        let ring = channel + register::DESCRIPTOR_RING.offset() as u64;
        assert_eq!(board.read(ring, 8).unwrap(), 0);
    }
}

#[test]
fn without_bus_mastering_no_access_reaches_the_board() {
    let board = board();
    let [registers, _] = set_up(&board);
    let page = enable_channel(&board, registers, Direction::ToCard);
    let function = Function::new(&board, CARD);
    function.change_command(0, command::BUS_MASTER).unwrap();
    let (outcome, events) = carry_out(&board, registers, Direction::ToCard, page, 0x10_0000);
    assert_eq!(outcome, 0);
    assert!(
        !events
            .iter()
            .any(|event| matches!(event, BoardEvent::DmaFault { .. }))
    );
    let error = registers + (Direction::ToCard.window() + register::ERROR.offset()) as u64;
    assert_eq!(board.read(error, 8).unwrap(), 1 << 32);
}

/// Waits until the board reports something.
pub fn next_events(board: &dyn Board) -> Vec<BoardEvent> {
    for _ in 0..100 {
        let events = events(board, 0);
        if !events.is_empty() {
            return events;
        }
        board.wait(Duration::from_millis(100)).unwrap();
    }
    panic!("nothing happens");
}

#[test]
fn on_a_thread_of_its_own_the_card_tells_of_completions_that_are_there() {
    let card = CardDevice::new(MEMORY_DEFAULT, CardTiming::IMMEDIATE).unwrap();
    let board = ThreadedBoard::new(&MemoryConfig::default(), vec![(CARD, Box::new(card))]).unwrap();
    pass_pages_on(&board);
}

/// Sends pages through a card that has a thread of its own: when it interrupts, data and completion are there.
pub fn pass_pages_on(board: &dyn Board) {
    const PAGES: u64 = 256;

    let [registers, table] = set_up(board);
    enable_messages(board, table);
    let memory = board.memory();
    let pages = memory.allocate(Zone::High, PAGES as usize).unwrap();
    let channels = Direction::ALL.map(|direction| enable_channel(board, registers, direction));
    for (index, page) in (0..).zip(&pages) {
        memory.fill(*page, 4096, index as u8).unwrap();
    }
    for round in 0..PAGES - 1 {
        // Each page goes to the card and comes back into the one that went there before.
        let (from, to) = (pages[round as usize], pages[(round as usize + 255) % 256]);
        for (direction, address) in Direction::ALL.into_iter().zip([from, to]) {
            let page = channels[direction.index()];
            let entry = page + round % 16 * Descriptor::SIZE as u64;
            let flags = u64::from(DescriptorFlags::INTERRUPT.bits());
            for (index, field) in (0..).zip([address, 0, 4096 | flags << 32, round]) {
                memory
                    .write(entry + 8 * index, &field.to_le_bytes())
                    .unwrap();
            }
            let doorbell = (direction.window() + register::DOORBELL.offset()) as u64;
            board.write(registers + doorbell, 4, round + 1).unwrap();
            let vector = VECTOR + 1 + direction.index() as u8;
            assert_eq!(next_events(board), [BoardEvent::Message { vector }]);
            let mut completion = [0; Completion::SIZE];
            let at = page + 0x800 + round % 16 * Completion::SIZE as u64;
            memory.read(at, &mut completion).unwrap();
            let phase = if round / 16 % 2 == 0 { 0x80 } else { 0 };
            assert_eq!(completion[28..], [0, 0, 0, phase], "round {round}");
            assert_eq!(completion[..4], (round as u32).to_le_bytes());
        }
        let mut bytes = vec![0; 4096];
        memory.read(to, &mut bytes).unwrap();
        assert!(
            bytes.iter().all(|byte| *byte == round as u8),
            "round {round}"
        );
    }
}
