//! WDFMEMORY (`fxmemoryobject.cpp`): a buffer with a handle.

use std::ffi::c_void;
use std::sync::Arc;

use machine_nt::exports::{ExAllocatePoolWithTag, ExFreePool};

use crate::flat::*;
use crate::globals::DriverGlobals;
use crate::io::request::{Buffer, Request};
use crate::lock::Ptr;
use crate::object::attributes::Rules;
use crate::object::{self, Attributes, Header, Kind, Object, Parent, Typed, handle};
use crate::wdm::status_of;
use crate::{trace, verifier};

/// Who frees the buffer.
enum Owner {
    /// The object: it came from the pool.
    Object,
    /// The driver.
    Driver,
    /// The request it was retrieved from; a reference on it is one on the request's IRP.
    Request(Arc<Request>),
}

/// A memory object.
pub(crate) struct Memory {
    header: Header,
    address: Ptr<c_void>,
    length: usize,
    owner: Owner,
}

impl Object for Memory {
    fn header(&self) -> &Header {
        &self.header
    }

    fn irp_holder(&self) -> Option<&Request> {
        match &self.owner {
            Owner::Request(request) => Some(request),
            _ => None,
        }
    }

    fn destroyed(&self) {
        if matches!(self.owner, Owner::Object) {
            // SAFETY: allocated by `WdfMemoryCreate` and used no more.
            unsafe { ExFreePool(self.address.0.cast()) };
        }
    }
}

impl Typed for Memory {
    const KIND: Kind = Kind::Memory;
}

impl Memory {
    /// The memory object of a request's buffer: a child of the request.
    ///
    /// # Errors
    /// Those of a new object.
    pub(crate) fn of_request(request: &Arc<Request>, buffer: Buffer) -> Result<usize, NTSTATUS> {
        let memory = Arc::new(Self {
            header: Header::new(Kind::Memory, request.globals()),
            address: Ptr(buffer.address),
            length: buffer.length,
            owner: Owner::Request(request.clone()),
        });
        memory.header.mark_no_delete();
        object::commit(&memory, None, Parent::Object(request.clone()))
    }

    fn range(&self, offset: usize, length: usize) -> Result<*mut c_void, NTSTATUS> {
        let end = offset.checked_add(length).ok_or(STATUS_INTEGER_OVERFLOW)?;
        if end > self.length {
            trace::error(
                self.header.globals(),
                &format!("{end:#x} is past the memory's {:#x} bytes", self.length),
            );
            return Err(STATUS_BUFFER_TOO_SMALL);
        }
        Ok(self.address.0.wrapping_byte_add(offset))
    }
}

fn memory(globals: PWDF_DRIVER_GLOBALS, value: WDFMEMORY) -> Arc<Memory> {
    handle::get(DriverGlobals::from_ddi(globals), value as usize)
}

/// Allocates memory with a handle. IRQL <= `DISPATCH_LEVEL`. Errors: those of the attributes, `STATUS_INVALID_PARAMETER` (no length),
/// `STATUS_INSUFFICIENT_RESOURCES`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfMemoryCreate(
    globals: PWDF_DRIVER_GLOBALS,
    attributes: PWDF_OBJECT_ATTRIBUTES,
    pool: POOL_TYPE,
    tag: ULONG,
    length: usize,
    place: *mut WDFMEMORY,
    buffer: *mut PVOID,
) -> NTSTATUS {
    let globals = DriverGlobals::from_ddi(globals);
    verifier::not_null(globals, place, "Memory");
    // SAFETY: checked not to be null.
    unsafe { place.write(std::ptr::null_mut()) };
    if length == 0 {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: null or the driver's structure.
    let attributes = match unsafe { Attributes::check(globals, attributes, Rules::PLAIN) } {
        Ok(attributes) => attributes,
        Err(status) => return status,
    };
    let tag = if tag == 0 { globals.tag() } else { tag };
    // SAFETY: any size may be asked for.
    let address = unsafe { ExAllocatePoolWithTag(pool, length as _, tag) };
    if address.is_null() {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let header = Header::new(Kind::Memory, globals);
    let memory = Arc::new(Memory {
        header,
        address: Ptr(address.cast()),
        length,
        owner: Owner::Object,
    });
    match object::commit(&memory, attributes.as_ref(), Parent::Driver) {
        Ok(value) => {
            // SAFETY: checked not to be null.
            unsafe { place.write(value as WDFMEMORY) };
            if !buffer.is_null() {
                // SAFETY: the driver's variable.
                unsafe { buffer.write(address) };
            }
            STATUS_SUCCESS
        }
        Err(status) => {
            memory.destroyed();
            status
        }
    }
}

/// Gives the driver's own memory a handle. IRQL <= `DISPATCH_LEVEL`. Errors: those of the attributes, `STATUS_INVALID_PARAMETER` (no length).
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfMemoryCreatePreallocated(
    globals: PWDF_DRIVER_GLOBALS,
    attributes: PWDF_OBJECT_ATTRIBUTES,
    buffer: PVOID,
    length: usize,
    place: *mut WDFMEMORY,
) -> NTSTATUS {
    let globals = DriverGlobals::from_ddi(globals);
    verifier::not_null(globals, buffer, "Buffer");
    verifier::not_null(globals, place, "Memory");
    if length == 0 {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: null or the driver's structure.
    let attributes = match unsafe { Attributes::check(globals, attributes, Rules::PLAIN) } {
        Ok(attributes) => attributes,
        Err(status) => return status,
    };
    let header = Header::new(Kind::Memory, globals);
    let memory = Arc::new(Memory {
        header,
        address: Ptr(buffer.cast()),
        length,
        owner: Owner::Driver,
    });
    match object::commit(&memory, attributes.as_ref(), Parent::Driver) {
        Ok(value) => {
            // SAFETY: checked not to be null.
            unsafe { place.write(value as WDFMEMORY) };
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

/// The buffer of a memory object and, if asked for, its length. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfMemoryGetBuffer(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFMEMORY,
    length: *mut usize,
) -> PVOID {
    let memory = memory(globals, value);
    if !length.is_null() {
        // SAFETY: the driver's variable.
        unsafe { length.write(memory.length) };
    }
    memory.address.0.cast()
}

/// Copies out of a memory object. IRQL <= `DISPATCH_LEVEL`. Errors: `STATUS_BUFFER_TOO_SMALL`, `STATUS_INTEGER_OVERFLOW`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfMemoryCopyToBuffer(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFMEMORY,
    offset: usize,
    buffer: PVOID,
    length: usize,
) -> NTSTATUS {
    let memory = memory(globals, value);
    verifier::not_null(memory.header.globals(), buffer, "Buffer");
    // SAFETY: the range is the memory's, the buffer the driver's with `length` bytes; they may overlap.
    status_of(
        memory
            .range(offset, length)
            .map(|from| unsafe { buffer.cast::<u8>().copy_from(from.cast(), length) }),
    )
}

/// Copies into a memory object. IRQL <= `DISPATCH_LEVEL`. Errors: `STATUS_BUFFER_TOO_SMALL`, `STATUS_INTEGER_OVERFLOW`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfMemoryCopyFromBuffer(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFMEMORY,
    offset: usize,
    buffer: PVOID,
    length: usize,
) -> NTSTATUS {
    let memory = memory(globals, value);
    verifier::not_null(memory.header.globals(), buffer, "Buffer");
    // SAFETY: the range is the memory's, the buffer the driver's with `length` bytes; they may overlap.
    status_of(
        memory
            .range(offset, length)
            .map(|to| unsafe { to.cast::<u8>().copy_from(buffer.cast(), length) }),
    )
}
