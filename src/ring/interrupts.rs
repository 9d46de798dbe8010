//! The card interrupts: a message for each channel and one for errors, or one signal for everything.

use core::sync::atomic::{AtomicBool, Ordering};

use abi::card::Direction;
use abi::card::register::Causes;
use kmdf::interrupt::{InterruptEvents, InterruptKey, Served, Signal};
use kmdf::{Device, DeviceGone, Interrupt, Result};

use super::card::RingCard;

/// The card's interrupts. The framework hands out messages in the order in which they were made, which is that of the
/// card's numbers ([`Registers`](super::registers::Registers)). A single message, or a line, is the first's.
pub(super) struct Interrupts {
    to_card: Interrupt,
    from_card: Interrupt,
    errors: Interrupt,
    /// Each has a message of its own.
    apart: AtomicBool,
}

impl Interrupts {
    /// Makes them. PASSIVE_LEVEL.
    pub(super) fn create(device: &Device<RingCard>) -> Result<Self> {
        Ok(Self {
            to_card: Interrupt::create(device)?,
            from_card: Interrupt::create(device)?,
            errors: Interrupt::create(device)?,
            apart: AtomicBool::new(false),
        })
    }

    /// Finds out how many messages there are, in `EvtDevicePrepareHardware`; and how the card interrupts.
    pub(super) fn assigned(&self) -> Signal {
        let apart = self.errors.signal() == Signal::Message;
        self.apart.store(apart, Ordering::Release);
        self.to_card.signal()
    }

    /// The interrupt whose deferred call drains a channel. IRQL <= DIRQL.
    pub(super) fn of(&self, direction: Direction) -> &Interrupt {
        match direction {
            Direction::FromCard if self.apart.load(Ordering::Acquire) => &self.from_card,
            Direction::FromCard | Direction::ToCard => &self.to_card,
        }
    }

    /// The channel that an interrupt is about, if it is about one alone.
    fn channel(&self, interrupt: InterruptKey) -> Option<Direction> {
        if !self.apart.load(Ordering::Acquire) {
            None
        } else if interrupt == self.to_card.key() {
            Some(Direction::ToCard)
        } else if interrupt == self.from_card.key() {
            Some(Direction::FromCard)
        } else {
            None
        }
    }
}

impl InterruptEvents for RingCard {
    /// A message needs no answer. On a line, reading the causes acknowledges them; a card with none did not interrupt,
    /// and a card that is gone cannot have.
    fn service(&self, _message: u32) -> Served {
        let served = match self.started.enter() {
            Some(started) if started.signal == Signal::Message => Served::Defer,
            Some(started) => match started.registers.acknowledge() {
                Ok(causes) if causes.intersects(Causes::all()) => Served::Defer,
                Ok(_) | Err(DeviceGone) => Served::NotOurs,
            },
            None => Served::NotOurs,
        };
        match served {
            Served::NotOurs => self.counters.foreign_interrupts.increment(),
            Served::Done | Served::Defer => self.counters.interrupts.increment(),
        }
        served
    }

    /// Phase 4: takes what the card has completed, on the channel whose message it was.
    fn deferred(&self, interrupt: InterruptKey) {
        self.counters.dpcs.increment();
        match self.interrupts.channel(interrupt) {
            Some(Direction::ToCard) => self.to_card.look(self),
            Some(Direction::FromCard) => self.from_card.look(self),
            None => self.look(),
        }
    }
}
