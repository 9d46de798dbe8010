//! Properties, registry keys and names of a device (`fxdeviceapi.cpp`).

use std::sync::Arc;

use machine_nt::exports::{IoGetDeviceProperty, IoGetDevicePropertyData};

use super::Device;
use crate::flat::*;
use crate::globals::DriverGlobals;
use crate::object::attributes::Rules;
use crate::object::{Attributes, handle};
use crate::string::Text;
use crate::{registry, verifier};

fn device(globals: PWDF_DRIVER_GLOBALS, value: WDFDEVICE) -> Arc<Device> {
    handle::get(DriverGlobals::from_ddi(globals), value as usize)
}

/// A property of the device. `PASSIVE_LEVEL`. Errors: those of `IoGetDeviceProperty`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceQueryProperty(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDEVICE,
    property: DEVICE_REGISTRY_PROPERTY,
    length: ULONG,
    buffer: PVOID,
    result_length: PULONG,
) -> NTSTATUS {
    let device = device(globals, value);
    verifier::not_null(device.globals(), result_length, "ResultLength");
    // SAFETY: the bus's device object; the buffer is the driver's with `length` bytes.
    unsafe {
        IoGetDeviceProperty(
            device.physical_object(),
            property,
            length,
            buffer,
            result_length,
        )
    }
}

/// A property of the device by its key. `PASSIVE_LEVEL`. Errors: `STATUS_INFO_LENGTH_MISMATCH`, those of `IoGetDevicePropertyData`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceQueryPropertyEx(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDEVICE,
    property: PWDF_DEVICE_PROPERTY_DATA,
    length: ULONG,
    buffer: PVOID,
    required: PULONG,
    kind: PDEVPROPTYPE,
) -> NTSTATUS {
    let device = device(globals, value);
    verifier::not_null(device.globals(), property, "DeviceProperty");
    verifier::not_null(device.globals(), required, "RequiredSize");
    verifier::not_null(device.globals(), kind, "Type");
    // SAFETY: checked not to be null; the driver's structure.
    let property = unsafe { *property };
    if property.Size as usize != size_of::<WDF_DEVICE_PROPERTY_DATA>() {
        return STATUS_INFO_LENGTH_MISMATCH;
    }
    // SAFETY: the bus's device object; the buffer is the driver's with `length` bytes.
    unsafe {
        IoGetDevicePropertyData(
            device.physical_object(),
            property.PropertyKey,
            property.Lcid,
            property.Flags,
            length,
            buffer,
            required,
            kind,
        )
    }
}

/// Opens a registry key of the device. `PASSIVE_LEVEL`. Errors: those of the attributes, of `IoOpenDeviceRegistryKey`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceOpenRegistryKey(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDEVICE,
    kind: ULONG,
    access: ACCESS_MASK,
    attributes: PWDF_OBJECT_ATTRIBUTES,
    key: *mut WDFKEY,
) -> NTSTATUS {
    let device = device(globals, value);
    let globals = device.globals();
    verifier::not_null(globals, key, "Key");
    // SAFETY: null or the driver's structure.
    let attributes = unsafe { Attributes::check(globals, attributes, Rules::PLAIN) };
    let opened = attributes.and_then(|attributes| {
        registry::open_device_key(
            globals,
            device.physical_object(),
            kind,
            access,
            attributes.as_ref(),
        )
    });
    match opened {
        Ok(value) => {
            // SAFETY: checked not to be null.
            unsafe { key.write(value as WDFKEY) };
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

/// The name of the device object; empty without one. `PASSIVE_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceRetrieveDeviceName(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDEVICE,
    text: WDFSTRING,
) -> NTSTATUS {
    let device = device(globals, value);
    let text: Arc<Text> = handle::get(device.globals(), text as usize);
    text.assign(&device.name.with(|name| name.clone()).unwrap_or_default());
    STATUS_SUCCESS
}
