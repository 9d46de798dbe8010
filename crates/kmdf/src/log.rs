//! Failures, told to a kernel debugger.
//!
//! Success is silent: the data path prints nothing. `DbgPrint` with a fixed format is used rather than Rust's
//! formatting, which wants a buffer on the kernel stack and can panic.

use core::ffi::CStr;

use wdk_sys::ntddk::DbgPrint;

use crate::{NtStatus, Result};

/// Says that `what` failed with `status`. IRQL <= DIRQL.
pub fn failure(what: &CStr, status: NtStatus) {
    // SAFETY: both strings end with a zero, and the arguments are what the format says.
    unsafe {
        DbgPrint(
            c"dmacard: %s: status 0x%08x\n".as_ptr().cast(),
            what.as_ptr(),
            status.code(),
        );
    }
}

/// Lets a failure be logged where it happens, on its way to the caller.
pub trait LogFailure {
    /// Logs the failure, if it is one, as one of `what`. IRQL <= DIRQL.
    #[must_use]
    fn or_log(self, what: &CStr) -> Self;
}

impl<T> LogFailure for Result<T> {
    fn or_log(self, what: &CStr) -> Self {
        self.inspect_err(|&status| failure(what, status))
    }
}
