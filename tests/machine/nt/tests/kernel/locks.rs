//! Spin locks, mutexes, fast mutexes.

use crate::{machine, object};
use harness::{Suite, bug_check, machine_stop};
use machine_nt::exports::*;
use machine_nt::sched::{self, Kind, Point};
use nt_sys::{FAST_MUTEX, KMUTEX, KSPIN_LOCK, PKMUTEX, PKSPIN_LOCK};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

pub fn tests(suite: Suite) -> Suite {
    suite
        .passes(
            "locks::processors_exclude_each_other",
            processors_exclude_each_other,
        )
        .stops("locks::recursive", bug_check(0xF), || {
            machine(|| unsafe {
                let lock = object::<KSPIN_LOCK>();
                KeAcquireSpinLockRaiseToDpc(lock);
                KeAcquireSpinLockAtDpcLevel(lock);
            });
        })
        .stops("locks::released_twice", bug_check(0x10), || {
            machine(|| unsafe {
                let lock = object::<KSPIN_LOCK>();
                KeAcquireSpinLockRaiseToDpc(lock);
                KeReleaseSpinLockFromDpcLevel(lock);
                KeReleaseSpinLockFromDpcLevel(lock);
            });
        })
        .stops(
            "locks::released_too_low",
            bug_check(0xC4).p1(0x32).p2(0),
            || {
                machine(|| unsafe { KeReleaseSpinLock(object(), 0) });
            },
        )
        .stops(
            "locks::acquired_at_dpc_level_too_low",
            bug_check(0xC4).p1(0x40).p2(0),
            || {
                machine(|| unsafe { KeAcquireSpinLockAtDpcLevel(object()) });
            },
        )
        .stops(
            "locks::acquired_too_high",
            bug_check(0xC4).p1(0x42).p2(5),
            || {
                machine(|| unsafe {
                    KfRaiseIrql(5);
                    KeAcquireSpinLockRaiseToDpc(object());
                });
            },
        )
        .stops(
            "locks::lowered_with_lock",
            bug_check(0xC4).p1(0x40009),
            || {
                machine(|| unsafe {
                    KeAcquireSpinLockRaiseToDpc(object());
                    KeLowerIrql(0);
                });
            },
        )
        .stops(
            "locks::not_initialised",
            machine_stop("nobody acquired it"),
            || {
                machine(|| unsafe {
                    let lock = object::<KSPIN_LOCK>();
                    *lock = 0xDFDF_DFDF;
                    KeAcquireSpinLockRaiseToDpc(lock);
                });
            },
        )
        .stops(
            "locks::order_inversion",
            machine_stop("deadlock"),
            order_inversion,
        )
        .passes("locks::mutex_is_recursive", || {
            machine(|| unsafe {
                let mutex = object::<KMUTEX>();
                KeInitializeMutex(mutex, 0);
                for _ in 0..2 {
                    assert_eq!(
                        KeWaitForSingleObject(mutex.cast(), 0, 0, 0, std::ptr::null_mut()),
                        0
                    );
                }
                assert_eq!(KeReleaseMutex(mutex, 0), -1);
                assert_eq!(KeReleaseMutex(mutex, 0), 0);
                assert_eq!(KeReadStateMutex(mutex), 1);
            });
        })
        .stops("locks::mutex_released_by_another", bug_check(0x11), || {
            machine(|| unsafe {
                let mutex = object::<KMUTEX>();
                KeInitializeMutex(mutex, 0);
                KeWaitForSingleObject(mutex.cast(), 0, 0, 0, std::ptr::null_mut());
                let address = mutex.expose_provenance();
                let other = sched::spawn("other", Kind::System, move || {
                    let mutex: PKMUTEX = std::ptr::with_exposed_provenance_mut(address);
                    KeReleaseMutex(mutex, 0);
                });
                other.join();
            });
        })
        .stops("locks::thread_ends_with_mutex", bug_check(0x39), || {
            machine(|| unsafe {
                let mutex = object::<KMUTEX>();
                KeInitializeMutex(mutex, 0);
                KeWaitForSingleObject(mutex.cast(), 0, 0, 0, std::ptr::null_mut());
            });
        })
        .stops(
            "locks::fast_mutex_recursive",
            bug_check(0xC4).p1(0x1000),
            || {
                machine(|| unsafe {
                    let mutex = object::<FAST_MUTEX>();
                    (*mutex).Count = 1;
                    KeInitializeEvent(
                        &raw mut (*mutex).Event,
                        nt_sys::_EVENT_TYPE::SynchronizationEvent,
                        0,
                    );
                    ExAcquireFastMutex(mutex);
                    assert_eq!(sched::irql(), 1);
                    ExAcquireFastMutex(mutex);
                });
            },
        )
}

fn processors_exclude_each_other() {
    static INSIDE: AtomicU32 = AtomicU32::new(0);
    machine(|| {
        let lock = object::<KSPIN_LOCK>().expose_provenance();
        let work = move || {
            let lock: PKSPIN_LOCK = std::ptr::with_exposed_provenance_mut(lock);
            for _ in 0..200 {
                let irql = unsafe { KeAcquireSpinLockRaiseToDpc(lock) };
                assert_eq!(INSIDE.fetch_add(1, SeqCst), 0);
                sched::switch_point(Point::Register);
                INSIDE.fetch_sub(1, SeqCst);
                unsafe { KeReleaseSpinLock(lock, irql) };
            }
        };
        let threads: Vec<_> = (0..3)
            .map(|_| sched::spawn("worker", Kind::System, work))
            .collect();
        threads.into_iter().for_each(sched::JoinHandle::join);
    });
}

fn order_inversion() {
    machine(|| {
        let locks = [(); 2].map(|()| object::<KSPIN_LOCK>().expose_provenance());
        let work = move |order: [usize; 2]| {
            move || loop {
                let [first, second] =
                    order.map(std::ptr::with_exposed_provenance_mut::<KSPIN_LOCK>);
                let irql = unsafe { KeAcquireSpinLockRaiseToDpc(first) };
                unsafe { KeAcquireSpinLockAtDpcLevel(second) };
                unsafe { KeReleaseSpinLockFromDpcLevel(second) };
                unsafe { KeReleaseSpinLock(first, irql) };
            }
        };
        let [a, b] = locks;
        let first = sched::spawn("first", Kind::System, work([a, b]));
        sched::spawn("second", Kind::System, work([b, a]));
        first.join();
    });
}
