//! What every routine of the machine does when driver code, or a layer above, calls it.

use crate::bugcheck;
use crate::ke::stack::{self, Inside};
use crate::sched::{self, Point};

/// Enters a kernel routine or DDI: checks that the IRQL is at most `highest` and that the driver keeps to its kernel
/// stack, notes the call in the trace, and passes a switch point. Keep the result until the routine returns.
///
/// A higher IRQL is bug check 0xC4, 0xE5 (current IRQL, highest IRQL): "a call to a kernel routine at the incorrect
/// IRQL". Routines for which Driver Verifier documents a code of their own check for it before they enter.
pub fn enter(name: &'static str, highest: u8) -> Inside {
    enter_with(name, highest, 0)
}

/// As [`enter`], with what the call concerns, for the trace.
pub fn enter_with(name: &'static str, highest: u8, argument: usize) -> Inside {
    let inside = stack::enter(name);
    crate::trace::record(name, argument as u64);
    let irql = sched::irql();
    if irql > highest {
        let explanation = format!(
            "{name} was called at IRQL {irql}; it may be called at IRQL {highest} and below"
        );
        verifier([0xE5, irql.into(), highest.into(), 0], explanation);
    }
    sched::switch_point(Point::Routine);
    inside
}

/// Enters a routine that is called for its text only, whatever locks the layer above holds: no switch point.
pub(crate) fn enter_quietly(name: &'static str) -> Inside {
    stack::enter(name)
}

/// Bug check 0xC4, DRIVER_VERIFIER_DETECTED_VIOLATION.
pub(crate) fn verifier(parameters: [u64; 4], explanation: impl std::fmt::Display) -> ! {
    bugcheck::stop(
        bugcheck::code::DRIVER_VERIFIER_DETECTED_VIOLATION,
        parameters,
        explanation,
    )
}

/// Borrows an object that was passed to a kernel routine by pointer. NULL is what it would be in Windows: an access
/// violation in kernel mode that nobody handles.
///
/// # Safety
/// `object` is NULL or points to a live `T`, and nothing else refers to it until the borrow ends. The borrow must end
/// before the next switch point.
pub(crate) unsafe fn borrow<'a, T>(object: *mut T, routine: &'static str) -> &'a mut T {
    if object.is_null() {
        let access_violation = 0xC000_0005;
        bugcheck::stop(
            bugcheck::code::KMODE_EXCEPTION_NOT_HANDLED,
            [access_violation, 0, 0, 0],
            format!("{routine} was passed a NULL pointer"),
        );
    }
    // SAFETY: by the caller's promise, and not NULL.
    unsafe { &mut *object }
}

/// A routine passed by pointer; NULL would be called, as address zero, in Windows.
pub(crate) fn routine<F>(routine: Option<F>, name: &'static str) -> F {
    routine.unwrap_or_else(|| {
        let access_violation = 0xC000_0005;
        bugcheck::stop(
            bugcheck::code::KMODE_EXCEPTION_NOT_HANDLED,
            [access_violation, 0, 8, 0],
            format!("{name} was passed a NULL routine"),
        )
    })
}
