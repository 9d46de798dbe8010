//! Locks and small containers of the framework's own.
//!
//! [`SpinCell`] is a kernel spin lock around data: holding it means `DISPATCH_LEVEL`, as holding an `FxNonPagedObject`'s lock
//! does. [`Record`] protects a few words that are read and changed in one breath, at any IRQL; nothing is called while it is
//! held. [`CallbackLock`] serialises a driver's callbacks.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicPtr, AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::flat::*;
use machine_nt::exports::{
    KeAcquireSpinLockRaiseToDpc, KeClearEvent, KeEnterCriticalRegion, KeGetCurrentThread,
    KeInitializeEvent, KeInitializeMutex, KeLeaveCriticalRegion, KeLowerIrql, KeReleaseMutex,
    KeReleaseSpinLock, KeSetEvent, KeWaitForSingleObject, KfRaiseIrql,
};
use machine_nt::ke::stack::driver_call;

/// A raw kernel or driver pointer kept in a framework object.
pub(crate) struct Ptr<T>(pub(crate) *mut T);

impl<T> Clone for Ptr<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Ptr<T> {}

impl<T> Default for Ptr<T> {
    fn default() -> Self {
        Self(std::ptr::null_mut())
    }
}

impl<T> PartialEq for Ptr<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

// SAFETY: a pointer is an address; whoever follows it answers for that.
unsafe impl<T> Send for Ptr<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Ptr<T> {}

/// Data behind a host lock that is held for moments only: never across a kernel routine or a callback.
#[derive(Default)]
pub(crate) struct Record<T>(Mutex<T>);

impl<T> Record<T> {
    /// Protects `value`.
    pub(crate) const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Works on the data. `work` must not call out.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Works on the data unless it is in use: for the dump of a bug check, which may come at any moment.
    pub(crate) fn try_with<R>(&self, work: impl FnOnce(&T) -> R) -> Option<R> {
        self.0.try_lock().ok().map(|value| work(&value))
    }
}

impl<T: Copy> Record<T> {
    /// The present value.
    pub(crate) fn get(&self) -> T {
        self.with(|value| *value)
    }

    /// Replaces the value.
    pub(crate) fn set(&self, value: T) {
        self.with(|old| *old = value);
    }
}

/// Data behind a kernel spin lock.
pub(crate) struct SpinCell<T> {
    lock: UnsafeCell<KSPIN_LOCK>,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only while the spin lock is held.
unsafe impl<T: Send> Sync for SpinCell<T> {}

impl<T> SpinCell<T> {
    /// Protects `value`.
    pub(crate) const fn new(value: T) -> Self {
        Self {
            lock: UnsafeCell::new(0),
            value: UnsafeCell::new(value),
        }
    }

    /// Raises to `DISPATCH_LEVEL` and takes the lock. IRQL <= `DISPATCH_LEVEL`.
    pub(crate) fn lock(&self) -> SpinGuard<'_, T> {
        // SAFETY: the lock lives as long as `self`, which the guard borrows.
        let irql = unsafe { KeAcquireSpinLockRaiseToDpc(self.lock.get()) };
        SpinGuard { cell: self, irql }
    }
}

impl<T> SpinCell<T> {
    /// The data as it is, for the dump of a stopping machine.
    ///
    /// # Safety
    /// Nothing changes the data any more.
    pub(crate) unsafe fn peek(&self) -> &T {
        // SAFETY: the caller's promise.
        unsafe { &*self.value.get() }
    }
}

/// The held lock of a [`SpinCell`]; dropping it restores the IRQL.
pub(crate) struct SpinGuard<'a, T> {
    cell: &'a SpinCell<T>,
    irql: KIRQL,
}

impl<T> SpinGuard<'_, T> {
    /// The IRQL before the lock was taken.
    pub(crate) fn previous_irql(&self) -> KIRQL {
        self.irql
    }
}

impl<T> Deref for SpinGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the lock is held.
        unsafe { &*self.cell.value.get() }
    }
}

impl<T> DerefMut for SpinGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held.
        unsafe { &mut *self.cell.value.get() }
    }
}

impl<T> Drop for SpinGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: taken by `SpinCell::lock` on this processor.
        unsafe { KeReleaseSpinLock(self.cell.lock.get(), self.irql) };
    }
}

/// Runs `work` at `DISPATCH_LEVEL`. IRQL <= `DISPATCH_LEVEL`.
pub(crate) fn at_dispatch<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: the DMA routines that need it are called at or below DISPATCH_LEVEL.
    let old = unsafe { KfRaiseIrql(DISPATCH_LEVEL as KIRQL) };
    let result = work();
    // SAFETY: the level that was current above.
    unsafe { KeLowerIrql(old) };
    result
}

/// A kernel event at an address that never changes.
pub(crate) struct Event(Box<UnsafeCell<KEVENT>>);

