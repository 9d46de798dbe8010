//! `WdfDevice*`: where the device stands, what it can do, how it fails (`fxdeviceapi.cpp`).

use std::sync::Arc;

use machine_nt::exports::IoInvalidateDeviceState;

use super::Device;
use crate::flat::*;
use crate::globals::DriverGlobals;
use crate::io::queue::Queue;
use crate::object::{Object, handle};
use crate::wdm::status_of;
use crate::{trace, verifier};

fn device(globals: PWDF_DRIVER_GLOBALS, value: WDFDEVICE) -> Arc<Device> {
    handle::get(DriverGlobals::from_ddi(globals), value as usize)
}

/// Whether a structure has the size it must have; a verifier break if not.
fn sized<T>(globals: &DriverGlobals, size: u32, name: &str) -> bool {
    let right = size as usize == size_of::<T>();
    if !right {
        trace::error(
            globals,
            &format!("{name} size {size:#x} is not {:#x}", size_of::<T>()),
        );
        verifier::break_point(globals);
    }
    right
}

/// The device object of the driver. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceWdmGetDeviceObject(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDEVICE,
) -> PDEVICE_OBJECT {
    device(globals, value).function_object()
}

/// The device object below the driver's. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceWdmGetAttachedDevice(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDEVICE,
) -> PDEVICE_OBJECT {
    device(globals, value).attached_object()
}

/// The bus driver's device object. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceWdmGetPhysicalDevice(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDEVICE,
) -> PDEVICE_OBJECT {
    device(globals, value).physical_object()
}

/// The WDFDEVICE of a device object of the framework. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfWdmDeviceGetWdfDeviceHandle(
    globals: PWDF_DRIVER_GLOBALS,
    object: PDEVICE_OBJECT,
) -> WDFDEVICE {
    verifier::not_null(DriverGlobals::from_ddi(globals), object, "DeviceObject");
    // SAFETY: not null; the driver promises it is one of the framework's.
    unsafe { Device::from_object(object) }.handle()
}

/// The driver of the device. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceGetDriver(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDEVICE,
) -> WDFDRIVER {
    device(globals, value).driver().header().handle() as WDFDRIVER
}

/// The default queue, or NULL. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceGetDefaultQueue(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDEVICE,
) -> WDFQUEUE {
    let queue = device(globals, value).io.default_queue();
    queue.map_or(std::ptr::null_mut(), |queue| queue.handle())
}

/// Sends one type of request to a queue. IRQL <= `DISPATCH_LEVEL`.
///
/// Errors: `STATUS_INVALID_PARAMETER` (type), `STATUS_INVALID_DEVICE_REQUEST` (another device's queue, no callback, the default queue),
/// `STATUS_WDF_BUSY` (the type has a queue).
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceConfigureRequestDispatching(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDEVICE,
    queue: WDFQUEUE,
    kind: WDF_REQUEST_TYPE,
) -> NTSTATUS {
    let device = device(globals, value);
    let queue: Arc<Queue> = handle::get(device.globals(), queue as usize);
    if !Arc::ptr_eq(queue.device(), &device) {
        return STATUS_INVALID_DEVICE_REQUEST;
    }
    match kind as u32 {
        IRP_MJ_CREATE => status_of(device.files.configure(&queue)),
        major @ (IRP_MJ_READ
        | IRP_MJ_WRITE
        | IRP_MJ_DEVICE_CONTROL
        | IRP_MJ_INTERNAL_DEVICE_CONTROL) => status_of(device.io.configure(&queue, major)),
        _ => {
            verifier::break_point(device.globals());
            STATUS_INVALID_PARAMETER
        }
    }
}

/// Sets the alignment mask of the device's buffers. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceSetAlignmentRequirement(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDEVICE,
    mask: ULONG,
) {
    let object = device(globals, value).function_object();
    // SAFETY: the device object lives until the device is removed.
    unsafe { (*object).AlignmentRequirement = mask };
}

/// The alignment mask of the device's buffers. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceGetAlignmentRequirement(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDEVICE,
) -> ULONG {
    let object = device(globals, value).function_object();
    // SAFETY: the device object lives until the device is removed.
    unsafe { (*object).AlignmentRequirement }
}

