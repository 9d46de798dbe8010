//! Guest RAM: one sparse file in memory that this process, its devices and an external QEMU share.
//!
//! It is split as a q35 machine splits it (`hw/i386/pc_q35.c:pc_q35_init`): below 4 GiB there are 2 GiB, or all of
//! it if it is less than 2.75 GiB; the rest starts at 4 GiB. The file holds the parts one after the other.

mod allocator;
mod detach;
mod error;
mod layout;
mod mapping;

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use allocator::Allocator;
pub use allocator::Zone;
pub use error::MemoryError;
use layout::Layout;
use mapping::Mapping;

/// Bytes in a page.
pub const PAGE_SIZE: usize = 4096;

/// What every byte of a page is set to when it is freed. [`PhysicalMemory::check_freed`] looks for changes.
pub const FREED: u8 = 0xdf;

/// First physical address above the hole for devices.
pub const HIGH_START: u64 = 4 << 30;

const PAGE: u64 = PAGE_SIZE as u64;

/// How much guest RAM there is, and how it is handed out.
#[derive(Clone, Copy, Debug)]
pub struct MemoryConfig {
    /// Bytes of guest RAM, a multiple of 1 MiB and at least 2 MiB. Only what is touched costs anything.
    pub total: u64,
    /// Which pages [`PhysicalMemory::allocate`] scatters over: the same seed gives the same pages.
    pub seed: u64,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            total: 6 << 30,
            seed: 0,
        }
    }
}

/// Guest RAM.
#[derive(Debug)]
pub struct PhysicalMemory {
    file: OwnedFd,
    layout: Layout,
    config: MemoryConfig,
    /// The whole file, mapped for the life of this value.
    flat: NonNull<u8>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    allocator: Allocator,
    mappings: BTreeMap<usize, Mapping>,
}

// SAFETY: `flat` points to a shared mapping that lives as long as the value and is only handed out as raw pointers.
unsafe impl Send for PhysicalMemory {}
// SAFETY: as above; everything else that changes is behind a mutex.
unsafe impl Sync for PhysicalMemory {}

impl PhysicalMemory {
    /// Guest RAM of which every byte is zero.
    pub fn new(config: &MemoryConfig) -> Result<Arc<Self>, MemoryError> {
        let layout = Layout::of(config.total)?;
        let file = memfd_create("guest-ram", MemfdFlags::CLOEXEC)
            .map_err(MemoryError::system("create guest RAM"))?;
        ftruncate(&file, config.total).map_err(MemoryError::system("size guest RAM"))?;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let flat = unsafe {
            mmap(
                std::ptr::null_mut(),
                config.total as usize,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::NORESERVE,
                &file,
                0,
            )
        }
        .map_err(MemoryError::system("map guest RAM"))?;
        let flat = NonNull::new(flat.cast()).expect("a mapping is never at address zero");
        let state = State {
            allocator: Allocator::new(layout, config.seed),
            mappings: BTreeMap::new(),
        };
        Ok(Arc::new(Self {
            file,
            layout,
            config: *config,
            flat,
            state: Mutex::new(state),
        }))
    }

    /// The file that backs guest RAM, for a process that shares it.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// How it was made.
    pub fn config(&self) -> &MemoryConfig {
        &self.config
    }

    /// Bytes of guest RAM.
    pub fn total(&self) -> u64 {
        self.layout.total
    }

    /// The physical addresses that are RAM, in ascending order; the second range is empty if all is below 4 GiB.
    pub fn ranges(&self) -> [Range<u64>; 2] {
        [
            0..self.layout.below,
            HIGH_START..HIGH_START + (self.layout.total - self.layout.below),
        ]
    }

    /// Where a physical address lies in [`PhysicalMemory::file`].
    pub fn file_offset(&self, physical: u64) -> Option<u64> {
        self.layout.offset(physical)
    }

    /// The pointer to `length` bytes at `physical`, which must lie in one of the [`PhysicalMemory::ranges`].
    /// It stays valid as long as `self`; another process may write there at any time.
    pub fn window(&self, physical: u64, length: usize) -> Result<NonNull<u8>, MemoryError> {
        let offset = self
            .layout
            .offset_of_range(physical, length)
            .ok_or(MemoryError::NotRam { physical, length })? as usize;
        // SAFETY: the offset is inside the mapping of the whole file.
        Ok(unsafe { self.flat.add(offset) })
    }

