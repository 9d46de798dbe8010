//! Registers as inaccessible memory: every access faults, is carried out on a [`RegisterSpace`] and returns.
//!
//! The compiler folds volatile accesses into arithmetic instructions, so no list of `mov` forms is enough. The
//! faulting instruction is re-encoded with its memory operand replaced and run with the registers it was to run
//! with; what it means is left to the processor.
//!
//! The fault is handled on the stack of the code that faulted, a fiber's or a thread's, with no signal blocked:
//! [`RegisterSpace::done`] may switch to another fiber and come back later.

mod replay;
mod signal;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use thiserror::Error;

use crate::{PAGE_SIZE, SystemError};
pub use signal::{Exception, set_exception_hook, set_fault_hook};
pub use watch::{Watcher, bulk, unwatch, watch, watch_again};

/// What is behind a trapped range of memory.
///
/// `read` and `write` must not run code that accesses trapped memory, and must not switch fibers; `done` may do
/// both. None of them may unwind.
pub trait RegisterSpace: Send + Sync {
    /// The value of the register of `size` (1, 2, 4 or 8) bytes at `offset`.
    fn read(&self, offset: u64, size: u8) -> u64;

    /// Stores `value` to the register of `size` (1, 2, 4 or 8) bytes at `offset`.
    fn write(&self, offset: u64, size: u8, value: u64);

    /// The instruction is complete, and its result in the registers of the code that ran it: a switch point.
    fn done(&self);
}

/// Why a range cannot be trapped, or released.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrapError {
    /// A range of no bytes.
    #[error("a trapped range cannot be empty")]
    Empty,
    /// Watched memory consists of whole pages.
    #[error("{0:#x} is not the start of a page")]
    Unaligned(usize),
    /// [`map`] did not return this address, nothing is watched there, or it was released already.
    #[error("no trapped range starts at {0:#x}")]
    NotMapped(usize),
    /// An operating system call failed.
    #[error(transparent)]
    System(#[from] SystemError),
}

struct Region {
    length: usize,
    space: Arc<dyn RegisterSpace>,
}

static REGIONS: RwLock<BTreeMap<usize, Region>> = RwLock::new(BTreeMap::new());

/// Reserves `length` bytes of address space, page aligned, of which every access goes to `space`.
///
/// The pages around the range, and the rest of its last page, are not accessible either: an access there is a
/// fault like any other.
pub fn map(length: usize, space: Arc<dyn RegisterSpace>) -> Result<*mut u8, TrapError> {
    if length == 0 {
        return Err(TrapError::Empty);
    }
    signal::install()?;
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    let reservation = unsafe {
        mmap_anonymous(
            std::ptr::null_mut(),
            reserved(length),
            ProtFlags::empty(),
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )
    }
    .map_err(SystemError::of("reserve address space for registers"))?;
    let base = reservation.cast::<u8>().wrapping_add(PAGE_SIZE);
    REGIONS
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(base as usize, Region { length, space });
    Ok(base)
}

/// Releases the range that [`map`] returned as `base`. Accesses to it are then ordinary faults.
pub fn unmap(base: *mut u8) -> Result<(), TrapError> {
    let region = REGIONS
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .remove(&(base as usize))
        .ok_or(TrapError::NotMapped(base as usize))?;
    let reservation = base.wrapping_sub(PAGE_SIZE);
    // SAFETY: the reservation made in `map`, which nobody else knows.
    unsafe { munmap(reservation.cast(), reserved(region.length)) }
        .map_err(SystemError::of("release address space of registers"))?;
    Ok(())
}

/// The offset and the space behind a trapped address.
fn find(address: usize) -> Option<(u64, Arc<dyn RegisterSpace>)> {
    let regions = REGIONS.read().unwrap_or_else(PoisonError::into_inner);
    let (base, region) = regions.range(..=address).next_back()?;
    let offset = address - base;
    (offset < region.length).then(|| (offset as u64, Arc::clone(&region.space)))
}

/// Bytes of address space for a range: whole pages, and one more on either side.
fn reserved(length: usize) -> usize {
    length.next_multiple_of(PAGE_SIZE) + 2 * PAGE_SIZE
}
