//! QEMU's edu device and its twin, driven by the same random sequences.

use std::time::{Duration, Instant};

use crate::common::{EDU, events, qemu, set_up};
use machine_bus::pci::{Function, command, offset};
use machine_bus::{Access, Board, BoardEvent, Edu, LocalBoard, MemoryConfig, PAGE_SIZE, QemuBoard};

const REGISTERS: [u64; 18] = [
    0x00, 0x04, 0x08, 0x0c, 0x20, 0x24, 0x28, 0x60, 0x64, 0x68, 0x80, 0x84, 0x88, 0x8c, 0x90, 0x94,
    0x98, 0x9c,
];
const STATUS: u64 = 0x20;
const PENDING: u64 = 0x24;
const COMMAND: u64 = 0x98;
const BUFFER: u64 = 0x40000;

/// The control word of edu's MSI capability.
const MSI_CONTROL: u16 = 0x42;

/// Far enough for whatever the twin has begun.
const STEP: u64 = 200_000_000;

struct Pair {
    qemu: QemuBoard,
    twin: LocalBoard,
    registers: u64,
    /// Two adjacent pages, at the same address on both boards.
    pages: u64,
    now: u64,
    random: u64,
    log: Vec<String>,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let qemu = qemu();
        let twin = LocalBoard::new(
            &MemoryConfig::default(),
            vec![(EDU, Box::new(Edu::default()))],
        )
        .unwrap();
        let registers = set_up(&qemu);
        assert_eq!(set_up(&twin), registers);
        let within = 128 << 20..256 << 20;
        let pages = qemu
            .memory()
            .allocate_run(2, within.clone(), 0, None)
            .unwrap();
        assert_eq!(
            twin.memory().allocate_run(2, within, 0, None).unwrap(),
            pages
        );
        twin.iommu()
            .unwrap()
            .map(EDU, pages, pages, 2 * PAGE_SIZE as u64, Access::ReadWrite)
            .unwrap();
        Self {
            qemu,
            twin,
            registers,
            pages,
            now: 0,
            random: seed,
            log: Vec::new(),
        }
    }

    fn random(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) % limit.max(1)
    }

    fn both(&self) -> [&dyn Board; 2] {
        [&self.qemu, &self.twin]
    }

    fn same<T: PartialEq + std::fmt::Debug>(&self, what: &str, values: [T; 2]) -> T {
        let [qemu, twin] = values;
        assert_eq!(
            qemu,
            twin,
            "QEMU and twin differ in {what} after:\n{}",
            self.log.join("\n")
        );
        qemu
    }

    fn read(&mut self, offset: u64, size: u8) -> u64 {
        self.log.push(format!("read{size} {offset:#x}"));
        let values = self
            .both()
            .map(|board| board.read(self.registers + offset, size).unwrap());
        self.same("a register", values)
    }

    fn write(&mut self, offset: u64, size: u8, value: u64) {
        self.log.push(format!("write{size} {offset:#x} {value:#x}"));
        for board in self.both() {
            board.write(self.registers + offset, size, value).unwrap();
        }
    }

    /// Lets both finish what they have begun, and compares what happened.
    fn settle(&mut self) {
        while self.qemu.read(self.registers + STATUS, 4).unwrap() & 1 != 0
            || self.qemu.read(self.registers + COMMAND, 8).unwrap() & 1 != 0
        {
            self.qemu.wait(Duration::from_millis(1)).unwrap();
        }
        self.now += STEP;
        let twin = events(&self.twin, self.now);
        let mut qemu = events(&self.qemu, 0);
        // QEMU's thread ends a factorial, and raises its interrupt a little later.
        let pending = self.twin.read(self.registers + PENDING, 4).unwrap();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5)
            && (qemu.len() < merged(&twin).len()
                || self.qemu.read(self.registers + PENDING, 4).unwrap() != pending)
        {
            self.qemu.wait(Duration::from_millis(1)).unwrap();
            qemu.extend(events(&self.qemu, 0));
        }
        self.same("events", [qemu, merged(&twin)]);
        for offset in REGISTERS {
            self.read(offset, 4);
        }
        for offset in [0x80, 0x88, 0x90, 0x98] {
            self.read(offset, 8);
        }
        let memory = self.both().map(|board| {
            let mut bytes = vec![0; 2 * PAGE_SIZE];
            board.memory().read(self.pages, &mut bytes).unwrap();
            bytes
        });
        self.same("memory", memory);
    }

    fn configuration(&mut self) {
        for offset in (0..0x100).step_by(4) {
            // The message's target is the board's own.
            if !(MSI_CONTROL + 2..MSI_CONTROL + 12).contains(&offset) {
                let values = self
                    .both()
                    .map(|board| board.config_read(EDU, offset, 4).unwrap());
                self.same(&format!("configuration space at {offset:#x}"), values);
            }
        }
    }
}

