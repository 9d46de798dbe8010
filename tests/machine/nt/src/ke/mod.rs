//! Kernel core: IRQL, spin locks, dispatcher objects, DPCs, timers, threads.

pub(crate) mod dpc;
pub(crate) mod event;
pub mod interrupt;
pub(crate) mod irql;
mod object;
pub mod spinlock;
pub mod stack;
pub(crate) mod thread;
pub(crate) mod timer;
pub(crate) mod wait;
