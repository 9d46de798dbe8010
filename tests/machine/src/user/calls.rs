//! What the I/O manager makes of each call: the IRP's major function, its parameters, and how its data travels.

use std::ffi::c_void;
use std::pin::Pin;
use std::ptr;
use std::rc::Rc;

use machine_nt::bugcheck::{self, Stop};
use machine_nt::exports::KeWaitForMultipleObjects;
use nt_sys::*;

use super::object::FileObject;
use super::request::{Issued, Memory};
use super::security::Access;

/// What is asked of a device.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operation {
    /// IRP_MJ_READ into the memory, at this offset.
    Read(i64, Memory),
    /// IRP_MJ_WRITE from the memory, at this offset.
    Write(i64, Memory),
    /// IRP_MJ_DEVICE_CONTROL.
    Control {
        code: u32,
        input: Memory,
        output: Memory,
    },
}

/// Sends a read, write or control request on its way. `list` is told of it before a driver sees it: from then on it can be
/// cancelled.
///
/// # Errors
/// What keeps the I/O manager from making an IRP of it; the driver has then not seen it.
pub(super) fn start(
    file: &FileObject,
    operation: Operation,
    list: impl FnOnce(&Rc<Pin<Box<Issued>>>),
) -> Result<Rc<Pin<Box<Issued>>>, NTSTATUS> {
    let device = highest(file.device());
    let issued = match operation {
        Operation::Read(offset, memory) => transfer(file, device, IRP_MJ_READ, offset, memory)?,
        Operation::Write(offset, memory) => transfer(file, device, IRP_MJ_WRITE, offset, memory)?,
        Operation::Control {
            code,
            input,
            output,
        } => control(file, device, code, input, output)?,
    };
    let issued = Rc::new(issued);
    list(&issued);
    issued.send(device);
    Ok(issued)
}

fn transfer(
    file: &FileObject,
    device: PDEVICE_OBJECT,
    major: u32,
    offset: i64,
    memory: Memory,
) -> Result<Pin<Box<Issued>>, NTSTATUS> {
    let length = u32::try_from(memory.length).map_err(|_| STATUS_INVALID_PARAMETER)?;
    let (issued, location) = Issued::new(device, file.raw(), Some(file), major)?;
    // SAFETY: the location of an IRP that has not been sent.
    let location = unsafe { &mut *location };
    let reads = major == IRP_MJ_READ;
    if reads {
        location.Parameters.Read.Length = length;
        location.Parameters.Read.ByteOffset.QuadPart = offset;
        issued.add_flags(IRP_READ_OPERATION | IRP_DEFER_IO_COMPLETION);
    } else {
        location.Parameters.Write.Length = length;
        location.Parameters.Write.ByteOffset.QuadPart = offset;
        issued.add_flags(IRP_WRITE_OPERATION | IRP_DEFER_IO_COMPLETION);
    }
    // SAFETY: the device object is kept by the file object.
    let flags = unsafe { (*device).Flags };
    if flags & DO_BUFFERED_IO != 0 {
        if length > 0 {
            let source = (!reads).then_some(memory);
            issued.buffer(memory.length, source)?;
            if reads {
                issued.destination.set(Some(memory));
                issued.add_flags(IRP_INPUT_OPERATION);
            }
        }
    } else if flags & DO_DIRECT_IO != 0 {
        let access = if reads {
            _LOCK_OPERATION::IoWriteAccess
        } else {
            _LOCK_OPERATION::IoReadAccess
        };
        issued.lock(memory, access)?;
    } else {
        issued.set_user_buffer(memory);
    }
    Ok(issued)
}

