//! Deferred procedure calls.

use crate::bugcheck::{Stop, stop_machine};
use crate::entry::{borrow, enter, enter_with, routine};
use crate::ke::stack::driver_call_on_own_stack;
use crate::sched::{self, APC_LEVEL, Dpc, HIGH_LEVEL, Kernel, Point, with};
use nt_sys::{
    BOOLEAN, CCHAR, KDPC, KDPC_IMPORTANCE, NTSTATUS, PKDEFERRED_ROUTINE, PKDPC, PPROCESSOR_NUMBER,
    PRKDPC, STATUS_INVALID_PARAMETER, STATUS_SUCCESS,
};
use std::ffi::c_void;

const DPC_OBJECT: u8 = 19;
/// `KDPC.Number` of a DPC with a target processor is this plus its number.
const TARGETED: u16 = 0x800;

/// The start of a KDPC, without its union.
#[repr(C)]
struct Head {
    kind: u8,
    importance: u8,
    number: u16,
}

/// The KDPC at `dpc`, and its head.
///
/// # Safety
/// `dpc` is NULL or a live KDPC; the borrow ends before the next switch point.
unsafe fn head<'a>(dpc: PRKDPC, routine: &'static str) -> &'a mut Head {
    // SAFETY: by the caller's promise; a KDPC starts with these four bytes.
    unsafe { borrow(dpc.cast::<Head>(), routine) }
}

/// KeInitializeDpc. Any IRQL.
///
/// # Safety
/// `dpc` points to memory for a KDPC.
pub unsafe extern "win64" fn KeInitializeDpc(
    dpc: PRKDPC,
    deferred: PKDEFERRED_ROUTINE,
    context: *mut c_void,
) {
    let _inside = enter_with("KeInitializeDpc", HIGH_LEVEL, dpc.addr());
    // SAFETY: by the caller's promise; a KDPC is plain data.
    let object = unsafe { borrow(dpc, "KeInitializeDpc") };
    // SAFETY: all bytes zero is a valid KDPC.
    *object = unsafe { std::mem::zeroed() };
    object.DeferredRoutine = deferred;
    object.DeferredContext = context;
    // SAFETY: by the caller's promise; `object` is not used any more.
    let head = unsafe { head(dpc, "KeInitializeDpc") };
    head.kind = DPC_OBJECT;
    head.importance = nt_sys::_KDPC_IMPORTANCE::MediumImportance as u8;
}

/// KeInitializeThreadedDpc: the machine has no threaded DPCs.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn KeInitializeThreadedDpc(
    _: PRKDPC,
    _: PKDEFERRED_ROUTINE,
    _: *mut c_void,
) {
    stop_machine(Stop::Unimplemented, "KeInitializeThreadedDpc")
}

/// KeInsertQueueDpc. Any IRQL.
///
/// # Safety
/// `dpc` is an initialised KDPC that stays valid until it has run.
pub unsafe extern "win64" fn KeInsertQueueDpc(
    dpc: PRKDPC,
    argument1: *mut c_void,
    argument2: *mut c_void,
) -> BOOLEAN {
    let _inside = enter_with("KeInsertQueueDpc", HIGH_LEVEL, dpc.addr());
    // SAFETY: by the caller's promise.
    let kind = unsafe { head(dpc, "KeInsertQueueDpc") }.kind;
    if kind != DPC_OBJECT {
        let explanation = format!("KeInsertQueueDpc: {dpc:p} is not an initialised KDPC");
        crate::entry::verifier([0xE1, dpc.addr() as u64, 0, 0], explanation);
    }
    // SAFETY: by the caller's promise.
    BOOLEAN::from(with(|k| unsafe { insert(k, dpc, argument1, argument2) }))
}

/// Queues a DPC; false if it is queued already.
///
/// # Safety
/// `dpc` is an initialised KDPC that stays valid until it has run.
pub(crate) unsafe fn insert(
    k: &mut Kernel,
    dpc: PKDPC,
    argument1: *mut c_void,
    argument2: *mut c_void,
) -> bool {
    // SAFETY: by the caller's promise.
    let &mut Head {
        importance, number, ..
    } = unsafe { head(dpc, "KeInsertQueueDpc") };
    // SAFETY: by the caller's promise.
    let object = unsafe { borrow(dpc, "KeInsertQueueDpc") };
    if !object.DpcData.is_null() {
        return false;
    }
    object.SystemArgument1 = argument1;
    object.SystemArgument2 = argument2;
    object.DpcData = dpc.cast();
    let address = dpc.expose_provenance();
    let entry = Dpc {
        object: address,
        run: Box::new(move || {
            // SAFETY: the KDPC stays valid until it has run, by the promise of whoever queued it.
            unsafe { call(std::ptr::with_exposed_provenance_mut(address)) }
        }),
    };
    let target =
        usize::from(number.checked_sub(TARGETED).unwrap_or(k.current as u16)) % k.processors.len();
    let queue = &mut k.processors[target].dpcs;
    if u32::from(importance) == nt_sys::_KDPC_IMPORTANCE::HighImportance as u32 {
        queue.push_front(entry);
    } else {
        queue.push_back(entry);
    }
    true
}

