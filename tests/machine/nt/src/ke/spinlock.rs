//! Spin locks.
//!
//! The word in driver memory is 0 when free and 1 when held, as on a multiprocessor Windows; who holds it is kept here.
//! A processor that finds a lock held lets the other processors run; interrupts above its IRQL still come in.

use super::irql;
use crate::bugcheck::{self, Stop, code, stop_machine};
use crate::entry::{borrow, enter_with, verifier};
use crate::sched::{self, DISPATCH_LEVEL, HIGH_LEVEL, Point, ThreadId, with};
use nt_sys::{BOOLEAN, KIRQL, KSPIN_LOCK, PKLOCK_QUEUE_HANDLE, PKSPIN_LOCK};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Who holds a spin lock.
#[derive(Debug, Clone, Copy)]
struct Owner {
    processor: usize,
    thread: ThreadId,
}

const HELD: KSPIN_LOCK = 1;

static OWNERS: Mutex<BTreeMap<usize, Owner>> = Mutex::new(BTreeMap::new());

fn owners() -> MutexGuard<'static, BTreeMap<usize, Owner>> {
    OWNERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether nobody holds the lock.
pub(crate) fn is_free(lock: usize) -> bool {
    !owners().contains_key(&lock)
}

/// A lock that the current processor holds.
pub(crate) fn held_by_current_processor() -> Option<usize> {
    let processor = sched::current_processor();
    owners()
        .iter()
        .find(|(_, owner)| owner.processor == processor)
        .map(|(&lock, _)| lock)
}

/// Called when driver code returns to where no spin lock can be held any more, or lowers the IRQL below DISPATCH_LEVEL:
/// one that the processor still holds violates the DDI compliance rule SpinLock, 0xC4, 0x40009 (lock, IRQL).
pub(crate) fn check_none_held(what: &str) {
    if let Some(lock) = held_by_current_processor() {
        let explanation = format!("{what}, but the processor holds {}", describe(lock));
        verifier([0x40009, lock as u64, sched::irql().into(), 0], explanation);
    }
}

/// A held lock in this range of addresses.
pub(crate) fn held_in(range: std::ops::Range<usize>) -> Option<usize> {
    owners().range(range).next().map(|(&lock, _)| lock)
}

/// For dumps: the lock and its owner.
pub(crate) fn describe(lock: usize) -> String {
    let owner = OWNERS
        .try_lock()
        .ok()
        .and_then(|owners| owners.get(&lock).copied());
    match owner {
        Some(o) => format!(
            "spin lock {lock:#x} (owned by cpu{}, t{})",
            o.processor, o.thread.0
        ),
        None => format!("spin lock {lock:#x} (free)"),
    }
}

/// Takes the lock if it is free. A lock that the processor holds already is bug check 0x0F; one whose word is neither
/// 0 nor 1 was never initialised, and would spin forever.
///
/// # Safety
/// `lock` points to a KSPIN_LOCK.
unsafe fn try_acquire(lock: PKSPIN_LOCK) -> bool {
    let (processor, thread) = (sched::current_processor(), sched::current_thread());
    // SAFETY: by the caller's promise.
    let word = unsafe { lock.read_volatile() };
    let owner = owners().get(&lock.addr()).copied();
    match owner {
        Some(owner) if owner.processor == processor => {
            let parameters = [lock.addr() as u64, 0, 0, 0];
            let explanation = format!("{} is acquired again by its owner", describe(lock.addr()));
            bugcheck::stop(code::SPIN_LOCK_ALREADY_OWNED, parameters, explanation);
        }
        Some(_) => false,
        None if word != 0 => stop_machine(
            Stop::Deadlock,
            format!(
                "spin lock {lock:p} holds {word:#x} though nobody acquired it: not initialised, or overwritten"
            ),
        ),
        None => {
            owners().insert(lock.addr(), Owner { processor, thread });
            // SAFETY: by the caller's promise.
            unsafe { lock.write_volatile(HELD) };
            true
        }
    }
}

/// Takes the lock, spinning while another processor has it. The caller has raised the IRQL.
///
/// # Safety
/// `lock` points to a KSPIN_LOCK that stays valid.
pub unsafe fn acquire(lock: PKSPIN_LOCK) {
    // SAFETY: by the caller's promise.
    while !unsafe { try_acquire(lock) } {
        with(|k| k.here().spinning_on = Some(lock.addr()));
        sched::switch_point(Point::Spin);
        with(|k| k.here().spinning_on = None);
    }
}

