//! Devices that the firmware describes (ACPI): found by their hardware identifiers, with fixed addresses, lines and
//! connections to the system DMA controller.

mod device;

use std::sync::Arc;

use machine_bus::Board;

use crate::bus_driver::Child;

pub use device::AcpiDevice;

/// The devices that are there and are not `known`.
pub(crate) fn enumerate(board: &dyn Board, known: &[Child]) -> Vec<Child> {
    let is_known = |device: &machine_bus::platform::PlatformDevice| {
        known
            .iter()
            .any(|child| matches!(child, Child::Acpi(known) if known.description == *device))
    };
    board
        .platform()
        .into_iter()
        .filter(|device| !is_known(device))
        .map(|device| Child::Acpi(Arc::new(AcpiDevice::new(device))))
        .collect()
}
