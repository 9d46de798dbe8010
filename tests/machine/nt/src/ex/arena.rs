//! The address space of the pool: pages of guest RAM, scattered, mapped one after the other.
//!
//! What is known about a block is kept outside of the arena, so that an overrun is found and does not destroy the
//! allocator. Blocks smaller than a page never cross a page boundary; larger ones start at a page, as in Windows.

use machine_bus::{MemoryError, PAGE_SIZE, PhysicalMemory, Zone};
use std::collections::BTreeMap;
use std::ptr::NonNull;

/// Pages of the first and of the largest arena: arenas are added as the pool grows, each twice as large as the last. A
/// page is a mapping, which takes its time when guest RAM is mapped elsewhere.
const FIRST_ARENA: usize = 64;
const LARGEST_ARENA: usize = 1024;
/// Unit of allocation, and least alignment of a block.
pub(super) const UNIT: usize = 16;

/// Free ranges by their first address, with their lengths.
#[derive(Debug, Default)]
pub(super) struct Arena {
    free: BTreeMap<usize, usize>,
    base: Vec<NonNull<u8>>,
}

// SAFETY: the pointers are to mappings of guest RAM, which are valid on every thread.
unsafe impl Send for Arena {}

impl Arena {
    pub(super) const fn new() -> Self {
        Self {
            free: BTreeMap::new(),
            base: Vec::new(),
        }
    }

    /// Takes a range of `size` bytes (a multiple of [`UNIT`]), growing the arena if there is none.
    pub(super) fn take(
        &mut self,
        memory: &PhysicalMemory,
        size: usize,
    ) -> Result<NonNull<u8>, MemoryError> {
        if let Some(address) = self.find(size) {
            return Ok(address);
        }
        let pages = (FIRST_ARENA << self.base.len().min(4)).min(LARGEST_ARENA);
        self.grow(memory, pages.max(size.div_ceil(PAGE_SIZE)))?;
        self.find(size).ok_or(MemoryError::Exhausted {
            pages: size / PAGE_SIZE,
        })
    }

    fn grow(&mut self, memory: &PhysicalMemory, pages: usize) -> Result<(), MemoryError> {
        let frames = memory.allocate(Zone::High, pages)?;
        let base = memory.map(&frames)?;
        self.base.push(base);
        self.free
            .insert(base.as_ptr().expose_provenance(), pages * PAGE_SIZE);
        Ok(())
    }

    fn find(&mut self, size: usize) -> Option<NonNull<u8>> {
        let (start, length, at) = self.free.iter().find_map(|(&start, &length)| {
            let at = place(start, size);
            (at + size <= start + length).then_some((start, length, at))
        })?;
        self.free.remove(&start);
        if at > start {
            self.free.insert(start, at - start);
        }
        let rest = start + length - (at + size);
        if rest > 0 {
            self.free.insert(at + size, rest);
        }
        NonNull::new(std::ptr::with_exposed_provenance_mut(at))
    }

    /// Gives a range back that [`Arena::take`] returned.
    pub(super) fn give_back(&mut self, address: usize, size: usize) {
        let (mut start, mut length) = (address, size);
        if let Some((&before, &before_length)) = self.free.range(..address).next_back()
            && before + before_length == address
        {
            self.free.remove(&before);
            (start, length) = (before, before_length + length);
        }
        if let Some(after_length) = self.free.remove(&(address + size)) {
            length += after_length;
        }
        self.free.insert(start, length);
    }
}

/// Where a block of `size` bytes may begin, at or after `start`.
fn place(start: usize, size: usize) -> usize {
    if size >= PAGE_SIZE {
        return start.next_multiple_of(PAGE_SIZE);
    }
    let fits = start / PAGE_SIZE == (start + size - 1) / PAGE_SIZE;
    if fits {
        start
    } else {
        start.next_multiple_of(PAGE_SIZE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine_bus::MemoryConfig;

    #[test]
    fn small_blocks_stay_in_their_page_and_ranges_join_again() {
        let memory = PhysicalMemory::new(&MemoryConfig::default()).unwrap();
        let mut arena = Arena::new();
        let mut blocks = Vec::new();
        for size in [48, 4000, 4096, 112, 3 * 4096, 16] {
            let address = arena.take(&memory, size).unwrap().as_ptr().addr();
            if size < PAGE_SIZE {
                assert_eq!(address / PAGE_SIZE, (address + size - 1) / PAGE_SIZE);
            } else {
                assert_eq!(address % PAGE_SIZE, 0);
            }
            blocks.push((address, size));
        }
        for (address, size) in blocks {
            arena.give_back(address, size);
        }
        assert_eq!(arena.free.len(), 1);
        assert_eq!(arena.free.values().sum::<usize>(), FIRST_ARENA * PAGE_SIZE);
    }
}
