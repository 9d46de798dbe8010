//! The simulated kernel: processors, threads, IRQL, DPCs, timers, pool, MDLs, IRPs, bug checks.
//!
//! - [`sched`]: fibers on one operating-system thread, simulated processors, virtual time, interrupts;
//! - [`exports`]: the kernel routines, by their Windows names and with the Windows x64 calling convention;
//! - [`hal`]: those of them that live in the HAL crate, and the table through which they are reached;
//! - [`instrumented`]: what an image built to call out at atomic operations calls;
//! - [`bugcheck`]: how the machine stops;
//! - [`counters`]: what is counted;
//! - [`failure`]: what fails on demand.

#![allow(non_snake_case)]

pub mod bugcheck;
pub mod counters;
pub mod dbg;
pub mod digest;
pub mod entry;
pub mod ex;
pub mod exports;
pub mod failure;
pub mod gate;
pub mod hal;
mod image;
pub mod instrumented;
pub mod io;
pub mod ke;
pub mod mm;
pub mod mode;
pub mod ob;
pub mod registry;
mod rtl;
pub mod sched;
mod support;
pub mod trace;

pub use counters::{Counter, Counters, counters};
pub use entry::{enter, enter_with};
