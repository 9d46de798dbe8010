//! Memory-mapped registers.

use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

use registers::{Readable, Register, Value, Word, Writable};

/// The device no longer answers: a read returned all ones, as a read does that no device completes.
///
/// None of the devices' registers reads as all ones while the device is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceGone;

/// The first `LENGTH` bytes of a device's memory window.
///
/// Register accesses are volatile, of exactly the register's width, in program order among themselves, and ordered
/// with ordinary memory as a driver needs it: what was written to memory before a register write is there when the
/// device sees the write, and memory read after a register read is no older than the read. They may be made at any
/// IRQL, by several processors at once: what that means is up to the device.
#[derive(Debug)]
pub struct Mmio<const LENGTH: usize> {
    base: NonNull<u8>,
}

// SAFETY: the mapping belongs to no thread.
unsafe impl<const LENGTH: usize> Send for Mmio<LENGTH> {}

// SAFETY: every access is one volatile instruction on device memory, which several processors may make at once.
unsafe impl<const LENGTH: usize> Sync for Mmio<LENGTH> {}

impl<const LENGTH: usize> Mmio<LENGTH> {
    /// Registers mapped at `base`.
    ///
    /// # Safety
    ///
    /// `base` is aligned to 8 and maps at least `LENGTH` bytes of device memory, uncached, until the value is dropped;
    /// no reference into the mapping exists.
    #[must_use]
    pub const unsafe fn new(base: NonNull<u8>) -> Self {
        Self { base }
    }

    /// Reads a register.
    ///
    /// # Errors
    ///
    /// [`DeviceGone`] if all bits are ones.
    pub fn read<const OFFSET: usize, V: Value, A: Readable>(
        &self,
        register: Register<OFFSET, V, A>,
    ) -> Result<V, DeviceGone> {
        let address = self.address(register);
        // SAFETY: the register lies inside the mapping, at a multiple of its width.
        let word = unsafe { address.read_volatile() };
        after_read();
        if word == V::Word::ALL_ONES {
            Err(DeviceGone)
        } else {
            Ok(V::from_word(word))
        }
    }

    /// Writes a register. The write is posted: it reaches the device some time later, at the latest before a read
    /// from the same device returns.
    pub fn write<const OFFSET: usize, V: Value, A: Writable>(
        &self,
        register: Register<OFFSET, V, A>,
        value: V,
    ) {
        let address = self.address(register);
        before_write();
        // SAFETY: the register lies inside the mapping, at a multiple of its width.
        unsafe { address.write_volatile(value.into_word()) };
    }

    /// Where the register is mapped; that it lies inside the window is checked by the compiler.
    fn address<const OFFSET: usize, V: Value, A>(
        &self,
        _: Register<OFFSET, V, A>,
    ) -> NonNull<V::Word> {
        const {
            assert!(
                size_of::<V::Word>() <= LENGTH && OFFSET <= LENGTH - size_of::<V::Word>(),
                "the register lies outside the mapped window"
            );
        }
        // SAFETY: the offset lies inside the mapping, as asserted.
        unsafe { self.base.add(OFFSET) }.cast()
    }
}

/// Makes what was written to memory visible to the device before the register write that follows.
fn before_write() {
    // Orders ordinary stores on the processor; on x86 stores stay in order, so this is for the compiler alone.
    fence(Ordering::Release);
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a barrier changes neither registers nor memory.
    unsafe {
        core::arch::asm!("dsb st", options(nostack, preserves_flags));
    }
}

/// Keeps memory from being read before the register read that has just been made.
fn after_read() {
    fence(Ordering::Acquire);
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a barrier changes neither registers nor memory.
    unsafe {
        core::arch::asm!("dsb ld", options(nostack, preserves_flags));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use registers::{ReadOnly, ReadWrite, WriteOnly};

    const STATUS: Register<0x04, u32, ReadOnly> = Register::new();
    const RAISE: Register<0x04, u32, WriteOnly> = Register::new();
    const ADDRESS: Register<0x08, u64, ReadWrite> = Register::new();

    #[test]
    fn registers_are_words_at_their_offsets() {
        let mut device = [0_u64; 2];
        // SAFETY: the array is aligned, as long as the window, and used by nothing else meanwhile.
        let mmio: Mmio<16> = unsafe { Mmio::new(NonNull::from(&mut device).cast()) };
        mmio.write(ADDRESS, 0x1122_3344_5566_7788);
        mmio.write(RAISE, 0x100);
        assert_eq!(mmio.read(ADDRESS), Ok(0x1122_3344_5566_7788));
        assert_eq!(mmio.read(STATUS), Ok(0x100));
        assert_eq!(device, [0x100_0000_0000, 0x1122_3344_5566_7788]);
    }

    #[test]
    fn all_ones_mean_gone() {
        let mut device = [u64::MAX, 0xffff_ffff];
        // SAFETY: the array is aligned, as long as the window, and used by nothing else meanwhile.
        let mmio: Mmio<16> = unsafe { Mmio::new(NonNull::from(&mut device).cast()) };
        assert_eq!(mmio.read(STATUS), Err(DeviceGone));
        assert_eq!(mmio.read(ADDRESS), Ok(0xffff_ffff));
    }
}
