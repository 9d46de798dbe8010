//! The card: a scatter/gather bus master with two channels.
//!
//! `docs/card.md` is its programming manual; what stands here is the part of it that a compiler can check.
//!
//! - [`register`]: the registers of the card and of a channel;
//! - [`ring`]: descriptors, completions and the shadow block, which lie in host memory;
//! - [`status`]: how a transfer ended, and why a channel stopped;
//! - [`position`]: counting in rings.

pub mod position;
pub mod register;
pub mod ring;
pub mod status;

/// PCI vendor identifier, which is not assigned to anyone.
pub const VENDOR_ID: u16 = 0x1234;

/// PCI device identifier.
pub const DEVICE_ID: u16 = 0xda7a;

/// PCI subsystem vendor identifier.
pub const SUBSYSTEM_VENDOR_ID: u16 = 0x1234;

/// PCI subsystem identifier.
pub const SUBSYSTEM_ID: u16 = 0x0001;

/// PCI revision: grows when a driver may want to know.
pub const REVISION: u8 = 0x01;

/// PCI class code: a memory controller of no further kind.
pub const CLASS: u32 = 0x05_80_00;

/// The hardware identifier under which Windows finds the function.
pub const HARDWARE_ID: &str = r"PCI\VEN_1234&DEV_DA7A";

/// What [`register::IDENTIFICATION`] reads as: version 1.0 of the programming interface above the device identifier.
pub const IDENTITY: u32 = 0x0100_da7a;

/// Bytes of base address registers 0 and 1: the registers.
pub const REGISTERS_LENGTH: usize = 0x4000;

/// Bytes of base address registers 2 and 3: the MSI-X table at 0 and its pending bits at [`MSIX_PENDING`].
pub const MSIX_LENGTH: usize = 0x1000;

/// Where the MSI-X pending bits are in their window.
pub const MSIX_PENDING: usize = 0x800;

/// Messages of the function: one for each channel, and one for events.
pub const MESSAGES: u16 = 3;

/// Messages that its MSI capability offers: a power of two.
pub const MSI_MESSAGES: u16 = 4;

/// Bytes of memory of the smallest card.
pub const MEMORY_DEFAULT: u64 = 64 << 20;

/// Bytes of memory of the largest card.
pub const MEMORY_LIMIT: u64 = 4 << 30;

/// Fewest and most entries of a ring; always a power of two.
pub const RING_ENTRIES: core::ops::RangeInclusive<u32> = 2..=0x1_0000;

/// Most bytes of one descriptor.
pub const DESCRIPTOR_LIMIT: u32 = 256 << 20;

/// What rings and shadow blocks are aligned to.
pub const ALIGNMENT: u64 = 64;

/// Longest a reset takes, in microseconds.
pub const RESET_LIMIT_US: u32 = 10_000;

/// A channel of the card: the direction it moves data in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(usize)]
pub enum Direction {
    /// From host memory to the card's memory.
    ToCard = 0,
    /// From the card's memory to host memory.
    FromCard = 1,
}

impl Direction {
    /// Both channels, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::ToCard, Self::FromCard];

    /// The number of the channel.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Where the channel's registers start in base address register 0.
    #[must_use]
    pub const fn window(self) -> usize {
        register::CHANNEL_WINDOW_LENGTH * (1 + self.index())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn the_hardware_identifier_is_made_of_the_pci_identifiers() {
        assert_eq!(
            HARDWARE_ID,
            std::format!(r"PCI\VEN_{VENDOR_ID:04X}&DEV_{DEVICE_ID:04X}")
        );
        assert_eq!(IDENTITY as u16, DEVICE_ID);
    }

    #[test]
    fn the_windows_of_the_channels_lie_in_the_register_window() {
        for direction in Direction::ALL {
            let end = direction.window() + register::CHANNEL_WINDOW_LENGTH;
            assert!(end <= REGISTERS_LENGTH);
        }
        assert_ne!(Direction::ToCard.window(), Direction::FromCard.window());
    }
}
