//! `WdfObject*` (`fxobjectapi.cpp`, `handleapi.cpp`).

use std::ffi::{c_char, c_void};

use crate::flat::*;

use super::attributes::Rules;
use super::context::AddError;
use super::{Attributes, Kind, Object, Typed, handle, lifetime};
use crate::device::Device;
use crate::globals::DriverGlobals;
use crate::io::queue::Queue;
use crate::lock::CallbackLock;
use crate::{trace, verifier};
use std::sync::Arc;

/// A WDFOBJECT without further meaning, made by [`WdfObjectCreate`].
struct UserObject(super::Header);

impl Object for UserObject {
    fn header(&self) -> &super::Header {
        &self.0
    }
}

impl Typed for UserObject {
    const KIND: Kind = Kind::Object;
}

/// Creates a general object; parent: the one named, otherwise the driver.
///
/// IRQL <= `DISPATCH_LEVEL`. Errors: those of [`Attributes::check`], `STATUS_INSUFFICIENT_RESOURCES`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfObjectCreate(
    globals: PWDF_DRIVER_GLOBALS,
    attributes: PWDF_OBJECT_ATTRIBUTES,
    object: *mut WDFOBJECT,
) -> NTSTATUS {
    let globals = DriverGlobals::from_ddi(globals);
    verifier::not_null(globals, object, "Object");
    // SAFETY: the driver passes null or its structure.
    let attributes = match unsafe { Attributes::check(globals, attributes, Rules::CALLBACKS) } {
        Ok(attributes) => attributes,
        Err(status) => return status,
    };
    let user = Arc::new(UserObject(super::Header::new(Kind::Object, globals)));
    match super::commit(&user, attributes.as_ref(), super::Parent::Driver) {
        Ok(value) => {
            // SAFETY: checked not to be null above.
            unsafe { object.write(value as WDFOBJECT) };
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

/// Deletes an object and everything below it. IRQL <= `DISPATCH_LEVEL`.
///
/// Objects the framework owns (default queues, interrupts, requests from the I/O manager) are left alone, with a verifier break.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfObjectDelete(
    globals: PWDF_DRIVER_GLOBALS,
    object: WDFOBJECT,
) {
    let object = handle::any(DriverGlobals::from_ddi(globals), object as usize);
    let header = object.header();
    if header.is_no_delete() {
        trace::error(
            header.globals(),
            &format!(
                "{} {:#x} may not be deleted by the driver",
                header.kind().name(),
                header.handle()
            ),
        );
        verifier::break_point(header.globals());
        return;
    }
    lifetime::delete(&object);
}

/// Takes a reference. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfObjectReferenceActual(
    globals: PWDF_DRIVER_GLOBALS,
    object: WDFOBJECT,
    _tag: PVOID,
    _line: LONG,
    _file: *const c_char,
) {
    let globals = DriverGlobals::from_ddi(globals);
    verifier::not_null(globals, object.cast::<c_void>(), "Object");
    let object = handle::any(globals, object as usize);
    object.header().add_ref();
    if let Some(request) = object.irp_holder() {
        request.add_irp_reference();
    }
}

/// Gives a reference back. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfObjectDereferenceActual(
    globals: PWDF_DRIVER_GLOBALS,
    object: WDFOBJECT,
    _tag: PVOID,
    _line: LONG,
    _file: *const c_char,
) {
    let globals = DriverGlobals::from_ddi(globals);
    verifier::not_null(globals, object.cast::<c_void>(), "Object");
    let object = handle::any(globals, object as usize);
    if let Some(request) = object.irp_holder() {
        request.release_irp_reference();
    }
    lifetime::release(&object);
}

/// The context of a type, or null if the object has none of it. Any IRQL.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfObjectGetTypedContextWorker(
    globals: PWDF_DRIVER_GLOBALS,
    object: WDFOBJECT,
    kind: PCWDF_OBJECT_CONTEXT_TYPE_INFO,
) -> PVOID {
    let globals = DriverGlobals::from_ddi(globals);
    verifier::not_null(globals, object.cast::<c_void>(), "Handle");
    let object = handle::any(globals, object as usize);
    verifier::not_null(globals, kind.cast_mut(), "TypeInfo");
    match object.header().contexts().find(kind.cast_mut().cast()) {
        Some(memory) => memory.cast(),
        None => {
            trace::warning(
                globals,
                &format!(
                    "object {:#x} has no context of the type asked for",
                    object.header().handle()
                ),
            );
            std::ptr::null_mut()
        }
    }
}

