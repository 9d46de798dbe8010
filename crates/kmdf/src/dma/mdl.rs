//! Memory descriptor lists of the driver's own.

use core::ffi::c_void;
use core::ptr::NonNull;

use wdk_sys::PMDL;
use wdk_sys::ntddk::{IoAllocateMdl, IoFreeMdl, MmBuildMdlForNonPagedPool};

use crate::{NtStatus, Result};

/// A list that describes nonpaged memory; freed when it is dropped.
#[derive(Debug)]
pub(super) struct Mdl {
    raw: PMDL,
}

// SAFETY: it belongs to no thread.
unsafe impl Send for Mdl {}

// SAFETY: it does not change.
unsafe impl Sync for Mdl {}

impl Mdl {
    /// Describes `length` bytes from `start` on. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Safety
    ///
    /// They are nonpaged memory, which stays for as long as the list.
    pub(super) unsafe fn describe(start: NonNull<c_void>, length: u32) -> Result<Self> {
        // SAFETY: only the addresses are taken, and there is no request that the list would belong to.
        let raw = unsafe { IoAllocateMdl(start.as_ptr(), length, 0, 0, core::ptr::null_mut()) };
        if raw.is_null() {
            return Err(NtStatus::INSUFFICIENT_RESOURCES);
        }
        // SAFETY: the list has just been made, of nonpaged memory.
        unsafe { MmBuildMdlForNonPagedPool(raw) };
        Ok(Self { raw })
    }

    pub(super) const fn raw(&self) -> PMDL {
        self.raw
    }
}

impl Drop for Mdl {
    fn drop(&mut self) {
        // SAFETY: allocated in `describe`, and nobody uses it any more.
        unsafe { IoFreeMdl(self.raw) };
    }
}
