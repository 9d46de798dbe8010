//! Events, mutexes and semaphores.

use super::object::{self, Header, kind};
use super::wait::signal;
use crate::bugcheck::{self, code};
use crate::entry::{borrow, enter_with, verifier};
use crate::sched::{self, APC_LEVEL, DISPATCH_LEVEL, with};
use nt_sys::{
    BOOLEAN, EVENT_TYPE, KEVENT, KMUTANT, KPRIORITY, KSEMAPHORE, LONG, PRKEVENT, PRKMUTEX,
    PRKSEMAPHORE, ULONG,
};

const HIGH_LEVEL: u8 = sched::HIGH_LEVEL;

/// The header of an object passed to `routine`.
///
/// # Safety
/// `object` is NULL or a live dispatcher object; the borrow ends before the next switch point.
unsafe fn header_of<'a, T>(object: *mut T, routine: &'static str) -> &'a mut Header {
    // SAFETY: every dispatcher object starts with its header.
    unsafe { borrow(object.cast::<Header>(), routine) }
}

/// KeInitializeEvent. Any IRQL.
///
/// # Safety
/// `event` points to memory for a KEVENT.
pub unsafe extern "win64" fn KeInitializeEvent(
    event: PRKEVENT,
    event_type: EVENT_TYPE,
    state: BOOLEAN,
) {
    let _inside = enter_with("KeInitializeEvent", HIGH_LEVEL, event.addr());
    // SAFETY: by the caller's promise; a header is plain data.
    let header = unsafe { header_of(event, "KeInitializeEvent") };
    let kind = if event_type == nt_sys::_EVENT_TYPE::NotificationEvent {
        kind::NOTIFICATION_EVENT
    } else {
        kind::SYNCHRONIZATION_EVENT
    };
    header.initialize(kind, size_of::<KEVENT>(), i32::from(state != 0));
}

/// KeSetEvent. IRQL <= DISPATCH_LEVEL; <= APC_LEVEL with `wait`, which the machine does not have.
///
/// # Safety
/// `event` is an initialised event.
pub unsafe extern "win64" fn KeSetEvent(
    event: PRKEVENT,
    _increment: KPRIORITY,
    wait: BOOLEAN,
) -> LONG {
    let irql = sched::irql();
    if irql > DISPATCH_LEVEL {
        let parameters = [0x80, irql.into(), event.addr() as u64, 0];
        verifier(parameters, "KeSetEvent above DISPATCH_LEVEL");
    }
    let _inside = enter_with("KeSetEvent", DISPATCH_LEVEL, event.addr());
    if wait != 0 {
        bugcheck::stop_machine(bugcheck::Stop::Unimplemented, "KeSetEvent with Wait = TRUE");
    }
    // SAFETY: by the caller's promise.
    unsafe { set_event(event) }
}

/// Sets an event and lets those go on that wait for it; its state before.
///
/// # Safety
/// `event` is an initialised event.
pub(crate) unsafe fn set_event(event: PRKEVENT) -> LONG {
    // SAFETY: by the caller's promise.
    let header = unsafe { header_of(event, "KeSetEvent") };
    let before = std::mem::replace(&mut header.signal_state, 1);
    if before == 0 {
        with(|k| signal(k, event.addr()));
    }
    before
}

/// KeClearEvent. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// `event` is an initialised event.
pub unsafe extern "win64" fn KeClearEvent(event: PRKEVENT) {
    let _inside = enter_with("KeClearEvent", DISPATCH_LEVEL, event.addr());
    // SAFETY: by the caller's promise.
    unsafe { header_of(event, "KeClearEvent") }.signal_state = 0;
}

/// KeResetEvent. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// `event` is an initialised event.
pub unsafe extern "win64" fn KeResetEvent(event: PRKEVENT) -> LONG {
    let _inside = enter_with("KeResetEvent", DISPATCH_LEVEL, event.addr());
    // SAFETY: by the caller's promise.
    let header = unsafe { header_of(event, "KeResetEvent") };
    std::mem::replace(&mut header.signal_state, 0)
}

/// KeReadStateEvent. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// `event` is an initialised event.
pub unsafe extern "win64" fn KeReadStateEvent(event: PRKEVENT) -> LONG {
    let _inside = enter_with("KeReadStateEvent", DISPATCH_LEVEL, event.addr());
    // SAFETY: by the caller's promise.
    unsafe { header_of(event, "KeReadStateEvent") }.signal_state
}

