//! Schedules: who goes on at switch points, and runs that start from one state of a machine.

use machine_bus::MemoryError;
use machine_nt::sched::policy::{Pct, Policy, Random, RoundRobin};
use machine_nt::sched::{self, Choices};
use machine_nt::trace::{self, Summary};
use machine_pe::trap::{self, TrapError};
use thiserror::Error;

use crate::machine::Machine;

/// The kinds of schedules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PolicyKind {
    /// Everybody in turn, for stretches of random length. Devices take the time they usually take, and interrupts go to
    /// the first processor: for tests that are not about schedules.
    #[default]
    RoundRobin,
    /// Another one at random; devices take any time, and interrupts go to any processor that may have them.
    Random,
    /// As [`PolicyKind::Random`], but by priorities that change at few points.
    Pct {
        /// Points in time that have to come in the right order for a race to show: one more than there are changes.
        depth: u32,
        /// Choices in a run, roughly.
        length: u64,
    },
}

impl PolicyKind {
    /// The schedule of `seed`.
    pub(crate) fn policy(self, seed: u64) -> Box<dyn Policy> {
        match self {
            Self::RoundRobin => Box::new(RoundRobin::new(seed)),
            Self::Random => Box::new(Random::new(seed)),
            Self::Pct { depth, length } => Box::new(Pct::new(seed, depth, length)),
        }
    }
}

/// What a run was, for comparing it with others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Course {
    /// What was chosen.
    pub choices: Choices,
    /// What happened.
    pub events: Summary,
}

/// Which of two processes this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forked {
    /// The one that called; the other one's process identifier.
    Parent(u32),
    /// The new one.
    Child,
}

/// Why a machine cannot be forked.
#[derive(Debug, Error)]
pub enum ForkError {
    /// A board outside this process has one state and one memory only.
    #[error("a machine with a device outside its process cannot be forked")]
    External,
    /// Other threads would be missing in the new process.
    #[error("a process with {0} threads cannot be forked")]
    Threads(usize),
    /// Guest RAM cannot be copied.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Common buffers cannot be watched in the new process.
    #[error(transparent)]
    Watch(#[from] TrapError),
    /// The system refuses.
    #[error("cannot fork")]
    System(#[from] std::io::Error),
}

impl Machine {
    /// Makes another process that goes on from here, with guest RAM of its own. The caller's locks, open files and
    /// buffered output are there twice.
    ///
    /// # Errors
    /// See [`ForkError`]. In the new process only those of memory.
    pub fn fork(&self) -> Result<Forked, ForkError> {
        let board = self.board();
        if board.iommu().is_none() {
            return Err(ForkError::External);
        }
        let threads = std::fs::read_dir("/proc/self/task")?.count();
        if threads != 1 {
            return Err(ForkError::Threads(threads));
        }
        // SAFETY: there is no other thread, so all state is complete in the new process.
        match unsafe { libc::fork() } {
            -1 => Err(std::io::Error::last_os_error().into()),
            0 => {
                board.memory().detach()?;
                trap::watch_again()?;
                Ok(Forked::Child)
            }
            child => Ok(Forked::Parent(child.cast_unsigned())),
        }
    }

    /// Has another schedule decide from now on, and takes account of the run from here. A run that passes more switch
    /// points than `limit` stops the machine.
    pub fn set_schedule(&self, kind: PolicyKind, seed: u64, limit: Option<u64>) {
        trace::reset();
        sched::set_policy(kind.policy(seed), limit);
    }
}

/// How long (ns) from now a device in this process does something, if it will by itself.
#[must_use]
pub fn next_device_event() -> Option<u64> {
    let event = machine_hal::interrupt::controller().board().next_event()?;
    Some(event.saturating_sub(sched::now()))
}

/// The run since [`Machine::set_schedule`]. Also while the machine stops.
#[must_use]
pub fn course() -> Course {
    Course {
        choices: sched::choices().unwrap_or_default(),
        events: trace::summary().unwrap_or_default(),
    }
}
