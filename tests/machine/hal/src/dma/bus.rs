//! IoGetDmaAdapter: the way from a physical device object to an adapter goes through its bus driver, as in Windows. A bus
//! driver that offers no bus interface leaves it to the HAL, which has channels of the system DMA controller to give.

use nt_sys::{
    BUS_INTERFACE_STANDARD, IRP_MJ_PNP, IRP_MN_QUERY_INTERFACE, PDEVICE_DESCRIPTION,
    PDEVICE_OBJECT, PDMA_ADAPTER, PULONG, nt_success,
};

use crate::irp;
use crate::pci::BUS_INTERFACE;

/// IoGetDmaAdapter: asks the device's stack for the bus interface and that for the adapter. NULL if the bus has no DMA
/// or refuses the description. At PASSIVE_LEVEL.
///
/// # Safety
/// As the kernel routine.
pub unsafe extern "win64" fn get_dma_adapter(
    pdo: PDEVICE_OBJECT,
    description: PDEVICE_DESCRIPTION,
    registers: PULONG,
) -> PDMA_ADAPTER {
    let mut interface = BUS_INTERFACE_STANDARD::default();
    let mut location = irp::location(IRP_MJ_PNP, IRP_MN_QUERY_INTERFACE);
    location.Parameters.QueryInterface.InterfaceType = &raw const BUS_INTERFACE;
    location.Parameters.QueryInterface.Size = size_of::<BUS_INTERFACE_STANDARD>() as u16;
    location.Parameters.QueryInterface.Version = 1;
    location.Parameters.QueryInterface.Interface = (&raw mut interface).cast();
    if pdo.is_null() {
        return std::ptr::null_mut();
    }
    if !nt_success(irp::send(pdo, location).status) {
        // SAFETY: the caller vouches for both structures.
        return unsafe { super::get_adapter(pdo as u64, None, description, registers) };
    }
    let mut adapter = std::ptr::null_mut();
    if let Some(get) = interface.GetDmaAdapter {
        // SAFETY: the caller vouches for both structures; the interface is referenced until below.
        adapter = unsafe { get(interface.Context, description, registers) };
    }
    if let Some(dereference) = interface.InterfaceDereference {
        // SAFETY: the reference that came with the interface.
        unsafe { dereference(interface.Context) };
    }
    adapter
}
