//! One thing at a time: what the PnP manager does to devices is serialised, and what drivers ask of it at other times is
//! done later, by threads of its own.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use machine_nt::exports::{KeClearEvent, KeInitializeEvent, KeSetEvent, KeWaitForSingleObject};
use machine_nt::sched::{self, Kind};
use nt_sys::{_EVENT_TYPE, _KWAIT_REASON, EVENT_TYPE, KEVENT};

/// An event that lives as long as the machine.
struct Event(*mut KEVENT);

// SAFETY: the kernel synchronises the use of an event.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    /// An event that is set.
    fn new(kind: EVENT_TYPE) -> Self {
        let event = Box::into_raw(Box::new(KEVENT::default()));
        // SAFETY: the memory is never freed.
        unsafe { KeInitializeEvent(event, kind, 1) };
        Self(event)
    }

    fn set(&self) {
        // SAFETY: the event was initialised in `new`.
        unsafe { KeSetEvent(self.0, 0, 0) };
    }

    fn clear(&self) {
        // SAFETY: as in `set`.
        unsafe { KeClearEvent(self.0) };
    }

    fn wait(&self) {
        // SAFETY: as in `set`; the mode is that of the kernel.
        unsafe {
            KeWaitForSingleObject(
                self.0.cast(),
                _KWAIT_REASON::Executive,
                0,
                0,
                std::ptr::null_mut(),
            )
        };
    }
}

/// Set while nothing is done to any device.
static FREE: OnceLock<Event> = OnceLock::new();

/// Set while nothing is left to be done later.
static IDLE: OnceLock<Event> = OnceLock::new();

/// How much is left to be done later.
static PENDING: AtomicUsize = AtomicUsize::new(0);

fn idle() -> &'static Event {
    IDLE.get_or_init(|| Event::new(_EVENT_TYPE::NotificationEvent))
}

/// Runs `f` while nobody else does anything to devices. At PASSIVE_LEVEL; `f` must not come back here.
pub fn exclusively<R>(f: impl FnOnce() -> R) -> R {
    let free = FREE.get_or_init(|| Event::new(_EVENT_TYPE::SynchronizationEvent));
    free.wait();
    let result = f();
    free.set();
    result
}

/// Has a thread run `f` exclusively, as soon as it can.
pub fn later(f: impl FnOnce() + 'static) {
    PENDING.fetch_add(1, SeqCst);
    idle().clear();
    sched::spawn("PnP event", Kind::System, move || {
        exclusively(f);
        if PENDING.fetch_sub(1, SeqCst) == 1 {
            idle().set();
        }
    });
}

/// Waits until nothing is left to be done later.
pub fn settle() {
    idle().wait();
}
