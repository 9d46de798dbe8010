//! `WdfRequestRetrieve*`: buffers, memory objects and MDLs of a request.

use std::sync::Arc;

use crate::flat::*;

use super::Request;
use super::api::deliver;
use super::buffers::Buffer;
use crate::globals::DriverGlobals;
use crate::memory::Memory;
use crate::object::handle;
use crate::verifier;

fn request(globals: PWDF_DRIVER_GLOBALS, value: WDFREQUEST) -> Arc<Request> {
    handle::get(DriverGlobals::from_ddi(globals), value as usize)
}

impl Request {
    /// What the driver reads: the data of a write, the input of a device control.
    fn input(&self) -> Result<Buffer, NTSTATUS> {
        if self.irp().major() == IRP_MJ_READ {
            return Err(STATUS_INVALID_DEVICE_REQUEST);
        }
        self.buffer()
    }

    /// What the driver writes: the data of a read, the output of a device control.
    fn output(&self) -> Result<Buffer, NTSTATUS> {
        let irp = self.irp();
        if irp.major() == IRP_MJ_WRITE {
            return Err(STATUS_INVALID_DEVICE_REQUEST);
        }
        if irp.is_control() {
            self.output_buffer()
        } else {
            self.buffer()
        }
    }
}

/// Hands a buffer to the driver if it is long enough.
fn hand_out(
    request: &Request,
    buffer: Result<Buffer, NTSTATUS>,
    minimum: usize,
    place: *mut PVOID,
    length: *mut usize,
) -> NTSTATUS {
    verifier::not_null(request.globals(), place, "Buffer");
    // SAFETY: checked not to be null.
    unsafe { place.write(std::ptr::null_mut()) };
    let buffer = buffer.and_then(|buffer| {
        if buffer.length < minimum {
            Err(STATUS_BUFFER_TOO_SMALL)
        } else {
            Ok(buffer)
        }
    });
    if !length.is_null() {
        // SAFETY: the driver's variable.
        unsafe { length.write(buffer.map_or(0, |buffer| buffer.length)) };
    }
    deliver(buffer.map(|buffer| buffer.address.cast()), place)
}

/// The input buffer at a system address. IRQL <= `DISPATCH_LEVEL`.
///
/// Errors: `STATUS_INVALID_DEVICE_REQUEST` for reads and users' own buffers, `STATUS_BUFFER_TOO_SMALL`, `STATUS_INSUFFICIENT_RESOURCES`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRequestRetrieveInputBuffer(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFREQUEST,
    minimum: usize,
    buffer: *mut PVOID,
    length: *mut usize,
) -> NTSTATUS {
    let request = request(globals, value);
    hand_out(&request, request.input(), minimum, buffer, length)
}

/// The output buffer at a system address. IRQL <= `DISPATCH_LEVEL`.
///
/// Errors: `STATUS_INVALID_DEVICE_REQUEST` for writes and users' own buffers, `STATUS_BUFFER_TOO_SMALL`, `STATUS_INSUFFICIENT_RESOURCES`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRequestRetrieveOutputBuffer(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFREQUEST,
    minimum: usize,
    buffer: *mut PVOID,
    length: *mut usize,
) -> NTSTATUS {
    let request = request(globals, value);
    hand_out(&request, request.output(), minimum, buffer, length)
}

/// The MDL of what the driver reads. IRQL <= `DISPATCH_LEVEL`. Errors: `STATUS_INVALID_DEVICE_REQUEST` for reads, those of [`Request::mdl`].
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRequestRetrieveInputWdmMdl(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFREQUEST,
    mdl: *mut PMDL,
) -> NTSTATUS {
    let request = request(globals, value);
    verifier::not_null(request.globals(), mdl, "Mdl");
    // SAFETY: checked not to be null.
    unsafe { mdl.write(std::ptr::null_mut()) };
    if request.irp().major() == IRP_MJ_READ {
        return STATUS_INVALID_DEVICE_REQUEST;
    }
    deliver(request.mdl().map(|mdl| mdl.raw()), mdl)
}

/// The MDL of what the driver writes. IRQL <= `DISPATCH_LEVEL`. Errors: `STATUS_INVALID_DEVICE_REQUEST` for writes, those of [`Request::mdl`].
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRequestRetrieveOutputWdmMdl(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFREQUEST,
    mdl: *mut PMDL,
) -> NTSTATUS {
    let request = request(globals, value);
    verifier::not_null(request.globals(), mdl, "Mdl");
    // SAFETY: checked not to be null.
    unsafe { mdl.write(std::ptr::null_mut()) };
    let irp = request.irp();
    if irp.major() == IRP_MJ_WRITE {
        return STATUS_INVALID_DEVICE_REQUEST;
    }
    let found = if irp.is_control() {
        request.output_mdl()
    } else {
        request.mdl()
    };
    deliver(found.map(|mdl| mdl.raw()), mdl)
}

/// One memory object a buffer and request: made when first asked for.
fn memory(
    request: &Arc<Request>,
    buffer: Result<Buffer, NTSTATUS>,
    output: bool,
) -> Result<WDFMEMORY, NTSTATUS> {
    let buffer = buffer?;
    let known = request.with(|state| {
        if output {
            state.output_memory
        } else {
            state.input_memory
        }
    });
    if known != 0 {
        return Ok(known as WDFMEMORY);
    }
    let made = Memory::of_request(request, buffer)?;
    request.with(|state| {
        *(if output {
            &mut state.output_memory
        } else {
            &mut state.input_memory
        }) = made
    });
    Ok(made as WDFMEMORY)
}

/// The input buffer as a memory object; a reference on it keeps the request from completing (0x10D/3). IRQL <= `DISPATCH_LEVEL`.
///
/// Errors: those of [`WdfRequestRetrieveInputBuffer`].
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRequestRetrieveInputMemory(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFREQUEST,
    place: *mut WDFMEMORY,
) -> NTSTATUS {
    let request = request(globals, value);
    verifier::not_null(request.globals(), place, "Memory");
    deliver(memory(&request, request.input(), false), place)
}

/// The output buffer as a memory object; a reference on it keeps the request from completing (0x10D/3). IRQL <= `DISPATCH_LEVEL`.
///
/// Errors: those of [`WdfRequestRetrieveOutputBuffer`].
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRequestRetrieveOutputMemory(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFREQUEST,
    place: *mut WDFMEMORY,
) -> NTSTATUS {
    let request = request(globals, value);
    verifier::not_null(request.globals(), place, "Memory");
    let output = request.irp().is_control();
    deliver(memory(&request, request.output(), output), place)
}