/// Gives the lock back. Bug check 0x10 if the current processor does not hold it.
///
/// # Safety
/// `lock` points to a KSPIN_LOCK.
pub unsafe fn release(lock: PKSPIN_LOCK) {
    let processor = sched::current_processor();
    let owner = owners().get(&lock.addr()).copied();
    // SAFETY: by the caller's promise.
    let word = unsafe { lock.read_volatile() };
    if owner.is_none_or(|owner| owner.processor != processor) || word != HELD {
        let explanation = format!(
            "{}, whose word is {word:#x}, is released by cpu{processor}, which does not own it",
            describe(lock.addr())
        );
        bugcheck::stop(
            code::SPIN_LOCK_NOT_OWNED,
            [lock.addr() as u64, 0, 0, 0],
            explanation,
        );
    }
    owners().remove(&lock.addr());
    // SAFETY: by the caller's promise.
    unsafe { lock.write_volatile(0) };
}

/// IRQL checks of Driver Verifier: `highest` or below to acquire (0xC4, 0x42), at least DISPATCH_LEVEL for the routines
/// that do not change it (0x40 to acquire, 0x41 to release), exactly DISPATCH_LEVEL for KeReleaseSpinLock (0x32).
fn check_irql(lock: PKSPIN_LOCK, allowed: impl Fn(u8) -> bool, violation: u64, routine: &str) {
    let irql = sched::irql();
    if !allowed(irql) {
        let parameters = [violation, irql.into(), lock.addr() as u64, 0];
        verifier(parameters, format!("{routine} at IRQL {irql}"));
    }
}

/// KeInitializeSpinLock. Any IRQL.
///
/// # Safety
/// `lock` points to a KSPIN_LOCK.
pub unsafe extern "win64" fn KeInitializeSpinLock(lock: PKSPIN_LOCK) {
    // SAFETY: by the caller's promise.
    unsafe { lock.write(0) };
}

/// KeAcquireSpinLockRaiseToDpc. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// `lock` points to an initialised spin lock.
pub unsafe extern "win64" fn KeAcquireSpinLockRaiseToDpc(lock: PKSPIN_LOCK) -> KIRQL {
    check_irql(
        lock,
        |irql| irql <= DISPATCH_LEVEL,
        0x42,
        "KeAcquireSpinLock",
    );
    let _inside = enter_with("KeAcquireSpinLockRaiseToDpc", DISPATCH_LEVEL, lock.addr());
    let before = irql::raise(DISPATCH_LEVEL);
    // SAFETY: by the caller's promise.
    unsafe { acquire(lock) };
    before
}

/// KeReleaseSpinLock. IRQL = DISPATCH_LEVEL.
///
/// # Safety
/// `lock` points to a spin lock.
pub unsafe extern "win64" fn KeReleaseSpinLock(lock: PKSPIN_LOCK, new_irql: KIRQL) {
    check_irql(
        lock,
        |irql| irql == DISPATCH_LEVEL,
        0x32,
        "KeReleaseSpinLock",
    );
    let _inside = enter_with("KeReleaseSpinLock", DISPATCH_LEVEL, lock.addr());
    // SAFETY: by the caller's promise.
    unsafe { release(lock) };
    irql::lower(new_irql);
}

/// KeAcquireSpinLockAtDpcLevel. IRQL >= DISPATCH_LEVEL.
///
/// # Safety
/// `lock` points to an initialised spin lock.
pub unsafe extern "win64" fn KeAcquireSpinLockAtDpcLevel(lock: PKSPIN_LOCK) {
    check_irql(
        lock,
        |irql| irql >= DISPATCH_LEVEL,
        0x40,
        "KeAcquireSpinLockAtDpcLevel",
    );
    let _inside = enter_with("KeAcquireSpinLockAtDpcLevel", HIGH_LEVEL, lock.addr());
    // SAFETY: by the caller's promise.
    unsafe { acquire(lock) };
}

