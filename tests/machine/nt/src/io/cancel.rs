//! Cancelling IRPs.

use super::packet::{Packet, violation};
use crate::bugcheck::{self, code};
use crate::entry::{borrow, enter_with, verifier};
use crate::ke::irql;
use crate::ke::spinlock;
use crate::ke::stack::driver_call;
use crate::sched::{self, DISPATCH_LEVEL};
use nt_sys::{BOOLEAN, KIRQL, KSPIN_LOCK, PIRP, PKIRQL, PKSPIN_LOCK};
use std::cell::UnsafeCell;

/// The system's cancel spin lock.
struct CancelLock(UnsafeCell<KSPIN_LOCK>);

// SAFETY: only the spin lock routines touch the word, with volatile accesses on the machine's one thread.
unsafe impl Sync for CancelLock {}

static LOCK: CancelLock = CancelLock(UnsafeCell::new(0));

fn lock() -> PKSPIN_LOCK {
    LOCK.0.get()
}

fn acquire() -> KIRQL {
    let before = irql::raise(DISPATCH_LEVEL);
    // SAFETY: the lock is static.
    unsafe { spinlock::acquire(lock()) };
    before
}

fn release(irql: KIRQL) {
    // SAFETY: the lock is static.
    unsafe { spinlock::release(lock()) };
    irql::lower(irql);
}

/// IoAcquireCancelSpinLock. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// `irql` is valid.
pub unsafe extern "win64" fn IoAcquireCancelSpinLock(irql: PKIRQL) {
    let _inside = enter_with("IoAcquireCancelSpinLock", DISPATCH_LEVEL, 0);
    let before = acquire();
    // SAFETY: by the caller's promise.
    *unsafe { borrow(irql, "IoAcquireCancelSpinLock") } = before;
}

/// IoReleaseCancelSpinLock. IRQL = DISPATCH_LEVEL.
///
/// # Safety
/// The caller holds the cancel spin lock.
pub unsafe extern "win64" fn IoReleaseCancelSpinLock(irql: KIRQL) {
    let _inside = enter_with("IoReleaseCancelSpinLock", DISPATCH_LEVEL, 0);
    release(irql);
}

/// IoCancelIrp. IRQL <= DISPATCH_LEVEL. The cancel routine runs with the cancel spin lock held and has to release it.
/// A cancel routine set in an IRP that is complete is bug check 0x48.
///
/// # Safety
/// `irp` is an IRP that has not been freed.
pub unsafe extern "win64" fn IoCancelIrp(irp: PIRP) -> BOOLEAN {
    let _inside = enter_with("IoCancelIrp", DISPATCH_LEVEL, irp.addr());
    let before = acquire();
    // SAFETY: by the caller's promise.
    let Some(mut packet) = (unsafe { Packet::find(irp) }) else {
        violation(
            0xE1,
            irp,
            format!("IoCancelIrp: {irp:p} is no IRP, or was freed"),
        );
    };
    packet.raw().Cancel = 1;
    let Some(routine) = packet.swap_cancel_routine(None) else {
        release(before);
        return 0;
    };
    if packet.index() > packet.stack_count() {
        let parameters = [irp.addr() as u64, routine as usize as u64, 0, 0];
        let explanation = format!("IRP {irp:p} is complete, but its cancel routine is set");
        bugcheck::stop(code::CANCEL_STATE_IN_COMPLETED_IRP, parameters, explanation);
    }
    packet.raw().CancelIrql = before;
    let device = packet.current().DeviceObject;
    driver_call(|| {
        // SAFETY: the routine that the driver set for this IRP.
        unsafe { routine(device, irp) }
    });
    let after = sched::irql();
    if after != before {
        let parameters = [0xE5, after.into(), before.into(), routine as usize as u64];
        let explanation = format!(
            "a cancel routine returned at IRQL {after}: it has to release the cancel spin lock to CancelIrql, {before}"
        );
        verifier(parameters, explanation);
    }
    1
}
