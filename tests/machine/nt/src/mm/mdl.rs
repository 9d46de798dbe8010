//! MDLs: which physical pages are behind a range of addresses. Laid out in memory as a driver sees them: the header,
//! then one page frame number a page.

use super::{PAGE, map, memory, user};
use crate::bugcheck::{self, code};
use crate::entry::{borrow, enter_with, verifier};
use crate::ex::pool::{self, Pool};
use crate::sched::{APC_LEVEL, DISPATCH_LEVEL, HIGH_LEVEL, irql};
use nt_sys::inline::ADDRESS_AND_SIZE_TO_SPAN_PAGES;
use nt_sys::{
    BOOLEAN, CSHORT, KPROCESSOR_MODE, LOCK_OPERATION, MDL, NTSTATUS, PFN_NUMBER, PIRP, PMDL, PMDLX,
    SIZE_T, STATUS_ACCESS_VIOLATION, ULONG,
};
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

const TAG: u32 = u32::from_le_bytes(*b"Mdl ");
const HEADER: usize = size_of::<MDL>();

pub(super) const MAPPED: CSHORT = nt_sys::MDL_MAPPED_TO_SYSTEM_VA as CSHORT;
pub(super) const LOCKED: CSHORT = nt_sys::MDL_PAGES_LOCKED as CSHORT;
pub(super) const NONPAGED: CSHORT = nt_sys::MDL_SOURCE_IS_NONPAGED_POOL as CSHORT;
pub(super) const PARTIAL: CSHORT = nt_sys::MDL_PARTIAL as CSHORT;
pub(super) const PARTIAL_MAPPED: CSHORT = nt_sys::MDL_PARTIAL_HAS_BEEN_MAPPED as CSHORT;
const WRITE: CSHORT = nt_sys::MDL_WRITE_OPERATION as CSHORT;

/// MDLs with locked pages: the addresses they describe.
static LOCKED_RANGES: Mutex<BTreeMap<usize, Range<usize>>> = Mutex::new(BTreeMap::new());

fn locked_ranges() -> MutexGuard<'static, BTreeMap<usize, Range<usize>>> {
    LOCKED_RANGES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An MDL that has pages of the range locked.
pub(super) fn locked_in(range: &Range<usize>) -> Option<usize> {
    let locked = locked_ranges();
    let overlaps = |r: &Range<usize>| r.start < range.end && range.start < r.end;
    locked
        .iter()
        .find(|(_, r)| overlaps(r))
        .map(|(&mdl, _)| mdl)
}

/// The first address that an MDL describes.
pub(super) fn address(mdl: &MDL) -> usize {
    mdl.StartVa.addr() + mdl.ByteOffset as usize
}

/// The addresses that an MDL describes.
fn range(mdl: &MDL) -> Range<usize> {
    address(mdl)..address(mdl) + mdl.ByteCount as usize
}

/// The page frame numbers of an MDL.
pub type Frames<'a> = &'a mut [PFN_NUMBER];

/// The page frame numbers behind the header of an MDL.
///
/// # Safety
/// `mdl` is an MDL with room for its pages; nothing else refers to the numbers meanwhile.
pub unsafe fn frames<'a>(mdl: PMDL) -> Frames<'a> {
    // SAFETY: by the caller's promise.
    let header = unsafe { borrow(mdl, "MmGetMdlPfnArray") };
    let pages =
        ADDRESS_AND_SIZE_TO_SPAN_PAGES(header.ByteOffset as usize, header.ByteCount as usize);
    let first = mdl.wrapping_add(1).cast::<PFN_NUMBER>();
    // SAFETY: by the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(first, pages) }
}

/// Physical addresses of the pages of an MDL.
///
/// # Safety
/// `mdl` is an MDL whose pages are known (locked, or of nonpaged pool).
pub(super) unsafe fn page_addresses(mdl: PMDL) -> Vec<u64> {
    // SAFETY: by the caller's promise.
    let frames: &[PFN_NUMBER] = unsafe { frames(mdl) };
    frames.iter().map(|frame| frame * PAGE as u64).collect()
}

/// Writes the page frame numbers of what is mapped at the addresses of the MDL; false if something is not RAM.
///
/// # Safety
/// As [`frames`].
unsafe fn fill_frames(mdl: PMDL) -> bool {
    // SAFETY: by the caller's promise.
    let start = unsafe { borrow(mdl, "MmBuildMdl") }.StartVa.addr();
    // SAFETY: by the caller's promise.
    let frames = unsafe { frames(mdl) };
    let memory = memory();
    frames.iter_mut().enumerate().all(|(index, frame)| {
        let page: *const u8 = std::ptr::with_exposed_provenance(start + index * PAGE);
        let physical = memory.physical(page);
        physical
            .map(|physical| *frame = physical / PAGE as u64)
            .is_some()
    })
}

