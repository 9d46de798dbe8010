//! The card in this process and the card behind its socket, driven by the same random sequences.

use std::time::{Duration, Instant};

use abi::card::ring::DescriptorFlags;
use abi::card::{Direction, MEMORY_DEFAULT, register};
use machine_bus::pci::{Function, capability, command};
use machine_bus::{
    Access, Board, BoardEvent, CardDevice, CardTiming, LocalBoard, MemoryConfig, PAGE_SIZE,
    VfioUserBoard,
};

use crate::card::{CARD, capability_at, enable_channel, enable_messages, set_up};
use crate::common::events;

/// How long the served card may take to become equal.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where there is no memory.
const HOLE: u64 = 0xd000_0000;

struct Pair {
    local: LocalBoard,
    served: VfioUserBoard,
    messages: bool,
    registers: u64,
    table: u64,
    /// Pages that data is in.
    data: u64,
    /// The ring's page of each channel, and how many descriptors it has had.
    rings: [(u64, u64); 2],
    now: u64,
    random: u64,
    log: Vec<String>,
}

impl Pair {
    fn new(seed: u64, messages: bool) -> Self {
        let card = CardDevice::new(MEMORY_DEFAULT, CardTiming::IMMEDIATE).unwrap();
        let local =
            LocalBoard::new(&MemoryConfig::default(), vec![(CARD, Box::new(card))]).unwrap();
        let served = crate::vfio_user::board();
        let pages = [local.memory(), served.memory()].map(|memory| {
            let within = 128 << 20..256 << 20;
            let pages = memory.allocate_run(4, within, 0, None).unwrap();
            memory.fill(pages, 4 * PAGE_SIZE, 0x5a).unwrap();
            pages
        });
        assert_eq!(pages[0], pages[1]);
        let iommu = local.iommu().unwrap();
        let length = 4 * PAGE_SIZE as u64;
        iommu
            .map(CARD, pages[0], pages[0], length, Access::ReadWrite)
            .unwrap();
        let mut pair = Self {
            local,
            served,
            messages,
            registers: 0,
            table: 0,
            data: pages[0],
            rings: [(0, 0); 2],
            now: 0,
            random: seed,
            log: Vec::new(),
        };
        pair.start();
        pair
    }

    /// Turns the card on, as after a reset.
    fn start(&mut self) {
        let messages = self.messages;
        let started = self.both().map(|board| {
            let [registers, table] = set_up(board);
            if messages {
                enable_messages(board, table);
            }
            let rings = Direction::ALL.map(|channel| {
                let page = enable_channel(board, registers, channel);
                board.memory().fill(page, PAGE_SIZE, 0).unwrap();
                (page, 0)
            });
            (registers, table, rings)
        });
        assert_eq!(started[0], started[1]);
        (self.registers, self.table, self.rings) = started[0];
    }

