//! Threads take turns, interrupts arrive, the machine ends.

use crate::machine;
use harness::{Suite, machine_stop};
use machine_nt::exports::*;
use machine_nt::sched::{self, Config, Interrupt, InterruptSource, Kind, Point};
use machine_nt::{counters, instrumented, trace};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

pub fn tests(suite: Suite) -> Suite {
    suite
        .passes("sched::the_seed_decides", the_seed_decides)
        .passes(
            "sched::interrupts_wait_for_the_irql",
            interrupts_wait_for_the_irql,
        )
        .passes("sched::a_higher_interrupt_nests", a_higher_interrupt_nests)
        .passes(
            "sched::a_device_event_ends_idleness",
            a_device_event_ends_idleness,
        )
        .passes("sched::threads_can_be_joined", threads_can_be_joined)
        .passes(
            "sched::atomics_of_an_instrumented_image_are_switch_points_at_raised_irql",
            atomics_are_switch_points,
        )
        .stops("sched::deadlock", machine_stop("deadlock"), || {
            machine(|| {
                let event = crate::object();
                unsafe { KeInitializeEvent(event, nt_sys::_EVENT_TYPE::NotificationEvent, 0) };
                unsafe { KeWaitForSingleObject(event.cast(), 0, 0, 0, std::ptr::null_mut()) };
            });
        })
        .stops(
            "sched::only_a_timer_goes_on",
            machine_stop("no thread has run"),
            || {
                machine(|| unsafe {
                    let (timer, event) = (crate::object(), crate::object());
                    KeInitializeTimer(timer);
                    KeSetTimerEx(timer, crate::ms(1), 1000, std::ptr::null_mut());
                    KeInitializeEvent(event, nt_sys::_EVENT_TYPE::NotificationEvent, 0);
                    KeWaitForSingleObject(event.cast(), 0, 0, 0, std::ptr::null_mut());
                });
            },
        )
        .stops(
            "sched::a_panic_is_a_machine_stop",
            machine_stop("on purpose"),
            || {
                machine(|| panic!("on purpose"));
            },
        )
}