    /// Copies guest RAM out.
    pub fn read(&self, physical: u64, buffer: &mut [u8]) -> Result<(), MemoryError> {
        let source = self.window(physical, buffer.len())?;
        // SAFETY: the window is as long as the buffer, and no Rust reference to guest RAM exists that it could be.
        unsafe {
            std::ptr::copy_nonoverlapping(source.as_ptr(), buffer.as_mut_ptr(), buffer.len())
        };
        Ok(())
    }

    /// Copies into guest RAM.
    pub fn write(&self, physical: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        let target = self.window(physical, bytes.len())?;
        // SAFETY: the window is as long as the source, and no Rust reference to guest RAM exists that it could be.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// Sets `length` bytes of guest RAM to `value`.
    pub fn fill(&self, physical: u64, length: usize, value: u8) -> Result<(), MemoryError> {
        let target = self.window(physical, length)?;
        // SAFETY: the window has this length.
        unsafe { target.as_ptr().write_bytes(value, length) };
        Ok(())
    }

    /// A 32-bit word of guest RAM that another process may change. `physical` must be a multiple of four.
    pub fn word(&self, physical: u64) -> Result<&AtomicU32, MemoryError> {
        if !physical.is_multiple_of(4) {
            return Err(MemoryError::Unaligned { physical });
        }
        let pointer = self.window(physical, 4)?.cast::<u32>();
        // SAFETY: aligned, mapped as long as `self`, and reached by no plain reference.
        Ok(unsafe { AtomicU32::from_ptr(pointer.as_ptr()) })
    }

    /// Takes `count` pages of `zone` and returns their physical addresses. Their contents are not defined.
    pub fn allocate(&self, zone: Zone, count: usize) -> Result<Vec<u64>, MemoryError> {
        let pages = self
            .lock()
            .allocator
            .take(zone, count)
            .ok_or(MemoryError::Exhausted { pages: count })?;
        self.check(&pages)?;
        Ok(pages)
    }

    /// Takes `count` adjacent pages that lie in `within` and returns the first one's physical address, a multiple
    /// of `alignment` (a power of two). With a `boundary` (a power of two), the run crosses no multiple of it.
    pub fn allocate_run(
        &self,
        count: usize,
        within: Range<u64>,
        alignment: u64,
        boundary: Option<u64>,
    ) -> Result<u64, MemoryError> {
        let first = self
            .lock()
            .allocator
            .take_run(count, within, alignment, boundary)
            .ok_or(MemoryError::Exhausted { pages: count })?;
        let pages: Vec<u64> = (0..count as u64).map(|page| first + page * PAGE).collect();
        self.check(&pages)?;
        Ok(first)
    }

    /// Gives pages back and fills them with [`FREED`].
    pub fn free(&self, pages: &[u64]) -> Result<(), MemoryError> {
        for &physical in pages {
            self.lock().allocator.give_back(physical)?;
            self.fill(physical, PAGE_SIZE, FREED)?;
        }
        Ok(())
    }

    /// Looks whether a page that was freed, and not allocated since, was written.
    pub fn check_freed(&self) -> Result<(), MemoryError> {
        let freed: Vec<u64> = self.lock().allocator.freed().collect();
        freed.into_iter().try_for_each(|page| self.check_page(page))
    }

    /// How many pages are allocated.
    pub fn allocated(&self) -> usize {
        self.lock().allocator.allocated()
    }

    /// Maps pages one after the other at a fresh virtual address, with an inaccessible page on either side.
    pub fn map(&self, pages: &[u64]) -> Result<NonNull<u8>, MemoryError> {
        let offsets = pages
            .iter()
            .map(|&physical| {
                if !physical.is_multiple_of(PAGE) {
                    return Err(MemoryError::Unaligned { physical });
                }
                self.layout.offset(physical).ok_or(MemoryError::NotRam {
                    physical,
                    length: PAGE_SIZE,
                })
            })
            .collect::<Result<Vec<u64>, _>>()?;
        let mapping = Mapping::new(self.file(), pages.to_vec(), &offsets)?;
        let address = mapping.address();
        self.lock()
            .mappings
            .insert(address.as_ptr() as usize, mapping);
        Ok(address)
    }

    /// Removes what [`PhysicalMemory::map`] made at `address`. Any pointer into it is then invalid.
    pub fn unmap(&self, address: NonNull<u8>) -> Result<(), MemoryError> {
        let address = address.as_ptr() as usize;
        self.lock()
            .mappings
            .remove(&address)
            .map(drop)
            .ok_or(MemoryError::NotMapped { address })
    }

    /// The physical address behind a pointer into a window or a mapping.
    pub fn physical(&self, pointer: *const u8) -> Option<u64> {
        let address = pointer as usize;
        let offset = address.wrapping_sub(self.flat.as_ptr() as usize) as u64;
        if offset < self.layout.total {
            return Some(self.layout.physical(offset));
        }
        let state = self.lock();
        let (_, mapping) = state.mappings.range(..=address).next_back()?;
        mapping.physical(address)
    }

    /// Reports the first of freshly allocated pages that was written while it was free.
    fn check(&self, pages: &[u64]) -> Result<(), MemoryError> {
        for &page in pages {
            if self.lock().allocator.reuse(page) {
                self.check_page(page)?;
            }
        }
        Ok(())
    }

    fn check_page(&self, page: u64) -> Result<(), MemoryError> {
        let mut contents = [0; PAGE_SIZE];
        self.read(page, &mut contents)?;
        match contents.iter().position(|&byte| byte != FREED) {
            Some(offset) => Err(MemoryError::WrittenAfterFree {
                physical: page + offset as u64,
            }),
            None => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PhysicalMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`; windows borrow `self`, so none is used any more.
        let result = unsafe {
            munmap(
                self.flat.as_ptr().cast::<c_void>(),
                self.layout.total as usize,
            )
        };
        debug_assert_eq!(result, Ok(()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hole_is_not_ram() {
        let memory = PhysicalMemory::new(&MemoryConfig::default()).unwrap();
        assert_eq!(
            memory.ranges(),
            [0..0x8000_0000, 0x1_0000_0000..0x2_0000_0000]
        );
        assert!(memory.window(0x7fff_ffff, 1).is_ok());
        for (physical, length) in [
            (0x8000_0000, 1),
            (0x7fff_ffff, 2),
            (0xffff_ffff, 2),
            (0x1_ffff_ffff, 2),
            (u64::MAX, 2),
        ] {
            assert!(
                matches!(
                    memory.window(physical, length),
                    Err(MemoryError::NotRam { .. })
                ),
                "{physical:#x}"
            );
        }
        assert_eq!(memory.file_offset(0x1_0000_0000), Some(0x8000_0000));
        let small = PhysicalMemory::new(&MemoryConfig {
            total: 64 << 20,
            seed: 0,
        })
        .unwrap();
        assert_eq!(small.ranges(), [0..64 << 20, HIGH_START..HIGH_START]);
        assert!(matches!(
            PhysicalMemory::new(&MemoryConfig {
                total: 4095,
                seed: 0
            }),
            Err(MemoryError::BadSize { .. })
        ));
    }

    #[test]
    fn mapped_pages_are_the_windows_pages() {
        let memory = PhysicalMemory::new(&MemoryConfig::default()).unwrap();
        let pages = memory.allocate(Zone::High, 3).unwrap();
        let address = memory.map(&pages).unwrap();
        for (index, &page) in pages.iter().enumerate() {
            // SAFETY: inside the mapping of three pages.
            let pointer = unsafe { address.add(index * PAGE_SIZE + 5) };
            // SAFETY: mapped and writable.
            unsafe { pointer.write_volatile(index as u8 + 1) };
            let mut byte = [0];
            memory.read(page + 5, &mut byte).unwrap();
            assert_eq!(byte, [index as u8 + 1]);
            assert_eq!(memory.physical(pointer.as_ptr()), Some(page + 5));
            assert_eq!(
                memory.physical(memory.window(page, 1).unwrap().as_ptr()),
                Some(page)
            );
        }
        assert_eq!(memory.physical(address.as_ptr().wrapping_sub(1)), None);
        assert_eq!(
            memory.physical(address.as_ptr().wrapping_add(3 * PAGE_SIZE)),
            None
        );
        memory.unmap(address).unwrap();
        assert_eq!(memory.physical(address.as_ptr()), None);
        assert!(matches!(
            memory.unmap(address),
            Err(MemoryError::NotMapped { .. })
        ));
    }

    #[test]
    fn a_write_to_a_freed_page_is_found() {
        let memory = PhysicalMemory::new(&MemoryConfig::default()).unwrap();
        let page = memory.allocate(Zone::Low, 1).unwrap()[0];
        memory.free(&[page]).unwrap();
        memory.check_freed().unwrap();
        memory.fill(page + 17, 1, 0).unwrap();
        assert!(
            matches!(memory.check_freed(), Err(MemoryError::WrittenAfterFree { physical }) if physical == page + 17)
        );
        assert!(matches!(
            memory.allocate(Zone::Low, 1),
            Err(MemoryError::WrittenAfterFree { .. })
        ));
        assert!(matches!(
            memory.free(&[page, page]),
            Err(MemoryError::NotAllocated { .. })
        ));
    }
}