/// Locks the pages behind an MDL, as MmProbeAndLockPages does, with the exception that it would raise as an error.
///
/// # Safety
/// `mdl` is an MDL from IoAllocateMdl that describes no pages yet.
pub unsafe fn probe_and_lock(
    mdl: PMDL,
    mode: KPROCESSOR_MODE,
    operation: LOCK_OPERATION,
) -> Result<(), NTSTATUS> {
    // SAFETY: by the caller's promise.
    let described = range(unsafe { borrow(mdl, "MmProbeAndLockPages") });
    if mode != 0 && !user::is_user(&described) {
        return Err(STATUS_ACCESS_VIOLATION);
    }
    // SAFETY: by the caller's promise.
    if !unsafe { fill_frames(mdl) } {
        return Err(STATUS_ACCESS_VIOLATION);
    }
    // SAFETY: by the caller's promise.
    let header = unsafe { borrow(mdl, "MmProbeAndLockPages") };
    header.MdlFlags |= LOCKED;
    if operation != nt_sys::_LOCK_OPERATION::IoReadAccess {
        header.MdlFlags |= WRITE;
    }
    locked_ranges().insert(mdl.addr(), described);
    Ok(())
}

/// IoAllocateMdl. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// `irp` is NULL or an IRP, whose MDL chain the new MDL joins.
pub unsafe extern "win64" fn IoAllocateMdl(
    address: *mut c_void,
    length: ULONG,
    secondary: BOOLEAN,
    _charge_quota: BOOLEAN,
    irp: PIRP,
) -> PMDL {
    let _inside = enter_with("IoAllocateMdl", DISPATCH_LEVEL, address.addr());
    let pages = ADDRESS_AND_SIZE_TO_SPAN_PAGES(address.addr(), length as usize);
    let size = HEADER + pages * size_of::<PFN_NUMBER>();
    let Some(block) = pool::allocate(Pool::NonPaged, size, TAG) else {
        return std::ptr::null_mut();
    };
    let mdl: PMDL = block.cast();
    let offset = address.addr() % PAGE;
    let header = MDL {
        Next: std::ptr::null_mut(),
        Size: size as CSHORT,
        MdlFlags: 0,
        AllocationProcessorNumber: 0,
        Reserved: 0,
        Process: std::ptr::null_mut(),
        MappedSystemVa: std::ptr::null_mut(),
        StartVa: address.wrapping_byte_sub(offset),
        ByteCount: length,
        ByteOffset: offset as ULONG,
    };
    // SAFETY: a fresh block of this size.
    unsafe { mdl.write(header) };
    // SAFETY: by the caller's promise.
    if let Some(irp) = unsafe { irp.as_mut() } {
        let mut last = &mut irp.MdlAddress;
        if secondary != 0 {
            // SAFETY: the chain of an IRP consists of MDLs.
            while let Some(next) = unsafe { last.as_mut() } {
                last = &mut next.Next;
            }
        }
        *last = mdl;
    }
    mdl
}

/// IoFreeMdl. IRQL <= DISPATCH_LEVEL. Mapped pages are 0xC4, 0xB8; locked ones 0xCB. A partial MDL that was mapped is
/// unmapped, as documented.
///
/// # Safety
/// `mdl` is from [`IoAllocateMdl`].
pub unsafe extern "win64" fn IoFreeMdl(mdl: PMDL) {
    let _inside = enter_with("IoFreeMdl", DISPATCH_LEVEL, mdl.addr());
    // SAFETY: by the caller's promise.
    let header = unsafe { borrow(mdl, "IoFreeMdl") };
    let flags = header.MdlFlags;
    if flags & PARTIAL_MAPPED != 0 {
        map::unmap(header.MappedSystemVa);
    } else if flags & MAPPED != 0 && flags & PARTIAL == 0 {
        verifier(
            [0xB8, mdl.addr() as u64, flags as u64, 0],
            format!("IoFreeMdl of {mdl:p} ({flags:#x}), whose pages are still mapped"),
        );
    }
    if flags & LOCKED != 0 && flags & PARTIAL == 0 {
        let explanation =
            format!("IoFreeMdl of {mdl:p} ({flags:#x}), whose pages are still locked");
        let parameters = [0, 0, mdl.addr() as u64, 1];
        bugcheck::stop(
            code::DRIVER_LEFT_LOCKED_PAGES_IN_PROCESS,
            parameters,
            explanation,
        );
    }
    // SAFETY: by the caller's promise.
    unsafe { pool::free(mdl.cast()) };
}

