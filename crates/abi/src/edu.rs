//! QEMU's `edu` device: a teaching PCI function with one DMA engine and 4 KiB of memory.
//!
//! Its registers stand in `docs/specs/edu.rst` of QEMU; the limits below are what holds for **every** released version.
//!
//! # What a driver has to know
//!
//! - Registers below 0x80 take 4-byte accesses only; a 4-byte write to a DMA register clears its upper half, so these
//!   are 8 bytes wide here.
//! - DMA registers ignore writes while [`Command::RUN`] is set.
//! - A transfer moves [`COUNT`] bytes between a bus address and [`WINDOW_BASE`]`..`, which is an address
//!   for DMA only: the buffer cannot be read through the memory window of the function.
//! - The device masks the bus address to [`ADDRESS_BITS`] bits: a higher address silently aliases low memory.
//! - There is no error status. A transfer that the device refused, or that found bus mastering disabled, clears
//!   [`Command::RUN`] and interrupts like any other.
//! - QEMU 7.2 aborts when a transfer touches the last byte of the buffer, so [`USABLE`] bytes are used.
//! - Message-signalled interrupts are sent at every raise; the line drops only when the whole status is acknowledged.

use bitflags::bitflags;
use registers::{ReadOnly, ReadWrite, Register, Value, WriteOnly};

/// PCI vendor identifier.
pub const VENDOR_ID: u16 = 0x1234;

/// PCI device identifier.
pub const DEVICE_ID: u16 = 0x11e8;

/// The hardware identifier under which Windows finds the function.
pub const HARDWARE_ID: &str = r"PCI\VEN_1234&DEV_11E8";

/// What [`IDENTIFICATION`] reads as: version 1.0 of the device, and its signature `0xed`.
pub const IDENTITY: u32 = 0x0100_00ed;

/// Bytes of the function's only memory window, base address register 0.
pub const BAR_LENGTH: usize = 0x10_0000;

/// The device's address, on its own side, of the first byte of its memory.
pub const WINDOW_BASE: u64 = 0x4_0000;

/// Bytes of the device's memory.
pub const WINDOW_LENGTH: u32 = 0x1000;

/// Bytes that can be transferred on every version of QEMU: all but the last.
pub const USABLE: u32 = WINDOW_LENGTH - 1;

/// Width of the bus addresses the device drives, in bits.
pub const ADDRESS_BITS: u32 = 28;

/// Reads [`IDENTITY`].
pub const IDENTIFICATION: Register<0x00, u32, ReadOnly> = Register::new();

/// Stores the complement of what is written.
pub const LIVENESS: Register<0x04, u32, ReadWrite> = Register::new();

/// Computes the factorial of what is written.
pub const FACTORIAL: Register<0x08, u32, ReadWrite> = Register::new();

/// State of the factorial unit.
pub const FACTORIAL_STATUS: Register<0x20, u32, ReadWrite> = Register::new();

/// Which causes of interrupt are pending.
pub const INTERRUPT_STATUS: Register<0x24, Interrupts, ReadOnly> = Register::new();

/// Raises the causes whose bits are set.
pub const INTERRUPT_RAISE: Register<0x60, Interrupts, WriteOnly> = Register::new();

/// Acknowledges the causes whose bits are set.
pub const INTERRUPT_ACKNOWLEDGE: Register<0x64, Interrupts, WriteOnly> = Register::new();

/// Where a transfer reads: a bus address, or an address from [`WINDOW_BASE`] on.
pub const SOURCE: Register<0x80, u64, ReadWrite> = Register::new();

/// Where a transfer writes: a bus address, or an address from [`WINDOW_BASE`] on.
pub const DESTINATION: Register<0x88, u64, ReadWrite> = Register::new();

/// Bytes to transfer.
pub const COUNT: Register<0x90, u64, ReadWrite> = Register::new();

/// Starts a transfer, and tells whether one runs.
pub const COMMAND: Register<0x98, Command, ReadWrite> = Register::new();

bitflags! {
    /// Causes of interrupt: [`INTERRUPT_STATUS`], [`INTERRUPT_RAISE`], [`INTERRUPT_ACKNOWLEDGE`].
    ///
    /// Software may raise any bit, so unknown ones are kept.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Interrupts: u32 {
        /// The factorial unit has finished.
        const FACTORIAL = 1;
        /// The DMA engine has finished.
        const DMA = 0x100;
        const _ = !0;
    }
}

bitflags! {
    /// The DMA engine's command register.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Command: u64 {
        /// Written: start. Read: a transfer runs.
        const RUN = 1;
        /// From the device's memory to the bus; clear for the other direction.
        const FROM_DEVICE = 2;
        /// Raise [`Interrupts::DMA`] when the transfer has finished.
        const INTERRUPT = 4;
        const _ = !0;
    }
}

impl Value for Interrupts {
    type Word = u32;

    fn from_word(word: u32) -> Self {
        Self::from_bits_retain(word)
    }

    fn into_word(self) -> u32 {
        self.bits()
    }
}

impl Value for Command {
    type Word = u64;

    fn from_word(word: u64) -> Self {
        Self::from_bits_retain(word)
    }

    fn into_word(self) -> u64 {
        self.bits()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn unknown_causes_survive_so_that_they_can_be_acknowledged() {
        let status = Interrupts::from_word(0x8000_0101);
        assert!(status.contains(Interrupts::DMA | Interrupts::FACTORIAL));
        assert_eq!(status.into_word(), 0x8000_0101);
    }

    #[test]
    fn the_hardware_identifier_is_made_of_the_pci_identifiers() {
        assert_eq!(
            HARDWARE_ID,
            std::format!(r"PCI\VEN_{VENDOR_ID:04X}&DEV_{DEVICE_ID:04X}")
        );
    }

    #[test]
    fn the_last_byte_of_the_window_is_not_usable() {
        assert_eq!(WINDOW_BASE + u64::from(USABLE), 0x4_0fff);
    }
}