/// On QEMU messages of a vector that nobody has looked at are one.
fn merged(events: &[BoardEvent]) -> Vec<BoardEvent> {
    let mut merged = Vec::new();
    for event in events {
        if !(matches!(event, BoardEvent::Message { .. }) && merged.contains(event)) {
            merged.push(*event);
        }
    }
    merged
}

#[test]
fn random_register_accesses_are_equal() {
    let mut pair = Pair::new(1);
    for round in 0..2000 {
        let register = REGISTERS[pair.random(REGISTERS.len() as u64) as usize];
        let (offset, size) = match pair.random(2) {
            0 => (register, 4),
            _ => (register + pair.random(8), 1 << pair.random(4)),
        };
        let offset = offset / u64::from(size) * u64::from(size);
        if pair.random(2) == 0 {
            pair.read(offset, size);
        } else {
            // No transfer is started, and a factorial ends before the next step.
            let value = pair.random(1 << 40) & if offset == COMMAND { !1 } else { !0 };
            let value = if offset == 0x08 { value % 40 } else { value };
            pair.write(offset, size, value);
        }
        if round % 8 == 0 || offset == 0x08 || offset == STATUS {
            pair.settle();
        }
    }
    pair.configuration();
}

#[test]
fn random_transfers_are_equal() {
    let mut pair = Pair::new(2);
    for board in pair.both() {
        let bytes: Vec<u8> = (0..2 * PAGE_SIZE)
            .map(|index| (index * 7 + index / 251) as u8)
            .collect();
        board.memory().write(pair.pages, &bytes).unwrap();
    }
    for round in 0..60 {
        if round == 30 {
            for board in pair.both() {
                let function = Function::new(board, EDU);
                let msi = function.msi().unwrap().unwrap();
                function
                    .enable_msi(&msi, board.message_target(0x41))
                    .unwrap();
            }
        }
        if round % 10 == 9 {
            for board in pair.both() {
                Function::new(board, EDU)
                    .change_command(0, command::BUS_MASTER)
                    .unwrap();
            }
        }
        let count = 1 + pair.random(4095);
        let own = BUFFER + pair.random(4096 - count);
        // Bits that edu does not put on the bus are ignored.
        let bus = pair.pages + pair.random(2 * PAGE_SIZE as u64 - count);
        let bus = bus | pair.random(4) << 32;
        let to_memory = pair.random(2) << 1;
        let interrupt = pair.random(2) << 2;
        let (source, destination) = if to_memory == 0 {
            (bus, own)
        } else {
            (own, bus)
        };
        pair.write(0x80, 8, source);
        pair.write(0x88, 8, destination);
        pair.write(0x90, 8, count);
        pair.write(COMMAND, 8, 1 | to_memory | interrupt);
        if pair.qemu.is_stepped() {
            pair.write(0x90, 8, 1);
            pair.write(COMMAND, 8, 7);
            pair.read(0x90, 8);
        }
        pair.settle();
        let pending = pair.read(PENDING, 4);
        pair.write(0x64, 4, pending);
        for board in pair.both() {
            Function::new(board, EDU)
                .change_command(command::BUS_MASTER, 0)
                .unwrap();
        }
        pair.settle();
        // What the transfer has left in the buffer, all of it that can be had.
        pair.write(0x80, 8, BUFFER);
        pair.write(0x88, 8, pair.pages);
        pair.write(0x90, 8, 4095);
        pair.write(COMMAND, 8, 3);
        pair.settle();
    }
}

#[test]
fn configuration_space_and_its_effects_are_equal() {
    let mut pair = Pair::new(3);
    pair.configuration();
    for board in pair.both() {
        let function = Function::new(board, EDU);
        let msi = function.msi().unwrap().unwrap();
        function
            .enable_msi(&msi, board.message_target(0x41))
            .unwrap();
        function.disable_msi(&msi).unwrap();
    }
    for _ in 0..400 {
        let size = 1 << pair.random(3);
        let start = match pair.random(3) {
            0 => offset::COMMAND,
            1 => MSI_CONTROL,
            _ => pair.random(0x100) as u16,
        };
        let start = start / u16::from(size) * u16::from(size);
        let written = start..start + u16::from(size);
        let touches = |place: u16| written.contains(&place);
        // The function stays where it is, and so does the target of its messages.
        if (offset::BAR0..offset::BAR0 + 4).any(touches)
            || (MSI_CONTROL + 2..MSI_CONTROL + 12).any(touches)
        {
            continue;
        }
        let decoding = if start == offset::COMMAND {
            command::MEMORY_SPACE
        } else {
            0
        };
        let value = pair.random(1 << 32) as u32 | u32::from(decoding);
        pair.log.push(format!("config{size} {start:#x} {value:#x}"));
        for board in pair.both() {
            board.config_write(EDU, start, size, value).unwrap();
        }
        let register = [0x60, 0x64][pair.random(2) as usize];
        let bits = pair.random(4);
        pair.write(register, 4, bits);
        pair.settle();
    }
    pair.configuration();
}