/// MmSizeOfMdl. Any IRQL.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn MmSizeOfMdl(base: *mut c_void, length: SIZE_T) -> SIZE_T {
    let pages = ADDRESS_AND_SIZE_TO_SPAN_PAGES(base.addr(), length as usize);
    (HEADER + pages * size_of::<PFN_NUMBER>()) as SIZE_T
}

/// MmBuildMdlForNonPagedPool. IRQL <= DISPATCH_LEVEL. 0xC4, 0x7F for anything that is not nonpaged memory.
///
/// # Safety
/// `mdl` is an MDL over nonpaged pool.
pub unsafe extern "win64" fn MmBuildMdlForNonPagedPool(mdl: PMDLX) {
    let _inside = enter_with("MmBuildMdlForNonPagedPool", DISPATCH_LEVEL, mdl.addr());
    // SAFETY: by the caller's promise.
    let is_ram = unsafe { fill_frames(mdl) };
    // SAFETY: by the caller's promise.
    let header = unsafe { borrow(mdl, "MmBuildMdlForNonPagedPool") };
    let described = range(header);
    if !is_ram || pool::is_paged(described.start) || user::is_user(&described) {
        let parameters = [
            0x7F,
            irql().into(),
            mdl.addr() as u64,
            header.MdlFlags as u64,
        ];
        verifier(
            parameters,
            format!("MmBuildMdlForNonPagedPool: {described:#x?} is no nonpaged memory"),
        );
    }
    header.MdlFlags |= NONPAGED;
    header.MappedSystemVa = header.StartVa.wrapping_byte_add(header.ByteOffset as usize);
}

/// MmProbeAndLockPages. IRQL <= DISPATCH_LEVEL for kernel memory, <= APC_LEVEL for a user's (0xC4, 0x70). MDLs that
/// describe pages already are 0xC4, 0xB0. The exception for memory that cannot be had is bug check 0x1E: no driver of
/// the machine catches it.
///
/// # Safety
/// `mdl` is from [`IoAllocateMdl`].
pub unsafe extern "win64" fn MmProbeAndLockPages(
    mdl: PMDLX,
    mode: KPROCESSOR_MODE,
    operation: LOCK_OPERATION,
) {
    let current = irql();
    let highest = if mode == 0 { DISPATCH_LEVEL } else { APC_LEVEL };
    if current > highest {
        let parameters = [0x70, current.into(), mdl.addr() as u64, mode as u64];
        verifier(parameters, format!("MmProbeAndLockPages at IRQL {current}"));
    }
    let _inside = enter_with("MmProbeAndLockPages", DISPATCH_LEVEL, mdl.addr());
    // SAFETY: by the caller's promise.
    let flags = unsafe { borrow(mdl, "MmProbeAndLockPages") }.MdlFlags;
    let wrong = flags & (LOCKED | MAPPED | NONPAGED | PARTIAL);
    if wrong != 0 {
        let parameters = [0xB0, mdl.addr() as u64, flags as u64, wrong as u64];
        verifier(
            parameters,
            format!("MmProbeAndLockPages for an MDL with flags {flags:#x}"),
        );
    }
    // SAFETY: by the caller's promise, and checked above.
    if let Err(status) = unsafe { probe_and_lock(mdl, mode, operation) } {
        let explanation =
            format!("MmProbeAndLockPages raises {status:#x} for the memory of MDL {mdl:p}");
        let parameters = [status.cast_unsigned().into(), 0, 0, mdl.addr() as u64];
        bugcheck::stop(code::KMODE_EXCEPTION_NOT_HANDLED, parameters, explanation);
    }
}

/// MmUnlockPages. IRQL <= DISPATCH_LEVEL (0xC4, 0x78). Pages that were never locked are 0xC4, 0x7C; of nonpaged pool
/// 0x7D; a partial MDL 0xB4. A mapping of the MDL goes too, as documented.
///
/// # Safety
/// `mdl` is an MDL.
pub unsafe extern "win64" fn MmUnlockPages(mdl: PMDLX) {
    let current = irql();
    if current > DISPATCH_LEVEL {
        let parameters = [0x78, current.into(), mdl.addr() as u64, 0];
        verifier(parameters, format!("MmUnlockPages at IRQL {current}"));
    }
    let _inside = enter_with("MmUnlockPages", DISPATCH_LEVEL, mdl.addr());
    // SAFETY: by the caller's promise.
    let header = unsafe { borrow(mdl, "MmUnlockPages") };
    let flags = header.MdlFlags;
    let violation = match () {
        () if flags & PARTIAL != 0 => Some((0xB4, "a partial MDL")),
        () if flags & NONPAGED != 0 => Some((0x7D, "an MDL of nonpaged pool")),
        () if flags & LOCKED == 0 => Some((0x7C, "an MDL whose pages are not locked")),
        () => None,
    };
    if let Some((code, what)) = violation {
        let explanation = format!("MmUnlockPages for {what} (flags {flags:#x})");
        verifier([code, mdl.addr() as u64, flags as u64, 0], explanation);
    }
    if flags & MAPPED != 0 {
        map::unmap(header.MappedSystemVa);
    }
    header.MappedSystemVa = std::ptr::null_mut();
    header.MdlFlags &= !(LOCKED | MAPPED | WRITE);
    locked_ranges().remove(&mdl.addr());
}

