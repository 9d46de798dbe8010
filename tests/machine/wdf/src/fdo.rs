//! `WdfFdo*`: what a function driver asks the drivers below (`fxdevicefdoapi.cpp`).

use std::sync::Arc;

use machine_nt::exports::{IoAllocateIrp, IoFreeIrp};

use crate::device::Device;
use crate::flat::*;
use crate::globals::DriverGlobals;
use crate::object::handle;
use crate::verifier;
use crate::wdm::Irp;

/// Asks the drivers below for an interface (`IRP_MN_QUERY_INTERFACE`). `PASSIVE_LEVEL`.
///
/// Errors: `STATUS_INSUFFICIENT_RESOURCES`, `STATUS_NOT_SUPPORTED` if nobody has it, those of the drivers below.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfFdoQueryForInterface(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDEVICE,
    kind: *const GUID,
    interface: PINTERFACE,
    size: USHORT,
    version: USHORT,
    data: PVOID,
) -> NTSTATUS {
    let globals = DriverGlobals::from_ddi(globals);
    let device: Arc<Device> = handle::get(globals, value as usize);
    verifier::not_null(globals, kind.cast_mut(), "InterfaceType");
    verifier::not_null(globals, interface, "Interface");
    if let Err(status) = verifier::check_irql(globals, PASSIVE_LEVEL) {
        return status;
    }
    let attached = device.attached_object();
    // SAFETY: the device object below lives as long as ours is attached.
    let stack_size = unsafe { (*attached).StackSize };
    // SAFETY: callable at or below DISPATCH_LEVEL.
    let packet = unsafe { IoAllocateIrp(stack_size + 1, FALSE as BOOLEAN) };
    if packet.is_null() {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    // SAFETY: just allocated; freed below.
    let irp = unsafe { Irp::new(packet) };
    irp.prepare_interface_query(kind, interface, (size, version), data);
    let status = irp.send_and_wait(attached);
    // SAFETY: allocated above and complete.
    unsafe { IoFreeIrp(packet) };
    status
}