/// Adds a context to an object. IRQL <= `DISPATCH_LEVEL`.
///
/// Errors: those of [`Attributes::check`]; `STATUS_WDF_PARENT_NOT_SPECIFIED` without attributes, `STATUS_OBJECT_NAME_INVALID`
/// without a type, `STATUS_OBJECT_NAME_EXISTS` (a success) if the object has such a context.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfObjectAllocateContext(
    globals: PWDF_DRIVER_GLOBALS,
    object: WDFOBJECT,
    attributes: PWDF_OBJECT_ATTRIBUTES,
    context: *mut PVOID,
) -> NTSTATUS {
    let globals = DriverGlobals::from_ddi(globals);
    verifier::not_null(globals, object.cast::<c_void>(), "Handle");
    let object = handle::any(globals, object as usize);
    if attributes.is_null() {
        return STATUS_WDF_PARENT_NOT_SPECIFIED;
    }
    // SAFETY: the driver passes its structure.
    let attributes = match unsafe { Attributes::check(globals, attributes, Rules::NO_PARENT) } {
        Ok(Some(attributes)) => attributes,
        Ok(None) => return STATUS_WDF_PARENT_NOT_SPECIFIED,
        Err(status) => return status,
    };
    if attributes.context_type().is_null() {
        return STATUS_OBJECT_NAME_INVALID;
    }
    let header = object.header();
    if header.state() != super::State::Created {
        return STATUS_DELETE_PENDING;
    }
    let (memory, status) = match header.contexts().add(globals, &attributes) {
        Ok(memory) => (memory, STATUS_SUCCESS),
        Err(AddError::Exists(memory)) => (memory, STATUS_OBJECT_NAME_EXISTS),
        Err(AddError::NoMemory) => return STATUS_INSUFFICIENT_RESOURCES,
    };
    if !context.is_null() {
        // SAFETY: the driver passes the address of its pointer.
        unsafe { context.write(memory.cast()) };
    }
    status
}

/// The object a context belongs to. Any IRQL.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfObjectContextGetObject(
    globals: PWDF_DRIVER_GLOBALS,
    context: PVOID,
) -> WDFOBJECT {
    let globals = DriverGlobals::from_ddi(globals);
    let owner = handle::all()
        .unwrap_or_default()
        .into_iter()
        .find(|object| object.header().contexts().owns(context.cast()));
    match owner {
        Some(object) => object.header().handle() as WDFOBJECT,
        None => verifier::bug_check(
            globals,
            WDF_INVALID_HANDLE,
            context as usize,
            usize::from(Kind::Object.code()),
            "the address is not that of a context",
        ),
    }
}

fn callback_lock(globals: &'static DriverGlobals, value: WDFOBJECT) -> Arc<CallbackLock> {
    let object = handle::any(globals, value as usize);
    let lock = match object.header().kind() {
        Kind::Device => handle::get::<Device>(globals, value as usize).callback_lock(),
        Kind::Queue => handle::get::<Queue>(globals, value as usize).callback_lock(),
        _ => None,
    };
    lock.unwrap_or_else(|| {
        verifier::bug_check(
            globals,
            WDF_INVALID_LOCK_OPERATION,
            value as usize,
            0,
            "only a device or a queue with a synchronization scope has a lock",
        )
    })
}

/// Takes the lock that serialises an object's callbacks. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfObjectAcquireLock(
    globals: PWDF_DRIVER_GLOBALS,
    object: WDFOBJECT,
) {
    callback_lock(DriverGlobals::from_ddi(globals), object).acquire();
}

/// Gives the lock of [`WdfObjectAcquireLock`] back.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfObjectReleaseLock(
    globals: PWDF_DRIVER_GLOBALS,
    object: WDFOBJECT,
) {
    callback_lock(DriverGlobals::from_ddi(globals), object).release();
}
