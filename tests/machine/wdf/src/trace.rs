//! The framework's debug prints: what the in-flight recorder would hold.

use std::ffi::CString;

use machine_nt::exports::vDbgPrintEx;

use crate::flat::*;

use crate::globals::DriverGlobals;

fn print(globals: &DriverGlobals, level: u32, word: &str, text: &str) {
    let line = format!("{}: {word}{text}\n", globals.driver_name());
    // A line cannot hold a NUL: nothing the framework prints does.
    let Ok(line) = CString::new(line) else { return };
    let mut arguments = [line.as_ptr() as usize];
    // SAFETY: the format takes one string, which lives until the call returns.
    unsafe {
        vDbgPrintEx(
            DPFLTR_IHVDRIVER_ID,
            level,
            c"%s".as_ptr().cast_mut(),
            arguments.as_mut_ptr().cast(),
        )
    };
}

/// What precedes a bug check.
pub(crate) fn fatal(globals: &DriverGlobals, text: &str) {
    print(globals, DPFLTR_ERROR_LEVEL as _, "fatal: ", text);
}

/// Something the driver or the system did wrong.
pub(crate) fn error(globals: &DriverGlobals, text: &str) {
    print(globals, DPFLTR_ERROR_LEVEL as _, "", text);
}

/// Something unusual.
pub(crate) fn warning(globals: &DriverGlobals, text: &str) {
    print(globals, DPFLTR_WARNING_LEVEL as _, "", text);
}

/// The course of events.
pub(crate) fn verbose(globals: &DriverGlobals, text: &str) {
    print(globals, DPFLTR_INFO_LEVEL as _, "", text);
}
