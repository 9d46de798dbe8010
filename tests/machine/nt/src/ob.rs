//! Objects with reference counts, and the handles that name them.
//!
//! In front of every object body there is a header, as in Windows; a driver sees only the body. The memory of an
//! object that was deleted is filled and never used again, so that a stale pointer is found rather than obeyed.

use crate::bugcheck::{self, code};
use crate::entry::{enter_with, verifier};
use crate::sched::{DISPATCH_LEVEL, HIGH_LEVEL, PASSIVE_LEVEL};
use nt_sys::{
    ACCESS_MASK, HANDLE, KPROCESSOR_MODE, NTSTATUS, POBJECT_TYPE, STATUS_INVALID_HANDLE,
    STATUS_OBJECT_TYPE_MISMATCH, STATUS_SUCCESS,
};
use std::alloc::Layout;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// KTHREAD.
    Thread,
    /// DRIVER_OBJECT.
    Driver,
    /// DEVICE_OBJECT.
    Device,
    /// FILE_OBJECT.
    File,
    /// An open registry key.
    Key,
}

/// Called when the last reference is gone, at the IRQL of whoever gave it up.
pub type Delete = fn(*mut c_void);

#[repr(C, align(16))]
struct Header {
    magic: u64,
    references: i64,
    kind: Kind,
    size: usize,
    delete: Delete,
}

const LIVE: u64 = 0x0B_1EC7_0B1E_C700;
const DELETED: u64 = 0x0B_1EC7_DEAD_DEAD;
/// Fills the body of a deleted object.
const FILL: u8 = 0xDD;

/// Creates an object with a zeroed body of `size` bytes and one reference.
pub fn create(kind: Kind, size: usize, delete: Delete) -> *mut c_void {
    let total = size_of::<Header>() + size.max(1);
    let Ok(layout) = Layout::from_size_align(total, align_of::<Header>()) else {
        bugcheck::stop_machine(
            bugcheck::Stop::Internal,
            format!("an object of {size} bytes"),
        );
    };
    // SAFETY: the layout is not empty.
    let memory = unsafe { std::alloc::alloc_zeroed(layout) };
    if memory.is_null() {
        std::alloc::handle_alloc_error(layout);
    }
    let header = memory.cast::<Header>();
    let value = Header {
        magic: LIVE,
        references: 1,
        kind,
        size,
        delete,
    };
    // SAFETY: fresh memory, aligned and large enough.
    unsafe { header.write(value) };
    // SAFETY: the body follows the header inside the allocation.
    unsafe { header.add(1) }.cast()
}

/// The header of an object. An address that is no live object is bug check 0x18.
///
/// # Safety
/// `object` is, or was, an object.
unsafe fn header<'a>(object: *mut c_void, routine: &'static str) -> &'a mut Header {
    let fail = |why: &str| -> ! {
        let explanation = format!("{routine}: {object:p} {why}");
        bugcheck::stop(
            code::REFERENCE_BY_POINTER,
            [0, object.addr() as u64, 0, 0],
            explanation,
        )
    };
    if object.is_null() {
        fail("is no object");
    }
    // SAFETY: by the caller's promise there is a header before the body.
    let header = unsafe { &mut *object.cast::<Header>().wrapping_sub(1) };
    match header.magic {
        LIVE => header,
        DELETED => fail("was deleted"),
        _ => fail("is no object"),
    }
}

/// Adds a reference; the new count.
///
/// # Safety
/// `object` is an object.
pub unsafe fn reference(object: *mut c_void) -> i64 {
    // SAFETY: by the caller's promise.
    let header = unsafe { header(object, "ObReferenceObject") };
    if header.references <= 0 {
        let explanation = format!(
            "a {:?} object without references is referenced",
            header.kind
        );
        verifier([0x3F, object.addr() as u64, 1, 0], explanation);
    }
    header.references += 1;
    header.references
}

/// Gives up a reference; deletes the object with the last one. The new count.
///
/// # Safety
/// `object` is an object, of which the caller owns a reference.
pub unsafe fn dereference(object: *mut c_void) -> i64 {
    // SAFETY: by the caller's promise.
    let header = unsafe { header(object, "ObDereferenceObject") };
    header.references -= 1;
    let (left, size, delete) = (header.references, header.size, header.delete);
    if left < 0 {
        let explanation = format!(
            "a {:?} object is dereferenced more often than referenced",
            header.kind
        );
        verifier([0x3F, object.addr() as u64, u64::MAX, 0], explanation);
    }
    if left == 0 {
        delete(object);
        // SAFETY: as above; `delete` may have changed the body only.
        let header = unsafe { self::header(object, "ObDereferenceObject") };
        header.magic = DELETED;
        // SAFETY: the body has this size and nobody may use it any more.
        unsafe { object.cast::<u8>().write_bytes(FILL, size) };
    }
    left
}

