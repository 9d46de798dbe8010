//! `WdfDeviceCreate` for a function or filter device, and undoing it (`FxDevice::_Create`, `FdoInitialize`, `CreateDevice`).

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use crate::flat::*;
use machine_nt::exports::{IoAttachDeviceToDeviceStack, IoCreateDevice};

use super::{Device, DeviceInit, Interfaces, Objects, Settings};
use crate::globals::DriverGlobals;
use crate::io::file::FilePackage;
use crate::io::package::IoPackage;
use crate::lock::{CallbackLock, Ptr, Record};
use crate::object::attributes::Rules;
use crate::object::{self, Attributes, Header, Kind, Parent};
use crate::pnp::Pnp;
use crate::{trace, verifier, wdm};

/// The framework's part of its device objects.
#[repr(C)]
pub(super) struct Extension {
    /// One strong count of the device.
    pub(super) device: *const Device,
}

/// Creates the device object, attaches it and sets the device up. `PASSIVE_LEVEL`.
///
/// On success `*DeviceInit` becomes NULL. Errors: those of the attributes, of `IoCreateDevice`, `STATUS_NO_SUCH_DEVICE` if the
/// device cannot be attached, `STATUS_INSUFFICIENT_RESOURCES`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceCreate(
    globals: PWDF_DRIVER_GLOBALS,
    device_init: *mut PWDFDEVICE_INIT,
    attributes: PWDF_OBJECT_ATTRIBUTES,
    device: *mut WDFDEVICE,
) -> NTSTATUS {
    let globals = DriverGlobals::from_ddi(globals);
    verifier::not_null(globals, device_init, "DeviceInit");
    // SAFETY: checked not to be null; the driver's variable.
    let raw = unsafe { *device_init };
    verifier::not_null(globals, raw, "*DeviceInit");
    verifier::not_null(globals, device, "Device");
    // SAFETY: as above.
    unsafe { device.write(std::ptr::null_mut()) };
    if let Err(status) = verifier::check_irql(globals, PASSIVE_LEVEL) {
        return status;
    }
    let rules = Rules {
        parent_forbidden: true,
        ..Rules::CALLBACKS
    };
    // SAFETY: null or the driver's structure.
    let attributes = match unsafe { Attributes::check(globals, attributes, rules) } {
        Ok(attributes) => attributes,
        Err(status) => return status,
    };
    // SAFETY: not null; the driver got it from the framework for the call it is in.
    let init = unsafe { DeviceInit::from_ddi(raw) };
    match create(init, attributes.as_ref()) {
        Ok(created) => {
            init.set_created(&created);
            // SAFETY: checked not to be null.
            unsafe { device.write(created.handle()) };
            // SAFETY: as above.
            unsafe { device_init.write(std::ptr::null_mut()) };
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

fn create(init: &mut DeviceInit, attributes: Option<&Attributes>) -> Result<Arc<Device>, NTSTATUS> {
    let globals = init.globals();
    let (level, scope) = constraints(init, attributes);
    let callback_lock = (scope == WdfSynchronizationScopeDevice)
        .then(|| Arc::new(CallbackLock::new(level == WdfExecutionLevelPassive)));
    let file_config = init.file_config.take();
    let auto_forward_cleanup_close = match file_config
        .as_ref()
        .map_or(WdfUseDefault, |(config, _)| config.AutoForwardCleanupClose)
    {
        WdfTrue => true,
        WdfFalse => false,
        _ => init.filter,
    };
    let device = Arc::new(Device {
        header: Header::new(Kind::Device, globals),
        driver: init.driver.clone(),
        settings: Settings {
            io_type: init.io_type,
            filter: init.filter,
            exclusive: init.exclusive,
            request_attributes: init.request_attributes.take(),
            in_caller_context: init.in_caller_context,
            auto_forward_cleanup_close,
        },
        level,
        scope,
        callback_lock,
        objects: OnceLock::new(),
        name: Record::new(init.name.clone()),
        symbolic_link: Record::new(None),
        interfaces: Interfaces::default(),
        io: IoPackage::default(),
        files: FilePackage::new(file_config),
        pnp: Pnp::new(init.pnp_callbacks, is_power_policy_owner(init)),
        packet_transaction: AtomicBool::new(false),
        worker: OnceLock::new(),
    });
    device.header.mark_no_delete();
    if level == WdfExecutionLevelPassive {
        device.header.mark_passive_callbacks();
    }
    create_objects(&device, init)?;
    let parent = Parent::Object(init.driver.clone());
    let finished =
        object::commit(&device, attributes, parent).and_then(|_| device.files.initialize(&device));
    if let Err(status) = finished {
        device.detach_and_delete();
        object::delete_failed(device);
        return Err(status);
    }
    trace::verbose(
        globals,
        &format!(
            "WDFDEVICE {:p} is created over {:p}",
            device.handle(),
            device.physical_object()
        ),
    );
    Ok(device)
}

fn is_power_policy_owner(init: &DeviceInit) -> bool {
    match init.power_policy_owner {
        WdfTrue => true,
        WdfFalse => false,
        _ => !init.filter,
    }
}

fn constraints(
    init: &DeviceInit,
    attributes: Option<&Attributes>,
) -> (WDF_EXECUTION_LEVEL, WDF_SYNCHRONIZATION_SCOPE) {
    let (driver_level, driver_scope) = init.driver.constraints();
    let level = attributes.map_or(
        WdfExecutionLevelInheritFromParent,
        Attributes::execution_level,
    );
    let scope = attributes.map_or(
        WdfSynchronizationScopeInheritFromParent,
        Attributes::synchronization_scope,
    );
    (
        if level == WdfExecutionLevelInheritFromParent {
            driver_level
        } else {
            level
        },
        if scope == WdfSynchronizationScopeInheritFromParent {
            driver_scope
        } else {
            scope
        },
    )
}

/// Creates the device object and attaches it above the physical device.
fn create_objects(device: &Arc<Device>, init: &DeviceInit) -> Result<(), NTSTATUS> {
    let globals = init.globals();
    let name = init.name.as_ref().map(|name| wdm::unicode(name));
    let name_pointer = name.as_ref().map_or(std::ptr::null_mut(), |name| {
        std::ptr::from_ref(name).cast_mut()
    });
    let mut object: PDEVICE_OBJECT = std::ptr::null_mut();
    // SAFETY: the driver's object; the name is null or lives here; the result goes to `object`.
    let status = unsafe {
        IoCreateDevice(
            globals.driver_object(),
            size_of::<Extension>() as _,
            name_pointer,
            init.device_type as _,
            init.characteristics as _,
            BOOLEAN::from(init.exclusive),
            &raw mut object,
        )
    };
    wdm::check(status)?;
    // SAFETY: just created.
    let extension = unsafe { (*object).DeviceExtension }.cast::<Extension>();
    // SAFETY: `IoCreateDevice` made the extension this large.
    unsafe {
        extension.write(Extension {
            device: Arc::into_raw(device.clone()),
        })
    };
    // SAFETY: both device objects exist.
    let attached = unsafe { IoAttachDeviceToDeviceStack(object, init.physical.0) };
    let place = Objects {
        function: Ptr(object),
        attached: Ptr(attached),
        physical: init.physical,
    };
    // The device has no place before: this is the only call.
    let _ = device.objects.set(place);
    if attached.is_null() {
        device.detach_and_delete();
        return Err(STATUS_NO_SUCH_DEVICE);
    }
    set_flags(object, attached, init);
    Ok(())
}

fn set_flags(object: PDEVICE_OBJECT, attached: PDEVICE_OBJECT, init: &DeviceInit) {
    // SAFETY: the stack's device object below ours.
    let below = unsafe { (*attached).Flags };
    let (transfer, power) = (
        (DO_DIRECT_IO | DO_BUFFERED_IO),
        (DO_POWER_PAGABLE | DO_POWER_INRUSH),
    );
    let flags = if init.filter {
        below & (transfer | power)
    } else {
        let transfer = match init.io_type {
            WdfDeviceIoDirect => DO_DIRECT_IO,
            WdfDeviceIoBuffered => DO_BUFFERED_IO,
            _ => 0,
        };
        let power = if init.power_pageable {
            DO_POWER_PAGABLE
        } else if init.power_inrush {
            DO_POWER_INRUSH
        } else {
            0
        };
        transfer | power
    };
    // SAFETY: our own device object.
    unsafe { (*object).Flags |= flags as ULONG };
}

/// Removes a device whose EvtDriverDeviceAdd failed after creating it (`DeleteDeviceFromFailedCreate`).
pub(crate) fn delete_failed_add(device: &Arc<Device>, status: NTSTATUS) -> NTSTATUS {
    let status = if device.settings.filter {
        STATUS_SUCCESS
    } else {
        status
    };
    device.pnp.add_failed(device);
    object::early_dispose(device);
    object::destroy_children(device);
    device.detach_and_delete();
    object::delete_early_disposed(device);
    status
}

// SAFETY: the extension is written once and read by whoever has the device object.
unsafe impl Send for Extension {}
