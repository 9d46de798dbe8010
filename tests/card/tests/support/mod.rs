//! A host with memory and a clock, and a small driver.

#![allow(dead_code, reason = "not every test program uses everything")]

use std::collections::BTreeMap;

use abi::card::register::{self, Causes, ChannelControl, Control, Moderation};
use abi::card::ring::{Completion, Descriptor, DescriptorFlags, ShadowBlock};
use abi::card::{Direction, position};
use card::{BusError, Card, Clock, Function, HostMemory, Interrupts, Signalling, Timing};
use registers::{Readable, Register, Value, Writable};
use zerocopy::{FromBytes, IntoBytes};

/// Where the host's memory is: above 4 GiB.
pub const RAM: u64 = 0x12_3456_0000;
/// Bytes of it.
pub const RAM_SIZE: usize = 4 << 20;

/// Where rings and shadow blocks of a channel are.
const RINGS: u64 = RAM;
/// What is left for data.
pub const DATA: u64 = RAM + 0x10_0000;

/// A host.
pub struct Host {
    pub ram: Vec<u8>,
    /// Addresses that cannot be accessed, each of a page.
    pub holes: Vec<u64>,
    pub now: u64,
    pub signalling: Signalling,
    pub messages: Vec<u16>,
    pub line: bool,
    /// Just before the card writes at the first address, the driver writes this word at the second one.
    pub race: Option<(u64, u64, u32)>,
    /// Accesses to memory by the card.
    pub reads: u64,
    pub writes: u64,
}

impl Host {
    fn range(&self, address: u64, length: usize) -> Result<std::ops::Range<usize>, BusError> {
        let start = address.checked_sub(RAM).ok_or(BusError)?;
        let end = start.checked_add(length as u64).ok_or(BusError)?;
        let last = address + ((length as u64).max(1) - 1);
        let hole = |page: &u64| (address & !0xfff..=last).contains(page);
        if end > RAM_SIZE as u64 || self.holes.iter().any(hole) {
            return Err(BusError);
        }
        Ok(start as usize..end as usize)
    }

    pub fn bytes(&self, address: u64, length: usize) -> &[u8] {
        &self.ram[(address - RAM) as usize..][..length]
    }

