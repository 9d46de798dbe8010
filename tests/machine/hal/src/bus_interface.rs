//! Who asks for a DMA adapter: the function behind a physical device object.

use machine_bus::FunctionAddress;

/// A PCI function as the source of DMA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requester {
    /// Address of the physical device object.
    pub device: u64,
    /// Where the function sits.
    pub function: FunctionAddress,
}
