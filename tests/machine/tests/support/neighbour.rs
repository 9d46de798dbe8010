//! A sound driver for the second device on the interrupt line: it serves its own interrupts and does nothing else.

#![allow(
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "a driver in C is nothing but this; the machine is what watches it"
)]

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering::Relaxed};

use machine::ddi;
use machine::nt_sys::*;

use super::{ACKNOWLEDGE, RAISE, STATUS};

static REGISTERS: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static SERVED: AtomicU32 = AtomicU32::new(0);

/// Has the device assert the line.
pub fn raise() {
    unsafe { register(RAISE).write_volatile(1) };
}

/// How many interrupts the driver has served.
pub fn served() -> u32 {
    SERVED.load(Relaxed)
}

fn register(offset: usize) -> *mut u32 {
    REGISTERS.load(Relaxed).wrapping_add(offset).cast()
}

/// EvtDriverDeviceAdd of the second device.
pub unsafe fn device_add(mut init: PWDFDEVICE_INIT) -> NTSTATUS {
    let mut events = WDF_PNPPOWER_EVENT_CALLBACKS {
        Size: size_of::<WDF_PNPPOWER_EVENT_CALLBACKS>() as ULONG,
        EvtDevicePrepareHardware: Some(prepare_hardware),
        EvtDeviceReleaseHardware: Some(release_hardware),
        ..Default::default()
    };
    ddi!(WdfDeviceInitSetPnpPowerEventCallbacks(init, &mut events));
    let mut device = ptr::null_mut();
    let status = ddi!(WdfDeviceCreate(&mut init, ptr::null_mut(), &mut device));
    if !nt_success(status) {
        return status;
    }
    let mut config = WDF_INTERRUPT_CONFIG {
        Size: size_of::<WDF_INTERRUPT_CONFIG>() as ULONG,
        EvtInterruptIsr: Some(interrupt),
        ..Default::default()
    };
    let mut interrupt = ptr::null_mut();
    ddi!(WdfInterruptCreate(
        device,
        &mut config,
        ptr::null_mut(),
        &mut interrupt
    ))
}

unsafe extern "win64" fn prepare_hardware(
    _device: WDFDEVICE,
    _raw: WDFCMRESLIST,
    translated: WDFCMRESLIST,
) -> NTSTATUS {
    REGISTERS.store(super::map_registers(translated), Relaxed);
    STATUS_SUCCESS
}

unsafe extern "win64" fn release_hardware(
    _device: WDFDEVICE,
    _translated: WDFCMRESLIST,
) -> NTSTATUS {
    super::unmap_registers(REGISTERS.swap(ptr::null_mut(), Relaxed));
    STATUS_SUCCESS
}

unsafe extern "win64" fn interrupt(_interrupt: WDFINTERRUPT, _message: ULONG) -> BOOLEAN {
    let status = register(STATUS).read_volatile();
    if status == 0 {
        return 0;
    }
    register(ACKNOWLEDGE).write_volatile(status);
    SERVED.fetch_add(1, Relaxed);
    1
}
