//! Memory: MDLs, mappings, contiguous memory, and which memory is a user's.

pub(crate) mod contiguous;
pub(crate) mod map;
pub(crate) mod mdl;
mod user;

pub use mdl::{Frames, frames, probe_and_lock};
pub use user::{is_user, register_user_range, unregister_user_range};

use crate::bugcheck::{Stop, stop_machine};
use machine_bus::PhysicalMemory;
use std::sync::{Arc, OnceLock};

static MEMORY: OnceLock<Arc<PhysicalMemory>> = OnceLock::new();

/// Gives the machine its RAM. The first call wins; before it, nothing can be allocated from the pool.
pub fn set_memory(memory: Arc<PhysicalMemory>) {
    let _ = MEMORY.set(memory);
}

/// The machine's RAM.
pub fn memory() -> Arc<PhysicalMemory> {
    match MEMORY.get() {
        Some(memory) => memory.clone(),
        None => stop_machine(Stop::Internal, "the machine has no RAM yet"),
    }
}

/// Bytes in a page, as a driver knows them.
pub(crate) const PAGE: usize = machine_bus::PAGE_SIZE;
