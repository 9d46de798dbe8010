//! `WdfDeviceInit*` and `WdfFdoInit*`.

use crate::flat::*;
use machine_nt::exports::IoGetDeviceProperty;

use super::DeviceInit;
use crate::globals::DriverGlobals;
use crate::object::Attributes;
use crate::object::attributes::Rules;
use crate::{registry, trace, verifier, wdm};

/// The init structure a DDI was given; stops with 0x10D/4 if it is NULL.
fn init<'a>(globals: PWDF_DRIVER_GLOBALS, init: PWDFDEVICE_INIT) -> &'a mut DeviceInit {
    verifier::not_null(DriverGlobals::from_ddi(globals), init, "DeviceInit");
    // SAFETY: not null; the driver got it from the framework for the call it is in.
    unsafe { DeviceInit::from_ddi(init) }
}

/// Says a structure of the wrong size was passed.
fn bad_size(globals: &DriverGlobals, name: &str, size: u32) {
    trace::error(globals, &format!("{name} size {size:#x} is wrong"));
    verifier::break_point(globals);
}

/// Sets how reads and writes bring their buffers.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceInitSetIoType(
    globals: PWDF_DRIVER_GLOBALS,
    device_init: PWDFDEVICE_INIT,
    io_type: WDF_DEVICE_IO_TYPE,
) {
    init(globals, device_init).io_type = io_type;
}

/// Sets how reads, writes and device controls bring their buffers; one way only for reads and writes.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceInitSetIoTypeEx(
    globals: PWDF_DRIVER_GLOBALS,
    device_init: PWDFDEVICE_INIT,
    config: PWDF_IO_TYPE_CONFIG,
) {
    let device_init = init(globals, device_init);
    let globals = device_init.globals();
    verifier::not_null(globals, config, "IoTypeConfig");
    // SAFETY: checked not to be null; the driver's structure.
    let config = unsafe { *config };
    if config.Size as usize != size_of::<WDF_IO_TYPE_CONFIG>() {
        return bad_size(globals, "WDF_IO_TYPE_CONFIG", config.Size);
    }
    device_init.io_type = config.ReadWriteIoType;
}

/// Lets one handle at a time be open.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceInitSetExclusive(
    globals: PWDF_DRIVER_GLOBALS,
    device_init: PWDFDEVICE_INIT,
    exclusive: BOOLEAN,
) {
    init(globals, device_init).exclusive = exclusive != 0;
}

/// Power requests may come at `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceInitSetPowerNotPageable(
    globals: PWDF_DRIVER_GLOBALS,
    device_init: PWDFDEVICE_INIT,
) {
    init(globals, device_init).power_pageable = false;
}

/// Power requests come at `PASSIVE_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceInitSetPowerPageable(
    globals: PWDF_DRIVER_GLOBALS,
    device_init: PWDFDEVICE_INIT,
) {
    init(globals, device_init).power_pageable = true;
}

/// The device draws much current when it is powered up.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceInitSetPowerInrush(
    globals: PWDF_DRIVER_GLOBALS,
    device_init: PWDFDEVICE_INIT,
) {
    init(globals, device_init).power_inrush = true;
}

/// Says whether the driver decides about the device's power.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceInitSetPowerPolicyOwnership(
    globals: PWDF_DRIVER_GLOBALS,
    device_init: PWDFDEVICE_INIT,
    owner: BOOLEAN,
) {
    init(globals, device_init).power_policy_owner = if owner != 0 { WdfTrue } else { WdfFalse };
}

/// Sets `FILE_DEVICE_*`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceInitSetDeviceType(
    globals: PWDF_DRIVER_GLOBALS,
    device_init: PWDFDEVICE_INIT,
    device_type: DEVICE_TYPE,
) {
    init(globals, device_init).device_type = device_type;
}

/// Sets or adds characteristics.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceInitSetCharacteristics(
    globals: PWDF_DRIVER_GLOBALS,
    device_init: PWDFDEVICE_INIT,
    characteristics: ULONG,
    or_in: BOOLEAN,
) {
    let device_init = init(globals, device_init);
    let kept = if or_in != 0 {
        device_init.characteristics
    } else {
        0
    };
    device_init.characteristics = kept | characteristics;
}

