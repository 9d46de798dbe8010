//! The state of the scheduler, and its decisions. Nothing here runs code of a driver.

use super::choices::Chooser;
use super::policy::Candidate;
use super::processor::{Dpc, Processor, Work};
use super::time::{Clock, Deadline};
use super::watchdog::Watchdog;
use super::{DISPATCH_LEVEL, InterruptSource, PASSIVE_LEVEL, Point};
use crate::bugcheck::{Stop, stop_machine};
use crate::counters;
use crate::ke::timer::Timers;
use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

/// The number of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreadId(pub u32);

/// What a thread is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A thread of the system process: kernel code only.
    System,
    /// A thread of the simulated program: enters the kernel by system calls.
    User,
    /// What a processor does when it has no thread.
    Idle,
}

/// Where something happened.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Virtual time, ns.
    pub time: u64,
    /// Processor.
    pub processor: usize,
    /// Thread on it.
    pub thread: ThreadId,
    /// Its IRQL.
    pub irql: u8,
}

/// State of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Ready,
    Running,
    Waiting,
    Terminated,
}

#[derive(Debug)]
pub(crate) struct Thread {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) state: State,
    /// IRQL to go on at, while it is off its processor.
    pub(crate) irql: u8,
    /// Address of its KTHREAD.
    pub(crate) object: usize,
    pub(crate) wait: Option<crate::ke::wait::Wait>,
    /// Result of the last wait.
    pub(crate) wait_status: i32,
    /// Depth of KeEnterCriticalRegion.
    pub(crate) critical_regions: u32,
    /// Mutexes owned.
    pub(crate) mutexes: u32,
    pub(crate) priority: i32,
}

/// The state of the simulated kernel that the scheduler decides by.
pub(crate) struct Kernel {
    pub(crate) processors: Vec<Processor>,
    pub(crate) threads: Vec<Thread>,
    /// Threads that could run, in order of readiness.
    pub(crate) ready: VecDeque<ThreadId>,
    /// Threads that wait, in the order in which they began to.
    pub(crate) waiters: Vec<ThreadId>,
    pub(crate) timers: Timers,
    /// The processor that runs now.
    pub(crate) current: usize,
    pub(crate) clock: Clock,
    pub(super) chooser: Chooser,
    pub(super) source: Option<Arc<dyn InterruptSource>>,
    pub(super) polling: bool,
    pub(super) polls_skipped: u32,
    pub(super) idle_limit: Duration,
    pub(super) watchdog: Watchdog,
    pub(super) idle_for: Duration,
    /// When a thread (no idle loop) was last let run.
    pub(super) last_thread: u64,
    pub(super) fiber_stack: usize,
    /// Machines that run freely: switch points since the last decision.
    pub(super) unbroken: u32,
    /// Reused for every decision.
    pub(super) scratch: Vec<Candidate>,
    /// The thread to resume next, once the running fiber has suspended.
    pub(super) chosen: Option<ThreadId>,
}

static KERNEL: Mutex<Option<Box<Kernel>>> = Mutex::new(None);

/// Runs `f` on the state. `f` must not call anything that passes a switch point or stops the machine.
pub(crate) fn with<R>(f: impl FnOnce(&mut Kernel) -> R) -> R {
    try_with(f).unwrap_or_else(|| {
        stop_machine(
            Stop::Internal,
            "a kernel routine was called while no machine runs, or from inside the scheduler",
        )
    })
}

/// As [`with`]; None when no machine runs or the state is in use.
pub(crate) fn try_with<R>(f: impl FnOnce(&mut Kernel) -> R) -> Option<R> {
    match KERNEL.try_lock() {
        Ok(mut guard) => guard.as_deref_mut().map(f),
        Err(TryLockError::Poisoned(_) | TryLockError::WouldBlock) => None,
    }
}

pub(super) fn install(kernel: Option<Kernel>) {
    if let Ok(mut guard) = KERNEL.lock() {
        *guard = kernel.map(Box::new);
    }
}

