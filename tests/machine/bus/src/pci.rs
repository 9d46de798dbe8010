//! PCI: where functions are, what their configuration space means, and how they are found and set up.
//!
//! This is what the PCI bus driver of the machine works with. Nothing here knows which board it is.

mod enumerate;
mod function;
mod msi_x;
mod window;

use std::fmt;

pub use enumerate::enumerate;
pub use function::{Capability, Function, Identity, Msi};
pub use msi_x::MsiX;
pub use pci_config::{
    Bar, BarKind, ConfigSpace, Header, MessageTable, MessageWrite, capability, command, offset,
};
pub use window::RegisterWindow;

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
