//! The card as a vfio-user server: its model behind a socket, for QEMU 10.1 or newer and other clients.
//!
//! The client's memory is mapped; the card moves data on a thread of its own, while the socket's thread answers register
//! accesses. `docs/qemu.md` says how to plug it in.

#![forbid(unsafe_code)]

mod interrupts;
mod memory;
mod server;

pub use server::{ServeError, Server};
