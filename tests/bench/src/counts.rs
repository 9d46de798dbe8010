//! What the machine counts, at a moment and between two.

use machine::counters;

use crate::report::PerRequest;

/// Counts of everything that a request costs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    register_reads: u64,
    register_writes: u64,
    interrupts: u64,
    dpcs: u64,
    ddi_calls: u64,
    locks: u64,
    allocations: u64,
    transfers: u64,
}

impl Counts {
    /// The counters now.
    pub(crate) fn now() -> Self {
        let counters = counters();
        Self {
            register_reads: counters.mmio_reads.get(),
            register_writes: counters.mmio_writes.get(),
            interrupts: counters.interrupts.get(),
            dpcs: counters.dpcs.get(),
            ddi_calls: counters.framework_calls.get(),
            locks: counters.driver_locks.get(),
            allocations: counters.driver_allocations.get(),
            transfers: counters.dma_transfers.get(),
        }
    }

    /// What a request cost, of `requests` between `before` and now.
    pub(crate) fn per_request(self, before: Self, requests: u64) -> PerRequest {
        let each = |now: u64, before: u64| (now - before) as f64 / requests.max(1) as f64;
        PerRequest {
            register_reads: each(self.register_reads, before.register_reads),
            register_writes: each(self.register_writes, before.register_writes),
            interrupts: each(self.interrupts, before.interrupts),
            dpcs: each(self.dpcs, before.dpcs),
            ddi_calls: each(self.ddi_calls, before.ddi_calls),
            locks: each(self.locks, before.locks),
            allocations: each(self.allocations, before.allocations),
            transfers: each(self.transfers, before.transfers),
        }
    }
}
