//! The user-mode program: the same code on Windows and on the machine.
//!
//! [`Device`] is the seam. On Windows it is a device interface opened for overlapped I/O; elsewhere it is the same
//! set of calls on a machine that has been started for the purpose. What the subcommands do is written once,
//! against the trait, and tested against a device in memory as well.

pub mod cli;
pub mod copy;
#[cfg(not(windows))]
pub mod demo;
pub mod device;
pub mod error;
pub mod exit;
#[cfg(test)]
mod fake;
pub mod fleet;
pub mod info;
pub mod latency;
#[cfg(not(windows))]
pub mod machine_device;
pub mod mode;
pub mod pattern;
pub mod place;
pub mod progress;
pub mod shadow;
pub mod sizes;
pub mod stream;
pub mod stress;
pub mod tally;
#[cfg(any(windows, test))]
mod thread;
pub mod verify;
#[cfg(windows)]
pub mod windows;

pub use device::{Device, Direction, Done, query_info, query_statistics};
pub use error::{Error, Win32Error};
pub use mode::{query_mode, set_mode};