/// KeTryToAcquireSpinLockAtDpcLevel. IRQL >= DISPATCH_LEVEL.
///
/// # Safety
/// `lock` points to an initialised spin lock.
pub unsafe extern "win64" fn KeTryToAcquireSpinLockAtDpcLevel(lock: PKSPIN_LOCK) -> BOOLEAN {
    check_irql(
        lock,
        |irql| irql >= DISPATCH_LEVEL,
        0x40,
        "KeTryToAcquireSpinLockAtDpcLevel",
    );
    let _inside = enter_with("KeTryToAcquireSpinLockAtDpcLevel", HIGH_LEVEL, lock.addr());
    // SAFETY: by the caller's promise.
    BOOLEAN::from(unsafe { try_acquire(lock) })
}

/// KeReleaseSpinLockFromDpcLevel. IRQL >= DISPATCH_LEVEL.
///
/// # Safety
/// `lock` points to a spin lock.
pub unsafe extern "win64" fn KeReleaseSpinLockFromDpcLevel(lock: PKSPIN_LOCK) {
    check_irql(
        lock,
        |irql| irql >= DISPATCH_LEVEL,
        0x41,
        "KeReleaseSpinLockFromDpcLevel",
    );
    // SAFETY: by the caller's promise.
    unsafe { release(lock) };
    let _inside = enter_with("KeReleaseSpinLockFromDpcLevel", HIGH_LEVEL, lock.addr());
}

/// KeAcquireInStackQueuedSpinLock. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// `lock` points to an initialised spin lock, `handle` to memory that stays valid until the release.
pub unsafe extern "win64" fn KeAcquireInStackQueuedSpinLock(
    lock: PKSPIN_LOCK,
    handle: PKLOCK_QUEUE_HANDLE,
) {
    // SAFETY: by the caller's promise.
    let before = unsafe { KeAcquireSpinLockRaiseToDpc(lock) };
    // SAFETY: by the caller's promise.
    unsafe { fill(handle, lock, before) };
}

/// KeAcquireInStackQueuedSpinLockAtDpcLevel. IRQL >= DISPATCH_LEVEL.
///
/// # Safety
/// As [`KeAcquireInStackQueuedSpinLock`].
pub unsafe extern "win64" fn KeAcquireInStackQueuedSpinLockAtDpcLevel(
    lock: PKSPIN_LOCK,
    handle: PKLOCK_QUEUE_HANDLE,
) {
    // SAFETY: by the caller's promise.
    unsafe { KeAcquireSpinLockAtDpcLevel(lock) };
    // SAFETY: by the caller's promise.
    unsafe { fill(handle, lock, DISPATCH_LEVEL) };
}

/// Notes in the handle what the release needs.
///
/// # Safety
/// `handle` is NULL or valid.
unsafe fn fill(handle: PKLOCK_QUEUE_HANDLE, lock: PKSPIN_LOCK, before: KIRQL) {
    // SAFETY: by the caller's promise.
    let handle = unsafe { borrow(handle, "KeAcquireInStackQueuedSpinLock") };
    handle.LockQueue.Lock = lock;
    handle.OldIrql = before;
}

/// KeReleaseInStackQueuedSpinLock. IRQL = DISPATCH_LEVEL.
///
/// # Safety
/// `handle` is from [`KeAcquireInStackQueuedSpinLock`].
pub unsafe extern "win64" fn KeReleaseInStackQueuedSpinLock(handle: PKLOCK_QUEUE_HANDLE) {
    // SAFETY: by the caller's promise.
    let handle = unsafe { borrow(handle, "KeReleaseInStackQueuedSpinLock") };
    let (lock, irql) = (handle.LockQueue.Lock, handle.OldIrql);
    // SAFETY: by the caller's promise.
    unsafe { KeReleaseSpinLock(lock, irql) };
}

/// KeReleaseInStackQueuedSpinLockFromDpcLevel. IRQL >= DISPATCH_LEVEL.
///
/// # Safety
/// `handle` is from [`KeAcquireInStackQueuedSpinLockAtDpcLevel`].
pub unsafe extern "win64" fn KeReleaseInStackQueuedSpinLockFromDpcLevel(
    handle: PKLOCK_QUEUE_HANDLE,
) {
    // SAFETY: by the caller's promise.
    let lock = unsafe { borrow(handle, "KeReleaseInStackQueuedSpinLock") }
        .LockQueue
        .Lock;
    // SAFETY: by the caller's promise.
    unsafe { KeReleaseSpinLockFromDpcLevel(lock) };
}
