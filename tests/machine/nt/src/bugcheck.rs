//! How the machine stops: bug checks as Windows has them, and stops that only the machine knows.
//!
//! A bug check prints one line, `*** STOP: 0x0000010D (0x..., 0x..., 0x..., 0x...) WDF_VIOLATION`, then an explanation,
//! what the registered dumpers know of the objects concerned, all threads, and the last events; the process ends with
//! code 86. A machine stop prints `*** MACHINE STOP: kind: text` and the same dumps; the process ends with code 87.

use std::fmt;
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Exit code of the process after a bug check.
pub const EXIT_BUG_CHECK: i32 = 86;
/// Exit code of the process after a machine stop.
pub const EXIT_MACHINE_STOP: i32 = 87;

/// Why the machine itself (not Windows) refuses to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// A routine, a mode of one, or a table entry that the machine does not have.
    Unimplemented,
    /// No thread can ever run again.
    Deadlock,
    /// An interrupt that nobody claims comes back without end.
    InterruptStorm,
    /// The run goes on and on without getting to its end.
    Endless,
    /// A breakpoint in driver code, and nobody to debug it.
    Breakpoint,
    /// Driver code does what the documentation forbids and Windows itself does not notice.
    Misuse,
    /// The board (for instance QEMU) ended or answered nonsense.
    Board,
    /// A defect of the machine.
    Internal,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unimplemented => "unimplemented",
            Self::Deadlock => "deadlock",
            Self::InterruptStorm => "interrupt storm",
            Self::Endless => "endless",
            Self::Breakpoint => "breakpoint",
            Self::Misuse => "misuse",
            Self::Board => "board",
            Self::Internal => "internal error",
        })
    }
}

macro_rules! codes {
    ($($name:ident = $value:literal,)*) => {
        /// Bug check codes by their Windows names.
        #[allow(missing_docs)]
        pub mod code {
            $(pub const $name: u32 = $value;)*
        }

        /// The Windows name of a bug check code.
        pub fn name(code: u32) -> Option<&'static str> {
            match code {
                $($value => Some(stringify!($name)),)*
                _ => None,
            }
        }
    };
}

codes! {
    INVALID_DATA_ACCESS_TRAP = 0x04,
    IRQL_NOT_GREATER_OR_EQUAL = 0x09,
    MAXIMUM_WAIT_OBJECTS_EXCEEDED = 0x0C,
    IRQL_NOT_LESS_OR_EQUAL = 0x0A,
    SPIN_LOCK_ALREADY_OWNED = 0x0F,
    SPIN_LOCK_NOT_OWNED = 0x10,
    THREAD_NOT_MUTEX_OWNER = 0x11,
    REFERENCE_BY_POINTER = 0x18,
    BAD_POOL_HEADER = 0x19,
    KMODE_EXCEPTION_NOT_HANDLED = 0x1E,
    CANCEL_STATE_IN_COMPLETED_IRP = 0x48,
    NO_MORE_IRP_STACK_LOCATIONS = 0x35,
    SYSTEM_EXIT_OWNED_MUTEX = 0x39,
    TARGET_MDL_TOO_SMALL = 0x40,
    MULTIPLE_IRP_COMPLETE_REQUESTS = 0x44,
    PAGE_FAULT_IN_NONPAGED_AREA = 0x50,
    PROCESS_HAS_LOCKED_PAGES = 0x76,
    KERNEL_STACK_OVERFLOW = 0x2B,
    KERNEL_APC_PENDING_DURING_EXIT = 0x20,
    SYSTEM_THREAD_EXCEPTION_NOT_HANDLED = 0x7E,
    UNEXPECTED_KERNEL_MODE_TRAP = 0x7F,
    DRIVER_POWER_STATE_FAILURE = 0x9F,
    ATTEMPTED_WRITE_TO_READONLY_MEMORY = 0xBE,
    BAD_POOL_CALLER = 0xC2,
    DRIVER_VERIFIER_DETECTED_VIOLATION = 0xC4,
    TIMER_OR_DPC_INVALID = 0xC7,
    IRQL_UNEXPECTED_VALUE = 0xC8,
    DRIVER_VERIFIER_IOMANAGER_VIOLATION = 0xC9,
    PNP_DETECTED_FATAL_ERROR = 0xCA,
    DRIVER_LEFT_LOCKED_PAGES_IN_PROCESS = 0xCB,
    DRIVER_UNLOADED_WITHOUT_CANCELLING_PENDING_OPERATIONS = 0xCE,
    DRIVER_IRQL_NOT_LESS_OR_EQUAL = 0xD1,
    WORKER_THREAD_RETURNED_AT_BAD_IRQL = 0xE1,
    MANUALLY_INITIATED_CRASH = 0xE2,
    DRIVER_VERIFIER_DMA_VIOLATION = 0xE6,
    DRIVER_OVERRAN_STACK_BUFFER = 0xF7,
    WDF_VIOLATION = 0x10D,
    DPC_WATCHDOG_VIOLATION = 0x133,
    KERNEL_SECURITY_CHECK_FAILURE = 0x139,
    RUST_PANIC = 0x5250_4E43,
}

