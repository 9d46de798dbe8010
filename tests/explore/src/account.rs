//! What a run tells the process that started it: counters in memory that both share.

use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering::Relaxed};
use std::{io, ptr};

use machine::{Course, course};
use serde::{Deserialize, Serialize};

/// The counters.
#[derive(Default)]
pub struct Account {
    choices: AtomicU64,
    schedule: AtomicU64,
    events: AtomicU64,
    trace: AtomicU64,
    succeeded: AtomicU64,
    cancelled: AtomicU64,
    failed: AtomicU64,
}

/// How requests ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// With all their bytes.
    pub succeeded: u64,
    /// With STATUS_CANCELLED.
    pub cancelled: u64,
    /// With another status.
    pub failed: u64,
}

impl Requests {
    /// Adds those of another run.
    pub fn add(&mut self, other: Self) {
        self.succeeded += other.succeeded;
        self.cancelled += other.cancelled;
        self.failed += other.failed;
    }
}

/// A run as it accounts for itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Run {
    /// What was chosen and what happened.
    pub course: Course,
    /// What became of its requests.
    pub requests: Requests,
}

/// How one request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With all its bytes.
    Succeeded,
    /// With STATUS_CANCELLED.
    Cancelled,
    /// With another status.
    Failed,
}

/// The account of this process and those forked from it.
static ACCOUNT: AtomicPtr<Account> = AtomicPtr::new(ptr::null_mut());

/// Makes the account. Before the first fork.
pub fn open() -> io::Result<()> {
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    let page = unsafe {
        libc::mmap(
            ptr::null_mut(),
            size_of::<Account>(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    ACCOUNT.store(page.cast(), Relaxed);
    Ok(())
}

fn account() -> &'static Account {
    let account = ACCOUNT.load(Relaxed);
    assert!(!account.is_null(), "the account has not been opened");
    // SAFETY: mapped for the life of the process, zeroed when it was made, and reached by atomic operations only.
    unsafe { &*account }
}

/// Sets everything to zero.
pub fn clear() {
    let account = account();
    for counter in [
        &account.choices,
        &account.schedule,
        &account.events,
        &account.trace,
        &account.succeeded,
        &account.cancelled,
        &account.failed,
    ] {
        counter.store(0, Relaxed);
    }
}

/// Counts a request.
pub fn ended(ending: Ending) {
    let account = account();
    let counter = match ending {
        Ending::Succeeded => &account.succeeded,
        Ending::Cancelled => &account.cancelled,
        Ending::Failed => &account.failed,
    };
    counter.fetch_add(1, Relaxed);
}

/// How requests have ended so far.
pub fn requests() -> Requests {
    let account = account();
    Requests {
        succeeded: account.succeeded.load(Relaxed),
        cancelled: account.cancelled.load(Relaxed),
        failed: account.failed.load(Relaxed),
    }
}

/// Enters the course of the run that ends here.
pub fn close() {
    let Course { choices, events } = course();
    let account = account();
    account.choices.store(choices.made, Relaxed);
    account.schedule.store(choices.hash, Relaxed);
    account.events.store(events.events, Relaxed);
    account.trace.store(events.hash, Relaxed);
}

/// What a run that has ended left behind.
pub fn read() -> Run {
    let account = account();
    let mut run = Run {
        requests: requests(),
        ..Run::default()
    };
    run.course.choices.made = account.choices.load(Relaxed);
    run.course.choices.hash = account.schedule.load(Relaxed);
    run.course.events.events = account.events.load(Relaxed);
    run.course.events.hash = account.trace.load(Relaxed);
    run
}
