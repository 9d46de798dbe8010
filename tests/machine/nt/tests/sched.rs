//! The scheduler as a whole: threads take turns, interrupts arrive, the machine ends.

use machine_nt::sched::{self, Config, Interrupt, Kind, Point};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

fn turns(seed: u64) -> Vec<usize> {
    sched::run(Config::with_seed(seed), || {
        let log = Rc::new(RefCell::new(Vec::new()));
        for name in 0..3 {
            let log = log.clone();
            sched::spawn("worker", Kind::System, move || {
                for _ in 0..100 {
                    log.borrow_mut().push(name);
                    sched::switch_point(Point::Routine);
                }
            });
        }
        while log.borrow().len() < 300 {
            sched::switch_point(Point::Yield);
        }
        log.take()
    })
}

fn main() {
    let first = turns(1);
    assert_eq!(first, turns(1), "the same seed makes the same run");
    assert_ne!(first, turns(2), "another seed makes another");

    let hits = Arc::new(AtomicU32::new(0));
    let seen = hits.clone();
    sched::run(Config::default(), move || {
        let service = Arc::new(move || {
            assert_eq!(sched::irql(), 8);
            hits.fetch_add(1, SeqCst);
        });
        let interrupt = Interrupt {
            irql: 8,
            vector: 1,
            service,
        };
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
