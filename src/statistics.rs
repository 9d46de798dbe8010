//! What a card counts.

use core::sync::atomic::{AtomicU64, Ordering};

use abi::statistics::Statistics;

/// A number that grows. Any IRQL, any processor.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn increment(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, amount: usize) {
        // Nothing is concluded from one counter about another, so the order does not matter.
        self.0.fetch_add(amount as u64, Ordering::Relaxed);
    }

    /// Takes back an [`increment`](Self::increment).
    pub(crate) fn decrement(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of a card; what each means stands in [`Statistics`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) requests: Counter,
    pub(crate) completed: Counter,
    pub(crate) cancelled: Counter,
    pub(crate) failed: Counter,
    pub(crate) timeouts: Counter,
    pub(crate) transfers: Counter,
    pub(crate) hardware_errors: Counter,
    pub(crate) bytes_read: Counter,
    pub(crate) bytes_written: Counter,
    pub(crate) interrupts: Counter,
    pub(crate) foreign_interrupts: Counter,
    pub(crate) dpcs: Counter,
    pub(crate) descriptors: Counter,
    pub(crate) without_resources: Counter,
}

impl Counters {
    /// The counters as they are now, one after the other.
    pub(crate) fn snapshot(&self) -> Statistics {
        Statistics {
            requests: self.requests.value(),
            completed: self.completed.value(),
            cancelled: self.cancelled.value(),
            failed: self.failed.value(),
            timeouts: self.timeouts.value(),
            transfers: self.transfers.value(),
            hardware_errors: self.hardware_errors.value(),
            bytes_read: self.bytes_read.value(),
            bytes_written: self.bytes_written.value(),
            interrupts: self.interrupts.value(),
            foreign_interrupts: self.foreign_interrupts.value(),
            dpcs: self.dpcs.value(),
            descriptors: self.descriptors.value(),
            without_resources: self.without_resources.value(),
            ..Statistics::new()
        }
    }
}
