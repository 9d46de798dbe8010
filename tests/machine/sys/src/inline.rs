//! The routines that the WDK defines inline, under their own names: no driver imports them, but whoever builds on the
//! kernel's structures needs them.
#![allow(non_snake_case)]

use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::{
    CSHORT, IO_STACK_LOCATION, IRP, LIST_ENTRY, MDL, PAGE_SHIFT, PAGE_SIZE, PDRIVER_CANCEL,
    PFN_NUMBER, PIO_COMPLETION_ROUTINE, PIO_STACK_LOCATION, PIRP, PLIST_ENTRY, PMDL, PVOID,
    SL_INVOKE_ON_CANCEL, SL_INVOKE_ON_ERROR, SL_INVOKE_ON_SUCCESS, SL_PENDING_RETURNED, UCHAR,
    ULONG,
};

// ---- sizes and addresses --------------------------------------------------------------------------------------------

/// Pages that hold `size` bytes which start on a page boundary.
#[must_use]
pub const fn BYTES_TO_PAGES(size: usize) -> usize {
    size.div_ceil(PAGE_SIZE as usize)
}

/// Offset of an address in its page.
#[must_use]
pub const fn BYTE_OFFSET(address: usize) -> usize {
    address & (PAGE_SIZE as usize - 1)
}

/// Pages that `size` bytes at `address` touch.
#[must_use]
pub const fn ADDRESS_AND_SIZE_TO_SPAN_PAGES(address: usize, size: usize) -> usize {
    BYTES_TO_PAGES(BYTE_OFFSET(address) + size)
}

// ---- IRPs -----------------------------------------------------------------------------------------------------------

/// Where an IRP keeps the pointer to its current stack location; whoever builds an IRP sets it.
///
/// # Safety
/// `irp` points to a live IRP.
#[must_use]
pub unsafe fn current_location(irp: PIRP) -> *mut PIO_STACK_LOCATION {
    // SAFETY: the caller's promise.
    let tail = unsafe { &raw mut (*irp).Tail };
    // SAFETY: as above; the overlay is the active member in an IRP that a driver owns, and nothing is read.
    unsafe {
        &raw mut (*tail)
            .Overlay
            .__bindgen_anon_2
            .__bindgen_anon_1
            .CurrentStackLocation
    }
}

/// The stack location of the driver that owns the IRP now.
///
/// # Safety
/// `irp` points to a live IRP.
#[must_use]
pub unsafe fn IoGetCurrentIrpStackLocation(irp: PIRP) -> PIO_STACK_LOCATION {
    // SAFETY: the caller's promise.
    let location = unsafe { current_location(irp) };
    // SAFETY: it points into the IRP.
    unsafe { location.read() }
}

/// The stack location of the next lower driver.
///
/// # Safety
/// `irp` points to a live IRP, and it has a lower stack location.
#[must_use]
pub unsafe fn IoGetNextIrpStackLocation(irp: PIRP) -> PIO_STACK_LOCATION {
    // SAFETY: the caller's promise.
    unsafe { IoGetCurrentIrpStackLocation(irp) }.wrapping_sub(1)
}

/// Moves the IRP by `count` stack locations: down for a positive count, up for a negative one.
///
/// # Safety
/// `irp` points to a live IRP that the caller owns, and it has those locations, or one beyond.
unsafe fn move_location(irp: PIRP, count: i8) {
    // SAFETY: the caller's promise.
    unsafe { (*irp).CurrentLocation -= count };
    // SAFETY: as above.
    let location = unsafe { current_location(irp) };
    // SAFETY: it points into the IRP.
    let location = unsafe { &mut *location };
    *location = location.wrapping_offset(-isize::from(count));
}

/// Makes the next lower stack location the current one.
///
/// # Safety
/// `irp` points to a live IRP that the caller owns, and it has a lower stack location.
pub unsafe fn IoSetNextIrpStackLocation(irp: PIRP) {
    // SAFETY: the caller's promise.
    unsafe { move_location(irp, 1) }
}

/// Lets the next lower driver use the caller's stack location.
///
/// # Safety
/// `irp` points to a live IRP that the caller owns, and its current location is the caller's.
pub unsafe fn IoSkipCurrentIrpStackLocation(irp: PIRP) {
    // SAFETY: the caller's promise.
    unsafe { move_location(irp, -1) }
}

/// Copies the caller's stack location to the next lower one, all but the completion routine.
///
/// # Safety
/// `irp` points to a live IRP that the caller owns, and it has a lower stack location.
pub unsafe fn IoCopyCurrentIrpStackLocationToNext(irp: PIRP) {
    // SAFETY: the caller's promise.
    let current = unsafe { IoGetCurrentIrpStackLocation(irp) };
    let next = current.wrapping_sub(1);
    let length = core::mem::offset_of!(IO_STACK_LOCATION, CompletionRoutine);
    // SAFETY: both are locations of this IRP, and two different ones.
    unsafe { ptr::copy_nonoverlapping(current.cast::<u8>(), next.cast::<u8>(), length) };
    // SAFETY: as above.
    unsafe { (*next).Control = 0 };
}