/// KeInitializeMutex. Any IRQL.
///
/// # Safety
/// `mutex` points to memory for a KMUTEX.
pub unsafe extern "win64" fn KeInitializeMutex(mutex: PRKMUTEX, _level: ULONG) {
    let _inside = enter_with("KeInitializeMutex", HIGH_LEVEL, mutex.addr());
    // SAFETY: by the caller's promise; a mutex is plain data.
    let mutant = unsafe { borrow(mutex.cast::<object::Mutant>(), "KeInitializeMutex") };
    mutant
        .header
        .initialize(kind::MUTANT, size_of::<KMUTANT>(), 1);
    mutant.list = [0; 2];
    mutant.owner = std::ptr::null_mut();
    mutant.flags = 0;
    mutant.apc_disable = 1;
}

/// KeReleaseMutex. IRQL <= DISPATCH_LEVEL. Bug check 0x11 if the current thread does not own it.
///
/// # Safety
/// `mutex` is an initialised mutex.
pub unsafe extern "win64" fn KeReleaseMutex(mutex: PRKMUTEX, wait: BOOLEAN) -> LONG {
    let _inside = enter_with("KeReleaseMutex", DISPATCH_LEVEL, mutex.addr());
    if wait != 0 {
        bugcheck::stop_machine(
            bugcheck::Stop::Unimplemented,
            "KeReleaseMutex with Wait = TRUE",
        );
    }
    // SAFETY: by the caller's promise.
    let mutant = unsafe { borrow(mutex.cast::<object::Mutant>(), "KeReleaseMutex") };
    let current = with(|k| k.current_thread().object);
    if mutant.owner.addr() != current || mutant.header.signal_state > 0 {
        let parameters = [
            current as u64,
            mutex.addr() as u64,
            mutant.owner.addr() as u64,
            0,
        ];
        bugcheck::stop(
            code::THREAD_NOT_MUTEX_OWNER,
            parameters,
            "a mutex was released by a thread that does not own it",
        );
    }
    let before = mutant.header.signal_state;
    mutant.header.signal_state += 1;
    if mutant.header.signal_state == 1 {
        mutant.owner = std::ptr::null_mut();
        with(|k| {
            let owner = k.current_thread();
            owner.mutexes -= 1;
            owner.critical_regions -= 1;
            signal(k, mutex.addr());
        });
    }
    before
}

/// KeReadStateMutex. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// `mutex` is an initialised mutex.
pub unsafe extern "win64" fn KeReadStateMutex(mutex: PRKMUTEX) -> LONG {
    let _inside = enter_with("KeReadStateMutex", DISPATCH_LEVEL, mutex.addr());
    // SAFETY: by the caller's promise.
    unsafe { header_of(mutex, "KeReadStateMutex") }.signal_state
}

/// KeInitializeSemaphore. Any IRQL.
///
/// # Safety
/// `semaphore` points to memory for a KSEMAPHORE.
pub unsafe extern "win64" fn KeInitializeSemaphore(
    semaphore: PRKSEMAPHORE,
    count: LONG,
    limit: LONG,
) {
    let _inside = enter_with("KeInitializeSemaphore", HIGH_LEVEL, semaphore.addr());
    // SAFETY: by the caller's promise; a semaphore is plain data.
    let object = unsafe { borrow(semaphore, "KeInitializeSemaphore") };
    object.Limit = limit;
    // SAFETY: as above; `object` is not used any more.
    let header = unsafe { header_of(semaphore, "KeInitializeSemaphore") };
    header.initialize(kind::SEMAPHORE, size_of::<KSEMAPHORE>(), count);
}

