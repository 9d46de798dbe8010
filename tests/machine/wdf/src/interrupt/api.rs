//! `WdfInterrupt*` (`fxinterruptapi.cpp`).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::flat::*;
use machine_nt::exports::{
    KeAcquireInterruptSpinLock, KeGetCurrentIrql, KeReleaseInterruptSpinLock,
    KeSynchronizeExecution,
};
use machine_nt::ke::stack::{driver_call, machine_code};

use super::{Interrupt, Notify};
use crate::device::Device;
use crate::globals::DriverGlobals;
use crate::object::attributes::Rules;
use crate::object::{Attributes, Object, handle};
use crate::{trace, verifier};

fn interrupt(globals: PWDF_DRIVER_GLOBALS, value: WDFINTERRUPT) -> Arc<Interrupt> {
    handle::get(DriverGlobals::from_ddi(globals), value as usize)
}

/// Whether the configuration suits the device's state. Errors as [`WdfInterruptCreate`].
fn validate(device: &Device, config: &WDF_INTERRUPT_CONFIG) -> Result<(), NTSTATUS> {
    let with_resources = !config.InterruptRaw.is_null() && !config.InterruptTranslated.is_null();
    let without = config.InterruptRaw.is_null() && config.InterruptTranslated.is_null();
    if config.EvtInterruptIsr.is_none() {
        return Err(STATUS_INVALID_PARAMETER);
    }
    if device.pnp.is_initial() {
        if !without || config.CanWakeDevice != 0 {
            return Err(STATUS_INVALID_PARAMETER);
        }
    } else if !device.pnp.is_preparing_hardware()
        || !with_resources
        || config.ShareVector != WdfUseDefault
    {
        return Err(STATUS_INVALID_DEVICE_STATE);
    }
    if config.EvtInterruptDpc.is_some() && config.EvtInterruptWorkItem.is_some() {
        return Err(STATUS_INVALID_PARAMETER);
    }
    let passive = config.PassiveHandling != 0;
    if !passive && (!config.WaitLock.is_null() || config.CanWakeDevice != 0) {
        return Err(STATUS_INVALID_PARAMETER);
    }
    if passive && !config.SpinLock.is_null() {
        return Err(STATUS_INVALID_PARAMETER);
    }
    if passive {
        trace::error(
            device.globals(),
            "passive-level interrupt handling needs a bus that offers it (GPIO): PCI does not",
        );
        return Err(STATUS_NOT_SUPPORTED);
    }
    Ok(())
}

/// Creates an interrupt, in EvtDriverDeviceAdd (its vector comes with the start) or EvtDevicePrepareHardware (with the descriptors of
/// its vector). IRQL <= `DISPATCH_LEVEL`.
///
/// Errors: those of the attributes (a parent only with AutomaticSerialization); `STATUS_INFO_LENGTH_MISMATCH`, `STATUS_INVALID_PARAMETER`,
/// `STATUS_INVALID_DEVICE_STATE` (at another time, or without the descriptors then needed), `STATUS_NOT_SUPPORTED` (passive-level handling),
/// `STATUS_WDF_INCOMPATIBLE_EXECUTION_LEVEL`, `STATUS_INSUFFICIENT_RESOURCES`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfInterruptCreate(
    globals: PWDF_DRIVER_GLOBALS,
    device: WDFDEVICE,
    config: PWDF_INTERRUPT_CONFIG,
    attributes: PWDF_OBJECT_ATTRIBUTES,
    place: *mut WDFINTERRUPT,
) -> NTSTATUS {
    let globals = DriverGlobals::from_ddi(globals);
    let device: Arc<Device> = handle::get(globals, device as usize);
    verifier::not_null(globals, config, "Configuration");
    verifier::not_null(globals, place, "Interrupt");
    // SAFETY: checked not to be null; the driver's structure.
    if unsafe { (*config).Size } as usize != size_of::<WDF_INTERRUPT_CONFIG>() {
        trace::error(globals, "WDF_INTERRUPT_CONFIG has a wrong size");
        return STATUS_INFO_LENGTH_MISMATCH;
    }
    // SAFETY: as above; the size is right.
    let config = unsafe { *config };
    let rules = if config.AutomaticSerialization != 0 {
        Rules::PLAIN
    } else {
        Rules::NO_PARENT
    };
    // SAFETY: null or the driver's structure.
    let attributes = match unsafe { Attributes::check(globals, attributes, rules) } {
        Ok(attributes) => attributes,
        Err(status) => return status,
    };
    let parent: Arc<dyn Object> = match attributes.as_ref().and_then(Attributes::parent_handle) {
        Some(parent) => handle::any(globals, parent),
        None => device.clone(),
    };
    let made = validate(&device, &config)
        .and_then(|()| Interrupt::make(&device, parent, attributes.as_ref(), &config));
    match made {
        Ok(interrupt) => {
            // SAFETY: checked not to be null.
            unsafe { place.write(interrupt.handle()) };
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

/// Queues the interrupt's DPC (or work item). Any IRQL up to the device's. True if it was not queued already.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfInterruptQueueDpcForIsr(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFINTERRUPT,
) -> BOOLEAN {
    BOOLEAN::from(interrupt(globals, value).queue_dpc())
}

/// Queues the interrupt's work item, from above `DISPATCH_LEVEL` by way of its DPC.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfInterruptQueueWorkItemForIsr(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFINTERRUPT,
) -> BOOLEAN {
    let interrupt = interrupt(globals, value);
    // SAFETY: callable at any IRQL.
    let high = unsafe { KeGetCurrentIrql() } > DISPATCH_LEVEL as KIRQL;
    BOOLEAN::from(if high {
        interrupt.queue_dpc()
    } else {
        interrupt.queue_work_item()
    })
}

struct Synchronized {
    callback: unsafe extern "win64" fn(WDFINTERRUPT, WDFCONTEXT) -> BOOLEAN,
    interrupt: WDFINTERRUPT,
    context: WDFCONTEXT,
}

unsafe extern "win64" fn synchronized(context: PVOID) -> BOOLEAN {
    let _inside = machine_code();
    // SAFETY: the call on the stack of the thread that synchronizes.
    let call = unsafe { &*context.cast::<Synchronized>() };
    // SAFETY: the driver passed the callback.
    driver_call(|| unsafe { (call.callback)(call.interrupt, call.context) })
}

/// Calls a callback at DIRQL with the interrupt's lock held. IRQL <= DIRQL.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfInterruptSynchronize(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFINTERRUPT,
    callback: PFN_WDF_INTERRUPT_SYNCHRONIZE,
    context: WDFCONTEXT,
) -> BOOLEAN {
    let interrupt = interrupt(globals, value);
    let globals = interrupt.device.globals();
    let callback = verifier::required(globals, callback, "Callback");
    if interrupt.kernel_object().is_null() {
        trace::error(
            globals,
            "WdfInterruptSynchronize is called while the interrupt is not connected",
        );
    }
    let mut call = Synchronized {
        callback,
        interrupt: value,
        context,
    };
    // SAFETY: the context lives until the call returns. Without a connection the kernel stops on the null pointer, as Windows does.
    unsafe {
        KeSynchronizeExecution(
            interrupt.kernel_object().cast(),
            Some(synchronized),
            (&raw mut call).cast(),
        )
    }
}

