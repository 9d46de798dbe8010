//! The card: registers, reset, and what is done when.

use abi::card::register::{self, Control, Features, Moderation};
use abi::card::{DESCRIPTOR_LIMIT, Direction, IDENTITY, RING_ENTRIES};
use registers::{Readable, Register, Value, Writable};

use crate::bus::{Bus, Master};
use crate::channel::Channel;
use crate::channel::engine::{LateWrite, Surroundings};
use crate::fault::Faults;
use crate::function::Function;
use crate::interrupts::Controller;
use crate::memory::{Memory, SizeError};
use crate::timing::Timing;

/// Says how long something takes this time that usually takes so many nanoseconds.
pub type Pace = fn(u64) -> u64;

/// The card.
pub struct Card {
    memory: Memory,
    timing: Timing,
    pace: Pace,
    faults: Faults,
    function: Function,
    interrupts: Controller,
    channels: [Channel; 2],
    resetting: Option<Resetting>,
    late: Vec<LateWrite>,
}

/// A reset that is not over.
#[derive(Clone, Copy)]
enum Resetting {
    Until(u64),
    Endless,
}

impl Card {
    /// A card with `memory` bytes of memory, at power-on.
    ///
    /// # Errors
    /// There is no card with so much memory.
    pub fn new(memory: u64, timing: Timing) -> Result<Self, SizeError> {
        Ok(Self {
            memory: Memory::new(memory)?,
            timing,
            pace: |usual| usual,
            faults: Faults::default(),
            function: Function {
                bus_master: false,
                awake: true,
            },
            interrupts: Controller::new(),
            channels: Direction::ALL.map(Channel::new),
            resetting: None,
            late: Vec::new(),
        })
    }

