//! How long the card takes.

/// How long the card takes for what it does, in nanoseconds of its bus's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From a doorbell to the first descriptor.
    pub latency: u64,
    /// For a descriptor.
    pub descriptor: u64,
    /// For 1024 bytes of data.
    pub kibibyte: u64,
    /// For how long a channel that has run dry goes on looking at the shadow block, before it asks for a doorbell.
    pub linger: u64,
    /// Between two looks.
    pub look: u64,
    /// For a reset.
    pub reset: u64,
}

impl Timing {
    /// A card on four lanes of the third generation: 1 us to start, 3.2 GB/s a channel.
    pub const REAL: Self = Self {
        latency: 1_000,
        descriptor: 100,
        kibibyte: 320,
        linger: 2_000,
        look: 250,
        reset: 10_000,
    };

    /// No time at all, where the bus's clock is the host's: work takes what it takes.
    pub const IMMEDIATE: Self = Self {
        latency: 0,
        descriptor: 0,
        kibibyte: 0,
        linger: 0,
        look: 1,
        reset: 0,
    };

    /// For a piece of data of so many bytes.
    pub(crate) fn data(&self, bytes: usize) -> u64 {
        (bytes as u64 * self.kibibyte).div_ceil(1024)
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::REAL
    }
}