/// Raises to DIRQL and takes the interrupt's lock. IRQL <= DIRQL. Ignored with a verifier break while not connected.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfInterruptAcquireLock(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFINTERRUPT,
) {
    let interrupt = interrupt(globals, value);
    let object = interrupt.kernel_object();
    if object.is_null() {
        trace::error(
            interrupt.device.globals(),
            "WdfInterruptAcquireLock is called while the interrupt is not connected",
        );
        return verifier::break_point(interrupt.device.globals());
    }
    // SAFETY: connected.
    let irql = unsafe { KeAcquireInterruptSpinLock(object.cast()) };
    interrupt.old_irql.store(irql as u8, Ordering::SeqCst);
}

/// Gives the interrupt's lock back and restores the IRQL.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfInterruptReleaseLock(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFINTERRUPT,
) {
    let interrupt = interrupt(globals, value);
    let object = interrupt.kernel_object();
    if object.is_null() {
        return verifier::break_point(interrupt.device.globals());
    }
    let irql = interrupt.old_irql.load(Ordering::SeqCst);
    // SAFETY: taken by `WdfInterruptAcquireLock`, which stored the IRQL.
    unsafe { KeReleaseInterruptSpinLock(object.cast(), irql as KIRQL) };
}

/// Connects an interrupt that [`WdfInterruptDisable`] disconnected. `PASSIVE_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfInterruptEnable(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFINTERRUPT,
) {
    let interrupt = interrupt(globals, value);
    if verifier::check_irql(interrupt.device.globals(), PASSIVE_LEVEL).is_err() {
        return;
    }
    interrupt.force_disconnected.store(false, Ordering::SeqCst);
    let notify = if interrupt.device.is_power_pageable() {
        Notify::Full
    } else {
        Notify::NonPageable
    };
    // The DDI returns nothing; a failure was traced.
    let _ = interrupt.connect(notify);
}

/// Disconnects an interrupt until [`WdfInterruptEnable`]. `PASSIVE_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfInterruptDisable(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFINTERRUPT,
) {
    let interrupt = interrupt(globals, value);
    if verifier::check_irql(interrupt.device.globals(), PASSIVE_LEVEL).is_err() {
        return;
    }
    interrupt.force_disconnected.store(true, Ordering::SeqCst);
    let notify = if interrupt.device.is_power_pageable() {
        Notify::Full
    } else {
        Notify::NonPageable
    };
    // The DDI returns nothing; a failure was traced.
    let _ = interrupt.disconnect(notify);
}

/// The kernel's interrupt object, or NULL while not connected. Any IRQL.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfInterruptWdmGetInterrupt(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFINTERRUPT,
) -> PKINTERRUPT {
    interrupt(globals, value).kernel_object().cast()
}

/// The interrupt's vector, IRQL, kind and message number. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfInterruptGetInfo(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFINTERRUPT,
    info: PWDF_INTERRUPT_INFO,
) {
    let interrupt = interrupt(globals, value);
    let globals = interrupt.device.globals();
    verifier::not_null(globals, info, "Info");
    // SAFETY: checked not to be null; the driver's structure.
    if unsafe { (*info).Size } as usize != size_of::<WDF_INTERRUPT_INFO>() {
        trace::error(globals, "WDF_INTERRUPT_INFO has a wrong size");
        return verifier::break_point(globals);
    }
    // SAFETY: as above; the size is right.
    unsafe { info.write(interrupt.info.get()) };
}

/// The device of an interrupt. Any IRQL.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfInterruptGetDevice(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFINTERRUPT,
) -> WDFDEVICE {
    interrupt(globals, value).device.handle()
}