/// IoBuildPartialMdl. IRQL <= DISPATCH_LEVEL. A target without room is bug check 0x40; a range outside of the source
/// 0x1E, as for the exception that Windows does not promise.
///
/// # Safety
/// Both are MDLs; `source` describes pages.
pub unsafe extern "win64" fn IoBuildPartialMdl(
    source: PMDL,
    target: PMDL,
    start: *mut c_void,
    length: ULONG,
) {
    let _inside = enter_with("IoBuildPartialMdl", DISPATCH_LEVEL, target.addr());
    // SAFETY: by the caller's promise.
    let from = unsafe { borrow(source, "IoBuildPartialMdl") };
    let whole = range(from);
    let first = start.addr();
    let length = match length {
        0 => whole.end.saturating_sub(first),
        length => length as usize,
    };
    if first < whole.start || first + length > whole.end {
        let invalid_parameter = 0xC000_000D;
        let explanation =
            format!("IoBuildPartialMdl: {first:#x} and {length:#x} bytes are not in {whole:#x?}");
        bugcheck::stop(
            code::KMODE_EXCEPTION_NOT_HANDLED,
            [invalid_parameter, 0, 0, 0],
            explanation,
        );
    }
    // SAFETY: by the caller's promise.
    let into = unsafe { borrow(target, "IoBuildPartialMdl") };
    let room =
        (into.Size.cast_unsigned() as usize).saturating_sub(HEADER) / size_of::<PFN_NUMBER>();
    let offset = first % PAGE;
    let pages = ADDRESS_AND_SIZE_TO_SPAN_PAGES(offset, length);
    if pages > room {
        let explanation =
            format!("IoBuildPartialMdl: {pages} pages, the target has room for {room}");
        let parameters = [
            source.addr() as u64,
            target.addr() as u64,
            pages as u64,
            room as u64,
        ];
        bugcheck::stop(code::TARGET_MDL_TOO_SMALL, parameters, explanation);
    }
    let page = first - offset;
    into.StartVa = start.wrapping_byte_sub(offset);
    into.ByteOffset = offset as ULONG;
    into.ByteCount = length as ULONG;
    into.Process = from.Process;
    into.MdlFlags = PARTIAL | (from.MdlFlags & (LOCKED | NONPAGED | MAPPED | WRITE));
    into.MappedSystemVa = match from.MdlFlags & (MAPPED | NONPAGED) {
        0 => std::ptr::null_mut(),
        _ => from.MappedSystemVa.wrapping_byte_add(first - whole.start),
    };
    let skip = (page - from.StartVa.addr()) / PAGE;
    // SAFETY: by the caller's promise.
    let source_frames: &[PFN_NUMBER] = unsafe { frames(source) };
    // SAFETY: by the caller's promise, and there is room.
    let target_frames = unsafe { frames(target) };
    target_frames.copy_from_slice(&source_frames[skip..skip + pages]);
}

/// MmGetPhysicalAddress. Any IRQL. Zero for what is no RAM, as Windows.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn MmGetPhysicalAddress(
    address: *mut c_void,
) -> nt_sys::PHYSICAL_ADDRESS {
    let _inside = enter_with("MmGetPhysicalAddress", HIGH_LEVEL, address.addr());
    let physical = memory().physical(address.cast()).unwrap_or(0);
    nt_sys::PHYSICAL_ADDRESS {
        QuadPart: physical.cast_signed(),
    }
}

/// MmIsAddressValid. IRQL <= DISPATCH_LEVEL. Whether there is RAM behind the address.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn MmIsAddressValid(address: *mut c_void) -> BOOLEAN {
    let _inside = enter_with("MmIsAddressValid", DISPATCH_LEVEL, address.addr());
    memory().physical(address.cast()).is_some().into()
}

/// KeFlushIoBuffers. IRQL <= DISPATCH_LEVEL. DMA is coherent on this platform: there is nothing to flush.
///
/// # Safety
/// `mdl` is an MDL.
pub unsafe extern "win64" fn KeFlushIoBuffers(mdl: PMDL, _reads: BOOLEAN, _dma: BOOLEAN) {
    let _inside = enter_with("KeFlushIoBuffers", DISPATCH_LEVEL, mdl.addr());
}