impl Kernel {
    /// The processor that runs now.
    pub(crate) fn here(&mut self) -> &mut Processor {
        &mut self.processors[self.current]
    }

    pub(crate) fn thread(&mut self, id: ThreadId) -> &mut Thread {
        &mut self.threads[id.0 as usize]
    }

    /// The thread on the processor that runs now.
    pub(crate) fn current_thread(&mut self) -> &mut Thread {
        let id = self.here().current;
        self.thread(id)
    }

    pub(super) fn add_thread(&mut self, name: String, kind: Kind, state: State) -> ThreadId {
        let id = ThreadId(self.threads.len() as u32);
        self.threads.push(Thread {
            name,
            kind,
            state,
            irql: PASSIVE_LEVEL,
            object: 0,
            wait: None,
            wait_status: 0,
            critical_regions: 0,
            mutexes: 0,
            priority: 8,
        });
        id
    }

    /// Makes a thread ready to run.
    pub(crate) fn make_ready(&mut self, id: ThreadId) {
        self.thread(id).state = State::Ready;
        self.ready.push_back(id);
    }

    /// What the current processor has to do at its IRQL before anything else.
    pub(super) fn take_work(&mut self) -> Option<Work> {
        let due = self.clock.is_due();
        let processor = self.here();
        if let Some(interrupt) = processor.take_interrupt() {
            return Some(Work::Interrupt(interrupt));
        }
        let dispatch = due || !processor.dpcs.is_empty();
        (processor.irql < DISPATCH_LEVEL && dispatch).then_some(Work::Dispatch)
    }

    pub(super) fn take_dpc(&mut self) -> Option<Dpc> {
        let processor = self.here();
        let dpc = processor.dpcs.pop_front()?;
        processor.active_dpc = Some(dpc.object);
        Some(dpc)
    }

    pub(super) fn expire(&mut self, deadline: Deadline) {
        match deadline {
            Deadline::Timer(timer) => crate::ke::timer::expire(self, timer),
            Deadline::Wait(thread) => crate::ke::wait::time_out(self, thread),
        }
    }

    /// Whether a processor has something to run, leaving ready threads aside.
    fn is_runnable(&self, index: usize) -> bool {
        let p = &self.processors[index];
        if p.has_interrupt() {
            return true;
        }
        if p.is_idle() {
            return !p.dpcs.is_empty() || self.clock.is_due();
        }
        p.spinning_on.is_none_or(crate::ke::spinlock::is_free)
    }

    pub(super) fn anything_runnable(&self) -> bool {
        (0..self.processors.len()).any(|p| {
            self.is_runnable(p) || (self.processors[p].is_idle() && !self.ready.is_empty())
        })
    }

    /// Everything that can go on: what runs now if `stay`, other processors, then every ready thread, in order of
    /// readiness, on every processor that would take one.
    fn candidates(&mut self, stay: bool) -> Vec<Candidate> {
        let mut list = std::mem::take(&mut self.scratch);
        list.clear();
        let count = self.processors.len();
        for index in (0..count).map(|i| (self.current + i) % count) {
            if (stay && index == self.current) || self.is_runnable(index) {
                list.push(Candidate {
                    processor: index,
                    thread: self.processors[index].current,
                    dispatch: false,
                });
            }
        }
        for &thread in &self.ready {
            for processor in (0..count).map(|i| (self.current + i) % count) {
                if self.processors[processor].irql < DISPATCH_LEVEL {
                    list.push(Candidate {
                        processor,
                        thread,
                        dispatch: true,
                    });
                }
            }
        }
        list
    }

    /// Asks the policy; None if nothing can go on.
    fn choose(&mut self, point: Point, stay: bool) -> Option<Candidate> {
        let candidates = self.candidates(stay);
        let index = match candidates.len() {
            0 | 1 => 0,
            _ => self.chooser.choose(point, stay, &candidates),
        };
        let chosen = candidates.get(index).copied();
        self.scratch = candidates;
        chosen
    }

