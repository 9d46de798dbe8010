//! How reads and writes get the map registers that their transfers need.
//!
//! By default each request gets them when it begins, waits for them if there are none, and gives them back when it ends.
//! [`SET_DMA_MODE`](crate::ioctl::SET_DMA_MODE) changes that for all requests that begin afterwards, and
//! [`GET_DMA_MODE`](crate::ioctl::GET_DMA_MODE) tells how it is.

use static_assertions::const_assert_eq;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::info::INTERFACE_VERSION;

bitflags::bitflags! {
    /// What is different from the default. Both together: a reservation that fails if it would have to wait.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct DmaMode: u32 {
        /// Map registers, and in system mode the controller's channels, are the device's alone, and every request uses
        /// them: it never waits for any. A request that needs more is split into more transfers.
        const RESERVED = 1;
        /// Nothing waits for map registers or channels: without them a request ends with
        /// `STATUS_INSUFFICIENT_RESOURCES`. The request before, if it has only just ended, may be what still has them.
        const IMMEDIATE = 1 << 1;
    }
}

/// What [`SET_DMA_MODE`](crate::ioctl::SET_DMA_MODE) takes.
#[repr(C)]
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct ModeChange {
    /// A [`DmaMode`]; other bits are refused.
    pub mode: u32,
    /// How many map registers to reserve for each direction that has its own: 0 for [`ModeState::most_map_registers`],
    /// which is also the most. Zero unless [`DmaMode::RESERVED`].
    pub map_registers: u32,
}

const_assert_eq!(size_of::<ModeChange>(), 8);

impl ModeChange {
    /// Bytes of the structure.
    pub const SIZE: usize = size_of::<Self>();

    /// To this mode, with as many map registers as make sense.
    #[must_use]
    pub const fn to(mode: DmaMode) -> Self {
        Self {
            mode: mode.bits(),
            map_registers: 0,
        }
    }

    /// The structure as it crosses the system.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        IntoBytes::as_bytes(self)
    }

    /// What crossed the system.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::SIZE]) -> Self {
        let [a, b, c, d, e, f, g, h] = bytes;
        Self {
            mode: u32::from_le_bytes([a, b, c, d]),
            map_registers: u32::from_le_bytes([e, f, g, h]),
        }
    }
}

/// What [`GET_DMA_MODE`](crate::ioctl::GET_DMA_MODE) returns.
#[repr(C)]
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct ModeState {
    /// Bytes of this structure as the driver knows it.
    pub size: u32,
    /// [`INTERFACE_VERSION`] of the driver.
    pub interface_version: u32,
    /// A [`DmaMode`].
    pub mode: u32,
    /// Map registers that are reserved for each direction that has its own, 0 if none are.
    pub map_registers: u32,
    /// Map registers that the longest transfer can need: reserving more would make no difference.
    pub most_map_registers: u32,
}

const_assert_eq!(size_of::<ModeState>(), 20);

impl ModeState {
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
        Self::read_from_prefix(bytes).ok().map(|(state, _)| state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_back() {
        let change = ModeChange {
            mode: DmaMode::all().bits(),
            map_registers: 0x0102_0304,
        };
        assert_eq!(change.as_bytes(), [3, 0, 0, 0, 4, 3, 2, 1]);
        assert_eq!(
            ModeChange::from_bytes([3, 0, 0, 0, 4, 3, 2, 1]),
            change,
            "little endian"
        );
        let state = ModeState {
            most_map_registers: 17,
            ..ModeState::new()
        };
        let bytes = state.as_bytes();
        assert_eq!(bytes[16], 17);
        assert_eq!(ModeState::from_prefix(bytes), Some(state));
        assert_eq!(ModeState::from_prefix(&bytes[1..]), None);
    }
}
