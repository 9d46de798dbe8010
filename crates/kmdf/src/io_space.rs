//! Mapping a device's registers into the kernel's address space.

use core::ops::Deref;
use core::ptr::NonNull;

use wdk_sys::ntddk::{MmMapIoSpaceEx, MmUnmapIoSpace};
use wdk_sys::{PAGE_NOCACHE, PAGE_READWRITE, PHYSICAL_ADDRESS, ULONG};

use crate::resources::MemoryResource;
use crate::{Mmio, NtStatus, Result};

/// The first `LENGTH` bytes of a device's memory window, mapped uncached until this is dropped.
#[derive(Debug)]
pub struct IoSpace<const LENGTH: usize> {
    base: NonNull<u8>,
    registers: Mmio<LENGTH>,
}

// SAFETY: the mapping belongs to no thread.
unsafe impl<const LENGTH: usize> Send for IoSpace<LENGTH> {}

// SAFETY: shared, it only gives access to the registers, which may be shared.
unsafe impl<const LENGTH: usize> Sync for IoSpace<LENGTH> {}

impl<const LENGTH: usize> IoSpace<LENGTH> {
    /// Maps the window. PASSIVE_LEVEL.
    ///
    /// # Errors
    ///
    /// `STATUS_DEVICE_CONFIGURATION_ERROR` if the window is shorter than `LENGTH`, `STATUS_INSUFFICIENT_RESOURCES` if
    /// it cannot be mapped.
    pub fn map(window: MemoryResource) -> Result<Self> {
        if window.length() < LENGTH {
            return Err(NtStatus::DEVICE_CONFIGURATION_ERROR);
        }
        let start = PHYSICAL_ADDRESS {
            QuadPart: window.start,
        };
        // SAFETY: the window has been assigned to this device, so mapping it interferes with nobody.
        let base =
            unsafe { MmMapIoSpaceEx(start, LENGTH as _, (PAGE_READWRITE | PAGE_NOCACHE) as ULONG) };
        let base = NonNull::new(base.cast()).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
        Ok(Self {
            base,
            // SAFETY: just mapped, uncached, page-aligned and of this length; unmapped only when this is dropped,
            // and reached through the registers alone.
            registers: unsafe { Mmio::new(base) },
        })
    }
}

impl<const LENGTH: usize> Deref for IoSpace<LENGTH> {
    type Target = Mmio<LENGTH>;

    fn deref(&self) -> &Self::Target {
        &self.registers
    }
}

impl<const LENGTH: usize> Drop for IoSpace<LENGTH> {
    fn drop(&mut self) {
        // SAFETY: mapped with this length in `map`, and nobody uses the mapping any more.
        unsafe { MmUnmapIoSpace(self.base.as_ptr().cast(), LENGTH as _) };
    }
}