/// Runs a DPC that was taken from its queue: from now on it can be queued again.
///
/// # Safety
/// `dpc` is an initialised KDPC.
unsafe fn call(dpc: PKDPC) {
    // SAFETY: by the caller's promise.
    let object = unsafe { borrow(dpc, "KiRetireDpcList") };
    object.DpcData = std::ptr::null_mut();
    let deferred = routine(object.DeferredRoutine, "KeInsertQueueDpc");
    let (context, first, second) = (
        object.DeferredContext,
        object.SystemArgument1,
        object.SystemArgument2,
    );
    driver_call_on_own_stack(|| {
        // SAFETY: what KeInitializeDpc was promised.
        unsafe { deferred(dpc, context, first, second) }
    });
}

/// KeRemoveQueueDpc. Any IRQL.
///
/// # Safety
/// `dpc` is an initialised KDPC.
pub unsafe extern "win64" fn KeRemoveQueueDpc(dpc: PRKDPC) -> BOOLEAN {
    let _inside = enter_with("KeRemoveQueueDpc", HIGH_LEVEL, dpc.addr());
    // SAFETY: by the caller's promise.
    let object = unsafe { borrow(dpc, "KeRemoveQueueDpc") };
    let removed = with(|k| {
        let mut removed = false;
        for processor in &mut k.processors {
            let before = processor.dpcs.len();
            processor.dpcs.retain(|queued| queued.object != dpc.addr());
            removed |= processor.dpcs.len() != before;
        }
        removed
    });
    if removed {
        object.DpcData = std::ptr::null_mut();
    }
    BOOLEAN::from(removed)
}

/// KeSetImportanceDpc. Any IRQL.
///
/// # Safety
/// `dpc` is an initialised KDPC.
pub unsafe extern "win64" fn KeSetImportanceDpc(dpc: PRKDPC, importance: KDPC_IMPORTANCE) {
    let _inside = enter_with("KeSetImportanceDpc", HIGH_LEVEL, dpc.addr());
    // SAFETY: by the caller's promise.
    unsafe { head(dpc, "KeSetImportanceDpc") }.importance = importance as u8;
}

/// KeSetTargetProcessorDpc. Any IRQL.
///
/// # Safety
/// `dpc` is an initialised KDPC.
pub unsafe extern "win64" fn KeSetTargetProcessorDpc(dpc: PRKDPC, number: CCHAR) {
    let _inside = enter_with("KeSetTargetProcessorDpc", HIGH_LEVEL, dpc.addr());
    // SAFETY: by the caller's promise.
    unsafe { head(dpc, "KeSetTargetProcessorDpc") }.number = TARGETED + number as u8 as u16;
}

/// KeSetTargetProcessorDpcEx. Any IRQL.
///
/// # Safety
/// `dpc` is an initialised KDPC, `number` valid.
pub unsafe extern "win64" fn KeSetTargetProcessorDpcEx(
    dpc: PKDPC,
    number: PPROCESSOR_NUMBER,
) -> NTSTATUS {
    let _inside = enter_with("KeSetTargetProcessorDpcEx", HIGH_LEVEL, dpc.addr());
    // SAFETY: by the caller's promise.
    let number = unsafe { borrow(number, "KeSetTargetProcessorDpcEx") };
    if number.Group != 0
        || number.Reserved != 0
        || usize::from(number.Number) >= sched::processor_count()
    {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: by the caller's promise.
    unsafe { head(dpc, "KeSetTargetProcessorDpcEx") }.number = TARGETED + u16::from(number.Number);
    STATUS_SUCCESS
}

/// KeFlushQueuedDpcs. IRQL <= APC_LEVEL: waits until every DPC that is queued or runs now has run.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn KeFlushQueuedDpcs() {
    let _inside = enter("KeFlushQueuedDpcs", APC_LEVEL);
    while with(|k| {
        k.processors
            .iter()
            .any(|p| !p.dpcs.is_empty() || p.active_dpc.is_some())
    }) {
        sched::switch_point(Point::Yield);
    }
}

/// A queued DPC in this range of addresses.
pub(crate) fn queued_in(k: &Kernel, range: &std::ops::Range<usize>) -> Option<usize> {
    let mut queued = k.processors.iter().flat_map(|p| p.dpcs.iter());
    queued
        .find(|dpc| range.contains(&dpc.object))
        .map(|dpc| dpc.object)
}

const _: () = assert!(std::mem::offset_of!(KDPC, DpcListEntry) >= size_of::<Head>());