/// KeReleaseSemaphore. IRQL <= DISPATCH_LEVEL. Exceeding the limit raises STATUS_SEMAPHORE_LIMIT_EXCEEDED, which is
/// bug check 0x1E here.
///
/// # Safety
/// `semaphore` is an initialised semaphore.
pub unsafe extern "win64" fn KeReleaseSemaphore(
    semaphore: PRKSEMAPHORE,
    _increment: KPRIORITY,
    adjustment: LONG,
    wait: BOOLEAN,
) -> LONG {
    let _inside = enter_with("KeReleaseSemaphore", DISPATCH_LEVEL, semaphore.addr());
    if wait != 0 {
        bugcheck::stop_machine(
            bugcheck::Stop::Unimplemented,
            "KeReleaseSemaphore with Wait = TRUE",
        );
    }
    // SAFETY: by the caller's promise.
    let limit = unsafe { borrow(semaphore, "KeReleaseSemaphore") }.Limit;
    // SAFETY: as above.
    let header = unsafe { header_of(semaphore, "KeReleaseSemaphore") };
    let before = header.signal_state;
    match before
        .checked_add(adjustment)
        .filter(|&new| new <= limit && adjustment > 0)
    {
        Some(new) => header.signal_state = new,
        None => {
            let limit_exceeded = 0xC000_0047;
            let explanation = format!(
                "a semaphore with count {before} and limit {limit} was released {adjustment} times"
            );
            bugcheck::stop(
                code::KMODE_EXCEPTION_NOT_HANDLED,
                [limit_exceeded, 0, 0, 0],
                explanation,
            );
        }
    }
    with(|k| signal(k, semaphore.addr()));
    before
}

/// KeReadStateSemaphore. Any IRQL.
///
/// # Safety
/// `semaphore` is an initialised semaphore.
pub unsafe extern "win64" fn KeReadStateSemaphore(semaphore: PRKSEMAPHORE) -> LONG {
    let _inside = enter_with("KeReadStateSemaphore", HIGH_LEVEL, semaphore.addr());
    // SAFETY: by the caller's promise.
    unsafe { header_of(semaphore, "KeReadStateSemaphore") }.signal_state
}

/// KeEnterCriticalRegion. IRQL <= APC_LEVEL (0xC4, 0x11A).
///
/// # Safety
/// None beyond being called on a thread.
pub unsafe extern "win64" fn KeEnterCriticalRegion() {
    let irql = sched::irql();
    if irql > APC_LEVEL {
        verifier(
            [0x11A, irql.into(), 0, 0],
            "KeEnterCriticalRegion above APC_LEVEL",
        );
    }
    let _inside = enter_with("KeEnterCriticalRegion", APC_LEVEL, 0);
    with(|k| k.current_thread().critical_regions += 1);
}

/// KeLeaveCriticalRegion. IRQL <= APC_LEVEL (0xC4, 0x11B); 0xC4, 0x3E if the thread is not in one.
///
/// # Safety
/// None beyond being called on a thread.
pub unsafe extern "win64" fn KeLeaveCriticalRegion() {
    let irql = sched::irql();
    if irql > APC_LEVEL {
        verifier(
            [0x11B, irql.into(), 0, 0],
            "KeLeaveCriticalRegion above APC_LEVEL",
        );
    }
    let _inside = enter_with("KeLeaveCriticalRegion", APC_LEVEL, 0);
    let left = with(|k| {
        let thread = k.current_thread();
        thread
            .critical_regions
            .checked_sub(1)
            .map(|n| thread.critical_regions = n)
    });
    if left.is_none() {
        verifier(
            [0x3E, 0, 0, 0],
            "KeLeaveCriticalRegion on a thread that is in no critical region",
        );
    }
}

/// KeAreApcsDisabled. Any IRQL.
///
/// # Safety
/// None beyond being called on a thread.
pub unsafe extern "win64" fn KeAreApcsDisabled() -> BOOLEAN {
    let _inside = enter_with("KeAreApcsDisabled", HIGH_LEVEL, 0);
    BOOLEAN::from(with(|k| k.current_thread().critical_regions > 0))
}

/// KeEnterGuardedRegion. IRQL <= APC_LEVEL. There are no APCs in the machine; only the pairing matters.
///
/// # Safety
/// None beyond being called on a thread.
pub unsafe extern "win64" fn KeEnterGuardedRegion() {
    // SAFETY: nothing more is asked of the caller.
    unsafe { KeEnterCriticalRegion() }
}

/// KeLeaveGuardedRegion. IRQL <= APC_LEVEL.
///
/// # Safety
/// None beyond being called on a thread.
pub unsafe extern "win64" fn KeLeaveGuardedRegion() {
    // SAFETY: nothing more is asked of the caller.
    unsafe { KeLeaveCriticalRegion() }
}

/// KeAreAllApcsDisabled. Any IRQL.
///
/// # Safety
/// None beyond being called on a thread.
pub unsafe extern "win64" fn KeAreAllApcsDisabled() -> BOOLEAN {
    // SAFETY: nothing more is asked of the caller.
    let disabled = unsafe { KeAreApcsDisabled() } != 0;
    BOOLEAN::from(disabled || sched::irql() >= APC_LEVEL)
}
