//! Threads of processes, and their time.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use machine_nt::exports::KeDelayExecutionThread;
use machine_nt::sched::{self, JoinHandle, Kind, Point};
use nt_sys::{_MODE, KPROCESSOR_MODE, LARGE_INTEGER};

/// A thread of the machine's user mode. Dropped, it goes on by itself.
pub struct Thread<T = ()> {
    handle: JoinHandle,
    result: Rc<RefCell<Option<T>>>,
}

impl<T: 'static> Thread<T> {
    /// CreateThread. The name is for dumps. What the thread has under way when it ends stays so; see
    /// [`Process::spawn`](super::Process::spawn).
    #[must_use]
    pub fn spawn(name: &str, f: impl FnOnce() -> T + 'static) -> Self {
        let result = Rc::new(RefCell::new(None));
        let slot = Rc::clone(&result);
        let handle = sched::spawn(name, Kind::User, move || {
            let value = f();
            slot.replace(Some(value));
        });
        Self { handle, result }
    }

    /// Waits until the thread has ended, and returns its result.
    ///
    /// # Panics
    /// Never: a thread that panics stops the machine.
    pub fn join(self) -> T {
        self.handle.join();
        self.result.take().expect("a thread ends with a result")
    }
}

/// Sleep, of virtual time, in units of 100 ns; a part of one counts as one.
pub fn sleep(time: Duration) {
    let mut interval = relative(time);
    // SAFETY: the interval is a local.
    unsafe { KeDelayExecutionThread(_MODE::UserMode as KPROCESSOR_MODE, 0, &raw mut interval) };
}

/// SwitchToThread: others may go on.
pub fn relinquish() {
    sched::switch_point(Point::Yield);
}

/// Virtual time since the start of the machine.
#[must_use]
pub fn now() -> Duration {
    Duration::from_nanos(sched::now())
}

/// A time from now on, as kernel routines take it: negative, in units of 100 ns.
pub(super) fn relative(time: Duration) -> LARGE_INTEGER {
    let units = time.as_nanos().div_ceil(100);
    LARGE_INTEGER {
        QuadPart: -i64::try_from(units).unwrap_or(i64::MAX),
    }
}
