//! Streams: a looped transfer in each direction of a FIFO peripheral, which goes on until it is stopped, or the file is closed
//! that has started it.
//!
//! What is played comes back over the device's loop. Each direction has a buffer of [`PERIODS`] periods of
//! [`PERIOD`] bytes. [`EXCHANGE`](crate::ioctl::STREAM_EXCHANGE) waits for the next period that has been received, returns
//! it, and takes the data of the period that is played [`LEAD`] later. Periods count from 0 at the start; the first
//! [`LEAD`] ones are zeros.

use static_assertions::const_assert_eq;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a period.
pub const PERIOD: usize = 4096;

/// Periods of a buffer.
pub const PERIODS: usize = 8;

/// Periods between the one that is received and the one that may be filled.
pub const LEAD: u64 = 4;

/// How a stream is doing.
#[repr(C)]
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct StreamState {
    /// Periods that have been played.
    pub played: u64,
    /// Periods that have been received.
    pub received: u64,
    /// Of an exchange: which period is returned. The data given is played as period `period` + [`LEAD`].
    pub period: u64,
    /// Periods that nobody fetched in time, or that nobody filled in time.
    pub missed: u64,
    /// Times that the device was found to have run out of data, or of room for it.
    pub glitches: u64,
    /// Bytes of the buffer that is played up to the next round: what the controller's counter says.
    pub left: u32,
    /// Zero.
    pub reserved: u32,
}

const_assert_eq!(size_of::<StreamState>(), 48);

impl StreamState {
    /// Bytes of the structure.
    pub const SIZE: usize = size_of::<Self>();

    /// The structure as it crosses the system.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        IntoBytes::as_bytes(self)
    }

    /// Reads the structure from the start of what a driver returned. `None` if that is shorter.
    #[must_use]
    pub fn from_prefix(bytes: &[u8]) -> Option<Self> {
        Self::read_from_prefix(bytes).ok().map(|(state, _)| state)
    }
}
