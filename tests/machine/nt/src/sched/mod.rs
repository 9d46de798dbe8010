//! The scheduler: simulated processors and threads as fibers on one operating-system thread.
//!
//! Everything that happens, happens between two *switch points*. At a switch point the processor that runs takes its
//! pending interrupts and DPCs (on the stack of the fiber they interrupt, at raised IRQL), and the [`policy`] may let
//! another processor or thread go on. Time is virtual, in ns since the start of the machine. In a machine that runs
//! freely ([`crate::mode`]) it is real, and whoever runs goes on running until it waits.
//!
//! No host lock may be held across a switch point: another fiber would wait for it on the same operating-system thread.

mod choices;
mod fiber;
mod free;
mod idle;
pub mod policy;
mod processor;
mod run;
mod state;
pub(crate) mod time;
mod watchdog;

pub use crate::ke::thread::{JoinHandle, spawn};
pub use choices::Choices;
use choices::Chooser;
pub use idle::{InterruptSource, Waited};
use policy::Policy;
pub(crate) use processor::Dpc;
pub use processor::{APC_LEVEL, DISPATCH_LEVEL, HIGH_LEVEL, Interrupt, PASSIVE_LEVEL};
pub use run::{Config, run};
pub(crate) use run::{abandon_current, start_thread};
pub(crate) use state::{Kernel, State, try_with, with};
pub use state::{Kind, Place, ThreadId};
pub use watchdog::Watchdog;

use crate::bugcheck;
use crate::counters;
use crate::ke::spinlock;
use crate::mode;
use processor::Work;
use std::fmt::Write;
use std::sync::Arc;

/// Where a switch point is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// A kernel routine or DDI.
    Routine,
    /// A register access of the driver.
    Register,
    /// A lock was taken or released.
    Lock,
    /// An atomic operation, or an access to a common buffer, of an instrumented driver.
    Memory,
    /// The processor spins for a lock.
    Spin,
    /// KeStallExecutionProcessor.
    Stall,
    /// The thread gives its turn away.
    Yield,
    /// The IRQL was lowered.
    Lower,
}

impl Point {
    /// Whether the caller waits for somebody else, who has to run.
    pub(crate) fn gives_way(self) -> bool {
        matches!(self, Self::Spin | Self::Stall | Self::Yield)
    }

    /// What passes of virtual time at such a point, ns: so a loop that polls gets to its end.
    fn cost(self) -> u64 {
        match self {
            Self::Register => 400,
            Self::Routine | Self::Lower => 60,
            Self::Lock | Self::Memory => 20,
            Self::Spin | Self::Yield => 50,
            Self::Stall => 0,
        }
    }
}

/// Passes a switch point: interrupts and DPCs that the IRQL allows are delivered here, on the caller's stack, and
/// another processor or thread may run before it returns. Outside a running machine it does nothing.
pub fn switch_point(point: Point) {
    if !fiber::on_fiber() {
        return;
    }
    if mode::is_free_running() {
        return free::pass(point);
    }
    counters().switch_points.increment();
    let endless = with(|k| {
        k.clock.advance(point.cost());
        k.chooser.passed += 1;
        k.chooser
            .limit
            .is_some_and(|limit| k.chooser.passed > limit)
    });
    if endless {
        run_does_not_end();
    }
    watchdog::check();
    idle::poll();
    service();
    if with(|k| k.decide(point)) {
        fiber::suspend();
        service();
    }
}

fn run_does_not_end() -> ! {
    // What is printed now may pass switch points itself.
    let limit = with(|k| k.chooser.limit.take()).unwrap_or_default();
    bugcheck::stop_machine(
        bugcheck::Stop::Endless,
        format!("{limit} switch points were passed, and the run is not at its end"),
    )
}

/// Delivers what the current processor may deliver at its IRQL: interrupts, then DPCs and due timers.
pub(crate) fn service() {
    while let Some(work) = with(|k| k.take_work()) {
        match work {
            Work::Interrupt(interrupt) => deliver(&interrupt),
            Work::Dispatch => retire(),
        }
    }
}

fn deliver(interrupt: &Interrupt) {
    let (before, spinning_on) = with(|k| {
        let processor = k.here();
        (
            std::mem::replace(&mut processor.irql, interrupt.irql),
            processor.spinning_on.take(),
        )
    });
    watchdog::begin(before);
    counters().interrupts.increment();
    crate::trace::record("interrupt", interrupt.vector);
    (interrupt.service)();
    let after = with(|k| {
        let processor = k.here();
        processor.spinning_on = spinning_on;
        std::mem::replace(&mut processor.irql, before)
    });
    if after != interrupt.irql {
        let parameters = [0x111, interrupt.vector, interrupt.irql.into(), after.into()];
        let explanation =
            "an interrupt service routine returned at another IRQL than it was called at";
        bugcheck::stop(
            bugcheck::code::DRIVER_VERIFIER_DETECTED_VIOLATION,
            parameters,
            explanation,
        );
    }
}