/// Names the device object. Errors: none here; a name in use shows when the device is created.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceInitAssignName(
    globals: PWDF_DRIVER_GLOBALS,
    device_init: PWDFDEVICE_INIT,
    name: PCUNICODE_STRING,
) -> NTSTATUS {
    let device_init = init(globals, device_init);
    if let Err(status) = verifier::check_irql(device_init.globals(), PASSIVE_LEVEL) {
        return status;
    }
    // SAFETY: null (no name) or the driver's string.
    device_init.name = (!name.is_null()).then(|| unsafe { wdm::wide(name) });
    STATUS_SUCCESS
}

/// Sets the security descriptor, as SDDL.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceInitAssignSDDLString(
    globals: PWDF_DRIVER_GLOBALS,
    device_init: PWDFDEVICE_INIT,
    sddl: PCUNICODE_STRING,
) -> NTSTATUS {
    let device_init = init(globals, device_init);
    if let Err(status) = verifier::check_irql(device_init.globals(), PASSIVE_LEVEL) {
        return status;
    }
    // SAFETY: null (the default again) or the driver's string.
    device_init.security = (!sddl.is_null()).then(|| unsafe { wdm::wide(sddl) });
    STATUS_SUCCESS
}

/// Sets the attributes of the requests the device will get.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceInitSetRequestAttributes(
    globals: PWDF_DRIVER_GLOBALS,
    device_init: PWDFDEVICE_INIT,
    attributes: PWDF_OBJECT_ATTRIBUTES,
) {
    let device_init = init(globals, device_init);
    let globals = device_init.globals();
    verifier::not_null(globals, attributes, "RequestAttributes");
    // SAFETY: checked not to be null; the driver's structure.
    match unsafe { Attributes::read(globals, attributes, Rules::NO_PARENT) } {
        Ok(attributes) => device_init.request_attributes = attributes,
        Err(_) => verifier::break_point(globals),
    }
}

/// Sets the Plug and Play and power callbacks.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceInitSetPnpPowerEventCallbacks(
    globals: PWDF_DRIVER_GLOBALS,
    device_init: PWDFDEVICE_INIT,
    callbacks: PWDF_PNPPOWER_EVENT_CALLBACKS,
) {
    let device_init = init(globals, device_init);
    let globals = device_init.globals();
    verifier::not_null(globals, callbacks, "PnpPowerEventCallbacks");
    // SAFETY: checked not to be null; the driver's structure.
    let callbacks = unsafe { *callbacks };
    if callbacks.Size as usize != size_of::<WDF_PNPPOWER_EVENT_CALLBACKS>() {
        return bad_size(globals, "WDF_PNPPOWER_EVENT_CALLBACKS", callbacks.Size);
    }
    if callbacks.EvtDeviceUsageNotification.is_some()
        && callbacks.EvtDeviceUsageNotificationEx.is_some()
    {
        trace::error(
            globals,
            "only one of EvtDeviceUsageNotification and EvtDeviceUsageNotificationEx may be set",
        );
        return verifier::break_point(globals);
    }
    device_init.pnp_callbacks = Some(callbacks);
}

/// Sets the callbacks for creates, cleanups and closes.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceInitSetFileObjectConfig(
    globals: PWDF_DRIVER_GLOBALS,
    device_init: PWDFDEVICE_INIT,
    config: PWDF_FILEOBJECT_CONFIG,
    attributes: PWDF_OBJECT_ATTRIBUTES,
) {
    let device_init = init(globals, device_init);
    let globals = device_init.globals();
    verifier::not_null(globals, config, "FileObjectConfig");
    // SAFETY: checked not to be null; the driver's structure.
    let config = unsafe { *config };
    if config.Size as usize != size_of::<WDF_FILEOBJECT_CONFIG>() {
        return bad_size(globals, "WDF_FILEOBJECT_CONFIG", config.Size);
    }
    let class = config.FileObjectClass as u32 & !(WdfFileObjectCanBeOptional as u32);
    if class == WdfFileObjectInvalid as u32 || class > WdfFileObjectWdfCannotUseFsContexts as u32 {
        trace::error(globals, "FileObjectClass is out of range");
        return verifier::break_point(globals);
    }
    let rules = Rules {
        parent_forbidden: true,
        ..Rules::CALLBACKS
    };
    // SAFETY: null or the driver's structure.
    match unsafe { Attributes::read(globals, attributes, rules) } {
        Ok(attributes) => device_init.file_config = Some((config, attributes)),
        Err(_) => verifier::break_point(globals),
    }
}

