//! One direction: its channel, and what has been heard of the transfer that is in it.

use core::sync::atomic::{AtomicU32, Ordering};

use kmdf::clock::Moment;
use kmdf::dma::{Executing, SystemChannel, Transaction, TransferEnd};

use super::end::Why;

/// A transfer that the device asks for.
pub(super) struct InFlight {
    pub(super) transfer: Transaction<Executing>,
    /// Since when.
    pub(super) since: Moment,
    /// Whether the controller has been told to stop, and why.
    pub(super) stopped: Option<Why>,
}

bitflags::bitflags! {
    /// What has been heard.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) struct Heard: u32 {
        /// From the controller: it has moved everything.
        const COMPLETE = 1;
        /// From the controller: an error.
        const ERROR = 1 << 1;
        /// From the controller: it was stopped.
        const CANCELLED = 1 << 2;
        /// From the device, by interrupt: it has all it asked for, and is done with it.
        const DONE = 1 << 3;
    }
}

impl From<TransferEnd> for Heard {
    fn from(end: TransferEnd) -> Self {
        match end {
            TransferEnd::Complete => Self::COMPLETE,
            TransferEnd::Error => Self::ERROR,
            TransferEnd::Cancelled => Self::CANCELLED,
        }
    }
}

/// One direction.
pub(super) struct Lane {
    pub(super) channel: SystemChannel<InFlight>,
    heard: AtomicU32,
}

impl Lane {
    pub(super) const fn new(channel: SystemChannel<InFlight>) -> Self {
        Self {
            channel,
            heard: AtomicU32::new(0),
        }
    }

    /// A transfer begins. Nothing that the controller said of an earlier one comes later: no transfer ends before it has
    /// said so.
    pub(super) fn forget(&self) {
        self.heard.store(0, Ordering::Release);
    }

    /// Any IRQL.
    pub(super) fn hear(&self, heard: Heard) {
        self.heard.fetch_or(heard.bits(), Ordering::AcqRel);
    }

    pub(super) fn heard(&self) -> Heard {
        Heard::from_bits_truncate(self.heard.load(Ordering::Acquire))
    }
}
