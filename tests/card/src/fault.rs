//! What goes wrong with the card on command.

mod text;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use abi::card::Direction;

pub use text::{NoFault, Planned};

/// Something that a broken or lying card does. Each happens once, at its next opportunity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The channel takes a descriptor and gets nowhere with it. An abort still ends it.
    Hang(Direction),
    /// The channel takes a descriptor and gets nowhere with it, and does not hear of aborts. It ends when the channel
    /// is disabled.
    Stick(Direction),
    /// An interrupt is not sent; a line is not asserted, and its cause is forgotten.
    DropInterrupt,
    /// A message is sent twice; a line comes again without a cause after it was released.
    DuplicateInterrupt,
    /// A completion is not written, and the channel goes on as if the transfer had not been.
    DropCompletion(Direction),
    /// A completion is written twice, into two entries.
    DuplicateCompletion(Direction),
    /// A completion has another tag: these bits are inverted.
    Tag(Direction, u32),
    /// A completion says that so many more bytes were moved than there were.
    Count(Direction, i64),
    /// A completion has these bits below its phase.
    Outcome(Direction, u32),
    /// A completion has the phase of the round before.
    Phase(Direction),
    /// A completion says that the ring is free up to so many descriptors more.
    Consumer(Direction, i32),
    /// After a transfer has been completed, its last bytes are written to host memory once more.
    LateWrite {
        /// How much later, in nanoseconds.
        after: u64,
    },
    /// A descriptor cannot be read: the channel stops with an error.
    FetchError(Direction),
    /// A reset never ends.
    EndlessReset,
}

impl Fault {
    /// Whether it happens to a completion of the channel, and not to the data or the interrupts.
    fn lies(self, channel: Direction) -> bool {
        match self {
            Self::DropCompletion(of)
            | Self::DuplicateCompletion(of)
            | Self::Tag(of, _)
            | Self::Count(of, _)
            | Self::Outcome(of, _)
            | Self::Phase(of)
            | Self::Consumer(of, _) => of == channel,
            _ => false,
        }
    }
}

/// The handle by which a card is broken. Clones are of the same card.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    armed: Vec<Armed>,
    struck: VecDeque<Fault>,
    down: bool,
}

struct Armed {
    fault: Fault,
    /// Opportunities to let pass.
    skip: u32,
}

/// How many faults that have struck are remembered.
const REMEMBERED: usize = 1024;

impl Faults {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Arms a fault for its next opportunity.
    pub fn arm(&self, fault: Fault) {
        self.arm_after(fault, 0);
    }

    /// Arms a fault, after it has let so many opportunities pass.
    pub fn arm_after(&self, fault: Fault, skip: u32) {
        self.lock().armed.push(Armed { fault, skip });
    }

    /// Takes back what has not struck.
    pub fn disarm(&self) {
        self.lock().armed.clear();
    }

    /// The faults that have struck, the oldest first; only the last 1024 are kept.
    #[must_use]
    pub fn struck(&self) -> Vec<Fault> {
        self.lock().struck.iter().copied().collect()
    }

    /// Takes the link down, or brings it up again. While it is down the card is not there: everything reads as ones,
    /// writes are lost, and the card reaches neither memory nor interrupts.
    pub fn set_link_down(&self, down: bool) {
        self.lock().down = down;
    }

    /// Whether the link is down.
    #[must_use]
    pub fn is_link_down(&self) -> bool {
        self.lock().down
    }

    /// An opportunity for faults that `matches`: the one that strikes, if any.
    fn strike(&self, matches: impl Fn(Fault) -> bool) -> Option<Fault> {
        let mut state = self.lock();
        let mut due = None;
        for (index, armed) in state.armed.iter_mut().enumerate() {
            if !matches(armed.fault) {
                continue;
            }
            if armed.skip == 0 {
                due = due.or(Some(index));
            } else {
                armed.skip -= 1;
            }
        }
        let fault = state.armed.remove(due?).fault;
        if state.struck.len() == REMEMBERED {
            state.struck.pop_front();
        }
        state.struck.push_back(fault);
        Some(fault)
    }

    pub(crate) fn takes_descriptor(&self, channel: Direction) -> Option<Fault> {
        self.strike(|fault| fault == Fault::Hang(channel) || fault == Fault::Stick(channel))
    }

    pub(crate) fn fetches(&self, channel: Direction) -> bool {
        let fault = Fault::FetchError(channel);
        self.strike(|armed| armed == fault).is_some()
    }

    pub(crate) fn completes(&self, channel: Direction) -> Option<Fault> {
        self.strike(|fault| fault.lies(channel))
    }

    pub(crate) fn wrote_memory(&self) -> Option<u64> {
        match self.strike(|fault| matches!(fault, Fault::LateWrite { .. }))? {
            Fault::LateWrite { after } => Some(after),
            _ => None,
        }
    }

    pub(crate) fn interrupts(&self) -> Option<Fault> {
        self.strike(|fault| matches!(fault, Fault::DropInterrupt | Fault::DuplicateInterrupt))
    }

    pub(crate) fn resets(&self) -> bool {
        self.strike(|fault| fault == Fault::EndlessReset).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_once_when_its_turn_has_come() {
        let faults = Faults::default();
        faults.arm_after(Fault::Tag(Direction::ToCard, 1), 1);
        assert_eq!(faults.completes(Direction::FromCard), None);
        assert_eq!(faults.completes(Direction::ToCard), None);
        assert_eq!(faults.interrupts(), None);
        let fault = Fault::Tag(Direction::ToCard, 1);
        assert_eq!(faults.completes(Direction::ToCard), Some(fault));
        assert_eq!(faults.completes(Direction::ToCard), None);
        assert_eq!(faults.struck(), [fault]);
    }
}
