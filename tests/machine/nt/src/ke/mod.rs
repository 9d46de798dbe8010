//! Kernel core: IRQL, spin locks, dispatcher objects, DPCs, timers, threads.

pub(crate) mod spinlock;
pub mod stack;
pub mod thread;
pub(crate) mod wait;
