//! A file handle that can be closed while requests made by it are under way.

use std::os::windows::io::{AsRawHandle, OwnedHandle, RawHandle};
use std::sync::{PoisonError, RwLock};

use windows_sys::Win32::Foundation::ERROR_INVALID_HANDLE;
use windows_sys::Win32::System::IO::{CancelIoEx, OVERLAPPED};

use super::last_error;
use crate::error::Win32Error;

/// A file handle. Its value is used only while it is open, since Windows may give it to another object afterwards.
#[derive(Debug)]
pub(super) struct Handle(RwLock<Option<OwnedHandle>>);

impl Handle {
    pub(super) fn new(handle: OwnedHandle) -> Self {
        Self(RwLock::new(Some(handle)))
    }

    /// CloseHandle.
    pub(super) fn close(&self) {
        let mut handle = self.0.write().unwrap_or_else(PoisonError::into_inner);
        drop(handle.take());
    }

    /// Calls `f` with the open handle.
    pub(super) fn with<T>(
        &self,
        f: impl FnOnce(RawHandle) -> Result<T, Win32Error>,
    ) -> Result<T, Win32Error> {
        let handle = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match &*handle {
            Some(handle) => f(handle.as_raw_handle()),
            None => Err(Win32Error(ERROR_INVALID_HANDLE)),
        }
    }

    /// CancelIoEx; for all requests of the file if `overlapped` is null.
    pub(super) fn cancel(&self, overlapped: *const OVERLAPPED) -> Result<(), Win32Error> {
        self.with(|handle| {
            // SAFETY: the handle is open; Windows takes the pointer as a name and does not follow it.
            let found = unsafe { CancelIoEx(handle, overlapped) };
            if found == 0 {
                Err(last_error())
            } else {
                Ok(())
            }
        })
    }

    /// DuplicateHandle.
    pub(super) fn duplicate(&self) -> Result<OwnedHandle, Win32Error> {
        let handle = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let handle = handle.as_ref().ok_or(Win32Error(ERROR_INVALID_HANDLE))?;
        handle
            .try_clone()
            .map_err(|error| Win32Error(error.raw_os_error().unwrap_or_default().cast_unsigned()))
    }
}
