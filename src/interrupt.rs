//! The card interrupts: the first half of phase 4.

use kmdf::DeviceGone;
use kmdf::context::ContextType;
use kmdf::interrupt::{InterruptEvents, InterruptKey, Served};

use crate::device::Card;
use crate::hw::{Cause, Hardware};

impl<H: Hardware> InterruptEvents for Card<H>
where
    Self: ContextType,
{
    /// Reads what the card wants, acknowledges exactly that, and leaves the work to the deferred call.
    ///
    /// It is the same for a line and for messages: a card with nothing pending did not interrupt, and a card that is
    /// gone cannot have.
    fn service(&self, _message: u32) -> Served {
        let served = match self.started.enter() {
            Some(started) => match started.hardware.acknowledge() {
                Ok(Cause::Nothing) | Err(DeviceGone) => Served::NotOurs,
                Ok(Cause::Other) => Served::Done,
                Ok(Cause::Transfer) => Served::Defer,
            },
            None => Served::NotOurs,
        };
        match served {
            Served::NotOurs => self.counters.foreign_interrupts.increment(),
            Served::Done | Served::Defer => self.counters.interrupts.increment(),
        }
        served
    }

    fn deferred(&self, _interrupt: InterruptKey) {
        self.counters.dpcs.increment();
        self.look();
    }
}