/// Runs due timers and the DPC queue of the current processor at DISPATCH_LEVEL.
fn retire() {
    let before = with(|k| std::mem::replace(&mut k.here().irql, DISPATCH_LEVEL));
    watchdog::begin(before);
    while let Some(deadline) = with(|k| k.clock.pop_due()) {
        with(|k| k.expire(deadline));
    }
    while let Some(dpc) = with(|k| k.take_dpc()) {
        watchdog::begin_dpc();
        counters().dpcs.increment();
        crate::trace::record("dpc", dpc.object as u64);
        (dpc.run)();
        with(|k| k.here().active_dpc = None);
        let after = irql();
        if after != DISPATCH_LEVEL {
            let explanation =
                format!("a DPC routine returned at IRQL {after}; it was called at DISPATCH_LEVEL");
            let parameters = [after.into(), DISPATCH_LEVEL.into(), 0, dpc.object as u64];
            bugcheck::stop(
                bugcheck::code::IRQL_UNEXPECTED_VALUE,
                parameters,
                explanation,
            );
        }
        if before < DISPATCH_LEVEL {
            spinlock::check_none_held("a DPC routine has returned");
        }
        service();
    }
    with(|k| k.here().irql = before);
}

/// Suspends the current thread, which the caller has taken off its processor, until it runs again.
pub(crate) fn switch_away() {
    fiber::suspend();
    service();
}

/// IRQL of the current processor; PASSIVE_LEVEL outside a running machine.
pub fn irql() -> u8 {
    try_with(|k| k.here().irql).unwrap_or(PASSIVE_LEVEL)
}

/// Sets the IRQL of the current processor and returns the old one, without any check and without delivering what
/// becomes deliverable: for layers that call driver code at a given IRQL. Lower with [`lower_irql`].
pub fn set_irql(irql: u8) -> u8 {
    with(|k| std::mem::replace(&mut k.here().irql, irql))
}

/// Lowers the IRQL of the current processor and delivers what was held off.
pub fn lower_irql(irql: u8) {
    set_irql(irql);
    switch_point(Point::Lower);
}

/// Runs `f` at `irql`, then goes back to the IRQL from before, which must not be higher.
pub fn at_irql<R>(irql: u8, f: impl FnOnce() -> R) -> R {
    let before = set_irql(irql);
    let result = f();
    lower_irql(before);
    result
}

/// The simulated processor the caller runs on.
pub fn current_processor() -> usize {
    try_with(|k| k.current).unwrap_or(0)
}

/// Number of simulated processors.
pub fn processor_count() -> usize {
    try_with(|k| k.processors.len()).unwrap_or(1)
}

/// The thread the caller runs on: the idle thread of the processor in an interrupt that came to an idle processor.
pub fn current_thread() -> ThreadId {
    try_with(|k| k.here().current).unwrap_or(ThreadId(0))
}

/// Virtual time, ns since the start of the machine.
pub fn now() -> u64 {
    try_with(|k| k.clock.now()).unwrap_or(0)
}

/// Lets virtual time pass on the current processor, as a stall does.
pub fn stall(ns: u64) {
    if mode::is_free_running() {
        return free::stall(ns);
    }
    with(|k| k.clock.advance(ns));
    switch_point(Point::Stall);
}

/// Where the caller is, for traces; None outside a running machine or while the scheduler itself is at work. What the
/// board does while nothing can run counts as the current processor's.
pub fn place() -> Option<Place> {
    try_with(|k| Place {
        time: k.clock.now(),
        processor: k.current,
        thread: k.here().current,
        irql: k.here().irql,
    })
}

/// Makes an interrupt pending at a processor. Callable from an [`InterruptSource`] and at any IRQL; it is delivered at
/// the next switch point of that processor at which its IRQL is lower.
pub fn request_interrupt(processor: usize, interrupt: Interrupt) {
    with(|k| {
        let processor = processor % k.processors.len();
        k.processors[processor].request(interrupt);
    });
}

/// Has another policy decide from now on, and counts its choices anew. A run that passes more switch points than `limit`
/// from here on is stopped.
pub fn set_policy(policy: Box<dyn Policy>, limit: Option<u64>) {
    with(|k| k.chooser = Chooser::new(policy, limit));
}

/// What the policy has chosen since it was set; `None` outside a running machine.
pub fn choices() -> Option<Choices> {
    try_with(|k| k.chooser.choices())
}

/// The processor that takes an interrupt which all those may take that `allowed` has a bit for, of which there is one
/// at least.
pub fn route(allowed: u64) -> usize {
    with(|k| {
        let there = allowed & ((1 << k.processors.len()) - 1);
        k.chooser.route(if there == 0 { allowed } else { there })
    })
}

/// How long (ns) a device takes this time for what usually takes it `usual`.
pub fn duration(usual: u64) -> u64 {
    with(|k| k.chooser.duration(usual))
}

/// Sets where interrupts come from. The machine polls it at switch points and waits for it when idle.
pub fn set_interrupt_source(source: Arc<dyn InterruptSource>) {
    with(|k| k.source = Some(source));
}

/// Prints processors, threads with what they wait for, and the last events: a part of every stop.
pub(crate) fn dump(out: &mut dyn Write) {
    if try_with(|k| k.dump(out)).is_none() {
        let _ = writeln!(
            out,
            "(no machine runs, or the scheduler itself was at work)"
        );
    }
    crate::trace::dump(out);
}
