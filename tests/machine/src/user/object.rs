//! File objects of open devices.

use std::rc::Rc;

use machine_nt::io::file;
use machine_nt::ob;
use nt_sys::*;

use super::calls;
use super::security::Access;

/// A reference to a FILE_OBJECT: of its handle, or of a request. When the last one goes, the driver is sent
/// IRP_MJ_CLOSE.
#[derive(Clone)]
pub(super) struct FileObject(Rc<Owned>);

struct Owned(PFILE_OBJECT);

impl FileObject {
    /// A file object for `device`, opened with `access` for overlapped I/O; `name` is what follows the device's name in
    /// the path.
    ///
    /// # Safety
    /// `device` is a device object.
    pub(super) unsafe fn new(device: PDEVICE_OBJECT, name: &str, access: Access) -> Self {
        // SAFETY: by the caller's promise.
        let object = unsafe { file::create(device, name) };
        // SAFETY: a new object that nobody else has yet.
        let body = unsafe { &mut *object };
        body.ReadAccess = access.reads().into();
        body.WriteAccess = access.writes().into();
        body.SharedRead = 1;
        body.SharedWrite = 1;
        Self(Rc::new(Owned(object)))
    }

    pub(super) fn raw(&self) -> PFILE_OBJECT {
        self.0.0
    }

    /// The device object that was opened.
    pub(super) fn device(&self) -> PDEVICE_OBJECT {
        self.0.device()
    }

    /// Sets flags (`FO_*`).
    pub(super) fn set_flags(&self, flags: u32) {
        // SAFETY: the reference keeps the object; no other reference to the field is alive.
        unsafe { (*self.raw()).Flags |= flags };
    }
}

impl Owned {
    fn device(&self) -> PDEVICE_OBJECT {
        // SAFETY: the reference keeps the object.
        unsafe { (*self.0).DeviceObject }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the reference is given up below.
        let flags = unsafe { (*self.0).Flags };
        if flags & FO_FILE_OPEN != 0 {
            calls::close(self.device(), self.0);
        }
        // SAFETY: the reference of `file::create`.
        unsafe { ob::dereference(self.0.cast()) };
    }
}
