//! How the machine stops when the image does what nothing here can do for it.

use std::sync::OnceLock;

static HOOK: OnceLock<fn(&str) -> !> = OnceLock::new();

/// Sets what is called, once in a process, when the image calls an unresolved import or accesses a register with
/// an instruction that cannot be trapped. Without it the text goes to standard error and the process aborts.
///
/// The hook runs on the stack of the code that did it, at its IRQL. The first one set stays.
pub fn set_stop_hook(hook: fn(&str) -> !) {
    HOOK.get_or_init(|| hook);
}

pub(crate) fn stop(text: &str) -> ! {
    match HOOK.get() {
        Some(hook) => hook(text),
        None => {
            eprintln!("{text}");
            std::process::abort()
        }
    }
}