/// Has requests shown to the driver in their caller's context, before they are queued.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceInitSetIoInCallerContextCallback(
    globals: PWDF_DRIVER_GLOBALS,
    device_init: PWDFDEVICE_INIT,
    callback: PFN_WDF_IO_IN_CALLER_CONTEXT,
) {
    let device_init = init(globals, device_init);
    verifier::required(device_init.globals(), callback, "EvtIoInCallerContext");
    device_init.in_caller_context = callback;
}

/// Says when EvtDeviceReleaseHardware is called after a failure.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceInitSetReleaseHardwareOrderOnFailure(
    globals: PWDF_DRIVER_GLOBALS,
    device_init: PWDFDEVICE_INIT,
    order: WDF_RELEASE_HARDWARE_ORDER_ON_FAILURE,
) {
    let device_init = init(globals, device_init);
    if order != WdfReleaseHardwareOrderOnFailureEarly
        && order != WdfReleaseHardwareOrderOnFailureAfterDescendants
    {
        trace::error(
            device_init.globals(),
            "ReleaseHardwareOrderOnFailure is out of range",
        );
        verifier::break_point(device_init.globals());
    }
    // There are no child devices, so both orders are the same.
}

/// Makes the device a filter.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfFdoInitSetFilter(
    globals: PWDF_DRIVER_GLOBALS,
    device_init: PWDFDEVICE_INIT,
) {
    init(globals, device_init).filter = true;
}

/// The physical device object the device will stand on.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfFdoInitWdmGetPhysicalDevice(
    globals: PWDF_DRIVER_GLOBALS,
    device_init: PWDFDEVICE_INIT,
) -> PDEVICE_OBJECT {
    init(globals, device_init).physical.0
}

/// A property of the device about to be created. `PASSIVE_LEVEL`. Errors: those of `IoGetDeviceProperty`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfFdoInitQueryProperty(
    globals: PWDF_DRIVER_GLOBALS,
    device_init: PWDFDEVICE_INIT,
    property: DEVICE_REGISTRY_PROPERTY,
    length: ULONG,
    buffer: PVOID,
    result_length: PULONG,
) -> NTSTATUS {
    let device_init = init(globals, device_init);
    verifier::not_null(device_init.globals(), result_length, "ResultLength");
    // SAFETY: the physical device object is the system's, the buffer the driver's with `length` bytes.
    unsafe {
        IoGetDeviceProperty(
            device_init.physical.0,
            property,
            length,
            buffer,
            result_length,
        )
    }
}

/// Opens a registry key of the device about to be created. `PASSIVE_LEVEL`. Errors: those of `IoOpenDeviceRegistryKey`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfFdoInitOpenRegistryKey(
    globals: PWDF_DRIVER_GLOBALS,
    device_init: PWDFDEVICE_INIT,
    kind: ULONG,
    access: ACCESS_MASK,
    attributes: PWDF_OBJECT_ATTRIBUTES,
    key: *mut WDFKEY,
) -> NTSTATUS {
    let device_init = init(globals, device_init);
    let globals = device_init.globals();
    verifier::not_null(globals, key, "Key");
    // SAFETY: null or the driver's structure.
    let attributes = match unsafe { Attributes::read(globals, attributes, Rules::PLAIN) } {
        Ok(attributes) => attributes,
        Err(status) => return status,
    };
    match registry::open_device_key(
        globals,
        device_init.physical.0,
        kind,
        access,
        attributes.as_ref(),
    ) {
        Ok(value) => {
            // SAFETY: checked not to be null.
            unsafe { key.write(value as WDFKEY) };
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}
