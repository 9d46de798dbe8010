//! Timers, and the clocks that a driver can read.

use super::object::{Header, kind};
use super::wait::signal;
use crate::counters;
use crate::entry::{borrow, enter, enter_with};
use crate::sched::time::{Deadline, Ticket};
use crate::sched::{self, DISPATCH_LEVEL, HIGH_LEVEL, Kernel, with};
use nt_sys::{
    BOOLEAN, KTIMER, LARGE_INTEGER, LONG, PKDPC, PKTIMER, PLARGE_INTEGER, TIMER_TYPE, ULONG,
    ULONGLONG,
};
use std::collections::BTreeMap;

/// System time when the machine starts: 2026-01-01 00:00 UTC, in 100 ns since 1601.
const BOOT_TIME: i64 = 134_116_992_000_000_000;
/// Frequency of the performance counter, Hz, as Windows 10 and later report it.
const PERFORMANCE_FREQUENCY: i64 = 10_000_000;
/// 100 ns units of a clock tick (15.625 ms).
const TIME_INCREMENT: u32 = 156_250;

/// The timers that are set, by address of the KTIMER.
pub(crate) type Timers = BTreeMap<usize, Ticket>;

/// The virtual time (ns) of a system time (100 ns).
pub(crate) fn virtual_time(system_time: i64) -> u64 {
    (system_time.saturating_sub(BOOT_TIME).max(0) as u64).saturating_mul(100)
}

/// System time now, 100 ns since 1601.
pub(crate) fn system_time() -> i64 {
    BOOT_TIME + (sched::now() / 100) as i64
}

/// Sets the timer; whether it was set before.
///
/// # Safety
/// `timer` is an initialised KTIMER that stays valid until it expires or is cancelled; so is `dpc`, if not NULL.
unsafe fn set(timer: PKTIMER, due: LARGE_INTEGER, period: u32, dpc: PKDPC) -> bool {
    // SAFETY: every bit pattern is a number.
    let due = super::wait::due_time(unsafe { due.QuadPart });
    // SAFETY: by the caller's promise.
    let object = unsafe { borrow(timer, "KeSetTimer") };
    object.Dpc = dpc;
    object.Period = period;
    object.DueTime.QuadPart = due / 100;
    // SAFETY: by the caller's promise; `object` is not used any more.
    unsafe { header(timer, "KeSetTimer") }.signal_state = 0;
    with(|k| {
        let was_set = cancel(k, timer.addr());
        arm(k, timer.expose_provenance(), due);
        was_set
    })
}

fn arm(k: &mut Kernel, timer: usize, due: u64) {
    let ticket = k.clock.schedule(due, Deadline::Timer(timer));
    k.timers.insert(timer, ticket);
}

fn cancel(k: &mut Kernel, timer: usize) -> bool {
    let ticket = k.timers.remove(&timer);
    ticket.is_some_and(|ticket| k.clock.cancel(ticket))
}

/// The header of a timer.
///
/// # Safety
/// `timer` is NULL or a live KTIMER; the borrow ends before the next switch point.
unsafe fn header<'a>(timer: PKTIMER, routine: &'static str) -> &'a mut Header {
    // SAFETY: a KTIMER starts with its header.
    unsafe { borrow(timer.cast::<Header>(), routine) }
}

/// A timer is due: signals it, queues its DPC, sets it again if it is periodic. Runs at DISPATCH_LEVEL.
pub(crate) fn expire(k: &mut Kernel, timer: usize) {
    let due = k.timers.remove(&timer).map_or(0, Ticket::due);
    counters().timers_expired.increment();
    let pointer: PKTIMER = std::ptr::with_exposed_provenance_mut(timer);
    // SAFETY: a timer that is set is live, by the promise of whoever set it.
    let (dpc, period) = {
        // SAFETY: as above.
        let object = unsafe { borrow(pointer, "KiTimerExpiration") };
        (object.Dpc, object.Period)
    };
    // SAFETY: as above.
    unsafe { header(pointer, "KiTimerExpiration") }.signal_state = 1;
    signal(k, timer);
    if period != 0 {
        arm(k, timer, due + u64::from(period) * 1_000_000);
    }
    if !dpc.is_null() {
        let null = std::ptr::null_mut();
        // SAFETY: the DPC of a timer that is set is live.
        unsafe { super::dpc::insert(k, dpc, null, null) };
    }
}

/// KeInitializeTimer. Any IRQL.
///
/// # Safety
/// `timer` points to memory for a KTIMER.
pub unsafe extern "win64" fn KeInitializeTimer(timer: PKTIMER) {
    // SAFETY: by the caller's promise.
    unsafe { KeInitializeTimerEx(timer, nt_sys::_TIMER_TYPE::NotificationTimer) }
}

/// KeInitializeTimerEx. Any IRQL.
///
/// # Safety
/// `timer` points to memory for a KTIMER.
pub unsafe extern "win64" fn KeInitializeTimerEx(timer: PKTIMER, timer_type: TIMER_TYPE) {
    let _inside = enter_with("KeInitializeTimerEx", HIGH_LEVEL, timer.addr());
    // SAFETY: by the caller's promise; a KTIMER is plain data.
    let object = unsafe { borrow(timer, "KeInitializeTimerEx") };
    // SAFETY: all bytes zero is a valid KTIMER.
    *object = unsafe { std::mem::zeroed() };
    let kind = if timer_type == nt_sys::_TIMER_TYPE::NotificationTimer {
        kind::NOTIFICATION_TIMER
    } else {
        kind::SYNCHRONIZATION_TIMER
    };
    // SAFETY: by the caller's promise; `object` is not used any more.
    unsafe { header(timer, "KeInitializeTimerEx") }.initialize(kind, size_of::<KTIMER>(), 0);
}

