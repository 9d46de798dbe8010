//! Loads the driver's PE image and traps its accesses to registers and to watched memory.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod code;
pub mod image;
#[cfg(test)]
mod own_process;
mod stop;
pub mod trap;

pub use image::{Image, LoadError};
pub use stop::set_stop_hook;

use thiserror::Error;

const PAGE_SIZE: usize = 4096;

/// An operating system call failed.
#[derive(Debug, Error)]
#[error("cannot {action}")]
pub struct SystemError {
    action: &'static str,
    #[source]
    source: std::io::Error,
}

impl SystemError {
    /// For `map_err`: what was tried when the call failed.
    fn of<E: Into<std::io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self {
            action,
            source: error.into(),
        }
    }
}
