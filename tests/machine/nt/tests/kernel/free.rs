//! A machine that runs freely: real time, and no switch without a reason.

use harness::Suite;
use machine_bus::{MemoryConfig, PhysicalMemory};
use machine_nt::exports::*;
use machine_nt::mode::Mode;
use machine_nt::sched::{self, Config, Interrupt, InterruptSource, Kind, Point, Waited};
use machine_nt::{counters, trace};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

pub fn tests(suite: Suite) -> Suite {
    suite
        .passes("free::who_runs_goes_on_running", who_runs_goes_on_running)
        .passes(
            "free::a_thread_loses_its_processor_after_a_time_slice",
            a_time_slice_ends,
        )
        .passes("free::time_is_real", time_is_real)
        .passes(
            "free::another_processors_interrupt_is_taken",
            another_processors_interrupt_is_taken,
        )
        .passes(
            "free::a_thread_of_the_host_ends_idleness",
            a_thread_of_the_host_ends_idleness,
        )
        .passes("free::nothing_is_noted", nothing_is_noted)
}

fn free(processors: usize, f: impl FnOnce() + 'static) {
    let memory = PhysicalMemory::new(&MemoryConfig::default()).unwrap();
    machine_nt::mm::set_memory(memory);
    let config = Config {
        mode: Mode::FreeRunning,
        processors,
        ..Config::default()
    };
    sched::run(config, f);
}

/// A thread that says that it has run.
fn other() -> (Rc<Cell<bool>>, sched::JoinHandle) {
    let ran = Rc::new(Cell::new(false));
    let flag = ran.clone();
    let thread = sched::spawn("other", Kind::System, move || flag.set(true));
    (ran, thread)
}

fn who_runs_goes_on_running() {
    free(2, || {
        let (ran, thread) = other();
        for _ in 0..500 {
            sched::switch_point(Point::Routine);
        }
        assert!(!ran.get());
        sched::switch_point(Point::Yield);
        assert!(ran.get());
        thread.join();
    });
}

fn a_time_slice_ends() {
    free(1, || {
        let (ran, thread) = other();
        while !ran.get() {
            sched::switch_point(Point::Routine);
        }
        thread.join();
    });
}

fn time_is_real() {
    free(1, || {
        let start = Instant::now();
        unsafe { KeDelayExecutionThread(0, 0, &mut crate::ms(20)) };
        assert!(start.elapsed() >= Duration::from_millis(20));
        let start = Instant::now();
        unsafe { KeStallExecutionProcessor(300) };
        assert!(start.elapsed() >= Duration::from_micros(300));
        let before = sched::now();
        thread::sleep(Duration::from_millis(2));
        assert!(sched::now() - before >= 2_000_000);
    });
}

fn counting(hits: &Arc<AtomicU32>) -> Interrupt {
    let hits = hits.clone();
    Interrupt {
        irql: 8,
        vector: 1,
        service: Arc::new(move || {
            hits.fetch_add(1, SeqCst);
        }),
    }
}

fn another_processors_interrupt_is_taken() {
    free(2, || {
        let hits = Arc::new(AtomicU32::new(0));
        let other = 1 - sched::current_processor();
        sched::request_interrupt(other, counting(&hits));
        sched::switch_point(Point::Routine);
        assert_eq!(hits.load(SeqCst), 1);
    });
}

/// A device on a thread of its own, which interrupts each time it is told to.
#[derive(Default)]
struct Device {
    news: AtomicBool,
    hits: Arc<AtomicU32>,
}

impl InterruptSource for Device {
    fn poll(&self, _: u64) {
        if self.news.swap(false, SeqCst) {
            sched::request_interrupt(0, counting(&self.hits));
        }
    }

    fn next_event(&self) -> Option<u64> {
        None
    }

    fn is_external(&self) -> bool {
        true
    }

    fn has_news(&self) -> bool {
        self.news.load(SeqCst)
    }

    fn wait(&self, limit: Duration) -> Waited {
        let start = Instant::now();
        while !self.has_news() && start.elapsed() < limit {
            thread::yield_now();
        }
        Waited {
            happened: self.has_news(),
            elapsed: start.elapsed(),
        }
    }
}

fn a_thread_of_the_host_ends_idleness() {
    free(1, || {
        let device = Arc::new(Device::default());
        let hits = device.hits.clone();
        sched::set_interrupt_source(device.clone());
        let host = thread::spawn(move || {
            for round in 0..50 {
                thread::sleep(Duration::from_micros(200));
                device.news.store(true, SeqCst);
                while device.hits.load(SeqCst) == round {
                    thread::yield_now();
                }
            }
        });
        while hits.load(SeqCst) < 50 {
            unsafe { KeDelayExecutionThread(0, 0, &mut crate::ms(1)) };
        }
        host.join().unwrap();
        assert!(counters().interrupts.get() >= 50);
    });
}

fn nothing_is_noted() {
    free(1, || {
        machine_nt::enter("KeSomething", 0);
        assert!(trace::events().is_empty());
    });
}
