//! The simulated kernel: processors, threads, IRQL, DPCs, timers, pool, MDLs, IRPs, bug checks.
//!
//! - [`sched`]: fibers on one operating-system thread, simulated processors, virtual time, interrupts;
//! - [`exports`]: the kernel routines, by their Windows names and with the Windows x64 calling convention;
//! - [`bugcheck`]: how the machine stops;
//! - [`counters`]: what is counted.

pub mod bugcheck;
mod counters;
pub mod ke;
pub mod sched;
pub mod trace;

pub use counters::{Counter, Counters, counters};