/// Prints what a layer knows that bears on a stop. Must not enter the scheduler; locks only with `try_lock`.
pub type Dumper = Box<dyn Fn(&mut dyn fmt::Write) + Send>;

static DUMPERS: Mutex<Vec<(&'static str, Dumper)>> = Mutex::new(Vec::new());
static STOPPING: AtomicBool = AtomicBool::new(false);

/// Adds a section to the dump printed at every stop.
pub fn register_dumper(title: &'static str, dumper: Dumper) {
    if let Ok(mut dumpers) = DUMPERS.lock() {
        dumpers.push((title, dumper));
    }
}

/// Stops the machine as Windows would, with bug check `code` and its four parameters.
pub fn stop(code: u32, parameters: [u64; 4], explanation: impl fmt::Display) -> ! {
    stop_with(code, parameters, explanation, |_| {})
}

/// As [`stop`], with a dump of the objects concerned, in the style of `!wdfkd`, printed right after the explanation.
pub fn stop_with(
    code: u32,
    parameters: [u64; 4],
    explanation: impl fmt::Display,
    dump: impl FnOnce(&mut dyn fmt::Write),
) -> ! {
    let [p1, p2, p3, p4] = parameters;
    let name = name(code).unwrap_or("");
    let head = format!(
        "*** STOP: 0x{code:08X} (0x{p1:016X}, 0x{p2:016X}, 0x{p3:016X}, 0x{p4:016X}) {name}"
    );
    finish(&head, &explanation, dump, EXIT_BUG_CHECK)
}

/// Stops the machine for a reason Windows does not have.
pub fn stop_machine(kind: Stop, text: impl fmt::Display) -> ! {
    let text = text.to_string().replace('\n', " ");
    let head = format!("*** MACHINE STOP: {kind}: {text}");
    finish(&head, &"", |_| {}, EXIT_MACHINE_STOP)
}

fn finish(
    head: &str,
    explanation: &dyn fmt::Display,
    dump: impl FnOnce(&mut dyn fmt::Write),
    exit_code: i32,
) -> ! {
    use fmt::Write as _;
    if STOPPING.swap(true, Ordering::SeqCst) {
        say(&format!("{head}\n    (while already stopping)\n"));
        end(exit_code);
    }
    say(&format!("\n{head}\n"));
    let explanation = explanation.to_string();
    for line in explanation.lines() {
        say(&format!("    {line}\n"));
    }
    let mut text = String::new();
    dump(&mut text);
    if !text.is_empty() {
        text.push('\n');
    }
    crate::sched::dump(&mut text);
    if let Ok(dumpers) = DUMPERS.try_lock() {
        for (title, dumper) in dumpers.iter() {
            let _ = writeln!(text, "{title}:");
            dumper(&mut text);
        }
    }
    say(&text);
    end(exit_code)
}

/// Writes straight to the descriptor: a stop may come while the standard error handle is locked.
fn say(text: &str) {
    // SAFETY: descriptor 2 stays open for the life of the process; it is only borrowed here.
    let mut stderr = std::mem::ManuallyDrop::new(unsafe {
        <std::fs::File as std::os::fd::FromRawFd>::from_raw_fd(2)
    });
    let _ = stderr.write_all(text.as_bytes());
}

/// Ends the process at once: destructors would unwind fibers through driver code.
fn end(exit_code: i32) -> ! {
    let _ = std::io::stdout().flush();
    // SAFETY: ends the process; nothing runs after it.
    unsafe { libc::_exit(exit_code) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn names() {
        assert_eq!(super::name(0x10D), Some("WDF_VIOLATION"));
        assert_eq!(super::name(0xE6), Some("DRIVER_VERIFIER_DMA_VIOLATION"));
        assert_eq!(super::name(0xFFFF_FFFF), None);
    }
}
