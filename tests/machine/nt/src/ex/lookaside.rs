//! Lookaside lists. Blocks go back to the pool at once, so that every use after a free is found; what the list counts
//! is kept in it.

use super::pool::{self, Pool};
use crate::entry::{borrow, enter_with, verifier};
use crate::ke::stack::driver_call;
use crate::sched::DISPATCH_LEVEL;
use nt_sys::{
    LOOKASIDE_LIST_EX, NTSTATUS, PALLOCATE_FUNCTION_EX, PFREE_FUNCTION_EX, PLOOKASIDE_LIST_EX,
    POOL_TYPE, SIZE_T, STATUS_SUCCESS, ULONG, USHORT,
};
use std::collections::BTreeSet;
use std::ffi::c_void;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Addresses of the lists in use.
static LISTS: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());

fn lists() -> MutexGuard<'static, BTreeSet<usize>> {
    LISTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A list in this range of addresses.
pub(super) fn active_in(range: Range<usize>) -> Option<usize> {
    lists().range(range).next().copied()
}

/// ExInitializeLookasideListEx. IRQL <= DISPATCH_LEVEL. Initialising a list again is 0xC4, 0xCA.
///
/// # Safety
/// `list` points to memory for a LOOKASIDE_LIST_EX; the routines may be called for it.
pub unsafe extern "win64" fn ExInitializeLookasideListEx(
    list: PLOOKASIDE_LIST_EX,
    allocate: PALLOCATE_FUNCTION_EX,
    free: PFREE_FUNCTION_EX,
    pool_type: POOL_TYPE,
    _flags: ULONG,
    size: SIZE_T,
    tag: ULONG,
    depth: USHORT,
) -> NTSTATUS {
    let _inside = enter_with("ExInitializeLookasideListEx", DISPATCH_LEVEL, list.addr());
    if !lists().insert(list.addr()) {
        let parameters = [0xCA, list.addr() as u64, 0, 0];
        verifier(
            parameters,
            format!("lookaside list {list:p} is initialised again"),
        );
    }
    // SAFETY: by the caller's promise; a list is plain data.
    let object: &mut LOOKASIDE_LIST_EX = unsafe { borrow(list, "ExInitializeLookasideListEx") };
    // SAFETY: all bytes zero is a valid list.
    *object = unsafe { std::mem::zeroed() };
    object.L.Depth = depth;
    object.L.Type = pool_type;
    object.L.Tag = tag;
    object.L.Size = size as ULONG;
    object.L.AllocateEx = allocate;
    object.L.FreeEx = free;
    STATUS_SUCCESS
}

/// ExDeleteLookasideListEx. IRQL <= DISPATCH_LEVEL. A list that is not initialised is 0xC4, 0xCB.
///
/// # Safety
/// `list` is an initialised list.
pub unsafe extern "win64" fn ExDeleteLookasideListEx(list: PLOOKASIDE_LIST_EX) {
    let _inside = enter_with("ExDeleteLookasideListEx", DISPATCH_LEVEL, list.addr());
    if !lists().remove(&list.addr()) {
        let parameters = [0xCB, list.addr() as u64, 0, 0];
        verifier(
            parameters,
            format!("lookaside list {list:p} is deleted, but was not initialised"),
        );
    }
}

/// ExAllocateFromLookasideListEx. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// `list` is an initialised list.
pub unsafe extern "win64" fn ExAllocateFromLookasideListEx(
    list: PLOOKASIDE_LIST_EX,
) -> *mut c_void {
    let _inside = enter_with("ExAllocateFromLookasideListEx", DISPATCH_LEVEL, list.addr());
    // SAFETY: by the caller's promise.
    let object = unsafe { borrow(list, "ExAllocateFromLookasideListEx") };
    object.L.TotalAllocates += 1;
    object.L.AllocateMisses += 1;
    let (pool_type, size, tag) = (object.L.Type, object.L.Size, object.L.Tag);
    match object.L.AllocateEx {
        Some(allocate) => driver_call(|| {
            // SAFETY: by the promise of whoever initialised the list.
            unsafe { allocate(pool_type, size.into(), tag, list) }
        }),
        None => {
            pool::allocate(Pool::of(pool_type), size as usize, tag).unwrap_or(std::ptr::null_mut())
        }
    }
}

/// ExFreeToLookasideListEx. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// `entry` was allocated from `list`.
pub unsafe extern "win64" fn ExFreeToLookasideListEx(list: PLOOKASIDE_LIST_EX, entry: *mut c_void) {
    let _inside = enter_with("ExFreeToLookasideListEx", DISPATCH_LEVEL, entry.addr());
    // SAFETY: by the caller's promise.
    let object = unsafe { borrow(list, "ExFreeToLookasideListEx") };
    object.L.TotalFrees += 1;
    object.L.FreeMisses += 1;
    match object.L.FreeEx {
        Some(free) => driver_call(|| {
            // SAFETY: by the promise of whoever initialised the list.
            unsafe { free(entry, list) }
        }),
        // SAFETY: by the caller's promise.
        None => unsafe { pool::free(entry) },
    }
}