fn turns(seed: u64) -> Vec<usize> {
    sched::run(Config::with_seed(seed), || {
        let log = Rc::new(RefCell::new(Vec::new()));
        let workers: Vec<_> = (0..3)
            .map(|name| {
                let log = log.clone();
                sched::spawn("worker", Kind::System, move || {
                    for _ in 0..100 {
                        log.borrow_mut().push(name);
                        sched::switch_point(Point::Routine);
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join();
        }
        log.take()
    })
}

fn the_seed_decides() {
    let first = turns(1);
    assert_eq!(first, turns(1), "the same seed makes the same run");
    assert_ne!(first, turns(2), "another seed makes another");
}

fn counting(irql: u8, vector: u64) -> (Interrupt, Arc<AtomicU32>) {
    let hits = Arc::new(AtomicU32::new(0));
    let seen = hits.clone();
    let service = Arc::new(move || {
        assert_eq!(sched::irql(), irql);
        hits.fetch_add(1, SeqCst);
    });
    let interrupt = Interrupt {
        irql,
        vector,
        service,
    };
    (interrupt, seen)
}

fn interrupts_wait_for_the_irql() {
    machine(|| {
        let (interrupt, seen) = counting(8, 1);
        sched::set_irql(8);
        sched::request_interrupt(sched::current_processor(), interrupt.clone());
        sched::switch_point(Point::Routine);
        assert_eq!(seen.load(SeqCst), 0, "held off at its own IRQL");
        sched::lower_irql(0);
        assert_eq!(seen.load(SeqCst), 1);
        sched::request_interrupt(1, interrupt);
        while seen.load(SeqCst) == 1 {
            sched::switch_point(Point::Yield);
        }
    });
}

fn a_higher_interrupt_nests() {
    machine(|| {
        let (high, seen) = counting(9, 2);
        let during = Arc::new(AtomicBool::new(false));
        let flag = during.clone();
        let hits = seen.clone();
        let low = Interrupt {
            irql: 5,
            vector: 1,
            service: Arc::new(move || {
                sched::request_interrupt(sched::current_processor(), high.clone());
                sched::switch_point(Point::Register);
                flag.store(hits.load(SeqCst) == 1, SeqCst);
            }),
        };
        sched::request_interrupt(sched::current_processor(), low);
        sched::switch_point(Point::Routine);
        assert!(during.load(SeqCst));
        assert_eq!(sched::irql(), 0);
    });
}

/// A device that raises an interrupt at 5 ms.
struct Device {
    interrupt: Interrupt,
    done: AtomicBool,
}

impl InterruptSource for Device {
    fn poll(&self, now: u64) {
        if now >= 5_000_000 && !self.done.swap(true, SeqCst) {
            sched::request_interrupt(0, self.interrupt.clone());
        }
    }

    fn next_event(&self) -> Option<u64> {
        (!self.done.load(SeqCst)).then_some(5_000_000)
    }

    fn is_external(&self) -> bool {
        false
    }

    fn wait(&self, _limit: Duration) -> sched::Waited {
        unreachable!()
    }
}

fn a_device_event_ends_idleness() {
    machine(|| {
        let event: nt_sys::PKEVENT = crate::object();
        unsafe { KeInitializeEvent(event, nt_sys::_EVENT_TYPE::NotificationEvent, 0) };
        let address = event.expose_provenance();
        let dpc: nt_sys::PKDPC = crate::object();
        unsafe { KeInitializeDpc(dpc, Some(crate::dpc::set_event), event.cast()) };
        let dpc = dpc.expose_provenance();
        let service = Arc::new(move || {
            let null = std::ptr::null_mut();
            unsafe { KeInsertQueueDpc(std::ptr::with_exposed_provenance_mut(dpc), null, null) };
        });
        let interrupt = Interrupt {
            irql: 8,
            vector: 1,
            service,
        };
        let done = AtomicBool::new(false);
        sched::set_interrupt_source(Arc::new(Device { interrupt, done }));
        let event: nt_sys::PKEVENT = std::ptr::with_exposed_provenance_mut(address);
        unsafe { KeWaitForSingleObject(event.cast(), 0, 0, 0, std::ptr::null_mut()) };
        assert!((5_000_000..6_000_000).contains(&sched::now()));
    });
}

fn threads_can_be_joined() {
    machine(|| {
        let done = Rc::new(RefCell::new(false));
        let flag = done.clone();
        let thread = sched::spawn("worker", Kind::System, move || {
            unsafe { KeDelayExecutionThread(0, 0, &mut crate::ms(10)) };
            *flag.borrow_mut() = true;
        });
        assert!(!thread.is_finished());
        thread.join();
        assert!(*done.borrow());
        assert!(sched::now() >= 10_000_000);
    });
}

/// One processor waits at DISPATCH_LEVEL for what another writes, and does nothing but look.
fn atomics_are_switch_points() {
    type Load = unsafe extern "win64" fn(*mut u32, i32) -> u32;
    let load = instrumented::exports()
        .into_iter()
        .find(|(name, _)| *name == "__tsan_atomic32_load")
        .expect("served");
    let load: Load = unsafe { std::mem::transmute(load.1) };
    machine(move || {
        let written = Arc::new(AtomicU32::new(0));
        let other = written.clone();
        let writer = sched::spawn("writer", Kind::System, move || {
            sched::set_irql(sched::DISPATCH_LEVEL);
            sched::switch_point(Point::Yield);
            other.store(1, SeqCst);
            sched::lower_irql(sched::PASSIVE_LEVEL);
        });
        // The writer is on its processor.
        sched::switch_point(Point::Yield);
        sched::set_irql(sched::DISPATCH_LEVEL);
        let before = counters().atomics.get();
        let looks = (1..=10_000).find(|_| unsafe { load(written.as_ptr(), 2) } == 1);
        sched::lower_irql(sched::PASSIVE_LEVEL);
        let looks: u64 = looks.expect("the other processor went on");
        assert!(looks > 1, "it looked before it was written");
        assert_eq!(counters().atomics.get() - before, looks);
        let events = trace::events();
        assert!(events.iter().any(|event| {
            (event.what, event.argument) == ("__tsan_atomic32_load", written.as_ptr() as u64)
        }));
        writer.join();
    });
}
