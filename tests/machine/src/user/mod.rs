//! User mode: the calls a Windows program makes, on top of IRPs.

mod calls;
mod file;
mod memory;
mod object;
mod process;
mod request;
mod security;
mod status;
mod thread;

pub use file::{Completion, File, Overlapped, wait_any};
pub use memory::UserBuffer;
pub use process::Process;
pub use security::{Access, Descriptor, SddlError, Token};
pub use status::Win32Error;
pub use thread::{Thread, now, relinquish, sleep};
