//! Switch points of a machine that runs freely: what came in is taken, and who runs goes on running.
//!
//! Simulated processors still share one operating-system thread. One gives way when it waits or spins, when another has
//! an interrupt to take, and after a [`QUANTUM`], as a thread of Windows loses its processor after a time slice.

use super::state::{Kernel, with};
use super::{Point, fiber, idle, service};
use crate::counters;

/// Switch points that a thread may pass while another could run.
const QUANTUM: u32 = 1024;

/// Passes a switch point.
pub(super) fn pass(point: Point) {
    counters().switch_points.increment();
    idle::poll();
    service();
    if with(|k| k.gives_way(point) && k.decide(Point::Yield)) {
        fiber::suspend();
        service();
    }
}

/// Keeps the processor for `ns` of real time.
pub(super) fn stall(ns: u64) {
    let end = with(|k| k.clock.now()) + ns;
    while with(|k| k.clock.now()) < end {
        pass(Point::Stall);
        std::hint::spin_loop();
    }
}

impl Kernel {
    fn gives_way(&mut self, point: Point) -> bool {
        self.unbroken += 1;
        let current = self.current;
        let mut others = self.processors.iter().enumerate();
        let gives_way = matches!(point, Point::Spin | Point::Stall | Point::Yield)
            || self.unbroken > QUANTUM
            || others.any(|(index, p)| index != current && p.has_interrupt());
        if gives_way {
            self.unbroken = 0;
        }
        gives_way
    }
}
