//! Map registers: pages of low memory through which a transfer is bounced, handed out in contiguous blocks.
//!
//! All of the pool's pages form one region. Between two blocks lies at least one page that belongs to nobody, and every
//! byte that belongs to nobody holds [`FILL`], so that what a device writes outside its buffer, or after its transfer
//! has ended, is found when the pages are used again, freed, or checked.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use machine_bus::{MemoryError, PAGE_SIZE, PhysicalMemory};
use machine_nt::mode;

use super::verifier::Violation;

/// What every byte of a free map register and of the padding around a bounced buffer holds.
pub const FILL: u8 = 0x0F;

const PAGE: u64 = PAGE_SIZE as u64;

/// Where the pool's pages are: a block and the free pages around it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Block {
    pages: Range<u64>,
    registers: u32,
}

/// The machine's map registers.
#[derive(Debug)]
pub struct Pool {
    memory: Arc<PhysicalMemory>,
    /// Physical address of the region's first page, a guard.
    base: u64,
    /// Pages of the region, guards included.
    pages: u64,
    capacity: u32,
    used: u32,
    blocks: BTreeMap<u64, Block>,
    next_handle: u64,
}

impl Pool {
    /// A pool of `capacity` map registers whose pages lie below `limit`.
    pub fn new(
        memory: Arc<PhysicalMemory>,
        capacity: u32,
        limit: u64,
    ) -> Result<Self, MemoryError> {
        let pages = 2 * u64::from(capacity) + 1;
        let base = memory.allocate_run(pages as usize, 1 << 20..limit, PAGE, None)?;
        memory.fill(base, (pages * PAGE) as usize, FILL)?;
        Ok(Self {
            memory,
            base,
            pages,
            capacity,
            used: 0,
            blocks: BTreeMap::new(),
            next_handle: FIRST_HANDLE,
        })
    }

    /// How many map registers are not allocated.
    pub fn free(&self) -> u32 {
        self.capacity - self.used
    }

    /// How many map registers there are.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Allocates `count` contiguous map registers; `None` if there is no such block at present.
    ///
    /// With `bounce`, the block has pages below `1 << width`; without, the registers are only counted, as a device that
    /// reaches every page needs none.
    pub fn allocate(&mut self, count: u32, bounce: Option<u8>) -> Option<Registers> {
        if count > self.free() {
            return None;
        }
        let pages = match bounce {
            Some(width) => self.find(u64::from(count), width)?,
            None => 0..0,
        };
        self.check(&pages);
        let handle = self.next_handle;
        self.next_handle += HANDLE_STEP;
        self.used += count;
        let first = self.base + pages.start * PAGE;
        let bounce = (!pages.is_empty()).then_some(first);
        self.blocks.insert(
            handle,
            Block {
                pages,
                registers: count,
            },
        );
        Some(Registers {
            handle,
            count,
            bounce,
        })
    }

    /// Takes back a block from [`Pool::allocate`], checking that its pages are as they were when it was allocated.
    pub fn release(&mut self, registers: &Registers) {
        if let Some(block) = self.blocks.remove(&registers.handle) {
            self.check(&block.pages);
            self.used -= block.registers;
        }
    }

    /// Stops with 0xE6/0x0F if the page before or after a block was written: the device ran over its buffer's page.
    pub fn check_guards(&self, registers: &Registers) {
        if mode::is_free_running() {
            return;
        }
        let Some(start) = registers.bounce else {
            return;
        };
        let end = start + u64::from(registers.count) * PAGE;
        for (guard, after) in [(start - PAGE, false), (end, true)] {
            if let Some(offset) = first_difference(&self.memory, guard, PAGE_SIZE) {
                let address = guard + offset;
                Violation::PaddingModified {
                    after,
                    start,
                    address,
                }
                .raise();
            }
        }
    }

