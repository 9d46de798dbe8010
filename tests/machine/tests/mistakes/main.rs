//! Mistakes that drivers make, each by a driver that makes it, and how the machine stops. Where a mistake is one of missing
//! care, a driver that takes it stands beside, and passes.
//!
//! | | mistake | in |
//! |---|---|---|
//! | M1 | the request is completed before the transaction | dma |
//! | M2 | "more to do" is taken for an error | dma |
//! | M3 | something is touched that a completion inside Execute or DmaCompleted has ended | order |
//! | M4 | a lock is held that programming takes as well | order |
//! | M5 | the length is read after Release | order |
//! | M7 | a maximum length that is none, or comes too early | dma |
//! | M8 | Execute without Initialize, Initialize twice | dma |
//! | M9 | version 3 is relied upon and was not asked for | order |
//! | M10 | two contenders end one request | owners |
//! | M11 | one interrupt is taken for one completion | interrupts |
//! | M12 | an interrupt is claimed that is another device's | interrupts |
//! | M13 | a cause is taken by the DPC without the lock of the service routine | interrupts |
//! | M14 | addresses are cut short, or a profile is too wide | dma |
//! | M15 | the device is given a physical address | dma |
//! | M18 | requests are not ended or kept when power goes | life |
//! | M19 | all ones are taken for a status | life |
//! | M20 | memory is released while the device still uses it | owners |
//! | M25 | requests of no bytes, or beyond the device's memory | dma |
//! | M26 | a callback panics | life |

#![allow(
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "faulty drivers"
)]

mod dma;
mod interrupts;
mod life;
mod order;
mod owners;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;

use harness::Suite;

/// WDF_VIOLATION and its first parameters.
const WDF_VIOLATION: u32 = 0x10D;
const RECURSIVE_LOCK: u64 = 2;
const REQUEST_BUSY: u64 = 3;
const INVALID_HANDLE: u64 = 5;
const DMA_STATE: u64 = 8;
/// DRIVER_VERIFIER_DMA_VIOLATION, and its first parameter for what an IOMMU stops.
const DMA_VIOLATION: u32 = 0xE6;
const IOMMU_FAULT: u64 = 0x26;
/// KMODE_EXCEPTION_NOT_HANDLED, and STATUS_ACCESS_VIOLATION as its first parameter.
const UNHANDLED: u32 = 0x1E;
const ACCESS_VIOLATION: u64 = 0xffff_ffff_c000_0005;

fn main() -> ExitCode {
    [
        dma::tests,
        order::tests,
        owners::tests,
        interrupts::tests,
        life::tests,
    ]
    .into_iter()
    .fold(Suite::new(), |suite, tests| tests(suite))
    .main()
}