    /// Decides who goes on; returns whether the current fiber has to suspend for it.
    pub(super) fn decide(&mut self, point: Point) -> bool {
        let here = self.here();
        let stay = here.spinning_on.is_none_or(crate::ke::spinlock::is_free) && !here.is_idle();
        let now = Candidate {
            processor: self.current,
            thread: self.here().current,
            dispatch: false,
        };
        match self.choose(point, stay) {
            Some(chosen) if stay && chosen == now => false,
            Some(chosen) => {
                counters().switches.increment();
                self.apply(chosen);
                true
            }
            None => true,
        }
    }

    /// For the run loop: the thread to resume after one has suspended; None when nothing can run.
    pub(super) fn next(&mut self) -> Option<ThreadId> {
        if let Some(thread) = self.chosen.take() {
            return Some(thread);
        }
        let chosen = self.choose(Point::Yield, false)?;
        self.apply(chosen);
        self.chosen.take()
    }

    /// Puts a candidate on its processor and makes that processor the one that runs.
    fn apply(&mut self, candidate: Candidate) {
        self.current = candidate.processor;
        if candidate.dispatch {
            self.ready.retain(|&t| t != candidate.thread);
            self.preempt();
            self.put_on(candidate.thread);
        }
        let (current, idle) = (self.here().current, self.here().idle);
        if current != idle {
            self.last_thread = self.clock.now();
        }
        self.chosen = Some(current);
    }

    /// Takes the thread off the current processor; it stays ready.
    fn preempt(&mut self) {
        let (irql, id, idle) = (self.here().irql, self.here().current, self.here().idle);
        let thread = self.thread(id);
        thread.irql = irql;
        if id != idle {
            thread.state = State::Ready;
            self.ready.push_back(id);
        }
    }

    fn put_on(&mut self, id: ThreadId) {
        let thread = self.thread(id);
        thread.state = State::Running;
        let irql = thread.irql;
        let processor = self.here();
        processor.current = id;
        processor.irql = irql;
    }

    /// Takes the current thread off its processor, which is left to its idle thread. The caller then suspends the
    /// fiber with [`super::switch_away`].
    pub(crate) fn leave(&mut self, state: State) {
        let irql = self.here().irql;
        let thread = self.current_thread();
        thread.irql = irql;
        thread.state = state;
        let idle = self.here().idle;
        self.put_on(idle);
    }

    pub(super) fn dump(&mut self, out: &mut dyn Write) {
        let micros = self.clock.now() / 1000;
        let _ = writeln!(out, "virtual time {micros} us");
        for (index, p) in self.processors.iter().enumerate() {
            let marker = if index == self.current { '>' } else { ' ' };
            let thread = &self.threads[p.current.0 as usize];
            let _ = write!(
                out,
                "{marker} cpu{index}: IRQL {}, t{} {}",
                p.irql, p.current.0, thread.name
            );
            if let Some(dpc) = p.active_dpc {
                let _ = write!(out, ", in DPC {dpc:#x}");
            }
            if let Some(lock) = p.spinning_on {
                let _ = write!(out, ", spins for {}", crate::ke::spinlock::describe(lock));
            }
            if !p.dpcs.is_empty() {
                let _ = write!(out, ", queued {:?}", p.dpcs);
            }
            if !p.pending().is_empty() {
                let _ = write!(out, ", pending {:?}", p.pending());
            }
            let _ = writeln!(out);
        }
        for (index, t) in self.threads.iter().enumerate() {
            if t.kind == Kind::Idle || t.state == State::Terminated {
                continue;
            }
            let _ = write!(
                out,
                "  t{index} {} ({:?} thread): {:?}",
                t.name, t.kind, t.state
            );
            if let Some(wait) = &t.wait {
                let _ = write!(out, ", waits for {wait}");
            }
            let _ = writeln!(out);
        }
        for (due, deadline) in self.clock.pending() {
            let micros = due / 1000;
            let _ = writeln!(out, "  due at {micros} us: {deadline:?}");
        }
    }
}