/// KeSetTimer. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// As [`KeSetCoalescableTimer`].
pub unsafe extern "win64" fn KeSetTimer(timer: PKTIMER, due: LARGE_INTEGER, dpc: PKDPC) -> BOOLEAN {
    let _inside = enter_with("KeSetTimer", DISPATCH_LEVEL, timer.addr());
    // SAFETY: by the caller's promise.
    BOOLEAN::from(unsafe { set(timer, due, 0, dpc) })
}

/// KeSetTimerEx. `period` in ms. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// As [`KeSetCoalescableTimer`].
pub unsafe extern "win64" fn KeSetTimerEx(
    timer: PKTIMER,
    due: LARGE_INTEGER,
    period: LONG,
    dpc: PKDPC,
) -> BOOLEAN {
    let _inside = enter_with("KeSetTimerEx", DISPATCH_LEVEL, timer.addr());
    // SAFETY: by the caller's promise.
    BOOLEAN::from(unsafe { set(timer, due, period.max(0) as u32, dpc) })
}

/// KeSetCoalescableTimer. `period` in ms; the tolerable delay is never used. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// `timer` is an initialised KTIMER that stays valid until it expires or is cancelled; so is `dpc`, if not NULL.
pub unsafe extern "win64" fn KeSetCoalescableTimer(
    timer: PKTIMER,
    due: LARGE_INTEGER,
    period: ULONG,
    _tolerable_delay: ULONG,
    dpc: PKDPC,
) -> BOOLEAN {
    let _inside = enter_with("KeSetCoalescableTimer", DISPATCH_LEVEL, timer.addr());
    // SAFETY: by the caller's promise.
    BOOLEAN::from(unsafe { set(timer, due, period, dpc) })
}

/// KeCancelTimer. IRQL <= DISPATCH_LEVEL. A DPC that is queued already stays queued.
///
/// # Safety
/// `timer` is an initialised KTIMER.
pub unsafe extern "win64" fn KeCancelTimer(timer: PKTIMER) -> BOOLEAN {
    let _inside = enter_with("KeCancelTimer", DISPATCH_LEVEL, timer.addr());
    BOOLEAN::from(with(|k| cancel(k, timer.addr())))
}

/// KeReadStateTimer. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// `timer` is an initialised KTIMER.
pub unsafe extern "win64" fn KeReadStateTimer(timer: PKTIMER) -> BOOLEAN {
    let _inside = enter_with("KeReadStateTimer", DISPATCH_LEVEL, timer.addr());
    // SAFETY: by the caller's promise.
    BOOLEAN::from(unsafe { header(timer, "KeReadStateTimer") }.signal_state != 0)
}

/// KeStallExecutionProcessor. Any IRQL. Virtual time passes.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn KeStallExecutionProcessor(microseconds: ULONG) {
    let _inside = enter("KeStallExecutionProcessor", HIGH_LEVEL);
    sched::stall(u64::from(microseconds) * 1000);
}

fn number(value: i64) -> LARGE_INTEGER {
    LARGE_INTEGER { QuadPart: value }
}

/// KeQueryPerformanceCounter. Any IRQL. 10 MHz of virtual time.
///
/// # Safety
/// `frequency` is NULL or valid.
pub unsafe extern "win64" fn KeQueryPerformanceCounter(frequency: PLARGE_INTEGER) -> LARGE_INTEGER {
    let _inside = enter("KeQueryPerformanceCounter", HIGH_LEVEL);
    // SAFETY: by the caller's promise.
    if let Some(frequency) = unsafe { frequency.as_mut() } {
        *frequency = number(PERFORMANCE_FREQUENCY);
    }
    number((sched::now() / 100) as i64)
}

/// KeQuerySystemTimePrecise. Any IRQL. 100 ns since 1601.
///
/// # Safety
/// `time` is valid.
pub unsafe extern "win64" fn KeQuerySystemTimePrecise(time: PLARGE_INTEGER) {
    let _inside = enter("KeQuerySystemTimePrecise", HIGH_LEVEL);
    // SAFETY: by the caller's promise.
    *unsafe { borrow(time, "KeQuerySystemTimePrecise") } = number(system_time());
}

/// KeQueryInterruptTime. Any IRQL. 100 ns since the start of the machine.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn KeQueryInterruptTime() -> ULONGLONG {
    let _inside = enter("KeQueryInterruptTime", HIGH_LEVEL);
    sched::now() / 100
}

/// KeQueryInterruptTimePrecise. Any IRQL. 100 ns since the start of the machine; the counter at that moment.
///
/// # Safety
/// `counter` is valid.
pub unsafe extern "win64" fn KeQueryInterruptTimePrecise(counter: *mut u64) -> ULONGLONG {
    let _inside = enter("KeQueryInterruptTimePrecise", HIGH_LEVEL);
    let now = sched::now() / 100;
    // SAFETY: by the caller's promise.
    *unsafe { borrow(counter, "KeQueryInterruptTimePrecise") } = now;
    now
}

/// KeQueryUnbiasedInterruptTime. Any IRQL. The machine's clock does not run while it sleeps.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn KeQueryUnbiasedInterruptTime() -> ULONGLONG {
    let _inside = enter("KeQueryUnbiasedInterruptTime", HIGH_LEVEL);
    sched::now() / 100
}

/// KeQueryTimeIncrement. Any IRQL.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn KeQueryTimeIncrement() -> ULONG {
    TIME_INCREMENT
}

/// A timer that is set, in this range of addresses.
pub(crate) fn set_in(k: &Kernel, range: std::ops::Range<usize>) -> Option<usize> {
    k.timers.range(range).next().map(|(&timer, _)| timer)
}
