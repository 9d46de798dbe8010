//! Bug checks of the framework and the checks that only its verifier makes (`fxverifier.h`, `fxverifierbugcheck.cpp`).

use std::ffi::c_void;

use crate::flat::*;
use machine_nt::bugcheck;
use machine_nt::exports::{DbgBreakPoint, KeGetCurrentIrql};

use crate::globals::DriverGlobals;
use crate::trace;

/// Stops the machine with `WDF_VIOLATION` (`code`, `p2`, `p3`, the driver's globals) and says why.
pub(crate) fn bug_check(
    globals: &'static DriverGlobals,
    code: WDF_BUGCHECK_CODES,
    p2: usize,
    p3: usize,
    why: &str,
) -> ! {
    trace::fatal(globals, why);
    bugcheck::stop(
        bugcheck::code::WDF_VIOLATION,
        [
            code as u64,
            p2 as u64,
            p3 as u64,
            std::ptr::from_ref(globals) as u64,
        ],
        why,
    )
}

/// Stops with 0x10D/4 if a pointer the DDI needs is null (`FxPointerNotNull`).
pub(crate) fn not_null<T>(globals: &'static DriverGlobals, pointer: *mut T, name: &str) {
    if pointer.is_null() {
        null_parameter(globals, name);
    }
}

/// Stops with 0x10D/4 if a callback the DDI needs is missing.
pub(crate) fn required<T: Copy>(
    globals: &'static DriverGlobals,
    callback: Option<T>,
    name: &str,
) -> T {
    callback.unwrap_or_else(|| null_parameter(globals, name))
}

fn null_parameter(globals: &'static DriverGlobals, name: &str) -> ! {
    bug_check(
        globals,
        WDF_REQUIRED_PARAMETER_IS_NULL,
        0,
        0,
        &format!("the required parameter {name} is NULL"),
    )
}

/// Says what a debugger would be told, were one attached (`FxVerifierDbgBreakPoint`). If the registry asks for the break
/// by `DbgBreakOnError`, it stops the machine, as there is no debugger; by the verifier alone it does not.
pub(crate) fn break_point(globals: &DriverGlobals) {
    if globals.debugger_expected() {
        trace::error(globals, "breaks into the debugger (DbgBreakOnError)");
        // SAFETY: callable at any IRQL.
        unsafe { DbgBreakPoint() };
    } else if globals.break_on_error() {
        trace::error(globals, "a debugger would break here (DbgBreakOnError)");
    }
}

/// With the verifier on: `STATUS_INVALID_DEVICE_REQUEST` if the IRQL is above `level` (`FxVerifierCheckIrqlLevel`).
///
/// # Errors
/// `STATUS_INVALID_DEVICE_REQUEST` as said; without the verifier never.
pub(crate) fn check_irql(globals: &DriverGlobals, level: u32) -> Result<(), NTSTATUS> {
    if !globals.verifier_on() {
        return Ok(());
    }
    // SAFETY: callable at any IRQL.
    let irql = u32::from(unsafe { KeGetCurrentIrql() });
    if irql <= level {
        return Ok(());
    }
    trace::error(
        globals,
        &format!("called at IRQL {irql}, {level} is the highest allowed"),
    );
    break_point(globals);
    Err(STATUS_INVALID_DEVICE_REQUEST)
}

/// Stops with 0x10D/6 and a structure that says more (`WDF_REQUEST_FATAL_ERROR`).
pub(crate) fn request_fatal(
    globals: &'static DriverGlobals,
    code: WDF_REQUEST_FATAL_ERROR_CODES,
    data: *const c_void,
    why: &str,
) -> ! {
    bug_check(
        globals,
        WDF_REQUEST_FATAL_ERROR,
        code as usize,
        data as usize,
        why,
    )
}

/// Stops as the kernel does for a bad address: the real framework would follow a null pointer here.
pub(crate) fn access_violation(globals: &DriverGlobals, why: &str) -> ! {
    // STATUS_ACCESS_VIOLATION, extended with its sign as an exception's code is.
    const ACCESS_VIOLATION: u64 = 0xFFFF_FFFF_C000_0005;
    trace::fatal(globals, why);
    // SAFETY: callable at any IRQL.
    let irql = u32::from(unsafe { KeGetCurrentIrql() });
    if irql >= DISPATCH_LEVEL {
        bugcheck::stop(
            bugcheck::code::DRIVER_IRQL_NOT_LESS_OR_EQUAL,
            [0, irql.into(), 0, 0],
            why,
        )
    }
    bugcheck::stop(
        bugcheck::code::KMODE_EXCEPTION_NOT_HANDLED,
        [ACCESS_VIOLATION, 0, 0, 0],
        why,
    )
}