/// Sets `FILE_*` characteristics of the device object. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceSetCharacteristics(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDEVICE,
    characteristics: ULONG,
) {
    let object = device(globals, value).function_object();
    // SAFETY: the device object lives until the device is removed.
    unsafe { (*object).Characteristics = characteristics };
}

/// The characteristics of the device object. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceGetCharacteristics(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDEVICE,
) -> ULONG {
    let object = device(globals, value).function_object();
    // SAFETY: the device object lives until the device is removed.
    unsafe { (*object).Characteristics }
}

/// Says what the device can do. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceSetPnpCapabilities(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDEVICE,
    capabilities: PWDF_DEVICE_PNP_CAPABILITIES,
) {
    let device = device(globals, value);
    verifier::not_null(device.globals(), capabilities, "PnpCapabilities");
    // SAFETY: checked not to be null; the driver's structure.
    let capabilities = unsafe { *capabilities };
    if sized::<WDF_DEVICE_PNP_CAPABILITIES>(
        device.globals(),
        capabilities.Size,
        "WDF_DEVICE_PNP_CAPABILITIES",
    ) {
        device
            .pnp
            .capabilities()
            .with(|own| own.set_pnp(&capabilities));
    }
}

/// Says which power states the device has. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceSetPowerCapabilities(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDEVICE,
    capabilities: PWDF_DEVICE_POWER_CAPABILITIES,
) {
    let device = device(globals, value);
    verifier::not_null(device.globals(), capabilities, "PowerCapabilities");
    // SAFETY: checked not to be null; the driver's structure.
    let capabilities = unsafe { *capabilities };
    if sized::<WDF_DEVICE_POWER_CAPABILITIES>(
        device.globals(),
        capabilities.Size,
        "WDF_DEVICE_POWER_CAPABILITIES",
    ) {
        device
            .pnp
            .capabilities()
            .with(|own| own.set_power(&capabilities));
    }
}

/// What the driver says of the device's state. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceGetDeviceState(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDEVICE,
    state: PWDF_DEVICE_STATE,
) {
    let device = device(globals, value);
    verifier::not_null(device.globals(), state, "DeviceState");
    // SAFETY: checked not to be null; the driver's structure.
    let size = unsafe { (*state).Size };
    if sized::<WDF_DEVICE_STATE>(device.globals(), size, "WDF_DEVICE_STATE") {
        let own = WDF_DEVICE_STATE {
            Size: size,
            ..device.pnp.capabilities().get().state()
        };
        // SAFETY: as above; the size is right.
        unsafe { state.write(own) };
    }
}

/// Changes what the driver says of the device's state; the PnP manager is told. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceSetDeviceState(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDEVICE,
    state: PWDF_DEVICE_STATE,
) {
    let device = device(globals, value);
    verifier::not_null(device.globals(), state, "DeviceState");
    // SAFETY: checked not to be null; the driver's structure.
    let state = unsafe { *state };
    if sized::<WDF_DEVICE_STATE>(device.globals(), state.Size, "WDF_DEVICE_STATE") {
        device.pnp.capabilities().with(|own| own.set_state(&state));
        // SAFETY: the bus's device object.
        unsafe { IoInvalidateDeviceState(device.physical_object()) };
    }
}

/// Whether the device can be stopped and removed; calls count. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceSetStaticStopRemove(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDEVICE,
    stoppable: BOOLEAN,
) {
    device(globals, value)
        .pnp
        .capabilities()
        .with(|own| own.set_stoppable(stoppable != 0));
}

/// Says that the device failed: the PnP manager removes it. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceSetFailed(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDEVICE,
    action: WDF_DEVICE_FAILED_ACTION,
) {
    let device = device(globals, value);
    if action != WdfDeviceFailedAttemptRestart && action != WdfDeviceFailedNoRestart {
        trace::error(
            device.globals(),
            "WdfDeviceSetFailed: the action is out of range",
        );
        return verifier::break_point(device.globals());
    }
    device.pnp.set_failed(&device);
}

/// Where the device is in its life. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceGetDevicePnpState(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDEVICE,
) -> WDF_DEVICE_PNP_STATE {
    device(globals, value).pnp.phase().pnp_state()
}
