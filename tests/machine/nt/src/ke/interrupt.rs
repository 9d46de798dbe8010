//! Interrupt objects: the part of a KINTERRUPT that the kernel's own routines use. The HAL makes and connects them.

use super::spinlock;
use crate::entry::{borrow, enter_with};
use crate::ke::stack::driver_call;
use crate::sched::{self, HIGH_LEVEL};
use nt_sys::{BOOLEAN, KIRQL, PKINTERRUPT, PKSPIN_LOCK, PKSYNCHRONIZE_ROUTINE};
use std::ffi::c_void;

/// What a KINTERRUPT begins with. The HAL makes this the first field of its interrupt object (`repr(C)`).
#[repr(C)]
#[derive(Debug)]
pub struct InterruptObject {
    /// 22, as in Windows.
    kind: i16,
    /// IRQL of the service routine and of those that synchronise with it.
    synchronize_irql: KIRQL,
    /// The interrupt spin lock.
    lock: PKSPIN_LOCK,
}

impl InterruptObject {
    const KIND: i16 = 22;

    /// An interrupt object whose service routine runs at `synchronize_irql` under `lock`, which must stay valid.
    pub fn new(lock: PKSPIN_LOCK, synchronize_irql: KIRQL) -> Self {
        Self {
            kind: Self::KIND,
            synchronize_irql,
            lock,
        }
    }

    /// IRQL of the service routine.
    pub fn synchronize_irql(&self) -> KIRQL {
        self.synchronize_irql
    }

    /// The interrupt spin lock.
    pub fn lock(&self) -> PKSPIN_LOCK {
        self.lock
    }

    /// Runs `f` at the synchronisation IRQL (to which the caller's is raised) with the interrupt spin lock held.
    pub fn synchronized<R>(&self, f: impl FnOnce() -> R) -> R {
        let before = self.enter();
        let result = f();
        self.leave(before);
        result
    }

    fn enter(&self) -> KIRQL {
        let before = super::irql::raise(self.synchronize_irql.max(sched::irql()));
        // SAFETY: the lock stays valid as long as the object, by the promise of whoever made it.
        unsafe { spinlock::acquire(self.lock) };
        before
    }

    fn leave(&self, irql: KIRQL) {
        // SAFETY: as in `enter`.
        unsafe { spinlock::release(self.lock) };
        super::irql::lower(irql);
    }
}

/// The interrupt object that a driver passed.
///
/// # Safety
/// `interrupt` is NULL or a connected interrupt object.
unsafe fn object<'a>(interrupt: PKINTERRUPT, routine: &'static str) -> &'a InterruptObject {
    // SAFETY: every KINTERRUPT begins with an InterruptObject.
    let object: &InterruptObject = unsafe { borrow(interrupt.cast::<InterruptObject>(), routine) };
    if object.kind != InterruptObject::KIND {
        let explanation = format!("{routine}: {interrupt:p} is not a connected interrupt object");
        crate::entry::verifier([0xE1, interrupt.addr() as u64, 0, 0], explanation);
    }
    object
}

/// KeAcquireInterruptSpinLock. IRQL <= the synchronisation IRQL of the interrupt.
///
/// # Safety
/// `interrupt` is a connected interrupt object.
pub unsafe extern "win64" fn KeAcquireInterruptSpinLock(interrupt: PKINTERRUPT) -> KIRQL {
    // SAFETY: by the caller's promise.
    let object = unsafe { object(interrupt, "KeAcquireInterruptSpinLock") };
    let _inside = enter_with(
        "KeAcquireInterruptSpinLock",
        object.synchronize_irql,
        interrupt.addr(),
    );
    object.enter()
}

/// KeReleaseInterruptSpinLock. IRQL = the synchronisation IRQL of the interrupt.
///
/// # Safety
/// `interrupt` is a connected interrupt object.
pub unsafe extern "win64" fn KeReleaseInterruptSpinLock(interrupt: PKINTERRUPT, irql: KIRQL) {
    let _inside = enter_with("KeReleaseInterruptSpinLock", HIGH_LEVEL, interrupt.addr());
    // SAFETY: by the caller's promise.
    unsafe { object(interrupt, "KeReleaseInterruptSpinLock") }.leave(irql);
}

/// KeSynchronizeExecution. IRQL <= the synchronisation IRQL of the interrupt.
///
/// # Safety
/// `interrupt` is a connected interrupt object; `routine` may be called with `context`.
pub unsafe extern "win64" fn KeSynchronizeExecution(
    interrupt: PKINTERRUPT,
    routine: PKSYNCHRONIZE_ROUTINE,
    context: *mut c_void,
) -> BOOLEAN {
    // SAFETY: by the caller's promise.
    let object = unsafe { object(interrupt, "KeSynchronizeExecution") };
    let _inside = enter_with(
        "KeSynchronizeExecution",
        object.synchronize_irql,
        interrupt.addr(),
    );
    let routine = crate::entry::routine(routine, "KeSynchronizeExecution");
    object.synchronized(|| {
        driver_call(|| {
            // SAFETY: by the caller's promise.
            unsafe { routine(context) }
        })
    })
}
