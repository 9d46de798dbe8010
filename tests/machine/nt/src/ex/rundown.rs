//! Rundown protection: references that can be waited out.

use crate::bugcheck::{Stop, stop_machine};
use crate::entry::{borrow, enter_with};
use crate::sched::{self, APC_LEVEL, DISPATCH_LEVEL, Point};
use nt_sys::{BOOLEAN, PEX_RUNDOWN_REF};

/// The rundown has begun; the references are above this bit, as in Windows.
const ACTIVE: u64 = 1;
const REFERENCE: u64 = 2;

/// The word of a rundown reference.
///
/// # Safety
/// `reference` is NULL or valid; the borrow ends before the next switch point.
unsafe fn word<'a>(reference: PEX_RUNDOWN_REF, routine: &'static str) -> &'a mut u64 {
    // SAFETY: by the caller's promise; the structure is this one word.
    unsafe { borrow(reference.cast::<u64>(), routine) }
}

/// ExInitializeRundownProtection. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// `reference` is valid.
pub unsafe extern "win64" fn ExInitializeRundownProtection(reference: PEX_RUNDOWN_REF) {
    let _inside = enter_with(
        "ExInitializeRundownProtection",
        DISPATCH_LEVEL,
        reference.addr(),
    );
    // SAFETY: by the caller's promise.
    *unsafe { word(reference, "ExInitializeRundownProtection") } = 0;
}

/// ExAcquireRundownProtection. IRQL <= DISPATCH_LEVEL. FALSE once the rundown has begun.
///
/// # Safety
/// `reference` is initialised.
pub unsafe extern "win64" fn ExAcquireRundownProtection(reference: PEX_RUNDOWN_REF) -> BOOLEAN {
    let _inside = enter_with(
        "ExAcquireRundownProtection",
        DISPATCH_LEVEL,
        reference.addr(),
    );
    // SAFETY: by the caller's promise.
    let word = unsafe { word(reference, "ExAcquireRundownProtection") };
    let free = *word & ACTIVE == 0;
    if free {
        *word += REFERENCE;
    }
    free.into()
}

/// ExReleaseRundownProtection. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// `reference` was acquired.
pub unsafe extern "win64" fn ExReleaseRundownProtection(reference: PEX_RUNDOWN_REF) {
    let _inside = enter_with(
        "ExReleaseRundownProtection",
        DISPATCH_LEVEL,
        reference.addr(),
    );
    // SAFETY: by the caller's promise.
    let word = unsafe { word(reference, "ExReleaseRundownProtection") };
    match word.checked_sub(REFERENCE) {
        Some(left) => *word = left,
        None => stop_machine(
            Stop::Internal,
            format!(
                "ExReleaseRundownProtection of {reference:p} without ExAcquireRundownProtection"
            ),
        ),
    }
}

/// ExWaitForRundownProtectionRelease. IRQL <= APC_LEVEL.
///
/// # Safety
/// `reference` is initialised.
pub unsafe extern "win64" fn ExWaitForRundownProtectionRelease(reference: PEX_RUNDOWN_REF) {
    let _inside = enter_with(
        "ExWaitForRundownProtectionRelease",
        APC_LEVEL,
        reference.addr(),
    );
    // SAFETY: by the caller's promise.
    *unsafe { word(reference, "ExWaitForRundownProtectionRelease") } |= ACTIVE;
    // SAFETY: by the caller's promise.
    while *unsafe { word(reference, "ExWaitForRundownProtectionRelease") } >= REFERENCE {
        sched::switch_point(Point::Yield);
    }
}