/// The kind of an object.
///
/// # Safety
/// `object` is an object.
pub unsafe fn kind(object: *mut c_void) -> Kind {
    // SAFETY: by the caller's promise.
    unsafe { header(object, "ObGetObjectType") }.kind
}

/// The number of references.
///
/// # Safety
/// `object` is an object.
pub unsafe fn references(object: *mut c_void) -> i64 {
    // SAFETY: by the caller's promise.
    unsafe { header(object, "ObReferenceObject") }.references
}

struct Handles {
    open: BTreeMap<usize, usize>,
    next: usize,
}

/// Kernel handles have the high bit set, as in Windows.
const FIRST_HANDLE: usize = 0xFFFF_FFFF_8000_0000;

static HANDLES: Mutex<Handles> = Mutex::new(Handles {
    open: BTreeMap::new(),
    next: FIRST_HANDLE,
});

fn handles() -> MutexGuard<'static, Handles> {
    HANDLES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a handle that takes over a reference of the object.
pub fn open_handle(object: *mut c_void) -> HANDLE {
    let mut handles = handles();
    handles.next += 4;
    let handle = handles.next;
    handles.open.insert(handle, object.expose_provenance());
    std::ptr::without_provenance_mut(handle)
}

/// The object that a handle names; it keeps its reference.
pub fn handle_object(handle: HANDLE) -> Option<*mut c_void> {
    let address = handles().open.get(&handle.addr()).copied()?;
    Some(std::ptr::with_exposed_provenance_mut(address))
}

/// Closes a handle and gives up its reference.
pub fn close_handle(handle: HANDLE) -> NTSTATUS {
    let Some(address) = handles().open.remove(&handle.addr()) else {
        return STATUS_INVALID_HANDLE;
    };
    // SAFETY: the handle owned a reference.
    unsafe { dereference(std::ptr::with_exposed_provenance_mut(address)) };
    STATUS_SUCCESS
}

/// Handles that are open.
pub fn open_handles() -> usize {
    handles().open.len()
}

/// ObfReferenceObject. Any IRQL.
///
/// # Safety
/// `object` is an object.
pub unsafe extern "win64" fn ObfReferenceObject(object: *mut c_void) -> i64 {
    let _inside = enter_with("ObfReferenceObject", HIGH_LEVEL, object.addr());
    // SAFETY: by the caller's promise.
    unsafe { reference(object) }
}

/// ObfDereferenceObject. IRQL <= DISPATCH_LEVEL here; Windows wants PASSIVE_LEVEL for the last reference.
///
/// # Safety
/// `object` is an object, of which the caller owns a reference.
pub unsafe extern "win64" fn ObfDereferenceObject(object: *mut c_void) -> i64 {
    let _inside = enter_with("ObfDereferenceObject", DISPATCH_LEVEL, object.addr());
    // SAFETY: by the caller's promise.
    unsafe { dereference(object) }
}

/// ObDereferenceObjectDeferDelete. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// As [`ObfDereferenceObject`].
pub unsafe extern "win64" fn ObDereferenceObjectDeferDelete(object: *mut c_void) {
    let _inside = enter_with(
        "ObDereferenceObjectDeferDelete",
        DISPATCH_LEVEL,
        object.addr(),
    );
    // SAFETY: by the caller's promise.
    unsafe { dereference(object) };
}

/// ObReferenceObjectByHandle. IRQL = PASSIVE_LEVEL. Kernel handles; the type, if given, is `PsThreadType` (which is
/// how the machine exports it: NULL means any).
///
/// # Safety
/// `object` is valid.
pub unsafe extern "win64" fn ObReferenceObjectByHandle(
    handle: HANDLE,
    _access: ACCESS_MASK,
    object_type: POBJECT_TYPE,
    _mode: KPROCESSOR_MODE,
    object: *mut *mut c_void,
    _information: *mut c_void,
) -> NTSTATUS {
    let _inside = enter_with("ObReferenceObjectByHandle", PASSIVE_LEVEL, handle.addr());
    let Some(found) = handle_object(handle) else {
        verifier(
            [0x3C, handle.addr() as u64, 0, 0],
            "ObReferenceObjectByHandle with a bad handle",
        );
    };
    // SAFETY: an open handle names a live object.
    let kind = unsafe { kind(found) };
    if !object_type.is_null() && kind != Kind::Thread {
        return STATUS_OBJECT_TYPE_MISMATCH;
    }
    // SAFETY: as above.
    unsafe { reference(found) };
    // SAFETY: by the caller's promise.
    *unsafe { crate::entry::borrow(object, "ObReferenceObjectByHandle") } = found;
    STATUS_SUCCESS
}

/// ZwClose. IRQL = PASSIVE_LEVEL.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn ZwClose(handle: HANDLE) -> NTSTATUS {
    let _inside = enter_with("ZwClose", PASSIVE_LEVEL, handle.addr());
    close_handle(handle)
}