    /// Has the time from a doorbell to the first descriptor be what `pace` says. Asked once for each of them.
    #[must_use]
    pub fn paced(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    /// The card's memory.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The card's memory, to reach into.
    pub fn memory_mut(&mut self) -> &mut Memory {
        &mut self.memory
    }

    /// The handle by which the card is broken.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }

    /// Whether the card answers: its link is up, and it is in D0.
    fn answers(&self) -> bool {
        self.function.awake && !self.faults.is_link_down()
    }

    /// Software has written configuration space. A card that leaves D0 forgets everything but its memory.
    pub fn configure(&mut self, function: Function, bus: &mut dyn Bus) {
        let slept = self.function.awake && !function.awake;
        self.function = function;
        if slept {
            self.reset(bus);
        }
        self.deliver(bus);
    }

    /// Resets the card at once, as a function-level reset does. Its memory stays as it is.
    pub fn reset(&mut self, bus: &mut dyn Bus) {
        self.clear(bus);
        self.resetting = None;
    }

    fn clear(&mut self, bus: &mut dyn Bus) {
        self.interrupts.reset(bus);
        self.channels = Direction::ALL.map(Channel::new);
        self.late.clear();
    }

    /// Reads `size` bytes at an offset of the register window. What is no register, or not of this size, reads as all
    /// ones.
    pub fn read(&mut self, offset: u64, size: u8, bus: &mut dyn Bus) -> u64 {
        let ones = u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 8)));
        if !self.answers() {
            return ones;
        }
        self.finish_reset(bus.now());
        let value = match split(offset) {
            Some((None, offset)) => self.read_own(offset, size, bus),
            Some((Some(channel), offset)) => self.read_channel(channel, offset, size),
            None => None,
        };
        // While the card resets, only what it is and that it does can be read.
        match value {
            Some(_) if self.resetting.is_some() && !always_readable(offset) => 0,
            Some(value) => value,
            None => ones,
        }
    }

    fn read_own(&mut self, offset: u64, size: u8, bus: &mut dyn Bus) -> Option<u64> {
        let at = At { offset, size };
        let controller = &mut self.interrupts;
        if at.is(register::INTERRUPT_CAUSE) {
            let causes = controller.acknowledge(bus);
            return Some(causes.bits().into());
        }
        let resetting = self.resetting.map_or(Control::empty(), |_| Control::RESET);
        at.value(register::IDENTIFICATION, IDENTITY)
            .or_else(|| at.value(register::FEATURES, Features::all()))
            .or_else(|| at.value(register::MEMORY_SIZE, self.memory.size()))
            .or_else(|| at.value(register::RING_LIMIT, *RING_ENTRIES.end()))
            .or_else(|| at.value(register::LENGTH_LIMIT, DESCRIPTOR_LIMIT))
            .or_else(|| at.value(register::CONTROL, resetting))
            .or_else(|| at.value(register::INTERRUPT_ENABLE, controller.enabled()))
            .or_else(|| at.value(register::INTERRUPT_PENDING, controller.pending()))
            .or_else(|| at.value(register::EVENT_MESSAGE, controller.event_message.into()))
    }

    fn read_channel(&self, direction: Direction, offset: u64, size: u8) -> Option<u64> {
        let at = At { offset, size };
        let channel = &self.channels[direction.index()];
        let message = self.interrupts.channel_messages[direction.index()];
        at.value(register::CHANNEL_CONTROL, channel.control())
            .or_else(|| at.value(register::CHANNEL_STATUS, channel.status()))
            .or_else(|| at.value(register::DESCRIPTOR_RING, channel.rings.descriptors))
            .or_else(|| at.value(register::COMPLETION_RING, channel.rings.completions))
            .or_else(|| at.value(register::SHADOW, channel.rings.shadow))
            .or_else(|| at.value(register::ENTRIES, channel.rings.entries))
            .or_else(|| at.value(register::MODERATION, channel.moderation))
            .or_else(|| at.value(register::MESSAGE, message.into()))
            .or_else(|| at.value(register::ERROR, channel.error()))
            .or_else(|| at.value(register::CONSUMER, channel.consumer().into()))
            .or_else(|| at.value(register::COMPLETED, channel.completed().into()))
    }

    /// Writes `size` bytes at an offset of the register window. What is no register, not of this size or read-only is
    /// not written.
    pub fn write(&mut self, offset: u64, size: u8, value: u64, bus: &mut dyn Bus) {
        if !self.answers() {
            return;
        }
        self.finish_reset(bus.now());
        if self.resetting.is_some() {
            return;
        }
        match split(offset) {
            Some((None, offset)) => self.write_own(At { offset, size }, value, bus),
            Some((Some(channel), offset)) => {
                self.write_channel(channel, At { offset, size }, value, bus);
            }
            None => {}
        }
        self.deliver(bus);
    }

    fn write_own(&mut self, at: At, value: u64, bus: &mut dyn Bus) {
        if let Some(control) = at.written(register::CONTROL, value) {
            if control.contains(Control::RESET) {
                self.clear(bus);
                self.resetting = Some(if self.faults.resets() {
                    Resetting::Endless
                } else {
                    Resetting::Until(bus.now() + self.timing.reset)
                });
            }
        } else if let Some(causes) = at.written(register::INTERRUPT_ENABLE, value) {
            self.interrupts.enable(causes, bus);
        } else if let Some(message) = at.written(register::EVENT_MESSAGE, value) {
            self.interrupts.event_message = message as u16;
        }
    }

    fn write_channel(&mut self, direction: Direction, at: At, value: u64, bus: &mut dyn Bus) {
        let channel = &mut self.channels[direction.index()];
        let aligned = |address: u64| address & !(abi::card::ALIGNMENT - 1);
        let timing = &self.timing;
        let master = &mut Master::new(bus, self.function.bus_master);
        if let Some(producer) = at.written(register::DOORBELL, value) {
            channel.ring(producer, master, (self.pace)(timing.latency));
        } else if let Some(control) = at.written(register::CHANNEL_CONTROL, value) {
            channel.write_control(control, master, timing);
        } else if let Some(tag) = at.written(register::ABORT_TAG, value) {
            channel.abort_tag(tag, master, timing);
        } else if let Some(address) = at.written(register::DESCRIPTOR_RING, value) {
            channel.rings.descriptors = aligned(address);
        } else if let Some(address) = at.written(register::COMPLETION_RING, value) {
            channel.rings.completions = aligned(address);
        } else if let Some(address) = at.written(register::SHADOW, value) {
            channel.rings.shadow = aligned(address);
        } else if let Some(entries) = at.written(register::ENTRIES, value) {
            channel.rings.entries = entries & (2 * RING_ENTRIES.end() - 1);
        } else if let Some(moderation) = at.written(register::MODERATION, value) {
            channel.moderation = Moderation::from_word(moderation.into_word());
        } else if let Some(message) = at.written(register::MESSAGE, value) {
            self.interrupts.channel_messages[direction.index()] = message as u16;
        }
    }

    /// Interrupts for what has happened.
    fn deliver(&mut self, bus: &mut dyn Bus) {
        for channel in &mut self.channels {
            let causes = channel.take_causes();
            self.interrupts.raise(causes);
        }
        if self.answers() {
            let master = self.function.bus_master;
            self.interrupts.deliver(bus, master, &self.faults);
        }
    }

    fn finish_reset(&mut self, now: u64) {
        if let Some(Resetting::Until(end)) = self.resetting
            && end <= now
        {
            self.resetting = None;
        }
    }

    /// When the card wants to be run, by its bus's clock; `None` while it has nothing to do on its own.
    #[must_use]
    pub fn next_event(&self) -> Option<u64> {
        if !self.answers() {
            return None;
        }
        let channels = self.channels.iter().filter_map(Channel::next_event);
        channels.chain(self.late.iter().map(|late| late.at)).min()
    }

    /// Does a bounded part of what is due. There may be more: [`Card::next_event`] says so.
    pub fn run(&mut self, bus: &mut dyn Bus) {
        if !self.answers() {
            return;
        }
        for channel in &mut self.channels {
            let mut around = Surroundings {
                memory: &mut self.memory,
                master: Master::new(bus, self.function.bus_master),
                faults: &self.faults,
                timing: &self.timing,
            };
            self.late.extend(channel.run(&mut around));
        }
        let now = bus.now();
        let mut master = Master::new(bus, self.function.bus_master);
        self.late.retain(|late| {
            if late.at <= now {
                // A write that the host does not take is lost.
                let _ = master.write(late.address, &late.bytes);
            }
            late.at > now
        });
        self.deliver(bus);
    }
}