/// Has `routine` called when the lower drivers have completed the IRP with one of the chosen outcomes.
///
/// # Safety
/// `irp` points to a live IRP that the caller owns, and it has a lower stack location.
pub unsafe fn IoSetCompletionRoutine(
    irp: PIRP,
    routine: PIO_COMPLETION_ROUTINE,
    context: PVOID,
    on_success: bool,
    on_error: bool,
    on_cancel: bool,
) {
    // SAFETY: the caller's promise.
    let next = unsafe { IoGetNextIrpStackLocation(irp) };
    // SAFETY: the location belongs to the IRP, which the caller owns.
    let next = unsafe { &mut *next };
    next.CompletionRoutine = routine;
    next.Context = context;
    next.Control = [
        (on_success, SL_INVOKE_ON_SUCCESS),
        (on_error, SL_INVOKE_ON_ERROR),
        (on_cancel, SL_INVOKE_ON_CANCEL),
    ]
    .iter()
    .fold(0, |control, &(wanted, flag)| {
        if wanted {
            control | flag as UCHAR
        } else {
            control
        }
    });
}

/// Records that the owner of the current stack location returns `STATUS_PENDING`.
///
/// # Safety
/// `irp` points to a live IRP that the caller owns.
pub unsafe fn IoMarkIrpPending(irp: PIRP) {
    // SAFETY: the caller's promise.
    let location = unsafe { IoGetCurrentIrpStackLocation(irp) };
    // SAFETY: the location belongs to the IRP, which the caller owns.
    unsafe { (*location).Control |= SL_PENDING_RETURNED as UCHAR };
}

/// Exchanges the IRP's cancel routine and returns the one before: the one atomic step by which a driver and
/// `IoCancelIrp` decide who deals with the IRP.
///
/// # Safety
/// `irp` points to a live IRP.
pub unsafe fn IoSetCancelRoutine(irp: PIRP, routine: PDRIVER_CANCEL) -> PDRIVER_CANCEL {
    // SAFETY: the caller's promise; no reference is made.
    let field = unsafe { &raw mut (*irp).CancelRoutine };
    // SAFETY: an optional function pointer has the size and alignment of a pointer, and the field is only accessed so.
    let field = unsafe { AtomicPtr::from_ptr(field.cast::<*mut core::ffi::c_void>()) };
    let routine = routine.map_or(ptr::null_mut(), |routine| routine as *mut core::ffi::c_void);
    let before = field.swap(routine, Ordering::SeqCst);
    // SAFETY: the field holds null or a cancel routine, and null is `None`.
    unsafe { core::mem::transmute::<*mut core::ffi::c_void, PDRIVER_CANCEL>(before) }
}

/// Bytes of an IRP with `stack_size` stack locations.
#[must_use]
pub const fn IoSizeOfIrp(stack_size: i8) -> usize {
    size_of::<IRP>() + stack_size as usize * size_of::<IO_STACK_LOCATION>()
}

// ---- MDLs -----------------------------------------------------------------------------------------------------------

/// Bytes that the MDL describes.
///
/// # Safety
/// `mdl` points to a live MDL.
#[must_use]
pub unsafe fn MmGetMdlByteCount(mdl: PMDL) -> ULONG {
    // SAFETY: the caller's promise.
    unsafe { (*mdl).ByteCount }
}

/// Offset of the buffer in its first page.
///
/// # Safety
/// `mdl` points to a live MDL.
#[must_use]
pub unsafe fn MmGetMdlByteOffset(mdl: PMDL) -> ULONG {
    // SAFETY: the caller's promise.
    unsafe { (*mdl).ByteOffset }
}

/// Address of the buffer in the address space of whoever described it; the index for DMA, not to be dereferenced.
///
/// # Safety
/// `mdl` points to a live MDL.
#[must_use]
pub unsafe fn MmGetMdlVirtualAddress(mdl: PMDL) -> PVOID {
    // SAFETY: the caller's promise.
    let mdl = unsafe { &*mdl };
    mdl.StartVa.wrapping_byte_add(mdl.ByteOffset as usize)
}

/// The page frame numbers that follow the MDL.
///
/// # Safety
/// `mdl` points to a live MDL.
#[must_use]
pub unsafe fn MmGetMdlPfnArray(mdl: PMDL) -> *mut PFN_NUMBER {
    mdl.wrapping_add(1).cast()
}

