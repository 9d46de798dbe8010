//! What [`GET_STATISTICS`](crate::ioctl::GET_STATISTICS) returns.

use core::mem::offset_of;

use static_assertions::const_assert_eq;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::info::INTERFACE_VERSION;

/// What a device has done since it was started by the operating system.
///
/// Each counter is exact, but they are not sampled at one instant. With no request outstanding,
/// `requests == completed + cancelled + failed`.
#[repr(C)]
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Statistics {
    /// Bytes of this structure as the driver knows it.
    pub size: u32,
    /// [`INTERFACE_VERSION`] of the driver.
    pub interface_version: u32,
    /// Reads and writes the driver was given.
    pub requests: u64,
    /// Those that ended with success.
    pub completed: u64,
    /// Those that ended because they were cancelled.
    pub cancelled: u64,
    /// Those that ended with an error, refused ones included.
    pub failed: u64,
    /// Those of the failed ones that the hardware did not finish in time.
    pub timeouts: u64,
    /// Transfers the hardware was programmed for.
    pub transfers: u64,
    /// Transfers that the hardware did not take, or after which it was not what it should be, or gone.
    pub hardware_errors: u64,
    /// Bytes that reached callers' buffers, by completed transfers.
    pub bytes_read: u64,
    /// Bytes that reached the device, by completed transfers.
    pub bytes_written: u64,
    /// Interrupts that were the device's.
    pub interrupts: u64,
    /// Calls of the interrupt service routine that found nothing of the device's: another device on the same line.
    pub foreign_interrupts: u64,
    /// Deferred procedure calls for the device's interrupts; several interrupts may share one.
    pub dpcs: u64,
    /// Descriptors given to a card that takes its transfers from a ring; one for each element of a scatter/gather list.
    pub descriptors: u64,
    /// Those of the failed ones that ended for want of map registers or memory.
    pub without_resources: u64,
}

const_assert_eq!(size_of::<Statistics>(), 120);
const_assert_eq!(align_of::<Statistics>(), 8);
const_assert_eq!(offset_of!(Statistics, requests), 8);
const_assert_eq!(offset_of!(Statistics, transfers), 48);
const_assert_eq!(offset_of!(Statistics, bytes_read), 64);
const_assert_eq!(offset_of!(Statistics, dpcs), 96);
const_assert_eq!(offset_of!(Statistics, descriptors), 104);
const_assert_eq!(offset_of!(Statistics, without_resources), 112);

impl Statistics {
    /// Bytes of the structure.
    pub const SIZE: u32 = size_of::<Self>() as u32;

    /// An empty structure with its size and version set.
    #[must_use]
    pub fn new() -> Self {
        Self {
            size: Self::SIZE,
            interface_version: INTERFACE_VERSION,
            ..Self::default()
        }
    }

    /// The structure as it crosses the system.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        IntoBytes::as_bytes(self)
    }

    /// Reads the structure from the start of what a driver returned, which may be longer (a newer driver). `None` if it
    /// is shorter.
    #[must_use]
    pub fn from_prefix(bytes: &[u8]) -> Option<Self> {
        Self::read_from_prefix(bytes)
            .ok()
            .map(|(statistics, _)| statistics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_back() {
        let statistics = Statistics {
            requests: 3,
            descriptors: u64::MAX,
            ..Statistics::new()
        };
        let bytes = statistics.as_bytes();
        assert_eq!(bytes[8..16], 3_u64.to_le_bytes());
        assert_eq!(Statistics::from_prefix(bytes), Some(statistics));
        assert_eq!(Statistics::from_prefix(&bytes[1..]), None);
    }
}
