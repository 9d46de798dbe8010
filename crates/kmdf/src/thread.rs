//! The calling thread.

use wdk_sys::ntddk::KeDelayExecutionThread;
use wdk_sys::{_MODE, LARGE_INTEGER};

/// Lets others run for a millisecond or more. IRQL <= APC_LEVEL.
pub fn pause() {
    let mut interval = LARGE_INTEGER {
        // Relative, in units of 100 ns.
        QuadPart: -10_000,
    };
    // SAFETY: the interval lives across the call. The result says that the time has passed.
    let _ = unsafe { KeDelayExecutionThread(_MODE::KernelMode as _, 0, &raw mut interval) };
}
