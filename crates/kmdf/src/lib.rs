//! Safe Rust over the KMDF objects that a DMA driver uses.
//!
//! The framework's own rules become types, so that what it would answer with a bug check does not compile:
//!
//! - a [`dma::Transaction`] is in one of four states, and each call exists in the states that allow it;
//! - a [`Request`] is a value that completing consumes; one that nobody completes is completed with an error when it is
//!   dropped, so that no caller waits for ever;
//! - a device's context is one typed value ([`context_type!`]), and a driver's callbacks are methods of it: they get
//!   `&self`, run on several processors at once, and so cannot share anything that is not made for it;
//! - an [`Interrupt`]'s service routine says what it found, and the deferred call follows from that;
//! - [`Mmio`] registers are reached through the width and in the direction their constants say, inside a window whose
//!   bounds the compiler has checked, and every read is checked for a device that has gone.
//!
//! # Layers
//!
//! [`status`], [`mmio`], [`slot`], [`turn`] and [`rundown`] are plain Rust: they hold what is worth testing alone, and
//! their tests run on any host, the last three under loom as well. Everything else calls the framework and exists for
//! Windows targets only.
//!
//! # How long objects live
//!
//! Queues, interrupts, enablers and transactions are children of their device, and the framework deletes them with it.
//! None is deleted here. A driver keeps them in the device's context, which goes last of all; kept anywhere else, say in
//! a static variable, a handle would outlive its object.
//!
//! # Hardly any locks
//!
//! There is no interrupt lock here, because nothing needs one: what an interrupt service routine tells others it tells by
//! atomics. The framework may call back before one of its functions returns, and a lock held across such a call would be a
//! deadlock: so requests and transactions change hands by the atomics of a [`slot`], and what one at a time has to do
//! waits for nobody ([`turn`]). A [`spinlock::SpinLock`] is for what several processors put into one ring, and for nothing
//! that calls the framework. A [`wait_lock::WaitLock`] is for threads that may wait, and for nothing that a queue's handler
//! or a deferred call has to get through.
//!
//! # No unwinding, no panics
//!
//! Callbacks are `extern "C"` and no code path here or in the release image of the driver can panic: the image does
//! not even import `KeBugCheckEx`, which the panic handler calls.
#![no_std]

#[cfg(windows)]
extern crate alloc;
#[cfg(any(test, loom))]
extern crate std;

pub mod mmio;
pub mod pace;
pub mod rundown;
pub mod slot;
pub mod status;
mod sync;
pub mod turn;
pub mod unicode;

pub use mmio::{DeviceGone, Mmio};
pub use registers;
pub use status::{NtStatus, Result};

#[cfg(windows)]
pub mod bus;
#[cfg(windows)]
pub mod clock;
#[cfg(windows)]
pub mod context;
#[cfg(windows)]
mod ddi;
#[cfg(windows)]
pub mod device;
#[cfg(windows)]
pub mod dma;
#[cfg(windows)]
pub mod driver;
#[cfg(windows)]
pub mod file;
#[cfg(windows)]
pub mod interrupt;
#[cfg(windows)]
pub mod io_space;
#[cfg(windows)]
pub mod log;
#[cfg(windows)]
pub mod queue;
#[cfg(windows)]
pub mod request;
#[cfg(windows)]
pub mod resources;
#[cfg(windows)]
pub mod spinlock;
#[cfg(windows)]
pub mod thread;
#[cfg(windows)]
pub mod timer;
#[cfg(windows)]
mod versioned;
#[cfg(windows)]
pub mod wait_lock;
#[cfg(windows)]
pub mod work_item;

#[cfg(windows)]
pub use {
    device::{Device, DeviceInit},
    interrupt::Interrupt,
    io_space::IoSpace,
    queue::Queue,
    request::Request,
    timer::Timer,
    work_item::WorkItem,
};