/// Describes a buffer in the memory of an MDL that has room for its pages.
///
/// # Safety
/// `mdl` points to writable memory of at least the size of an MDL for that buffer.
pub unsafe fn MmInitializeMdl(mdl: PMDL, base: PVOID, length: usize) {
    let offset = BYTE_OFFSET(base as usize);
    let pages = ADDRESS_AND_SIZE_TO_SPAN_PAGES(base as usize, length);
    let header = MDL {
        Size: (size_of::<MDL>() + pages * size_of::<PFN_NUMBER>()) as CSHORT,
        StartVa: base.wrapping_byte_sub(offset),
        ByteCount: length as ULONG,
        ByteOffset: offset as ULONG,
        ..MDL::default()
    };
    // SAFETY: the caller's promise.
    unsafe { mdl.write(header) };
}

/// Physical address of byte `offset` of the buffer that an MDL with locked pages describes.
///
/// # Safety
/// `mdl` points to a live MDL whose pages are known, and `offset` is less than its length.
#[must_use]
pub unsafe fn mdl_physical_address(mdl: PMDL, offset: usize) -> u64 {
    // SAFETY: the caller's promise.
    let position = unsafe { MmGetMdlByteOffset(mdl) } as usize + offset;
    // SAFETY: as above.
    let pages = unsafe { MmGetMdlPfnArray(mdl) };
    let page = pages.wrapping_add(position >> PAGE_SHIFT);
    // SAFETY: the array has an entry for every page that the buffer touches.
    let frame = unsafe { page.read() };
    (frame << PAGE_SHIFT) + BYTE_OFFSET(position) as u64
}

// ---- doubly linked lists --------------------------------------------------------------------------------------------

/// Makes `head` the head of an empty list.
///
/// # Safety
/// `head` points to writable memory for a list entry.
pub unsafe fn InitializeListHead(head: PLIST_ENTRY) {
    // SAFETY: the caller's promise.
    unsafe {
        head.write(LIST_ENTRY {
            Flink: head,
            Blink: head,
        })
    };
}

/// Whether the list is empty.
///
/// # Safety
/// `head` points to the head of a list.
#[must_use]
pub unsafe fn IsListEmpty(head: *const LIST_ENTRY) -> bool {
    // SAFETY: the caller's promise.
    let first = unsafe { (*head).Flink };
    ptr::eq(first, head)
}

/// Links `entry` between two neighbours.
///
/// # Safety
/// All three point to list entries; `before` and `after` are neighbours in one list, `entry` is in none.
unsafe fn link(before: PLIST_ENTRY, entry: PLIST_ENTRY, after: PLIST_ENTRY) {
    // SAFETY: the caller's promise.
    unsafe {
        entry.write(LIST_ENTRY {
            Flink: after,
            Blink: before,
        })
    };
    // SAFETY: as above.
    unsafe { (*before).Flink = entry };
    // SAFETY: as above.
    unsafe { (*after).Blink = entry };
}

/// Adds an entry at the end of the list.
///
/// # Safety
/// `head` points to the head of a list, and `entry` to a list entry that is in no list.
pub unsafe fn InsertTailList(head: PLIST_ENTRY, entry: PLIST_ENTRY) {
    // SAFETY: the caller's promise.
    let last = unsafe { (*head).Blink };
    // SAFETY: the last entry and the head are neighbours.
    unsafe { link(last, entry, head) };
}

/// Adds an entry at the front of the list.
///
/// # Safety
/// `head` points to the head of a list, and `entry` to a list entry that is in no list.
pub unsafe fn InsertHeadList(head: PLIST_ENTRY, entry: PLIST_ENTRY) {
    // SAFETY: the caller's promise.
    let first = unsafe { (*head).Flink };
    // SAFETY: the head and the first entry are neighbours.
    unsafe { link(head, entry, first) };
}

/// Takes an entry out of its list; true when the list is empty then.
///
/// # Safety
/// `entry` points to an entry of a list.
pub unsafe fn RemoveEntryList(entry: PLIST_ENTRY) -> bool {
    // SAFETY: the caller's promise.
    let LIST_ENTRY {
        Flink: after,
        Blink: before,
    } = unsafe { entry.read() };
    // SAFETY: the neighbours of an entry are live.
    unsafe { (*before).Flink = after };
    // SAFETY: as above.
    unsafe { (*after).Blink = before };
    after == before
}

/// Takes the first entry out of the list; `None` when there is none.
///
/// # Safety
/// `head` points to the head of a list.
pub unsafe fn RemoveHeadList(head: PLIST_ENTRY) -> Option<PLIST_ENTRY> {
    // SAFETY: the caller's promise.
    let first = unsafe { (*head).Flink };
    if first == head {
        return None;
    }
    // SAFETY: it is an entry of the list.
    unsafe { RemoveEntryList(first) };
    Some(first)
}
