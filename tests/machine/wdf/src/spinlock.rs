//! WDFSPINLOCK (`fxspinlock.hpp`, `fxverifierlock.cpp`).

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, Ordering};

use machine_nt::exports::{KeAcquireSpinLockRaiseToDpc, KeGetCurrentThread, KeReleaseSpinLock};

use crate::flat::*;
use crate::globals::DriverGlobals;
use crate::object::attributes::Rules;
use crate::object::{self, Attributes, Header, Kind, Object, Parent, Typed, handle};
use crate::{trace, verifier};

/// A spin lock.
pub(crate) struct SpinLock {
    header: Header,
    lock: UnsafeCell<KSPIN_LOCK>,
    irql: AtomicU8,
    owner: AtomicPtr<_KTHREAD>,
    interrupt_lock: AtomicBool,
}

// SAFETY: a kernel spin lock is made to be shared.
unsafe impl Send for SpinLock {}
// SAFETY: as above.
unsafe impl Sync for SpinLock {}

impl Object for SpinLock {
    fn header(&self) -> &Header {
        &self.header
    }
}

impl Typed for SpinLock {
    const KIND: Kind = Kind::SpinLock;
}

impl SpinLock {
    /// It becomes an interrupt's lock: only the interrupt takes it from now on.
    pub(crate) fn mark_interrupt_lock(&self) {
        self.interrupt_lock.store(true, Ordering::Relaxed);
    }

    /// The kernel's lock.
    pub(crate) fn address(&self) -> PKSPIN_LOCK {
        self.lock.get()
    }

    fn globals(&self) -> &'static DriverGlobals {
        self.header.globals()
    }

    /// With the verifier a lock of an interrupt may not be taken through its own DDIs.
    fn check_kind(&self) {
        if self.globals().verifier_on() && self.interrupt_lock.load(Ordering::Relaxed) {
            verifier::bug_check(
                self.globals(),
                WDF_INVALID_LOCK_OPERATION,
                self.header.handle(),
                1,
                "the spin lock is an interrupt's: use WdfInterruptAcquireLock",
            );
        }
    }

    fn acquire(&self) {
        self.check_kind();
        // SAFETY: callable at any IRQL.
        let thread: *mut _KTHREAD = unsafe { KeGetCurrentThread() }.cast();
        if self.globals().verifier_on() && self.owner.load(Ordering::SeqCst) == thread {
            verifier::bug_check(
                self.globals(),
                WDF_RECURSIVE_LOCK,
                self.header.handle(),
                thread as usize,
                "the thread holds the spin lock already",
            );
        }
        // SAFETY: the lock lives as long as the object.
        let irql = unsafe { KeAcquireSpinLockRaiseToDpc(self.lock.get()) };
        self.irql.store(irql, Ordering::SeqCst);
        self.owner.store(thread, Ordering::SeqCst);
    }

    fn release(&self) {
        self.check_kind();
        // SAFETY: callable at any IRQL.
        let thread: *mut _KTHREAD = unsafe { KeGetCurrentThread() }.cast();
        if self.globals().verifier_on() && self.owner.load(Ordering::SeqCst) != thread {
            verifier::bug_check(
                self.globals(),
                WDF_INVALID_LOCK_OPERATION,
                self.header.handle(),
                0,
                "the thread does not hold the spin lock",
            );
        }
        self.owner.store(std::ptr::null_mut(), Ordering::SeqCst);
        let irql = self.irql.load(Ordering::SeqCst);
        // SAFETY: taken by `acquire`, which stored the IRQL.
        unsafe { KeReleaseSpinLock(self.lock.get(), irql) };
    }
}

/// Creates a spin lock. IRQL <= `DISPATCH_LEVEL`. Errors: those of the attributes, `STATUS_INSUFFICIENT_RESOURCES`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfSpinLockCreate(
    globals: PWDF_DRIVER_GLOBALS,
    attributes: PWDF_OBJECT_ATTRIBUTES,
    place: *mut WDFSPINLOCK,
) -> NTSTATUS {
    let globals = DriverGlobals::from_ddi(globals);
    verifier::not_null(globals, place, "SpinLock");
    // SAFETY: null or the driver's structure.
    let attributes = match unsafe { Attributes::check(globals, attributes, Rules::PLAIN) } {
        Ok(attributes) => attributes,
        Err(status) => return status,
    };
    let lock = Arc::new(SpinLock {
        header: Header::new(Kind::SpinLock, globals),
        lock: UnsafeCell::new(0),
        irql: AtomicU8::new(0),
        owner: AtomicPtr::default(),
        interrupt_lock: AtomicBool::new(false),
    });
    match object::commit(&lock, attributes.as_ref(), Parent::Driver) {
        Ok(value) => {
            // SAFETY: checked not to be null.
            unsafe { place.write(value as WDFSPINLOCK) };
            STATUS_SUCCESS
        }
        Err(status) => {
            trace::error(globals, "the spin lock is not created");
            status
        }
    }
}

/// Takes the lock and raises to `DISPATCH_LEVEL`. IRQL <= `DISPATCH_LEVEL`. Verifier: stops with 0x10D/2 for a thread that holds it.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfSpinLockAcquire(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFSPINLOCK,
) {
    handle::get::<SpinLock>(DriverGlobals::from_ddi(globals), value as usize).acquire();
}

/// Gives the lock back and restores the IRQL. Verifier: stops with 0x10D/B for a thread that does not hold it.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfSpinLockRelease(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFSPINLOCK,
) {
    handle::get::<SpinLock>(DriverGlobals::from_ddi(globals), value as usize).release();
}
