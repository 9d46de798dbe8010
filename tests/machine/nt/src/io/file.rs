//! File objects.

use super::device;
use crate::entry::borrow;
use crate::ke::event::KeInitializeEvent;
use crate::ob;
use nt_sys::{FILE_OBJECT, PDEVICE_OBJECT, PFILE_OBJECT, UNICODE_STRING};
use std::ffi::c_void;

const IO_TYPE_FILE: i16 = nt_sys::IO_TYPE_FILE as i16;

/// Creates a file object on a device, which it references, as the I/O manager does when a program opens it. `name` is
/// what stands behind the device's name in the path. The caller owns the reference.
///
/// # Safety
/// `device` is a device object.
pub unsafe fn create(device: PDEVICE_OBJECT, name: &str) -> PFILE_OBJECT {
    // SAFETY: by the caller's promise; the reference is given up in `delete`.
    unsafe { ob::reference(device.cast()) };
    // SAFETY: by the caller's promise.
    unsafe { device::object(device, "IoCreateFile") }.ReferenceCount += 1;
    let file: PFILE_OBJECT = ob::create(ob::Kind::File, size_of::<FILE_OBJECT>(), delete).cast();
    let units: Box<[u16]> = name.encode_utf16().collect();
    let bytes = (2 * units.len()) as u16;
    // SAFETY: the zeroed body of a fresh object, which is a valid FILE_OBJECT.
    let object = unsafe { borrow(file, "IoCreateFile") };
    object.Type = IO_TYPE_FILE;
    object.Size = size_of::<FILE_OBJECT>() as i16;
    object.DeviceObject = device;
    object.FileName = UNICODE_STRING {
        Length: bytes,
        MaximumLength: bytes,
        Buffer: Box::into_raw(units).cast(),
    };
    let (lock, event) = (&raw mut object.Lock, &raw mut object.Event);
    // SAFETY: a field of the new object.
    unsafe { KeInitializeEvent(lock, nt_sys::_EVENT_TYPE::SynchronizationEvent, 0) };
    // SAFETY: as above.
    unsafe { KeInitializeEvent(event, nt_sys::_EVENT_TYPE::NotificationEvent, 0) };
    file
}

fn delete(object: *mut c_void) {
    let file: PFILE_OBJECT = object.cast();
    // SAFETY: nobody refers to the file object any more.
    let object = unsafe { borrow(file, "IopDeleteFile") };
    let length = usize::from(object.FileName.MaximumLength) / 2;
    let name = std::ptr::slice_from_raw_parts_mut(object.FileName.Buffer, length);
    // SAFETY: made by `create`, with this length.
    drop(unsafe { Box::from_raw(name) });
    let device = object.DeviceObject;
    // SAFETY: the file object holds a reference on its device.
    unsafe { device::object(device, "IopDeleteFile") }.ReferenceCount -= 1;
    // SAFETY: the reference of `create`.
    unsafe { ob::dereference(device.cast()) };
}
