//! Fast mutexes.

use crate::entry::{borrow, enter_with, verifier};
use crate::ke::event::set_event;
use crate::ke::irql;
use crate::ke::wait::wait;
use crate::sched::{self, APC_LEVEL, with};
use nt_sys::{BOOLEAN, PFAST_MUTEX};

/// The KTHREAD of the current thread.
fn current() -> usize {
    with(|k| k.current_thread().object)
}

/// Takes the mutex if it is free. The IRQL is APC_LEVEL already.
///
/// # Safety
/// `mutex` is an initialised fast mutex.
unsafe fn try_take(mutex: PFAST_MUTEX, before: u8) -> bool {
    // SAFETY: by the caller's promise.
    let object = unsafe { borrow(mutex, "ExAcquireFastMutex") };
    if object.Count != 1 {
        if object.Owner.addr() == current() {
            let parameters = [0x1000, mutex.addr() as u64, 0, 0];
            verifier(
                parameters,
                format!("fast mutex {mutex:p} is acquired again by its owner"),
            );
        }
        return false;
    }
    object.Count = 0;
    object.Owner = std::ptr::with_exposed_provenance_mut(current());
    object.OldIrql = before.into();
    true
}

/// ExAcquireFastMutex. IRQL <= APC_LEVEL (0xC4, 0x33); it is APC_LEVEL until the release.
///
/// # Safety
/// `mutex` is an initialised fast mutex.
pub unsafe extern "win64" fn ExAcquireFastMutex(mutex: PFAST_MUTEX) {
    check(mutex, |irql| irql <= APC_LEVEL, 0x33, "ExAcquireFastMutex");
    let _inside = enter_with("ExAcquireFastMutex", APC_LEVEL, mutex.addr());
    let before = irql::raise(APC_LEVEL);
    // SAFETY: by the caller's promise.
    while !unsafe { try_take(mutex, before) } {
        // SAFETY: by the caller's promise.
        let object = unsafe { borrow(mutex, "ExAcquireFastMutex") };
        object.Contention += 1;
        let event = &raw mut object.Event;
        wait(&[event.expose_provenance()], false, None);
    }
}

/// ExTryToAcquireFastMutex. IRQL <= APC_LEVEL (0xC4, 0x33).
///
/// # Safety
/// `mutex` is an initialised fast mutex.
pub unsafe extern "win64" fn ExTryToAcquireFastMutex(mutex: PFAST_MUTEX) -> BOOLEAN {
    check(
        mutex,
        |irql| irql <= APC_LEVEL,
        0x33,
        "ExTryToAcquireFastMutex",
    );
    let _inside = enter_with("ExTryToAcquireFastMutex", APC_LEVEL, mutex.addr());
    let before = irql::raise(APC_LEVEL);
    // SAFETY: by the caller's promise.
    let taken = unsafe { try_take(mutex, before) };
    if !taken {
        irql::lower(before);
    }
    taken.into()
}

/// ExReleaseFastMutex. IRQL = APC_LEVEL (0xC4, 0x34).
///
/// # Safety
/// `mutex` is a fast mutex that the current thread owns.
pub unsafe extern "win64" fn ExReleaseFastMutex(mutex: PFAST_MUTEX) {
    check(mutex, |irql| irql == APC_LEVEL, 0x34, "ExReleaseFastMutex");
    let _inside = enter_with("ExReleaseFastMutex", APC_LEVEL, mutex.addr());
    // SAFETY: by the caller's promise.
    let object = unsafe { borrow(mutex, "ExReleaseFastMutex") };
    let before = object.OldIrql as u8;
    object.Owner = std::ptr::null_mut();
    object.Count = 1;
    let event = &raw mut object.Event;
    // SAFETY: the event of an initialised fast mutex.
    unsafe { set_event(event) };
    irql::lower(before);
}

fn check(mutex: PFAST_MUTEX, allowed: impl Fn(u8) -> bool, violation: u64, routine: &str) {
    let irql = sched::irql();
    if !allowed(irql) {
        let parameters = [violation, irql.into(), mutex.addr() as u64, 0];
        verifier(parameters, format!("{routine} at IRQL {irql}"));
    }
}
