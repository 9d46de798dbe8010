//! What the shim does later.

use std::collections::BTreeMap;

use super::plan::Fault;
use crate::engine::Transfer;

/// Something the shim does when its time has come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    /// A message arrives.
    Message(u8),
    /// The line is no longer held back.
    Let,
    /// The line is asserted though nobody asks for it.
    Pulse,
    /// It is released again.
    EndPulse,
    /// The device writes where a transfer was.
    LateDma(Fault, Transfer),
}

/// Work by time, and by order of entry.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    work: BTreeMap<(u64, u64), Work>,
    entered: u64,
}

impl Agenda {
    pub(super) fn enter(&mut self, due: u64, work: Work) {
        self.entered += 1;
        self.work.insert((due, self.entered), work);
    }

    /// When the first of it is due.
    pub(super) fn next(&self) -> Option<u64> {
        self.work.first_key_value().map(|((due, _), _)| *due)
    }

    /// Takes the first that is due.
    pub(super) fn take(&mut self, now: u64) -> Option<Work> {
        let first = self.work.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    pub(super) fn cancel(&mut self, which: impl Fn(&Work) -> bool) {
        self.work.retain(|_, work| !which(work));
    }

    pub(super) fn clear(&mut self) {
        self.work.clear();
    }
}
