//! Threads of processes.

use std::time::Duration;

use machine_nt::exports::KeDelayExecutionThread;
use machine_nt::sched::{self, JoinHandle, Kind, Point};
use nt_sys::{_MODE, KPROCESSOR_MODE, LARGE_INTEGER};

/// A thread of the machine's user mode. Dropped, it goes on by itself.
pub struct Thread(JoinHandle);

impl Thread {
    /// CreateThread. The name is for dumps.
    #[must_use]
    pub fn spawn(name: &str, f: impl FnOnce() + 'static) -> Self {
        Self(sched::spawn(name, Kind::User, f))
    }

    /// Waits until the thread has ended.
    pub fn join(self) {
        self.0.join();
    }
}

/// Sleep, of virtual time, in units of 100 ns; a part of one counts as one.
pub fn sleep(time: Duration) {
    let units = time.as_nanos().div_ceil(100);
    let mut interval = LARGE_INTEGER {
        QuadPart: -i64::try_from(units).unwrap_or(i64::MAX),
    };
    // SAFETY: the interval is a local.
    unsafe { KeDelayExecutionThread(_MODE::UserMode as KPROCESSOR_MODE, 0, &raw mut interval) };
}

/// SwitchToThread: others may go on.
pub fn relinquish() {
    sched::switch_point(Point::Yield);
}
