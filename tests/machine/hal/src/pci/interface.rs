//! BUS_INTERFACE_STANDARD of a PCI function: configuration space, and the way to its DMA adapters.

use std::sync::atomic::{AtomicI64, Ordering};

use machine_nt::bugcheck::{Stop, stop_machine};
use nt_sys::{
    BOOLEAN, BUS_INTERFACE_STANDARD, GUID, PCI_WHICHSPACE_CONFIG, PDEVICE_DESCRIPTION,
    PDMA_ADAPTER, PHYSICAL_ADDRESS, PPHYSICAL_ADDRESS, PULONG, PVOID, ULONG,
};

use super::device;
use crate::{dma, quad_part};

/// GUID_BUS_INTERFACE_STANDARD.
pub static BUS_INTERFACE: GUID = GUID::from_u128(0x496b8280_6f25_11d0_beaf_08002be2092f);

/// The interface of the function behind physical device object `pdo`, which is the interface's context.
pub fn bus_interface(pdo: PVOID) -> BUS_INTERFACE_STANDARD {
    BUS_INTERFACE_STANDARD {
        Size: size_of::<BUS_INTERFACE_STANDARD>() as u16,
        Version: 1,
        Context: pdo,
        InterfaceReference: Some(reference),
        InterfaceDereference: Some(dereference),
        TranslateBusAddress: Some(translate_bus_address),
        GetDmaAdapter: Some(get_dma_adapter),
        SetBusData: Some(set_bus_data),
        GetBusData: Some(get_bus_data),
    }
}

/// References to interfaces that drivers have.
static HELD: AtomicI64 = AtomicI64::new(0);

/// An interface is handed out with a reference, which is one to the physical device object.
///
/// # Safety
/// The object exists.
pub(crate) unsafe fn hand_out(pdo: PVOID) {
    // SAFETY: the caller vouches for it.
    unsafe { reference(pdo) };
}

/// Called when no driver of a function is left: stops the machine if one has kept an interface, which on Windows keeps the
/// physical device object for good.
pub fn check_interfaces_released() {
    let held = HELD.load(Ordering::Relaxed);
    if held != 0 {
        stop_machine(
            Stop::Misuse,
            format_args!("{held} reference(s) to interfaces of the PCI bus have not been given up"),
        );
    }
}

pub(super) unsafe extern "win64" fn reference(context: PVOID) {
    HELD.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the context is the physical device object, to which the interface's user has a reference.
    unsafe { machine_nt::exports::ObfReferenceObject(context) };
}

pub(super) unsafe extern "win64" fn dereference(context: PVOID) {
    HELD.fetch_sub(1, Ordering::Relaxed);
    // SAFETY: the user of the interface gives up the reference that came with it.
    unsafe { machine_nt::exports::ObfDereferenceObject(context) };
}

/// Memory addresses on the bus are those of the processors.
unsafe extern "win64" fn translate_bus_address(
    _context: PVOID,
    address: PHYSICAL_ADDRESS,
    _length: ULONG,
    space: PULONG,
    translated: PPHYSICAL_ADDRESS,
) -> BOOLEAN {
    // SAFETY: the caller passes where the space is and goes.
    let is_memory = unsafe { space.read() } == 0;
    if is_memory {
        // SAFETY: the caller passes where it wants the address.
        unsafe { translated.write(crate::large_integer(quad_part(address))) };
    }
    is_memory.into()
}

unsafe extern "win64" fn get_dma_adapter(
    context: PVOID,
    description: PDEVICE_DESCRIPTION,
    registers: PULONG,
) -> PDMA_ADAPTER {
    let Some(function) = device(context as u64) else {
        return std::ptr::null_mut();
    };
    // SAFETY: the caller passes both structures.
    unsafe {
        dma::get_adapter(
            context as u64,
            Some(function.address),
            description,
            registers,
        )
    }
}

unsafe extern "win64" fn get_bus_data(
    context: PVOID,
    space: ULONG,
    buffer: PVOID,
    offset: ULONG,
    length: ULONG,
) -> ULONG {
    if space != PCI_WHICHSPACE_CONFIG {
        return 0;
    }
    let Some(function) = device(context as u64) else {
        return 0;
    };
    machine_nt::trace::record("configuration read", offset.into());
    let mut bytes = vec![0; length as usize];
    let count = function.read_config(offset, &mut bytes);
    // SAFETY: the caller passes a buffer of `length` bytes, of which at most so many are written.
    unsafe {
        buffer
            .cast::<u8>()
            .copy_from_nonoverlapping(bytes.as_ptr(), count)
    };
    count as ULONG
}

unsafe extern "win64" fn set_bus_data(
    context: PVOID,
    space: ULONG,
    buffer: PVOID,
    offset: ULONG,
    length: ULONG,
) -> ULONG {
    if space != PCI_WHICHSPACE_CONFIG {
        return 0;
    }
    let Some(function) = device(context as u64) else {
        return 0;
    };
    // SAFETY: the caller passes a buffer of `length` bytes.
    let bytes = unsafe { std::slice::from_raw_parts(buffer.cast::<u8>(), length as usize) };
    machine_nt::trace::record("configuration write", offset.into());
    function.write_config(offset, bytes) as ULONG
}
