//! Loads the driver's PE image and traps its register accesses.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod stop;
pub mod trap;

pub use stop::set_stop_hook;
