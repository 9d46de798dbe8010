//! PCI: where functions are, what their configuration space means, and how they are found and set up.
//!
//! This is what the PCI bus driver of the machine works with. Nothing here knows which board it is.

mod config_space;
mod enumerate;
mod function;
mod window;

use std::fmt;

pub use config_space::{ConfigSpace, Header};
pub use enumerate::enumerate;
pub use function::{Bar, BarKind, Capability, Function, Identity, Msi};
pub use window::RegisterWindow;

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

/// Bus, device and function number of a PCI function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionAddress {
    /// Bus number.
    pub bus: u8,
    /// Device number, 0 to 31.
    pub device: u8,
    /// Function number, 0 to 7.
    pub function: u8,
}

impl FunctionAddress {
    /// A function's address; `device` and `function` are taken modulo 32 and 8.
    pub const fn new(bus: u8, device: u8, function: u8) -> Self {
        Self {
            bus,
            device: device & 0x1f,
            function: function & 7,
        }
    }
}

impl fmt::Display for FunctionAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.bus, self.device, self.function)
    }
}