    /// Stops with 0xE6/0x0F if a byte of the pool that belongs to nobody has changed.
    pub fn check_free(&self) {
        let mut free = 0;
        for block in self.in_order() {
            self.check(&(free..block.start));
            free = block.end;
        }
        self.check(&(free..self.pages));
    }

    /// The bounce pages in use, in ascending order.
    fn in_order(&self) -> Vec<Range<u64>> {
        let mut blocks: Vec<_> = self
            .blocks
            .values()
            .map(|block| block.pages.clone())
            .filter(|p| !p.is_empty())
            .collect();
        blocks.sort_unstable_by_key(|pages| pages.start);
        blocks
    }

    /// The lowest free run of `count` pages with a guard page on either side.
    fn find(&self, count: u64, width: u8) -> Option<Range<u64>> {
        let mut start = 1;
        for block in self.in_order() {
            if start + count < block.start {
                break;
            }
            start = block.end + 1;
        }
        let end = start + count;
        let last = self.base + end * PAGE - 1;
        (end < self.pages && reaches(width, last)).then_some(start..end)
    }

    fn check(&self, pages: &Range<u64>) {
        if mode::is_free_running() {
            return;
        }
        let start = self.base + pages.start * PAGE;
        let length = ((pages.end - pages.start) * PAGE) as usize;
        if let Some(offset) = first_difference(&self.memory, start, length) {
            Violation::FreeMapRegisterModified {
                address: start + offset,
            }
            .raise();
        }
    }
}

const FIRST_HANDLE: u64 = 0xFFFF_D0A0_0000_0000;
const HANDLE_STEP: u64 = 0x20;

/// A block of map registers, as its owner knows it. The driver sees the handle as `MapRegisterBase`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registers {
    /// What the driver is given.
    pub handle: u64,
    /// How many.
    pub count: u32,
    /// Physical address of the first bounce page, if the block has pages.
    pub bounce: Option<u64>,
}

/// Whether a device with `width` address bits reaches `address`.
pub fn reaches(width: u8, address: u64) -> bool {
    width >= 64 || address >> width == 0
}

/// Offset of the first of `length` bytes at `start` that is not [`FILL`].
pub fn first_difference(memory: &PhysicalMemory, start: u64, length: usize) -> Option<u64> {
    let mut bytes = vec![0; length];
    super::memory_must(memory.read(start, &mut bytes));
    bytes
        .iter()
        .position(|&byte| byte != FILL)
        .map(|offset| offset as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine_bus::MemoryConfig;

    fn pool(capacity: u32) -> Pool {
        let memory = PhysicalMemory::new(&MemoryConfig {
            total: 64 << 20,
            ..MemoryConfig::default()
        })
        .unwrap();
        Pool::new(memory, capacity, 1 << 28).unwrap()
    }

    #[test]
    fn blocks_are_contiguous_and_apart() {
        let mut pool = pool(8);
        let a = pool.allocate(3, Some(28)).unwrap();
        let b = pool.allocate(3, Some(28)).unwrap();
        assert!(b.bounce.unwrap() > a.bounce.unwrap() + 3 * PAGE);
        assert_eq!(pool.free(), 2);
        assert_eq!(pool.allocate(3, Some(28)), None);
        pool.release(&a);
        assert_eq!(pool.allocate(4, Some(28)).unwrap().count, 4);
        pool.check_free();
    }

    #[test]
    fn registers_that_need_no_page_are_counted() {
        let mut pool = pool(2);
        assert_eq!(pool.allocate(2, None).unwrap().bounce, None);
        assert_eq!(pool.allocate(1, None), None);
    }

    #[test]
    fn a_block_lies_below_the_width() {
        let mut pool = pool(2);
        assert_eq!(pool.allocate(1, Some(20)), None);
    }

    #[test]
    fn width() {
        assert!(reaches(28, (1 << 28) - 1));
        assert!(!reaches(28, 1 << 28));
        assert!(reaches(64, u64::MAX));
    }
}
