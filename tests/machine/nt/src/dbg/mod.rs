//! DbgPrint and its relatives: text from the driver, printed to standard error and kept for tests. Printing is no switch
//! point: a layer may print while it holds locks of its own.

mod format;

use crate::entry::enter_quietly;
use crate::sched;
use nt_sys::{PCCH, PCSTR, ULONG, va_list};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Lines kept.
const KEPT: usize = 1024;

static LINES: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());
static ECHO: AtomicBool = AtomicBool::new(true);

/// Whether what is printed also goes to standard error. It does by default.
pub fn set_echo(echo: bool) {
    ECHO.store(echo, Relaxed);
}

/// What has been printed, oldest first.
pub fn lines() -> Vec<String> {
    LINES
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
        .cloned()
        .collect()
}

/// Prints text as DbgPrint does.
pub fn print(text: &str) {
    if ECHO.load(Relaxed) {
        let micros = sched::now() / 1000;
        for line in text.trim_end_matches('\n').split('\n') {
            eprintln!(
                "[{:>6}.{:06}] {line}",
                micros / 1_000_000,
                micros % 1_000_000
            );
        }
    }
    let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    if lines.len() == KEPT {
        lines.pop_front();
    }
    lines.push_back(text.to_owned());
}

/// Formats and prints.
///
/// # Safety
/// `format` and `arguments` are as for the Windows routine.
unsafe fn print_formatted(prefix: &str, format: PCSTR, arguments: *const u64) -> ULONG {
    // SAFETY: by the caller's promise.
    let text = unsafe { format::format(format.cast(), arguments) };
    print(&format!("{prefix}{text}"));
    0
}

/// Routines with variable arguments cannot be defined for the Windows convention in stable Rust. There, every argument
/// takes one slot of eight bytes; so these take as many slots as any format of a driver may want.
macro_rules! variadic {
    ($(#[$doc:meta])* $name:ident($($fixed:ident: $type:ty),*)) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// As for the Windows routine, with at most 16 arguments behind the format.
        #[allow(clippy::too_many_arguments)]
        pub unsafe extern "win64" fn $name(
            $($fixed: $type,)* format: PCSTR, a: u64, b: u64, c: u64, d: u64, e: u64, f: u64, g: u64, h: u64, i: u64,
            j: u64, k: u64, l: u64, m: u64, n: u64, o: u64, p: u64,
        ) -> ULONG {
            let _inside = enter_quietly(stringify!($name));
            $(let _: $type = $fixed;)*
            let arguments = [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p];
            // SAFETY: by the caller's promise.
            unsafe { print_formatted("", format, arguments.as_ptr()) }
        }
    };
}

variadic! {
    /// DbgPrint. Any IRQL; wide strings at PASSIVE_LEVEL only.
    DbgPrint()
}

variadic! {
    /// DbgPrintEx. Any IRQL; wide strings at PASSIVE_LEVEL only. Nothing is filtered.
    DbgPrintEx(component: ULONG, level: ULONG)
}

/// vDbgPrintEx. Any IRQL; wide strings at PASSIVE_LEVEL only.
///
/// # Safety
/// As for the Windows routine.
pub unsafe extern "win64" fn vDbgPrintEx(
    _component: ULONG,
    _level: ULONG,
    format: PCCH,
    arguments: va_list,
) -> ULONG {
    let _inside = enter_quietly("vDbgPrintEx");
    // SAFETY: by the caller's promise.
    unsafe { print_formatted("", format, arguments.cast::<u64>()) }
}

/// vDbgPrintExWithPrefix. Any IRQL; wide strings at PASSIVE_LEVEL only.
///
/// # Safety
/// As for the Windows routine.
pub unsafe extern "win64" fn vDbgPrintExWithPrefix(
    prefix: PCCH,
    _component: ULONG,
    _level: ULONG,
    format: PCCH,
    arguments: va_list,
) -> ULONG {
    let _inside = enter_quietly("vDbgPrintExWithPrefix");
    // SAFETY: by the caller's promise.
    let prefix = unsafe { format::narrow(prefix.cast(), None) };
    // SAFETY: by the caller's promise.
    unsafe { print_formatted(&prefix, format, arguments.cast::<u64>()) }
}
