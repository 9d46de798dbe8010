//! Mapping the pages of an MDL a second time, for the kernel.

use super::mdl::{self, LOCKED, MAPPED, NONPAGED, PARTIAL, PARTIAL_MAPPED};
use super::{PAGE, memory};
use crate::bugcheck::{Stop, stop_machine};
use crate::entry::{borrow, enter_with, verifier};
use crate::sched::{DISPATCH_LEVEL, irql};
use machine_bus::MemoryError;
use nt_sys::{KPROCESSOR_MODE, MEMORY_CACHING_TYPE, PMDLX, ULONG};
use std::ffi::c_void;
use std::ptr::NonNull;

/// Removes the mapping that holds this address.
pub(super) fn unmap(address: *mut c_void) {
    let page = address
        .wrapping_byte_sub(address.addr() % PAGE)
        .cast::<u8>();
    let result = NonNull::new(page).ok_or(MemoryError::NotMapped { address: 0 });
    if let Err(error) = result.and_then(|page| memory().unmap(page)) {
        stop_machine(Stop::Internal, format!("unmapping {address:p}: {error}"));
    }
}

/// MmMapLockedPagesSpecifyCache. IRQL <= DISPATCH_LEVEL (0xC4, 0x76). Pages mapped already are 0xC4, 0xB2; pages that
/// are not locked 0xB3. Kernel mode only.
///
/// # Safety
/// `mdl` is an MDL that describes pages.
pub unsafe extern "win64" fn MmMapLockedPagesSpecifyCache(
    mdl: PMDLX,
    mode: KPROCESSOR_MODE,
    _cache: MEMORY_CACHING_TYPE,
    _requested: *mut c_void,
    bug_check: ULONG,
    _priority: ULONG,
) -> *mut c_void {
    let current = irql();
    if current > DISPATCH_LEVEL {
        let parameters = [0x76, current.into(), mdl.addr() as u64, mode as u64];
        verifier(
            parameters,
            format!("MmMapLockedPagesSpecifyCache at IRQL {current}"),
        );
    }
    let _inside = enter_with("MmMapLockedPagesSpecifyCache", DISPATCH_LEVEL, mdl.addr());
    if mode != 0 {
        stop_machine(
            Stop::Unimplemented,
            "MmMapLockedPagesSpecifyCache into user space",
        );
    }
    // SAFETY: by the caller's promise.
    let header = unsafe { borrow(mdl, "MmMapLockedPagesSpecifyCache") };
    let flags = header.MdlFlags;
    let wrong = flags & (MAPPED | NONPAGED | PARTIAL_MAPPED);
    if wrong != 0 {
        let parameters = [0xB2, mdl.addr() as u64, flags as u64, wrong as u64];
        verifier(
            parameters,
            format!("an MDL with flags {flags:#x} is mapped"),
        );
    }
    if flags & LOCKED == 0 {
        let parameters = [0xB3, mdl.addr() as u64, flags as u64, LOCKED as u64];
        verifier(
            parameters,
            format!("an MDL with flags {flags:#x} is mapped: its pages are not locked"),
        );
    }
    // SAFETY: by the caller's promise, and the pages are locked.
    let pages = unsafe { mdl::page_addresses(mdl) };
    let base = match memory().map(&pages) {
        Ok(base) => base.as_ptr().cast::<c_void>(),
        Err(error) if bug_check != 0 => {
            stop_machine(Stop::Internal, format!("mapping {mdl:p}: {error}"))
        }
        Err(_) => return std::ptr::null_mut(),
    };
    let address = base.wrapping_byte_add(header.ByteOffset as usize);
    header.MappedSystemVa = address;
    header.MdlFlags |= if flags & PARTIAL != 0 {
        MAPPED | PARTIAL_MAPPED
    } else {
        MAPPED
    };
    address
}

/// MmUnmapLockedPages. IRQL <= DISPATCH_LEVEL (0xC4, 0x79).
///
/// # Safety
/// `address` is what [`MmMapLockedPagesSpecifyCache`] returned for `mdl`.
pub unsafe extern "win64" fn MmUnmapLockedPages(address: *mut c_void, mdl: PMDLX) {
    let current = irql();
    if current > DISPATCH_LEVEL {
        let parameters = [
            0x79,
            current.into(),
            address.addr() as u64,
            mdl.addr() as u64,
        ];
        verifier(parameters, format!("MmUnmapLockedPages at IRQL {current}"));
    }
    let _inside = enter_with("MmUnmapLockedPages", DISPATCH_LEVEL, mdl.addr());
    // SAFETY: by the caller's promise.
    let header = unsafe { borrow(mdl, "MmUnmapLockedPages") };
    if header.MdlFlags & MAPPED == 0 || header.MappedSystemVa != address {
        let parameters = [
            0x79,
            current.into(),
            address.addr() as u64,
            mdl.addr() as u64,
        ];
        verifier(
            parameters,
            format!("MmUnmapLockedPages: MDL {mdl:p} is not mapped at {address:p}"),
        );
    }
    unmap(address);
    header.MdlFlags &= !(MAPPED | PARTIAL_MAPPED);
    header.MappedSystemVa = std::ptr::null_mut();
}