    fn random(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) % limit.max(1)
    }

    fn both(&self) -> [&dyn Board; 2] {
        [&self.local, &self.served]
    }

    fn write(&mut self, address: u64, size: u8, value: u64) {
        self.log
            .push(format!("write{size} {address:#x} {value:#x}"));
        for board in self.both() {
            board.write(address, size, value).unwrap();
        }
    }

    fn transfer(&mut self) {
        let channel = Direction::ALL[self.random(2) as usize];
        let length = 1 + self.random(2 * PAGE_SIZE as u64);
        let bus = match self.random(8) {
            0 => HOLE,
            _ => self.data + self.random(4 * PAGE_SIZE as u64 - length),
        };
        let card = match self.random(8) {
            0 => MEMORY_DEFAULT - self.random(2 * length),
            _ => self.random(4 * PAGE_SIZE as u64),
        };
        let flags = DescriptorFlags::INTERRUPT | DescriptorFlags::CHECKSUM;
        let (page, count) = &mut self.rings[channel.index()];
        let entry = *page + *count % 16 * 32;
        *count += 1;
        let count = *count;
        let fields = [bus, card, length | u64::from(flags.bits()) << 32, count];
        self.log.push(format!("{channel:?} {fields:x?}"));
        for board in self.both() {
            for (index, field) in (0..).zip(fields) {
                let at = entry + 8 * index;
                board.memory().write(at, &field.to_le_bytes()).unwrap();
            }
        }
        let doorbell = channel.window() + register::DOORBELL.offset();
        self.write(self.registers + doorbell as u64, 4, count);
    }

    /// Everything that can be seen and is not changed by looking.
    fn state(&self, board: &dyn Board) -> (Vec<u64>, Vec<u32>, Vec<u8>) {
        let narrow = [0x00, 0x04, 0x28, 0x30, 0x34].map(|offset| (offset, 4));
        let channels = [0x1000, 0x2000].into_iter().flat_map(|window| {
            let words = [0x00, 0x04, 0x20, 0x28].map(|offset| (window + offset, 4));
            let wide = [0x08, 0x10, 0x30, 0x38, 0x40].map(|offset| (window + offset, 8));
            words.into_iter().chain(wide)
        });
        let registers = narrow
            .into_iter()
            .chain(channels)
            .map(|(offset, size)| board.read(self.registers + offset, size).unwrap());
        let entries = (0..6).chain([0x100]);
        let table = entries.map(|word| board.read(self.table + 8 * word, 8).unwrap());
        let config = (0..0x40).map(|word| board.config_read(CARD, 4 * word, 4).unwrap());
        let mut memory = vec![0; 6 * PAGE_SIZE];
        let (data, rings) = memory.split_at_mut(4 * PAGE_SIZE);
        board.memory().read(self.data, data).unwrap();
        for ((page, _), bytes) in self.rings.iter().zip(rings.chunks_mut(PAGE_SIZE)) {
            board.memory().read(*page, bytes).unwrap();
        }
        (registers.chain(table).collect(), config.collect(), memory)
    }

    /// Lets both finish what they have begun, and compares what can be seen and what happened.
    fn settle(&mut self) {
        self.now += 1_000_000_000;
        let mut expected = happened(events(&self.local, self.now));
        let mut found = Vec::new();
        for look in ["before", "after"] {
            let state = self.state(&self.local);
            let start = Instant::now();
            loop {
                found = happened([found, events(&self.served, 0)].concat());
                let served = self.state(&self.served);
                if served == state && found == expected {
                    break;
                }
                if start.elapsed() > PATIENCE {
                    let log = self.log.join("\n");
                    assert_eq!(found, expected, "events {look} the cause is read:\n{log}");
                    assert_eq!(served.0, state.0, "registers {look}:\n{log}");
                    assert_eq!(served.1, state.1, "configuration {look}:\n{log}");
                    assert!(served.2 == state.2, "memory {look}:\n{log}");
                }
                self.served.wait(Duration::from_micros(100)).unwrap();
            }
            let cause = self.registers + register::INTERRUPT_CAUSE.offset() as u64;
            let causes = self.both().map(|board| board.read(cause, 4).unwrap());
            assert_eq!(causes[0], causes[1], "causes:\n{}", self.log.join("\n"));
            expected = happened(events(&self.local, self.now));
            found.clear();
        }
    }

    fn change_command(&mut self, bit: u16) {
        let set = self.random(2) == 0;
        self.log.push(format!("command {bit:#x} {set}"));
        for board in self.both() {
            let (set, clear) = if set { (bit, 0) } else { (0, bit) };
            let function = Function::new(board, CARD);
            function.change_command(set, clear).unwrap();
        }
    }

    fn reset(&mut self) {
        self.log.push("function-level reset".to_owned());
        for board in self.both() {
            let control = capability_at(board, capability::PCI_EXPRESS) + 8;
            let function = Function::new(board, CARD);
            function.write16(control, 0x8000).unwrap();
        }
        self.start();
    }
}

/// Events that both boards report, each message once.
fn happened(events: Vec<BoardEvent>) -> Vec<BoardEvent> {
    let mut kept = Vec::new();
    for event in events {
        let keep = match event {
            BoardEvent::DmaFault { .. } => false,
            BoardEvent::Message { .. } => !kept.contains(&event),
            _ => true,
        };
        if keep {
            kept.push(event);
        }
    }
    kept
}

fn compare(seed: u64, messages: bool) {
    let mut pair = Pair::new(seed, messages);
    for _ in 0..150 {
        match pair.random(12) {
            0 if messages => {
                let entry = pair.table + 16 * pair.random(3) + 12;
                let masked = pair.random(2);
                pair.write(entry, 4, masked);
            }
            0 => pair.change_command(command::INTX_DISABLE),
            1 => pair.change_command(command::BUS_MASTER),
            2 => pair.reset(),
            _ => pair.transfer(),
        }
        pair.settle();
    }
}

#[test]
fn random_transfers_by_messages_are_equal_over_vfio_user() {
    compare(1, true);
}

#[test]
fn random_transfers_by_the_line_are_equal_over_vfio_user() {
    compare(2, false);
}
