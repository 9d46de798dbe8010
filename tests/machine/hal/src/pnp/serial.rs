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

/// Set when the last of what was to be done later has been done.
static IDLE: OnceLock<Event> = OnceLock::new();

/// How much is left to be done later.
static PENDING: AtomicUsize = AtomicUsize::new(0);

/// Sets up the events. Making one is a kernel routine, in the middle of which the board may have news; so it is done
/// before anybody can have any.
pub fn install() {
    let free = Event::new(_EVENT_TYPE::SynchronizationEvent);
    let idle = Event::new(_EVENT_TYPE::NotificationEvent);
    let (first, second) = (FREE.set(free), IDLE.set(idle));
    if first.or(second).is_err() {
        crate::stop_internal("there are two PnP managers");
    }
}

fn event(event: &'static OnceLock<Event>) -> &'static Event {
    event
        .get()
        .unwrap_or_else(|| crate::stop_internal("PnP is used before the PnP manager is there"))
}

/// Runs `f` while nobody else does anything to devices. At PASSIVE_LEVEL; `f` must not come back here.
pub fn exclusively<R>(f: impl FnOnce() -> R) -> R {
    event(&FREE).wait();
    let result = f();
    event(&FREE).set();
    result
}

/// Has a thread run `f` exclusively, as soon as it can. Passes no switch point, so it may be called between two steps of
/// the machine.
pub fn later(f: impl FnOnce() + 'static) {
    PENDING.fetch_add(1, SeqCst);
    sched::spawn("PnP event", Kind::System, move || {
        exclusively(f);
        if PENDING.fetch_sub(1, SeqCst) == 1 {
            event(&IDLE).set();
        }
    });
}

/// Waits until nothing is left to be done later.
pub fn settle() {
    let idle = event(&IDLE);
    loop {
        idle.clear();
        if PENDING.load(SeqCst) == 0 {
            // For others who have seen that something was left, and do not wait yet.
            return idle.set();
        }
        idle.wait();
    }
}
