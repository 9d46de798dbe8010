//! What [`GET_INFO`](crate::ioctl::GET_INFO) returns.

use static_assertions::const_assert_eq;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Version of the control codes and of the structures they return. It grows when a field is appended; fields never
/// move and never go, so a program reads what it knows.
pub const INTERFACE_VERSION: u32 = 2;

/// Which hardware is behind a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
#[non_exhaustive]
pub enum DeviceKind {
    /// QEMU's `edu`.
    Edu = 1,
    /// The FIFO peripheral: no memory but a stream, so file offsets mean nothing.
    Fifo = 3,
    /// The ring card.
    Card = 2,
}

impl DeviceKind {
    /// The kind that a [`DeviceInfo`] names, `None` for one this crate does not know.
    #[must_use]
    pub const fn from_code(code: u32) -> Option<Self> {
        match code {
            1 => Some(Self::Edu),
            3 => Some(Self::Fifo),
            2 => Some(Self::Card),
            _ => None,
        }
    }

    /// As a person would call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Edu => "edu",
            Self::Fifo => "fifo",
            Self::Card => "card",
        }
    }
}

/// How the device interrupts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
#[non_exhaustive]
pub enum InterruptKind {
    /// By a line it may share with other devices.
    Line = 1,
    /// By messages (MSI or MSI-X).
    Message = 2,
    /// Not at all.
    None = 3,
}

impl InterruptKind {
    /// The kind that a [`DeviceInfo`] names, `None` for one this crate does not know.
    #[must_use]
    pub const fn from_code(code: u32) -> Option<Self> {
        match code {
            1 => Some(Self::Line),
            2 => Some(Self::Message),
            3 => Some(Self::None),
            _ => None,
        }
    }

    /// As a person would call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Message => "message",
            Self::None => "none",
        }
    }
}

/// A device, its limits, and the versions of everything that takes part.
#[repr(C)]
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DeviceInfo {
    /// Bytes of this structure as the driver knows it.
    pub size: u32,
    /// [`INTERFACE_VERSION`] of the driver.
    pub interface_version: u32,
    /// A [`DeviceKind`].
    pub device_kind: u32,
    /// An [`InterruptKind`].
    pub interrupt_kind: u32,
    /// Bytes that can be read and written: file offsets run from 0 to this, exclusive. Zero for a device that is a stream.
    pub memory_size: u64,
    /// Bytes that one read or write may have at most.
    pub maximum_request: u32,
    /// Bytes that the hardware moves at most in one transfer; longer requests are split.
    pub maximum_transfer: u32,
    /// Transfers that can be in flight at once; further requests wait in order.
    pub transfers_in_flight: u32,
    /// Width of the bus addresses the device can drive, in bits.
    pub address_bits: u32,
    /// What the hardware says it is; for `edu`, [`edu::IDENTITY`](crate::edu::IDENTITY).
    pub hardware_identity: u32,
    /// Version of the DMA adapter interface in use.
    pub dma_version: u32,
    /// Major, minor and patch version of the driver; the fourth is 0.
    pub driver_version: [u16; 4],
}

const_assert_eq!(size_of::<DeviceInfo>(), 56);
const_assert_eq!(align_of::<DeviceInfo>(), 8);
const_assert_eq!(core::mem::offset_of!(DeviceInfo, memory_size), 16);
const_assert_eq!(core::mem::offset_of!(DeviceInfo, maximum_transfer), 28);
const_assert_eq!(core::mem::offset_of!(DeviceInfo, driver_version), 48);

impl DeviceInfo {
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
        Self::read_from_prefix(bytes).ok().map(|(info, _)| info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_back() {
        let info = DeviceInfo {
            device_kind: DeviceKind::Edu as u32,
            interrupt_kind: InterruptKind::Message as u32,
            memory_size: 4095,
            driver_version: [1, 2, 3, 0],
            ..DeviceInfo::new()
        };
        let mut bytes = [0xaa; 80];
        bytes[..info.as_bytes().len()].copy_from_slice(info.as_bytes());
        assert_eq!(bytes[0], 56);
        assert_eq!(bytes[16..24], 4095_u64.to_le_bytes());
        assert_eq!(DeviceInfo::from_prefix(&bytes), Some(info));
        assert_eq!(DeviceInfo::from_prefix(&bytes[..55]), None);
    }

    #[test]
    fn codes_of_the_kinds() {
        assert_eq!(DeviceKind::from_code(1), Some(DeviceKind::Edu));
        assert_eq!(DeviceKind::from_code(0), None);
        assert_eq!(InterruptKind::from_code(2), Some(InterruptKind::Message));
        assert_eq!(InterruptKind::from_code(3), Some(InterruptKind::None));
        assert_eq!(InterruptKind::from_code(4), None);
    }
}
