//! DPCs, timers with DPCs, work items.

use crate::{machine, ms, object};
use harness::{Suite, bug_check};
use machine_nt::counters;
use machine_nt::exports::*;
use machine_nt::sched;
use nt_sys::{KDPC, KEVENT, KTIMER, PKDPC, PKEVENT};
use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

pub fn tests(suite: Suite) -> Suite {
    suite
        .passes("dpc::queued_once", queued_once)
        .passes("dpc::removed", || {
            machine(|| unsafe {
                let dpc = counting();
                KfRaiseIrql(2);
                queue(dpc);
                assert_eq!(KeRemoveQueueDpc(dpc), 1);
                assert_eq!(KeRemoveQueueDpc(dpc), 0);
                KeLowerIrql(0);
                KeFlushQueuedDpcs();
                assert_eq!(RUNS.load(SeqCst), 0);
            });
        })
        .passes("dpc::on_another_processor", || {
            machine(|| unsafe {
                let dpc = counting();
                KeSetTargetProcessorDpc(dpc, 1);
                queue(dpc);
                KeFlushQueuedDpcs();
                assert_eq!(RUNS.load(SeqCst), 1);
                assert_eq!(PROCESSOR.load(SeqCst), 1);
            });
        })
        .passes("dpc::of_a_timer", || {
            machine(|| unsafe {
                let (timer, event) = (object::<KTIMER>(), object::<KEVENT>());
                KeInitializeTimer(timer);
                KeInitializeEvent(event, nt_sys::_EVENT_TYPE::NotificationEvent, 0);
                let dpc = object::<KDPC>();
                KeInitializeDpc(dpc, Some(set_event), event.cast());
                KeSetTimer(timer, ms(7), dpc);
                KeWaitForSingleObject(event.cast(), 0, 0, 0, std::ptr::null_mut());
                assert_eq!(sched::now() / 1_000_000, 7);
                assert_eq!(counters().timers_expired.get(), 1);
            });
        })
        .stops(
            "dpc::lowers_the_irql",
            bug_check(0xC4).p1(0x31).p2(2).p3(0).p4(1),
            || {
                unsafe extern "win64" fn lower(
                    _: PKDPC,
                    _: *mut c_void,
                    _: *mut c_void,
                    _: *mut c_void,
                ) {
                    unsafe { KeLowerIrql(0) }
                }
                run_dpc(lower);
            },
        )
        .stops("dpc::returns_higher", bug_check(0xC8).p1(5), || {
            unsafe extern "win64" fn raise(
                _: PKDPC,
                _: *mut c_void,
                _: *mut c_void,
                _: *mut c_void,
            ) {
                unsafe { KfRaiseIrql(5) };
            }
            run_dpc(raise);
        })
        .stops(
            "dpc::keeps_a_spin_lock",
            bug_check(0xC4).p1(0x40009),
            || {
                unsafe extern "win64" fn keep(
                    _: PKDPC,
                    _: *mut c_void,
                    _: *mut c_void,
                    _: *mut c_void,
                ) {
                    unsafe { KeAcquireSpinLockAtDpcLevel(object()) };
                }
                run_dpc(keep);
            },
        )
        .stops("dpc::waits", bug_check(0xC4).p1(0x122), || {
            unsafe extern "win64" fn wait(
                _: PKDPC,
                event: *mut c_void,
                _: *mut c_void,
                _: *mut c_void,
            ) {
                unsafe { KeWaitForSingleObject(event, 0, 0, 0, std::ptr::null_mut()) };
            }
            run_dpc(wait);
        })
}

static RUNS: AtomicU32 = AtomicU32::new(0);
static PROCESSOR: AtomicU32 = AtomicU32::new(9);

/// A deferred routine that sets the event in its context.
pub unsafe extern "win64" fn set_event(
    _: PKDPC,
    event: *mut c_void,
    _: *mut c_void,
    _: *mut c_void,
) {
    assert_eq!(sched::irql(), 2);
    unsafe { KeSetEvent(event.cast(), 0, 0) };
}

unsafe extern "win64" fn count(_: PKDPC, _: *mut c_void, first: *mut c_void, _: *mut c_void) {
    assert_eq!(first.addr(), 7);
    RUNS.fetch_add(1, SeqCst);
    PROCESSOR.store(sched::current_processor() as u32, SeqCst);
}

fn counting() -> PKDPC {
    let dpc = object::<KDPC>();
    unsafe { KeInitializeDpc(dpc, Some(count), std::ptr::null_mut()) };
    dpc
}

unsafe fn queue(dpc: PKDPC) -> u8 {
    unsafe {
        KeInsertQueueDpc(
            dpc,
            std::ptr::without_provenance_mut(7),
            std::ptr::null_mut(),
        )
    }
}

fn queued_once() {
    machine(|| unsafe {
        let dpc = counting();
        KfRaiseIrql(2);
        assert_eq!(queue(dpc), 1);
        assert_eq!(queue(dpc), 0);
        assert_eq!(RUNS.load(SeqCst), 0, "not before the IRQL is lowered");
        KeLowerIrql(0);
        assert_eq!(RUNS.load(SeqCst), 1);
        assert_eq!(queue(dpc), 1, "it can be queued again");
        KeFlushQueuedDpcs();
        assert_eq!(RUNS.load(SeqCst), 2);
    });
}

fn run_dpc(routine: unsafe extern "win64" fn(PKDPC, *mut c_void, *mut c_void, *mut c_void)) {
    machine(move || unsafe {
        let (dpc, event): (PKDPC, PKEVENT) = (object(), object());
        KeInitializeEvent(event, nt_sys::_EVENT_TYPE::NotificationEvent, 0);
        KeInitializeDpc(dpc, Some(routine), event.cast());
        queue(dpc);
        KeFlushQueuedDpcs();
    });
}
