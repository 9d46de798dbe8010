//! A shim between a board and the machine, which makes a function of the board fail.
//!
//! It stands at the board's boundary and sees what a bus analyser sees: accesses to configuration space and
//! registers, and interrupts. So it works with any board and device, QEMU's included. Faults of commands and of DMA
//! need to know what a command is, which an [`crate::Engine`] says; the wrong address and the write after completion
//! then go where the device itself would reach, through the IOMMU if there is one.
//!
//! A fault does what a broken device, link or cable does and no more: it never writes outside guest RAM, nor while
//! bus mastering is off, nor does it know anything of the machine. An interrupt line may be shared: what happens to
//! it happens to all functions on it. Messages are known by the MSI capability; a function with MSI-X has none as far
//! as the shim can see.

mod agenda;
mod arsenal;
mod board;
mod dma;
mod interrupts;
mod plan;
mod shim;
mod state;
mod text;

pub use board::FaultyBoard;
pub use plan::{Corruption, Fault, FaultKind, FaultPlan, Moment};
pub use shim::{Fired, Shim, ShimError};
pub use text::PlanError;
