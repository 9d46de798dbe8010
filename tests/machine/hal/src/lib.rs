//! DMA adapters, interrupts, memory-mapped registers, the bus drivers and the PnP manager.
//!
//! - [`dma`]: what `IoGetDmaAdapter` gives: map registers, bounce pages, scatter/gather lists, and the checks of Driver
//!   Verifier's DMA verification;
//! - [`interrupt`]: vectors, `IoConnectInterruptEx`, and the way from the board to service routines;
//! - the bus drivers, drivers like any other: [`pci`] enumerates the board's functions, ACPI what its firmware describes;
//! - [`pnp`]: the PnP manager, which finds drivers for devices and starts, stops, powers and removes them.
//!
//! Drivers reach all of it through the kernel routines of `machine_nt`, which forward here, and through IRPs and
//! DMA_OPERATIONS; [`install`] connects the two.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod acpi;
mod bus_driver;
mod bus_interface;
mod config;
pub mod dma;
pub mod interrupt;
mod irp;
mod mmio;
pub mod pci;
pub mod pnp;
mod pool;
mod resources;

use std::fmt;
use std::sync::Arc;

use machine_bus::{Board, MemoryError};
use machine_nt::bugcheck::{Stop, stop_machine};
use nt_sys::LARGE_INTEGER;

pub use config::Config;

/// The 64-bit number in a LARGE_INTEGER.
fn quad_part(value: LARGE_INTEGER) -> i64 {
    // SAFETY: all members of the union are plain numbers of the same 8 bytes.
    unsafe { value.QuadPart }
}

/// A LARGE_INTEGER of this number.
fn large_integer(value: i64) -> LARGE_INTEGER {
    LARGE_INTEGER { QuadPart: value }
}

/// Stops because of a defect of the machine.
fn stop_internal(text: impl fmt::Display) -> ! {
    stop_machine(Stop::Internal, text)
}

/// Sets up the HAL of a machine with this board: DMA, interrupts, and the routines of `machine_nt` that forward here.
///
/// # Errors
/// Guest memory has no room for the map registers.
pub fn install(config: Config, board: Arc<dyn Board>) -> Result<(), MemoryError> {
    dma::install(config, board.clone())?;
    pci::reset::install(config.device_reset);
    interrupt::install(&config, board);
    machine_nt::hal::set_hooks(pnp::hooks());
    Ok(())
}
