//! The handle by which faults are armed.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use super::board::Core;
use super::plan::{Fault, FaultPlan};
use crate::BoardError;

/// Arms faults of a [`super::FaultyBoard`] while the machine runs.
#[derive(Clone)]
pub struct Shim(pub(super) Arc<Core>);

/// A fault that has struck.
#[derive(Clone, Debug)]
pub struct Fired {
    /// The board's time in nanoseconds, as of its last poll.
    pub time: u64,
    /// Accesses to the function's registers before, the one it happened to included.
    pub accesses: u64,
    /// Which fault, as it was armed.
    pub fault: Fault,
    /// What it did.
    pub what: String,
}

impl fmt::Display for Fired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (micros, nanos) = (self.time / 1000, self.time % 1000);
        write!(
            f,
            "fault {} at {micros}.{nanos:03} us, access {}: {}",
            self.fault, self.accesses, self.what
        )
    }
}

/// Why a fault was not armed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ShimError {
    /// It happens to commands, and the shim was not told what a command of this device is.
    #[error("{fault}: it is not known what a command of this device looks like")]
    NoEngine {
        /// The fault.
        fault: Fault,
    },
    /// It was to strike at once, and the board could not be reached.
    #[error(transparent)]
    Board(#[from] BoardError),
}

impl Shim {
    /// Arms a fault. One that needs no opportunity and is for now strikes before this returns; what it does to
    /// interrupts is reported by the next poll.
    pub fn arm(&self, fault: Fault) -> Result<(), ShimError> {
        self.0.act(|state, inner| {
            if fault.kind.needs_engine() && state.engine.is_none() {
                return Err(ShimError::NoEngine { fault });
            }
            state.arsenal.arm(fault);
            Ok(state.strike(inner)?)
        })
    }

    /// Arms all faults of a plan, or those before the first that cannot be armed.
    pub fn arm_plan(&self, plan: &FaultPlan) -> Result<(), ShimError> {
        plan.faults.iter().try_for_each(|fault| self.arm(*fault))
    }

    /// Disarms what has not struck yet. What has struck goes on: a hang hangs, a late interrupt arrives.
    pub fn disarm(&self) {
        self.0.lock().arsenal.disarm();
    }

    /// Disarms all faults, and ends a command that hangs as if the device had been reset: it has moved nothing, and says
    /// nothing. A function that is off the bus stays so.
    pub fn heal(&self) {
        let mut state = self.0.lock();
        state.arsenal.disarm();
        state.heal();
    }

    /// Names who is told of each fault when it has struck. The first one stays. It is called in the middle of an access to
    /// the board, so it may do no more than take note.
    pub fn on_fired(&self, tell: fn(&Fired)) {
        self.0.told.get_or_init(|| tell);
    }

    /// How many faults are armed and may still strike.
    pub fn armed(&self) -> usize {
        self.0.lock().arsenal.len()
    }

    /// How often faults have struck.
    pub fn total(&self) -> u64 {
        self.0.lock().total
    }

    /// The faults that have struck, the oldest first; only the last 1024 are kept.
    pub fn fired(&self) -> Vec<Fired> {
        self.0.lock().fired.iter().cloned().collect()
    }

    /// As [`Shim::fired`], for one who may have come in the middle of an access: `None` if it is so.
    pub fn try_fired(&self) -> Option<Vec<Fired>> {
        Some(self.0.try_lock()?.fired.iter().cloned().collect())
    }

    /// Whether the function is still on the bus.
    pub fn is_up(&self) -> bool {
        self.0.lock().up
    }
}
