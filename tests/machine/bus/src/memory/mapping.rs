//! Pages of guest RAM mapped one after the other.

use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use super::layout::Layout;
use super::{MemoryError, PAGE, PAGE_SIZE};

/// A reservation of address space whose middle is mapped and whose first and last page are not accessible.
#[derive(Debug)]
pub(super) struct Mapping {
    reservation: NonNull<u8>,
    pages: Vec<u64>,
}

// SAFETY: the address space belongs to this value alone and it hands out raw pointers only.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps the pages of `file` at `offsets`; `pages` are their physical addresses.
    pub(super) fn new(
        file: BorrowedFd<'_>,
        pages: Vec<u64>,
        offsets: &[u64],
    ) -> Result<Self, MemoryError> {
        let length = Self::reserved(offsets.len());
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let reservation = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                length,
                ProtFlags::empty(),
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }
        .map_err(MemoryError::system("reserve address space"))?;
        let reservation =
            NonNull::new(reservation.cast()).expect("a mapping is never at address zero");
        let mapping = Self { reservation, pages };
        mapping.map(file, offsets)?;
        Ok(mapping)
    }

    /// Maps the same pages of another file instead.
    pub(super) fn map_again(
        &self,
        file: BorrowedFd<'_>,
        layout: &Layout,
    ) -> Result<(), MemoryError> {
        let offsets: Vec<u64> = self
            .pages
            .iter()
            .filter_map(|&page| layout.offset(page))
            .collect();
        self.map(file, &offsets)
    }

    fn map(&self, file: BorrowedFd<'_>, offsets: &[u64]) -> Result<(), MemoryError> {
        for run in runs(offsets) {
            let target = self.address().as_ptr().wrapping_add(run.start * PAGE_SIZE);
            // SAFETY: replaces pages of the reservation, which nobody has seen yet or whose contents are the same.
            unsafe {
                mmap(
                    target.cast(),
                    run.len() * PAGE_SIZE,
                    ProtFlags::READ | ProtFlags::WRITE,
                    MapFlags::SHARED | MapFlags::FIXED | MapFlags::NORESERVE,
                    file,
                    offsets[run.start],
                )
            }
            .map_err(MemoryError::system("map pages of guest RAM"))?;
        }
        Ok(())
    }

    /// Where the first page is mapped.
    pub(super) fn address(&self) -> NonNull<u8> {
        // SAFETY: the reservation is two pages longer than what is mapped.
        unsafe { self.reservation.add(PAGE_SIZE) }
    }

    /// The physical address behind a virtual one.
    pub(super) fn physical(&self, address: usize) -> Option<u64> {
        let offset = address.checked_sub(self.address().as_ptr() as usize)?;
        let page = self.pages.get(offset / PAGE_SIZE)?;
        Some(page + (offset % PAGE_SIZE) as u64)
    }

    fn reserved(pages: usize) -> usize {
        (pages + 2) * PAGE_SIZE
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the reservation made in `new`, which belongs to this value.
        let result = unsafe {
            munmap(
                self.reservation.as_ptr().cast(),
                Self::reserved(self.pages.len()),
            )
        };
        debug_assert_eq!(result, Ok(()));
    }
}

/// Index ranges of offsets that follow each other: each is one mapping, of which a process has a limited number.
fn runs(offsets: &[u64]) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let first = *offsets.get(start)?;
        let length = offsets[start..]
            .iter()
            .zip(0u64..)
            .take_while(|(o, index)| **o == first + index * PAGE)
            .count();
        let run = start..start + length;
        start = run.end;
        Some(run)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_pages_are_one_mapping() {
        let offsets = [0x3000, 0x4000, 0x1000, 0x9000, 0xa000, 0xb000];
        assert_eq!(runs(&offsets).collect::<Vec<_>>(), [0..2, 2..3, 3..6]);
    }
}
