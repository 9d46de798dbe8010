//! Time, virtual or real, and what is due at which moment.

use super::ThreadId;
use crate::mode::Mode;
use std::collections::BTreeMap;
use std::time::Instant;

/// What happens at a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deadline {
    /// A KTIMER, by its address.
    Timer(usize),
    /// The wait of a thread times out.
    Wait(ThreadId),
}

/// Names a scheduled deadline, so that it can be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket {
    due: u64,
    sequence: u64,
}

impl Ticket {
    /// When it is due, ns of the machine's time.
    pub(crate) fn due(self) -> u64 {
        self.due
    }
}

/// The clock of the machine: ns since its start.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// Virtual time.
    now: u64,
    /// When the machine was started, if its time is real.
    started: Option<Instant>,
    sequence: u64,
    deadlines: BTreeMap<Ticket, Deadline>,
}

impl Clock {
    pub(crate) fn new(mode: Mode) -> Self {
        Self {
            started: (mode == Mode::FreeRunning).then(Instant::now),
            ..Self::default()
        }
    }

    pub(crate) fn now(&self) -> u64 {
        match self.started {
            Some(started) => started.elapsed().as_nanos() as u64,
            None => self.now,
        }
    }

    /// Lets virtual time pass; real time does by itself.
    pub(crate) fn advance(&mut self, ns: u64) {
        self.now += ns;
    }

    /// Moves virtual time to `time`, never back.
    pub(crate) fn advance_to(&mut self, time: u64) {
        self.now = self.now.max(time);
    }

    pub(crate) fn schedule(&mut self, due: u64, deadline: Deadline) -> Ticket {
        self.sequence += 1;
        let ticket = Ticket {
            due,
            sequence: self.sequence,
        };
        self.deadlines.insert(ticket, deadline);
        ticket
    }

    /// Takes a deadline back; false if it is no longer there.
    pub(crate) fn cancel(&mut self, ticket: Ticket) -> bool {
        self.deadlines.remove(&ticket).is_some()
    }

    /// Removes and returns the first deadline that is due.
    pub(crate) fn pop_due(&mut self) -> Option<Deadline> {
        let now = self.now();
        let first = self.deadlines.first_entry()?;
        (first.key().due <= now).then(|| first.remove())
    }

    pub(crate) fn next(&self) -> Option<u64> {
        self.deadlines
            .first_key_value()
            .map(|(ticket, _)| ticket.due)
    }

    pub(crate) fn is_due(&self) -> bool {
        self.next().is_some_and(|due| due <= self.now())
    }

    /// Deadlines still to come, with their times.
    pub(crate) fn pending(&self) -> impl Iterator<Item = (u64, Deadline)> {
        self.deadlines
            .iter()
            .map(|(ticket, deadline)| (ticket.due, *deadline))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(thread: u32) -> Deadline {
        Deadline::Wait(ThreadId(thread))
    }

    #[test]
    fn in_order_of_time_then_of_scheduling() {
        let mut clock = Clock::default();
        clock.schedule(20, wait(2));
        let gone = clock.schedule(10, wait(9));
        clock.schedule(20, wait(3));
        clock.schedule(10, wait(1));
        assert!(clock.cancel(gone));
        assert!(!clock.cancel(gone));
        assert_eq!(clock.pop_due(), None);
        clock.advance_to(20);
        let order: Vec<_> = std::iter::from_fn(|| clock.pop_due()).collect();
        assert_eq!(order, [1, 2, 3].map(wait));
    }
}
