//! How the machine runs: so that a run repeats exactly, or as fast as it can.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// How time passes and how much is checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Virtual time, a seeded scheduler that may switch at every switch point, everything noted and checked.
    #[default]
    Deterministic,
    /// Real time, devices on threads of the operating system, and none of the checks that cost time at every call: no
    /// trace, no account of the kernel stack, no filled and guarded memory. For measurements.
    FreeRunning,
}

/// One machine per process, so a process-wide static.
static FREE_RUNNING: AtomicBool = AtomicBool::new(false);

/// Whether the machine runs freely.
#[inline]
pub fn is_free_running() -> bool {
    FREE_RUNNING.load(Relaxed)
}

pub(crate) fn set(mode: Mode) {
    FREE_RUNNING.store(mode == Mode::FreeRunning, Relaxed);
}
