//! The card as a PCI function.

use abi::card::{
    CLASS, DEVICE_ID, MESSAGES, MSI_MESSAGES, MSIX_LENGTH, MSIX_PENDING, REGISTERS_LENGTH,
    REVISION, SUBSYSTEM_ID, SUBSYSTEM_VENDOR_ID, VENDOR_ID,
};
use pci_config::{BarKind, ConfigSpace, Header};

/// The base address register of the registers.
pub const REGISTERS_BAR: u8 = 0;

/// The base address register of the MSI-X table.
pub const MSIX_BAR: u8 = 2;

/// What configuration space says about the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// The bus master enable bit: the card may access memory and send messages.
    pub bus_master: bool,
    /// It is in D0. In another power state it neither answers nor does anything.
    pub awake: bool,
}

impl Function {
    /// What this configuration space says.
    #[must_use]
    pub fn of(space: &ConfigSpace) -> Self {
        Self {
            bus_master: space.is_master(),
            awake: !space.is_asleep(),
        }
    }
}

/// The card's configuration space at power-on.
#[must_use]
pub fn config_space() -> ConfigSpace {
    let header = Header {
        vendor: VENDOR_ID,
        device: DEVICE_ID,
        subsystem_vendor: SUBSYSTEM_VENDOR_ID,
        subsystem: SUBSYSTEM_ID,
        revision: REVISION,
        class: CLASS,
        pin: 1,
    };
    ConfigSpace::express(&header)
        .with_memory_bar(REGISTERS_BAR, BarKind::Memory64, REGISTERS_LENGTH as u64)
        .with_memory_bar(MSIX_BAR, BarKind::Memory64, MSIX_LENGTH as u64)
        .with_power_management()
        .with_msi(MSI_MESSAGES as u8)
        .with_endpoint()
        .with_msi_x(MESSAGES, MSIX_BAR, MSIX_PENDING as u64)
}
