//! Causes, and how they become interrupts.

use abi::card::Direction;
use abi::card::register::Causes;

use crate::bus::{Bus, Signalling};
use crate::fault::{Fault, Faults};

/// The card's interrupt registers.
pub(crate) struct Controller {
    enabled: Causes,
    pending: Causes,
    pub(crate) event_message: u16,
    pub(crate) channel_messages: [u16; 2],
    /// The line is asserted.
    line: bool,
    /// A fault: the line comes once more without a cause.
    echo: bool,
}

impl Controller {
    pub(crate) fn new() -> Self {
        Self {
            enabled: Causes::empty(),
            pending: Causes::empty(),
            event_message: 0,
            channel_messages: [0; 2],
            line: false,
            echo: false,
        }
    }

    pub(crate) fn enabled(&self) -> Causes {
        self.enabled
    }

    pub(crate) fn pending(&self) -> Causes {
        self.pending
    }

    /// Makes causes pending. [`Controller::deliver`] is to follow.
    pub(crate) fn raise(&mut self, causes: Causes) {
        self.pending |= causes;
    }

    /// What the cause register reads as; reading it clears the causes that are enabled, and releases the line.
    pub(crate) fn acknowledge(&mut self, bus: &mut dyn Bus) -> Causes {
        let causes = self.pending & self.enabled;
        self.pending &= !self.enabled;
        self.set_line(false, bus);
        if std::mem::take(&mut self.echo) && bus.signalling() == Signalling::Line {
            self.set_line(true, bus);
        }
        causes
    }

    /// Interrupts for what is pending and enabled: sends messages, which clears their causes, or sets the line.
    pub(crate) fn deliver(&mut self, bus: &mut dyn Bus, is_master: bool, faults: &Faults) {
        let causes = self.pending & self.enabled;
        match bus.signalling() {
            Signalling::Line => {
                if self.line || causes.is_empty() {
                    return;
                }
                match faults.interrupts() {
                    Some(Fault::DropInterrupt) => self.pending &= !causes,
                    fault => {
                        self.echo |= fault.is_some();
                        self.set_line(true, bus);
                    }
                }
            }
            // A message is a write, and a function that is no master makes none.
            Signalling::Messages(_) if !is_master => {}
            Signalling::Messages(count) => {
                self.set_line(false, bus);
                self.pending &= !causes;
                for number in self.messages(causes, count) {
                    let times = match faults.interrupts() {
                        Some(Fault::DropInterrupt) => 0,
                        Some(_) => 2,
                        None => 1,
                    };
                    (0..times).for_each(|_| bus.send_message(number));
                }
            }
        }
    }

    fn set_line(&mut self, asserted: bool, bus: &mut dyn Bus) {
        if std::mem::replace(&mut self.line, asserted) != asserted {
            bus.set_line(asserted);
        }
    }

    /// Software has changed what is enabled: the line follows.
    pub(crate) fn enable(&mut self, causes: Causes, bus: &mut dyn Bus) {
        self.enabled = causes & Causes::all();
        if (self.pending & self.enabled).is_empty() {
            self.set_line(false, bus);
        }
    }

    /// Back to the values of power-on.
    pub(crate) fn reset(&mut self, bus: &mut dyn Bus) {
        self.set_line(false, bus);
        *self = Self::new();
    }

    /// The messages of causes, each once. A number for which there is no message means the first.
    fn messages(&self, causes: Causes, count: u16) -> impl Iterator<Item = u16> {
        let errors = Direction::ALL.map(Causes::error);
        let events = causes.intersects(errors[0] | errors[1]);
        let channels = Direction::ALL
            .into_iter()
            .filter(|channel| causes.contains(Causes::completion(*channel)))
            .map(|channel| self.channel_messages[channel.index()]);
        let mut numbers: Vec<u16> = channels
            .chain(events.then_some(self.event_message))
            .map(|number| if number < count { number } else { 0 })
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.into_iter()
    }
}
