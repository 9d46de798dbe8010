//! Events, semaphores, timers as objects to wait for; timeouts.

use crate::{machine, ms, object};
use harness::{Suite, bug_check};
use machine_nt::exports::*;
use machine_nt::sched::{self, Kind};
use nt_sys::{KEVENT, KSEMAPHORE, KTIMER, STATUS_TIMEOUT};
use std::ffi::c_void;

const NOTIFICATION: nt_sys::EVENT_TYPE = nt_sys::_EVENT_TYPE::NotificationEvent;
const SYNCHRONIZATION: nt_sys::EVENT_TYPE = nt_sys::_EVENT_TYPE::SynchronizationEvent;

pub fn tests(suite: Suite) -> Suite {
    suite
        .passes(
            "waits::synchronization_event_wakes_one",
            synchronization_event_wakes_one,
        )
        .passes("waits::timeout", || {
            machine(|| unsafe {
                let event = object::<KEVENT>();
                KeInitializeEvent(event, NOTIFICATION, 0);
                assert_eq!(wait(event.cast(), 3), STATUS_TIMEOUT);
                assert!((3_000_000..4_000_000).contains(&sched::now()));
                assert_eq!(wait(event.cast(), 0), STATUS_TIMEOUT);
                KeSetEvent(event, 0, 0);
                assert_eq!(wait(event.cast(), 0), 0);
            });
        })
        .passes("waits::any_and_all", any_and_all)
        .passes("waits::semaphore", || {
            machine(|| unsafe {
                let semaphore = object::<KSEMAPHORE>();
                KeInitializeSemaphore(semaphore, 1, 3);
                assert_eq!(wait(semaphore.cast(), 0), 0);
                assert_eq!(wait(semaphore.cast(), 0), STATUS_TIMEOUT);
                assert_eq!(KeReleaseSemaphore(semaphore, 0, 2, 0), 0);
                assert_eq!(KeReadStateSemaphore(semaphore), 2);
            });
        })
        .stops(
            "waits::semaphore_over_limit",
            bug_check(0x1E).p1(0xC000_0047),
            || {
                machine(|| unsafe {
                    let semaphore = object::<KSEMAPHORE>();
                    KeInitializeSemaphore(semaphore, 1, 1);
                    KeReleaseSemaphore(semaphore, 0, 1, 0);
                });
            },
        )
        .passes("waits::periodic_timer", || {
            machine(|| unsafe {
                let timer = object::<KTIMER>();
                KeInitializeTimerEx(timer, nt_sys::_TIMER_TYPE::SynchronizationTimer);
                assert_eq!(KeSetTimerEx(timer, ms(5), 10, std::ptr::null_mut()), 0);
                for due in [5, 15, 25] {
                    KeWaitForSingleObject(timer.cast(), 0, 0, 0, std::ptr::null_mut());
                    assert_eq!(sched::now() / 1_000_000, due);
                }
                assert_eq!(KeCancelTimer(timer), 1);
                assert_eq!(KeCancelTimer(timer), 0);
            });
        })
        .stops(
            "waits::at_dispatch_level",
            bug_check(0xC4).p1(0x122).p2(2),
            || {
                machine(|| unsafe {
                    let event = object::<KEVENT>();
                    KeInitializeEvent(event, NOTIFICATION, 0);
                    KfRaiseIrql(2);
                    assert_eq!(wait(event.cast(), 0), STATUS_TIMEOUT);
                    wait(event.cast(), 1);
                });
            },
        )
        .stops("waits::not_initialised", bug_check(0xC4).p1(0xE1), || {
            machine(|| unsafe {
                let event = object::<KEVENT>();
                event.cast::<u8>().write_bytes(0xDF, size_of::<KEVENT>());
                wait(event.cast(), 1);
            });
        })
        .stops(
            "waits::thread_ends_in_critical_region",
            bug_check(0x20),
            || {
                machine(|| unsafe { KeEnterCriticalRegion() });
            },
        )
        .stops(
            "waits::critical_region_left_twice",
            bug_check(0xC4).p1(0x3E),
            || {
                machine(|| unsafe { KeLeaveCriticalRegion() });
            },
        )
}

unsafe fn wait(object: *mut c_void, milliseconds: i64) -> i32 {
    unsafe { KeWaitForSingleObject(object, 0, 0, 0, &mut ms(milliseconds)) }
}

fn synchronization_event_wakes_one() {
    machine(|| unsafe {
        let event = object::<KEVENT>();
        KeInitializeEvent(event, SYNCHRONIZATION, 0);
        let address = event.expose_provenance();
        let threads: Vec<_> = (0..3)
            .map(|_| {
                sched::spawn("waiter", Kind::System, move || {
                    let event: *mut c_void = std::ptr::with_exposed_provenance_mut(address);
                    KeWaitForSingleObject(event, 0, 0, 0, std::ptr::null_mut());
                })
            })
            .collect();
        KeDelayExecutionThread(0, 0, &mut ms(1));
        for woken in 1..=3 {
            KeSetEvent(event, 0, 0);
            KeDelayExecutionThread(0, 0, &mut ms(1));
            assert_eq!(
                threads.iter().filter(|thread| thread.is_finished()).count(),
                woken
            );
            assert_eq!(KeReadStateEvent(event), 0);
        }
    });
}

fn any_and_all() {
    machine(|| unsafe {
        let events = [(); 2].map(|()| object::<KEVENT>());
        for event in events {
            KeInitializeEvent(event, SYNCHRONIZATION, 0);
        }
        let mut objects = events.map(|event| event.cast::<c_void>());
        let mut wait = |kind, milliseconds| {
            let null = std::ptr::null_mut();
            KeWaitForMultipleObjects(
                2,
                objects.as_mut_ptr(),
                kind,
                0,
                0,
                0,
                &mut ms(milliseconds),
                null,
            )
        };
        let (all, any) = (nt_sys::_WAIT_TYPE::WaitAll, nt_sys::_WAIT_TYPE::WaitAny);
        KeSetEvent(events[1], 0, 0);
        assert_eq!(wait(all, 1), STATUS_TIMEOUT);
        assert_eq!(wait(any, 0), 1);
        assert_eq!(wait(any, 0), STATUS_TIMEOUT);
        KeSetEvent(events[0], 0, 0);
        KeSetEvent(events[1], 0, 0);
        assert_eq!(wait(all, 0), 0);
        assert_eq!(KeReadStateEvent(events[0]), 0);
    });
}
