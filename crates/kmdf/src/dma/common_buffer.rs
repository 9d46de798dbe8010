//! Memory that the processor and the device use at the same time.

use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use wdk_sys::{WDF_COMMON_BUFFER_CONFIG, WDFCOMMONBUFFER};

use super::enabler::Enabler;
use super::scatter_gather::BusAddress;
use crate::versioned::size;
use crate::{NtStatus, Result, context, ddi};

/// What lies in a common buffer: nothing but atomics, since the device changes it at any time.
///
/// # Safety
///
/// Every bit pattern is a value of the type, and every byte of it is part of an atomic or never looked at. So shared
/// references to it may exist while the device writes, and a unique one is never needed.
pub unsafe trait DeviceShared: Sync {}

// SAFETY: it is an atomic.
unsafe impl DeviceShared for AtomicU32 {}

/// Entries of type `T` in memory that the device reaches too. The framework deletes it with its enabler.
#[derive(Debug)]
pub struct CommonBuffer<T> {
    start: NonNull<T>,
    address: BusAddress,
    /// One less than the number of entries, a power of two.
    mask: u32,
    contents: PhantomData<T>,
}

// SAFETY: the memory belongs to no thread, and its contents may be shared.
unsafe impl<T: DeviceShared> Send for CommonBuffer<T> {}

// SAFETY: as above.
unsafe impl<T: DeviceShared> Sync for CommonBuffer<T> {}

impl<T: DeviceShared> CommonBuffer<T> {
    /// Allocates `1 << ENTRIES_LOG2` entries, all zero, at a multiple of `alignment` bytes on the bus, a power of two.
    /// PASSIVE_LEVEL.
    ///
    /// # Errors
    ///
    /// `STATUS_INSUFFICIENT_RESOURCES`, and what else `WdfCommonBufferCreateWithConfig` returns.
    pub fn create<const ENTRIES_LOG2: u32>(enabler: &Enabler, alignment: u32) -> Result<Self> {
        const { assert!(ENTRIES_LOG2 < 32) };
        let length = const {
            match size_of::<T>().checked_shl(ENTRIES_LOG2) {
                Some(length) => length,
                None => panic!("so much memory is not to be had"),
            }
        };
        // What the processor wants, and the device.
        let alignment = (alignment as usize).max(align_of::<T>());
        let mut config = WDF_COMMON_BUFFER_CONFIG {
            Size: size::<WDF_COMMON_BUFFER_CONFIG>(),
            AlignmentRequirement: (alignment - 1) as u32,
        };
        let mut attributes = context::plain_attributes();
        let mut buffer: WDFCOMMONBUFFER = core::ptr::null_mut();
        // SAFETY: the enabler is valid, and the others live across the call.
        let status = unsafe {
            ddi::WdfCommonBufferCreateWithConfig(
                enabler.raw(),
                length,
                &raw mut config,
                &raw mut attributes,
                &raw mut buffer,
            )
        };
        NtStatus::from_code(status).ok()?;
        // SAFETY: the buffer has just been made.
        let start = unsafe { ddi::WdfCommonBufferGetAlignedVirtualAddress(buffer) };
        // SAFETY: as above.
        let logical = unsafe { ddi::WdfCommonBufferGetAlignedLogicalAddress(buffer) };
        // SAFETY: every member of the union is the same 64 bits.
        let logical = unsafe { logical.QuadPart };
        let common = Self {
            start: NonNull::new(start.cast()).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?,
            address: BusAddress::new(logical.cast_unsigned()),
            mask: (1 << ENTRIES_LOG2) - 1,
            contents: PhantomData,
        };
        // SAFETY: nobody else knows it yet.
        unsafe { common.clear() };
        Ok(common)
    }

    /// Where the processor finds the first entry.
    pub(super) const fn start(&self) -> NonNull<T> {
        self.start
    }

    /// Where the device finds the first entry.
    #[must_use]
    pub const fn address(&self) -> BusAddress {
        self.address
    }

    /// Number of entries, a power of two.
    #[must_use]
    pub const fn entries(&self) -> u32 {
        self.mask + 1
    }

    /// The entry at a position, which is taken modulo the number of entries. Any IRQL.
    #[must_use]
    pub fn at(&self, position: u32) -> &T {
        // SAFETY: the index lies inside the buffer.
        let entry = unsafe { self.start.add((position & self.mask) as usize) };
        // SAFETY: aligned, in the buffer, which lives as long as its enabler and that as long as this value's device;
        // every bit pattern is a value, made of atomics.
        unsafe { entry.as_ref() }
    }

    /// Sets all entries to zero, before the device uses them. Any IRQL.
    ///
    /// # Safety
    ///
    /// No other processor uses them meanwhile: these are ordinary accesses, as a ring is too long to be cleared word by
    /// word.
    pub unsafe fn clear(&self) {
        // SAFETY: the buffer has so many entries, zero is a value of them, and they are the caller's alone.
        unsafe { self.start.write_bytes(0, self.entries() as usize) };
    }
}

/// Plain data, in whole words.
impl CommonBuffer<AtomicU32> {
    /// Bytes of the buffer.
    pub(super) const fn length(&self) -> u32 {
        self.entries() * size_of::<u32>() as u32
    }

    /// Copies from `offset` bytes on into `bytes`; after the end comes the beginning. Any IRQL.
    pub fn read(&self, offset: u32, bytes: &mut [u8]) {
        for (position, bytes) in (offset / 4..).zip(bytes.as_chunks_mut().0) {
            *bytes = self.at(position).load(Ordering::Relaxed).to_ne_bytes();
        }
    }

    /// Copies `bytes` to `offset` bytes and on; after the end comes the beginning. Any IRQL.
    pub fn write(&self, offset: u32, bytes: &[u8]) {
        for (position, bytes) in (offset / 4..).zip(bytes.as_chunks().0) {
            self.at(position)
                .store(u32::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
    }
}