/// The channel that an offset of the window belongs to, if any, and the offset in its page.
fn split(offset: u64) -> Option<(Option<Direction>, u64)> {
    let page = offset / register::WINDOW_LENGTH as u64;
    let offset = offset % register::WINDOW_LENGTH as u64;
    let channel = match page {
        0 => None,
        1 => Some(Direction::ToCard),
        2 => Some(Direction::FromCard),
        _ => return None,
    };
    Some((channel, offset))
}

/// Whether a register can be read while the card resets.
fn always_readable(offset: u64) -> bool {
    [
        register::IDENTIFICATION.offset(),
        register::CONTROL.offset(),
    ]
    .contains(&(offset as usize))
}

/// An access: where in a page, and of how many bytes.
#[derive(Clone, Copy)]
struct At {
    offset: u64,
    size: u8,
}

impl At {
    /// Whether it is an access to a register.
    fn is<const OFFSET: usize, V: Value, A>(self, _: Register<OFFSET, V, A>) -> bool {
        self.offset == OFFSET as u64 && usize::from(self.size) == size_of::<V::Word>()
    }

    /// What the access reads, if it is to this register, which holds `value`.
    fn value<const OFFSET: usize, V: Value<Word: Into<u64>>, A: Readable>(
        self,
        register: Register<OFFSET, V, A>,
        value: V,
    ) -> Option<u64> {
        self.is(register).then(|| value.into_word().into())
    }

    /// What the access writes, if it is to this register.
    fn written<const OFFSET: usize, V: Value<Word: TryFrom<u64>>, A: Writable>(
        self,
        register: Register<OFFSET, V, A>,
        value: u64,
    ) -> Option<V> {
        if !self.is(register) {
            return None;
        }
        let mask = u64::MAX >> (64 - 8 * u32::from(self.size));
        V::Word::try_from(value & mask).ok().map(V::from_word)
    }
}
