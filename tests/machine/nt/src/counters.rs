//! What is counted: one atomic per kind of event, incremented where the event happens, read by the demo and by tests.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Every counter of the machine. Monotonic; one machine per process, so a process-wide static.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[$doc])* pub $name: Counter,)* }

        impl Counters {
            const fn new() -> Self {
                Self { $($name: Counter::new(),)* }
            }

            /// Name and value of each counter, in the order of declaration.
            pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)*]
            }
        }
    };
}

/// A monotonic event counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts one event.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Counts `n` events (or bytes).
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

counters! {
    /// Trapped register reads.
    mmio_reads,
    /// Trapped register writes.
    mmio_writes,
    /// Interrupts delivered to a processor.
    interrupts,
    /// Interrupts that no service routine claimed.
    interrupts_unclaimed,
    /// Deferred procedure calls executed.
    dpcs,
    /// IRPs sent to a driver by the user layer or a bus driver.
    irps_issued,
    /// IRPs completed back to their originator.
    irps_completed,
    /// DMA adapters that drivers and the framework got.
    dma_adapters,
    /// DMA adapters that were given back.
    dma_adapters_put,
    /// DMA transfers programmed (an adapter mapped a range for a device).
    dma_transfers,
    /// Bytes mapped for DMA.
    dma_bytes,
    /// Elements of the scatter/gather lists that were mapped: ranges of logical addresses.
    dma_elements,
    /// Bytes copied through bounce pages, both ways.
    bounced_bytes,
    /// Pool blocks allocated.
    pool_allocations,
    /// Pool blocks freed.
    pool_frees,
    /// Calls of framework functions by the driver.
    framework_calls,
    /// Locks that the driver took: spin locks, interrupt locks and wait locks, the kernel's and the framework's.
    driver_locks,
    /// Blocks, IRPs, MDLs and framework objects that the driver had made for it.
    driver_allocations,
    /// Pool blocks of the framework's that it has lost track of, where the published source does too.
    framework_leaks,
    /// Work items run.
    work_items,
    /// Timers expired.
    timers_expired,
    /// Atomic operations of an instrumented driver.
    atomics,
    /// Accesses to common buffers that are watched.
    common_buffer_accesses,
    /// Switch points passed.
    switch_points,
    /// Switches from one processor or thread to another.
    switches,
}

static COUNTERS: Counters = Counters::new();

/// The machine's counters.
pub fn counters() -> &'static Counters {
    &COUNTERS
}
