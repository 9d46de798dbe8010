//! Spin locks.

use core::cell::UnsafeCell;
use core::fmt::{self, Debug, Formatter};

use wdk_sys::KSPIN_LOCK;
use wdk_sys::ntddk::{KeAcquireSpinLockRaiseToDpc, KeReleaseSpinLock};

/// A value that one processor at a time may use, for a few instructions.
pub struct SpinLock<T> {
    lock: UnsafeCell<KSPIN_LOCK>,
    value: UnsafeCell<T>,
}

// SAFETY: whoever holds the lock has the value alone.
unsafe impl<T: Send> Sync for SpinLock<T> {}

// SAFETY: neither part belongs to a thread.
unsafe impl<T: Send> Send for SpinLock<T> {}

impl<T> SpinLock<T> {
    /// A free lock.
    #[must_use]
    pub const fn new(value: T) -> Self {
        Self {
            // What KeInitializeSpinLock, an inline function, sets.
            lock: UnsafeCell::new(0),
            value: UnsafeCell::new(value),
        }
    }

    /// Uses the value, at DISPATCH_LEVEL and with the lock held. IRQL <= DISPATCH_LEVEL.
    ///
    /// No function of the framework may be called meanwhile that calls the driver back, and no other lock taken; it is
    /// not recursive.
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: the lock lies in nonpaged memory, as all of the driver's does, and is initialised.
        let irql = unsafe { KeAcquireSpinLockRaiseToDpc(self.lock.get()) };
        // SAFETY: with the lock held nobody else reaches the value.
        let result = work(unsafe { &mut *self.value.get() });
        // SAFETY: acquired above, at that IRQL.
        unsafe { KeReleaseSpinLock(self.lock.get(), irql) };
        result
    }
}

impl<T> Debug for SpinLock<T> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SpinLock").finish_non_exhaustive()
    }
}
