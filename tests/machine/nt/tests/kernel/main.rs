//! The kernel's routines in a running machine, each test in a process of its own.
//!
//! These tests are the driver: they hand the routines pointers to objects of their own, which live as long as they do.

#![allow(
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "every unsafe block calls kernel routines with objects of the test"
)]

mod dpc;
mod free;
mod io;
mod irql;
mod locks;
mod memory;
mod pool;
mod schedule;
mod waits;

use harness::Suite;
use machine_bus::{MemoryConfig, PhysicalMemory};
use machine_nt::sched::{self, Config};
use std::process::ExitCode;

fn main() -> ExitCode {
    let areas = [
        schedule::tests,
        free::tests,
        irql::tests,
        locks::tests,
        waits::tests,
        dpc::tests,
        pool::tests,
        memory::tests,
        io::tests,
    ];
    areas
        .into_iter()
        .fold(Suite::new(), |suite, area| area(suite))
        .main()
}

/// Runs `f` on the first thread of a machine with RAM.
fn machine(f: impl FnOnce() + 'static) {
    let memory = PhysicalMemory::new(&MemoryConfig::default()).unwrap();
    machine_nt::mm::set_memory(memory);
    sched::run(Config::default(), f);
}

/// An object of the test, zeroed, with an address that does not change.
fn object<T>() -> *mut T {
    Box::into_raw(Box::new(unsafe { std::mem::zeroed::<T>() }))
}

/// 100 ns units of a relative timeout in milliseconds.
fn ms(milliseconds: i64) -> nt_sys::LARGE_INTEGER {
    nt_sys::LARGE_INTEGER {
        QuadPart: -10_000 * milliseconds,
    }
}
