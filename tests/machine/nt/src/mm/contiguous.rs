//! Physically contiguous memory.

use super::{PAGE, memory};
use crate::entry::{enter_with, verifier};
use crate::sched::{APC_LEVEL, DISPATCH_LEVEL};
use nt_sys::{MEMORY_CACHING_TYPE, NODE_REQUIREMENT, PHYSICAL_ADDRESS, SIZE_T, ULONG};
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// First physical address and number of pages, by virtual address.
static BLOCKS: Mutex<BTreeMap<usize, (u64, usize)>> = Mutex::new(BTreeMap::new());

fn blocks() -> MutexGuard<'static, BTreeMap<usize, (u64, usize)>> {
    BLOCKS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn address(value: PHYSICAL_ADDRESS) -> u64 {
    // SAFETY: every bit pattern is a number.
    unsafe { value.QuadPart }.cast_unsigned()
}

fn allocate(length: SIZE_T, lowest: u64, highest: u64, boundary: u64) -> *mut c_void {
    let pages = (length as usize).div_ceil(PAGE);
    let within = lowest..highest.saturating_add(1);
    let boundary = (boundary != 0).then_some(boundary);
    let memory = memory();
    let Ok(first) = memory.allocate_run(pages, within, PAGE as u64, boundary) else {
        return std::ptr::null_mut();
    };
    let Ok(window) = memory.window(first, pages * PAGE) else {
        return std::ptr::null_mut();
    };
    let base = window.as_ptr().cast::<c_void>();
    blocks().insert(base.addr(), (first, pages));
    base
}

fn free(base: *mut c_void, routine: &str) {
    let Some((first, pages)) = blocks().remove(&base.addr()) else {
        let explanation = format!("{routine}: {base:p} is no contiguous memory");
        verifier([0x10, base.addr() as u64, 0, 0], explanation);
    };
    let frames: Vec<u64> = (0..pages as u64)
        .map(|page| first + page * PAGE as u64)
        .collect();
    if let Err(error) = memory().free(&frames) {
        verifier(
            [0x16, 0, base.addr() as u64, 0],
            format!("{routine}: {error}"),
        );
    }
}

/// MmAllocateContiguousMemory. IRQL <= DISPATCH_LEVEL. The contents are not defined.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn MmAllocateContiguousMemory(
    length: SIZE_T,
    highest: PHYSICAL_ADDRESS,
) -> *mut c_void {
    let _inside = enter_with(
        "MmAllocateContiguousMemory",
        DISPATCH_LEVEL,
        length as usize,
    );
    allocate(length, 0, address(highest), 0)
}

/// MmAllocateContiguousMemorySpecifyCache. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn MmAllocateContiguousMemorySpecifyCache(
    length: SIZE_T,
    lowest: PHYSICAL_ADDRESS,
    highest: PHYSICAL_ADDRESS,
    boundary: PHYSICAL_ADDRESS,
    _cache: MEMORY_CACHING_TYPE,
) -> *mut c_void {
    let _inside = enter_with(
        "MmAllocateContiguousMemorySpecifyCache",
        DISPATCH_LEVEL,
        length as usize,
    );
    allocate(length, address(lowest), address(highest), address(boundary))
}

/// MmAllocateContiguousMemorySpecifyCacheNode. IRQL <= DISPATCH_LEVEL. There is one node.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn MmAllocateContiguousMemorySpecifyCacheNode(
    length: SIZE_T,
    lowest: PHYSICAL_ADDRESS,
    highest: PHYSICAL_ADDRESS,
    boundary: PHYSICAL_ADDRESS,
    cache: MEMORY_CACHING_TYPE,
    _node: NODE_REQUIREMENT,
) -> *mut c_void {
    // SAFETY: nothing is asked of the caller.
    unsafe { MmAllocateContiguousMemorySpecifyCache(length, lowest, highest, boundary, cache) }
}

/// MmAllocateContiguousNodeMemory. IRQL <= DISPATCH_LEVEL. There is one node.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn MmAllocateContiguousNodeMemory(
    length: SIZE_T,
    lowest: PHYSICAL_ADDRESS,
    highest: PHYSICAL_ADDRESS,
    boundary: PHYSICAL_ADDRESS,
    _protection: ULONG,
    _node: NODE_REQUIREMENT,
) -> *mut c_void {
    let _inside = enter_with(
        "MmAllocateContiguousNodeMemory",
        DISPATCH_LEVEL,
        length as usize,
    );
    allocate(length, address(lowest), address(highest), address(boundary))
}

/// MmFreeContiguousMemory. IRQL <= APC_LEVEL, as documented for callers before Windows 8 and safe in all.
///
/// # Safety
/// `base` is contiguous memory that nothing uses any more.
pub unsafe extern "win64" fn MmFreeContiguousMemory(base: *mut c_void) {
    let _inside = enter_with("MmFreeContiguousMemory", APC_LEVEL, base.addr());
    free(base, "MmFreeContiguousMemory");
}

/// MmFreeContiguousMemorySpecifyCache. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// As [`MmFreeContiguousMemory`].
pub unsafe extern "win64" fn MmFreeContiguousMemorySpecifyCache(
    base: *mut c_void,
    _length: SIZE_T,
    _cache: MEMORY_CACHING_TYPE,
) {
    let _inside = enter_with(
        "MmFreeContiguousMemorySpecifyCache",
        DISPATCH_LEVEL,
        base.addr(),
    );
    free(base, "MmFreeContiguousMemorySpecifyCache");
}