fn control(
    file: &FileObject,
    device: PDEVICE_OBJECT,
    code: u32,
    input: Memory,
    output: Memory,
) -> Result<Pin<Box<Issued>>, NTSTATUS> {
    let length =
        |memory: Memory| u32::try_from(memory.length).map_err(|_| STATUS_INVALID_PARAMETER);
    let (issued, location) = Issued::new(device, file.raw(), Some(file), IRP_MJ_DEVICE_CONTROL)?;
    // SAFETY: the location of an IRP that has not been sent.
    let location = unsafe { &mut *location };
    location.Parameters.DeviceIoControl.IoControlCode = code;
    location.Parameters.DeviceIoControl.InputBufferLength = length(input)?;
    location.Parameters.DeviceIoControl.OutputBufferLength = length(output)?;
    match code & 3 {
        METHOD_BUFFERED => {
            let size = input.length.max(output.length);
            if size > 0 {
                issued.buffer(size, Some(input))?;
            }
            if output.length > 0 {
                issued.destination.set(Some(output));
                issued.add_flags(IRP_INPUT_OPERATION);
            }
        }
        METHOD_NEITHER => {
            location.Parameters.DeviceIoControl.Type3InputBuffer = input.address.cast();
            issued.set_user_buffer(output);
        }
        method => {
            if input.length > 0 {
                issued.buffer(input.length, Some(input))?;
            }
            let access = if method == METHOD_IN_DIRECT {
                _LOCK_OPERATION::IoReadAccess
            } else {
                _LOCK_OPERATION::IoWriteAccess
            };
            issued.lock(output, access)?;
        }
    }
    Ok(issued)
}

/// IRP_MJ_CREATE, waited for.
pub(super) fn create(file: &FileObject, access: Access) -> Result<(), NTSTATUS> {
    let device = highest(file.device());
    let (issued, location) = Issued::new(device, file.raw(), Some(file), IRP_MJ_CREATE)?;
    let mut context = IO_SECURITY_CONTEXT {
        SecurityQos: ptr::null_mut(),
        AccessState: ptr::null_mut(),
        DesiredAccess: access.mask(),
        FullCreateOptions: FILE_NON_DIRECTORY_FILE,
    };
    // SAFETY: the location of an IRP that has not been sent.
    let location = unsafe { &mut *location };
    location.Parameters.Create.SecurityContext = &raw mut context;
    location.Parameters.Create.Options = FILE_OPEN << 24 | FILE_NON_DIRECTORY_FILE;
    location.Parameters.Create.FileAttributes = FILE_ATTRIBUTE_NORMAL as USHORT;
    location.Parameters.Create.ShareAccess = (FILE_SHARE_READ | FILE_SHARE_WRITE) as USHORT;
    issued.add_flags(IRP_CREATE_OPERATION | IRP_SYNCHRONOUS_API);
    issued.send(device);
    let ended = issued.wait();
    if nt_success(ended.status) {
        file.set_flags(FO_FILE_OPEN);
        Ok(())
    } else {
        Err(ended.status)
    }
}

/// IRP_MJ_CLEANUP, waited for: the last handle is closed.
pub(super) fn cleanup(file: &FileObject) {
    notify(file.device(), file.raw(), Some(file), IRP_MJ_CLEANUP);
    file.set_flags(FO_CLEANUP_COMPLETE);
}

/// IRP_MJ_CLOSE, waited for: the last reference is about to go.
pub(super) fn close(device: PDEVICE_OBJECT, object: PFILE_OBJECT) {
    notify(device, object, None, IRP_MJ_CLOSE);
}

fn notify(device: PDEVICE_OBJECT, object: PFILE_OBJECT, file: Option<&FileObject>, major: u32) {
    let device = highest(device);
    let Ok((issued, _)) = Issued::new(device, object, file, major) else {
        bugcheck::stop_machine(Stop::Internal, "no IRP for closing a file");
    };
    issued.add_flags(IRP_CLOSE_OPERATION | IRP_SYNCHRONOUS_API);
    issued.send(device);
    issued.wait();
}

/// Waits until one of at most 64 events of requests is set, and returns its index.
pub(super) fn wait_any(events: &[*mut c_void]) -> usize {
    let mut blocks: [KWAIT_BLOCK; 64] = [KWAIT_BLOCK::default(); 64];
    // SAFETY: the events are those of requests that the caller keeps, and there are as many wait blocks.
    let status = unsafe {
        KeWaitForMultipleObjects(
            events.len() as ULONG,
            events.as_ptr().cast_mut(),
            _WAIT_TYPE::WaitAny,
            _KWAIT_REASON::UserRequest,
            _MODE::UserMode as KPROCESSOR_MODE,
            0,
            ptr::null_mut(),
            blocks.as_mut_ptr(),
        )
    };
    (status - STATUS_WAIT_0) as usize
}

/// The device object at the top of the stack that `device` is part of.
fn highest(device: PDEVICE_OBJECT) -> PDEVICE_OBJECT {
    let mut device = device;
    loop {
        // SAFETY: device objects of a stack are kept by the one that was opened.
        let attached = unsafe { (*device).AttachedDevice };
        if attached.is_null() {
            return device;
        }
        device = attached;
    }
}
