//! The PCI bus: its functions, as the bus driver answers for them.

mod function;
pub mod identity;
mod interface;
pub mod reset;

use std::sync::Arc;

use machine_bus::{Board, BoardError, FunctionAddress};

use crate::bus_driver::{self, Child};

pub use function::PciFunction;
pub use interface::check_interfaces_released;
pub(crate) use interface::{BUS_INTERFACE, bus_interface, hand_out};

/// The function behind a physical device object.
pub fn device(pdo: u64) -> Option<Arc<PciFunction>> {
    match bus_driver::child(pdo)? {
        Child::Pci(function) => Some(function),
        Child::Acpi(_) => None,
    }
}

/// The physical device object of a function.
pub fn pdo_of(address: FunctionAddress) -> Option<u64> {
    bus_driver::find(|child| is_at(child, address))
}

fn is_at(child: &Child, address: FunctionAddress) -> bool {
    matches!(child, Child::Pci(function) if function.address == address)
}

/// The functions that are there and are not `known`.
///
/// # Errors
/// The board's.
pub(crate) fn enumerate(board: &Arc<dyn Board>, known: &[Child]) -> Result<Vec<Child>, BoardError> {
    machine_bus::pci::enumerate(&**board)?
        .into_iter()
        .filter(|address| !known.iter().any(|child| is_at(child, *address)))
        .map(|address| {
            Ok(Child::Pci(Arc::new(PciFunction::new(
                board.clone(),
                address,
            )?)))
        })
        .collect()
}
