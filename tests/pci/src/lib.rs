//! The configuration space of a PCI function that is made of software: what a device model says of itself, and what
//! its host has set.

#![forbid(unsafe_code)]

mod config_space;
mod express;
mod message_table;

pub use config_space::{ConfigSpace, Header};
pub use message_table::{MessageTable, MessageWrite};

/// Offsets in configuration space.
pub mod offset {
    /// Vendor ID, 2 bytes.
    pub const VENDOR_ID: u16 = 0x00;
    /// Device ID, 2 bytes.
    pub const DEVICE_ID: u16 = 0x02;
    /// Command register, 2 bytes.
    pub const COMMAND: u16 = 0x04;
    /// Status register, 2 bytes.
    pub const STATUS: u16 = 0x06;
    /// Revision in bits 7:0, class code in bits 31:8.
    pub const REVISION_CLASS: u16 = 0x08;
    /// Cache line size, 1 byte: software's own on PCI Express.
    pub const CACHE_LINE_SIZE: u16 = 0x0c;
    /// Header type, 1 byte; bit 7: the device has several functions.
    pub const HEADER_TYPE: u16 = 0x0e;
    /// First base address register, 4 bytes.
    pub const BAR0: u16 = 0x10;
    /// Secondary bus number of a bridge, 1 byte.
    pub const SECONDARY_BUS: u16 = 0x19;
    /// Subsystem vendor ID, 2 bytes.
    pub const SUBSYSTEM_VENDOR_ID: u16 = 0x2c;
    /// Subsystem ID, 2 bytes.
    pub const SUBSYSTEM_ID: u16 = 0x2e;
    /// Offset of the first capability, 1 byte.
    pub const CAPABILITIES: u16 = 0x34;
    /// Interrupt line, 1 byte: software's own.
    pub const INTERRUPT_LINE: u16 = 0x3c;
    /// Interrupt pin, 1 byte: 0 = none, 1 = INTA to 4 = INTD.
    pub const INTERRUPT_PIN: u16 = 0x3d;
}

/// Bits of the command register.
pub mod command {
    /// The function answers to its I/O BARs.
    pub const IO_SPACE: u16 = 1 << 0;
    /// The function answers to its memory BARs.
    pub const MEMORY_SPACE: u16 = 1 << 1;
    /// The function may access memory, and send messages.
    pub const BUS_MASTER: u16 = 1 << 2;
    /// The function does not assert its INTx line.
    pub const INTX_DISABLE: u16 = 1 << 10;
}

/// Capability IDs.
pub mod capability {
    /// Power management.
    pub const POWER_MANAGEMENT: u8 = 0x01;
    /// Message-signalled interrupts.
    pub const MSI: u8 = 0x05;
    /// PCI Express.
    pub const PCI_EXPRESS: u8 = 0x10;
    /// Message-signalled interrupts with a table.
    pub const MSI_X: u8 = 0x11;
}

/// What a base address register decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarKind {
    /// I/O ports.
    Io,
    /// Memory below 4 GiB.
    Memory32,
    /// Memory anywhere; the next register holds the upper half of the address.
    Memory64,
}

/// A base address register that is implemented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Which of the registers, 0 to 5.
    pub index: u8,
    /// What it decodes.
    pub kind: BarKind,
    /// Reads have no side effects.
    pub prefetchable: bool,
    /// Bytes it decodes, a power of two.
    pub size: u64,
    /// Where it decodes them now; 0 if it has not been set.
    pub address: u64,
}
