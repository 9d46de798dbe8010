//! Wait locks.

use core::cell::UnsafeCell;
use core::fmt::{self, Debug, Formatter};

use wdk_sys::WDFWAITLOCK;

use crate::device::{Device, DeviceEvents};
use crate::{NtStatus, Result, context, ddi};

/// A value that one thread at a time may use, for as long as it likes. The framework deletes the lock with its device.
pub struct WaitLock<T> {
    raw: WDFWAITLOCK,
    value: UnsafeCell<T>,
}

// SAFETY: whoever holds the lock has the value alone.
unsafe impl<T: Send> Sync for WaitLock<T> {}

// SAFETY: neither part belongs to a thread.
unsafe impl<T: Send> Send for WaitLock<T> {}

impl<T> WaitLock<T> {
    /// Makes a lock, which is free. PASSIVE_LEVEL.
    ///
    /// # Errors
    ///
    /// What `WdfWaitLockCreate` returns.
    pub fn create<D: DeviceEvents>(device: &Device<D>, value: T) -> Result<Self> {
        let mut attributes = context::plain_attributes();
        attributes.ParentObject = device.raw().cast();
        let mut raw = core::ptr::null_mut();
        // SAFETY: the attributes are valid, and both live across the call.
        let status = unsafe { ddi::WdfWaitLockCreate(&raw mut attributes, &raw mut raw) };
        NtStatus::from_code(status).ok()?;
        Ok(Self {
            raw,
            value: UnsafeCell::new(value),
        })
    }

    /// Uses the value with the lock held. PASSIVE_LEVEL; `work` may wait, but not for who waits for this lock.
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: the lock is valid. Without a time limit the result is always success.
        let _ = unsafe { ddi::WdfWaitLockAcquire(self.raw, core::ptr::null_mut()) };
        // SAFETY: with the lock held nobody else reaches the value.
        let result = work(unsafe { &mut *self.value.get() });
        // SAFETY: acquired above, by this thread.
        unsafe { ddi::WdfWaitLockRelease(self.raw) };
        result
    }
}

impl<T> Debug for WaitLock<T> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("WaitLock").finish_non_exhaustive()
    }
}