    pub fn put(&mut self, address: u64, bytes: &[u8]) {
        self.ram[(address - RAM) as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    pub fn word(&self, address: u64) -> u32 {
        u32::from_le_bytes(self.bytes(address, 4).try_into().unwrap())
    }
}

impl HostMemory for Host {
    fn read(&mut self, address: u64, buffer: &mut [u8]) -> Result<(), BusError> {
        self.reads += 1;
        let range = self.range(address, buffer.len())?;
        buffer.copy_from_slice(&self.ram[range]);
        Ok(())
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), BusError> {
        self.writes += 1;
        if let Some((_, at, word)) = self.race.take_if(|(meeting, ..)| *meeting == address) {
            self.put(at, &word.to_le_bytes());
        }
        let range = self.range(address, bytes.len())?;
        self.ram[range].copy_from_slice(bytes);
        Ok(())
    }
}

impl Interrupts for Host {
    fn signalling(&self) -> Signalling {
        self.signalling
    }

    fn send_message(&mut self, number: u16) {
        self.messages.push(number);
    }

    fn set_line(&mut self, asserted: bool) {
        self.line = asserted;
    }
}

impl Clock for Host {
    fn now(&self) -> u64 {
        self.now
    }
}

/// A card in a host, and what a driver knows of its rings.
pub struct Rig {
    pub card: Card,
    pub host: Host,
    pub entries: u32,
    pub producers: [u32; 2],
    completions: [u32; 2],
    /// Register accesses by the driver.
    pub register_reads: u64,
    pub register_writes: u64,
}

impl Rig {
    /// A card in D0 that may be a master, with messages for all its causes.
    pub fn new() -> Self {
        Self::with(64 << 20, Timing::REAL)
    }

    pub fn with(memory: u64, timing: Timing) -> Self {
        let mut rig = Self {
            card: Card::new(memory, timing).unwrap(),
            host: Host {
                ram: vec![0; RAM_SIZE],
                holes: Vec::new(),
                now: 0,
                signalling: Signalling::Messages(3),
                messages: Vec::new(),
                line: false,
                race: None,
                reads: 0,
                writes: 0,
            },
            entries: 16,
            producers: [0; 2],
            completions: [0; 2],
            register_reads: 0,
            register_writes: 0,
        };
        rig.set_master(true);
        rig
    }

    pub fn set_master(&mut self, bus_master: bool) {
        let function = Function {
            bus_master,
            awake: true,
        };
        self.card.configure(function, &mut self.host);
    }

    pub fn descriptors(direction: Direction) -> u64 {
        RINGS + 0x4_0000 * direction.index() as u64
    }

    pub fn completion_ring(direction: Direction) -> u64 {
        Self::descriptors(direction) + 0x2_0000
    }

    pub fn shadow(direction: Direction) -> u64 {
        RINGS + 0x8_0000 + 0x1000 * direction.index() as u64
    }

    pub fn raw_read(&mut self, offset: u64, size: u8) -> u64 {
        self.register_reads += 1;
        self.card.read(offset, size, &mut self.host)
    }

    pub fn raw_write(&mut self, offset: u64, size: u8, value: u64) {
        self.register_writes += 1;
        self.card.write(offset, size, value, &mut self.host);
    }

    pub fn get<const OFFSET: usize, V: Value<Word: TryFrom<u64>>, A: Readable>(
        &mut self,
        channel: Option<Direction>,
        register: Register<OFFSET, V, A>,
    ) -> V {
        let offset = channel.map_or(0, Direction::window) + register.offset();
        let value = self.raw_read(offset as u64, register.width() as u8);
        V::from_word(V::Word::try_from(value).ok().unwrap())
    }

    pub fn set<const OFFSET: usize, V: Value<Word: Into<u64>>, A: Writable>(
        &mut self,
        channel: Option<Direction>,
        register: Register<OFFSET, V, A>,
        value: V,
    ) {
        let offset = channel.map_or(0, Direction::window) + register.offset();
        let value = value.into_word().into();
        self.raw_write(offset as u64, register.width() as u8, value);
    }

    /// Enables a channel and its interrupts.
    pub fn enable(&mut self, direction: Direction, mode: ChannelControl) {
        let channel = Some(direction);
        let descriptors = Self::descriptors(direction);
        let completions = Self::completion_ring(direction);
        let shadow = Self::shadow(direction);
        let length = self.entries as usize * Completion::SIZE;
        self.host.put(completions, &vec![0; length]);
        self.host.put(shadow, &[0; ShadowBlock::SIZE]);
        self.producers[direction.index()] = 0;
        self.completions[direction.index()] = 0;
        self.set(channel, register::DESCRIPTOR_RING, descriptors);
        self.set(channel, register::COMPLETION_RING, completions);
        self.set(channel, register::SHADOW, shadow);
        self.set(channel, register::ENTRIES, self.entries);
        self.set(channel, register::MESSAGE, 1 + direction.index() as u32);
        let causes = self.get(None, register::INTERRUPT_ENABLE)
            | Causes::completion(direction)
            | Causes::error(direction);
        self.set(None, register::INTERRUPT_ENABLE, causes);
        let control = mode | ChannelControl::ENABLE;
        self.set(channel, register::CHANNEL_CONTROL, control);
        self.settle();
    }

    pub fn moderate(&mut self, direction: Direction, count: u16, time_us: u16) {
        let moderation = Moderation::new(count, time_us);
        self.set(Some(direction), register::MODERATION, moderation);
    }

    /// Puts the descriptors of a transfer into the ring.
    pub fn put(&mut self, direction: Direction, descriptors: &[Descriptor]) {
        for descriptor in descriptors {
            let producer = &mut self.producers[direction.index()];
            let entry = position::entry(*producer, self.entries);
            *producer = producer.wrapping_add(1);
            let address = Self::descriptors(direction) + u64::from(entry) * 32;
            self.host.put(address, descriptor.as_bytes());
        }
    }

    /// Rings the doorbell for all that was put.
    pub fn ring(&mut self, direction: Direction) {
        let producer = self.producers[direction.index()];
        self.set(Some(direction), register::DOORBELL, producer);
    }

    /// Publishes all that was put in the shadow block, and rings if the card asks for it.
    pub fn publish(&mut self, direction: Direction, old: u32) {
        let shadow = Self::shadow(direction);
        let new = self.producers[direction.index()];
        let at = shadow + ShadowBlock::PRODUCER as u64;
        self.host.put(at, &new.to_le_bytes());
        let event = self.host.word(shadow + ShadowBlock::DOORBELL_EVENT as u64);
        if position::passes(event, old, new) {
            self.ring(direction);
        }
    }

    /// Puts a transfer and rings.
    pub fn submit(&mut self, direction: Direction, descriptors: &[Descriptor]) {
        self.put(direction, descriptors);
        self.ring(direction);
    }

    /// Runs the card once, at its next event. Returns whether there was one.
    pub fn step(&mut self) -> bool {
        let Some(at) = self.card.next_event() else {
            return false;
        };
        self.host.now = self.host.now.max(at);
        self.card.run(&mut self.host);
        true
    }

    /// Runs the card until it has nothing to do.
    pub fn settle(&mut self) {
        for _ in 0..1_000_000 {
            if !self.step() {
                return;
            }
        }
        panic!("the card does not come to rest");
    }

    /// Runs the card up to a moment.
    pub fn run_until(&mut self, moment: u64) {
        while self.card.next_event().is_some_and(|at| at <= moment) {
            self.step();
        }
        self.host.now = self.host.now.max(moment);
    }

    /// The next completion, if it has been written.
    pub fn completion(&mut self, direction: Direction) -> Option<Completion> {
        let count = &mut self.completions[direction.index()];
        let entry = position::entry(*count, self.entries);
        let address = Self::completion_ring(direction) + u64::from(entry) * 32;
        let completion = Completion::read_from_bytes(self.host.bytes(address, 32)).unwrap();
        let phase = position::phase(*count, self.entries);
        (Completion::phase(completion.outcome) == phase).then(|| {
            *count = count.wrapping_add(1);
            completion
        })
    }

    /// Completions taken.
    pub fn taken(&self, direction: Direction) -> u32 {
        self.completions[direction.index()]
    }

    /// All completions that have been written since the last call.
    pub fn drain(&mut self, direction: Direction) -> Vec<Completion> {
        std::iter::from_fn(|| self.completion(direction)).collect()
    }

    /// Resets the card by its register.
    pub fn reset(&mut self) {
        self.set(None, register::CONTROL, Control::RESET);
    }

    /// Which interrupts have come by message since the last call.
    pub fn messages(&mut self) -> Vec<u16> {
        std::mem::take(&mut self.host.messages)
    }
}

/// The only descriptor of a transfer that interrupts.
pub fn single(tag: u32, bus_address: u64, card_address: u64, length: u32) -> Descriptor {
    Descriptor {
        bus_address,
        card_address,
        length,
        flags: DescriptorFlags::INTERRUPT.bits(),
        tag,
        reserved: 0,
    }
}

/// Links descriptors to one transfer.
pub fn chain(mut descriptors: Vec<Descriptor>) -> Vec<Descriptor> {
    let last = descriptors.len() - 1;
    for descriptor in &mut descriptors[..last] {
        descriptor.flags |= DescriptorFlags::CHAIN.bits();
    }
    descriptors
}

/// Bytes that differ from one another and from those of other seeds.
pub fn pattern(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// What the card's memory holds.
pub fn card_bytes(card: &Card, address: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    card.memory().peek(address, &mut bytes).unwrap();
    bytes
}

/// Outcomes by tag.
pub fn by_tag(completions: &[Completion]) -> BTreeMap<u32, u32> {
    let outcomes = completions.iter().map(|c| (c.tag, c.outcome & 0xff));
    outcomes.collect()
}