// SAFETY: events are made to be shared; the kernel routines serialise access.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    /// A notification event, not signalled.
    pub(crate) fn new() -> Self {
        // SAFETY: all-zero bytes are a valid value of this plain structure, initialised on the next line.
        let event = Self(Box::new(UnsafeCell::new(unsafe { std::mem::zeroed() })));
        // SAFETY: the event stays at this address as long as it lives.
        unsafe { KeInitializeEvent(event.0.get(), NotificationEvent, FALSE as BOOLEAN) };
        event
    }

    /// Signals. IRQL <= `DISPATCH_LEVEL`.
    pub(crate) fn set(&self) {
        // SAFETY: initialised in `new`.
        unsafe { KeSetEvent(self.0.get(), 0, FALSE as BOOLEAN) };
    }

    /// Takes the signal back.
    pub(crate) fn clear(&self) {
        // SAFETY: initialised in `new`.
        unsafe { KeClearEvent(self.0.get()) };
    }

    /// Waits, at most `limit` in units of 100 ns if given. False if that time passed. `PASSIVE_LEVEL`.
    pub(crate) fn wait(&self, limit: Option<i64>) -> bool {
        // SAFETY: all-zero bytes are a valid value of this plain union.
        let mut due: LARGE_INTEGER = unsafe { std::mem::zeroed() };
        let timeout = match limit {
            Some(limit) => {
                due.QuadPart = -limit;
                &raw mut due
            }
            None => std::ptr::null_mut(),
        };
        // SAFETY: the event is initialised and the timeout is null or ours.
        let status = unsafe {
            KeWaitForSingleObject(
                self.0.get().cast(),
                Executive,
                KernelMode as _,
                FALSE as BOOLEAN,
                timeout,
            )
        };
        status != STATUS_TIMEOUT
    }
}

enum Serializer {
    Spin(UnsafeCell<KSPIN_LOCK>),
    Mutex(Box<UnsafeCell<KMUTANT>>),
}

/// What serialises the callbacks of a device or queue: a spin lock, or a mutex if they run at `PASSIVE_LEVEL`.
pub(crate) struct CallbackLock {
    serializer: Serializer,
    owner: AtomicPtr<_KTHREAD>,
    irql: AtomicU8,
}

// SAFETY: the lock inside is a kernel lock, made to be shared.
unsafe impl Send for CallbackLock {}
// SAFETY: as above.
unsafe impl Sync for CallbackLock {}

impl CallbackLock {
    /// A lock for callbacks at `PASSIVE_LEVEL` (`passive`) or `DISPATCH_LEVEL`.
    pub(crate) fn new(passive: bool) -> Self {
        let serializer = if passive {
            // SAFETY: all-zero bytes are a valid value of this plain structure, initialised on the next line.
            let mutex = Box::new(UnsafeCell::new(unsafe { std::mem::zeroed() }));
            // SAFETY: the mutex stays at this address as long as it lives.
            unsafe { KeInitializeMutex(mutex.get(), 0) };
            Serializer::Mutex(mutex)
        } else {
            Serializer::Spin(UnsafeCell::new(0))
        };
        Self {
            serializer,
            owner: AtomicPtr::default(),
            irql: AtomicU8::new(0),
        }
    }

    /// Whether the current thread holds it.
    pub(crate) fn is_owner(&self) -> bool {
        self.owner.load(Ordering::SeqCst) == current_thread()
    }

    /// Takes the lock.
    pub(crate) fn acquire(&self) {
        match &self.serializer {
            Serializer::Spin(lock) => {
                // SAFETY: the lock lives as long as `self`.
                let irql = unsafe { KeAcquireSpinLockRaiseToDpc(lock.get()) };
                self.irql.store(irql as u8, Ordering::SeqCst);
            }
            Serializer::Mutex(mutex) => {
                // SAFETY: normal kernel APCs stay off while the mutex is held, as with any callback lock.
                unsafe { KeEnterCriticalRegion() };
                // SAFETY: initialised in `new`; a wait without limit.
                unsafe {
                    KeWaitForSingleObject(
                        mutex.get().cast(),
                        Executive,
                        KernelMode as _,
                        FALSE as BOOLEAN,
                        std::ptr::null_mut(),
                    )
                };
            }
        }
        self.owner.store(current_thread(), Ordering::SeqCst);
    }

    /// Gives the lock back.
    pub(crate) fn release(&self) {
        self.owner.store(std::ptr::null_mut(), Ordering::SeqCst);
        match &self.serializer {
            Serializer::Spin(lock) => {
                let irql = self.irql.load(Ordering::SeqCst);
                // SAFETY: taken by `acquire`, which stored the IRQL.
                unsafe { KeReleaseSpinLock(lock.get(), irql as KIRQL) };
            }
            Serializer::Mutex(mutex) => {
                // SAFETY: taken by `acquire` on this thread.
                unsafe { KeReleaseMutex(mutex.get(), FALSE as BOOLEAN) };
                // SAFETY: entered by `acquire`.
                unsafe { KeLeaveCriticalRegion() };
            }
        }
    }
}

/// Runs a callback under its lock, if it has one (`FxCallback`).
pub(crate) fn serialized<R>(lock: Option<&CallbackLock>, callback: impl FnOnce() -> R) -> R {
    let Some(lock) = lock else {
        return driver_call(callback);
    };
    lock.acquire();
    let result = driver_call(callback);
    lock.release();
    result
}

fn current_thread() -> *mut _KTHREAD {
    // SAFETY: callable at any IRQL.
    unsafe { KeGetCurrentThread() }.cast()
}
