//! IRPs as they lie in memory, without the unions: small accessors for what the I/O manager reads and writes.

use crate::bugcheck::{self, code};
use crate::entry::verifier;
use nt_sys::{IO_STACK_LOCATION, IRP, NTSTATUS, PDRIVER_CANCEL, PIRP, UCHAR};
use std::sync::atomic::{AtomicPtr, Ordering::SeqCst};

const IO_TYPE_IRP: i16 = nt_sys::IO_TYPE_IRP as i16;
pub(super) const PENDING_RETURNED: UCHAR = nt_sys::SL_PENDING_RETURNED as UCHAR;
pub(super) const INVOKE_ON_CANCEL: UCHAR = nt_sys::SL_INVOKE_ON_CANCEL as UCHAR;
pub(super) const INVOKE_ON_SUCCESS: UCHAR = nt_sys::SL_INVOKE_ON_SUCCESS as UCHAR;
pub(super) const INVOKE_ON_ERROR: UCHAR = nt_sys::SL_INVOKE_ON_ERROR as UCHAR;

/// Where an IRP keeps the pointer to its current location.
const CURRENT_LOCATION: usize = std::mem::offset_of!(
    IRP,
    Tail.Overlay
        .__bindgen_anon_2
        .__bindgen_anon_1
        .CurrentStackLocation
);

/// An IRP that a routine was passed, borrowed for the moment.
pub(super) struct Packet<'a> {
    irp: &'a mut IRP,
}

impl<'a> Packet<'a> {
    /// The IRP, if there is one.
    ///
    /// # Safety
    /// `irp` is NULL or points to memory that is, or was, an IRP; nothing else refers to it until the borrow ends,
    /// which must be before the next switch point.
    pub(super) unsafe fn find(irp: PIRP) -> Option<Self> {
        // SAFETY: by the caller's promise.
        let irp = unsafe { irp.as_mut() };
        irp.filter(|irp| irp.Type == IO_TYPE_IRP)
            .map(|irp| Self { irp })
    }

    /// As [`Packet::find`], for routines whose violation is 0xC9 with this code.
    ///
    /// # Safety
    /// As [`Packet::find`].
    pub(super) unsafe fn checked(irp: PIRP, violation: u64, routine: &str) -> Self {
        // SAFETY: by the caller's promise.
        unsafe { Self::find(irp) }.unwrap_or_else(|| {
            let explanation = format!("{routine}: {irp:p} is no IRP");
            iomanager([violation, irp.addr() as u64, 0, 0], explanation)
        })
    }

    /// Formats fresh memory as an IRP with `stack_size` locations.
    ///
    /// # Safety
    /// `irp` points to `size` bytes, enough for the IRP and its locations, that nothing else refers to.
    pub(super) unsafe fn format(irp: PIRP, size: usize, stack_size: i8) -> Self {
        // SAFETY: by the caller's promise.
        unsafe { irp.cast::<u8>().write_bytes(0, size) };
        // SAFETY: by the caller's promise; all bytes zero is a valid IRP.
        let irp_object = unsafe { &mut *irp };
        let packet = Self { irp: irp_object };
        packet.irp.Type = IO_TYPE_IRP;
        packet.irp.Size = size as u16;
        packet.irp.StackCount = stack_size;
        packet.irp.CurrentLocation = stack_size + 1;
        let above = irp
            .wrapping_add(1)
            .cast::<IO_STACK_LOCATION>()
            .wrapping_add(stack_size as usize);
        packet
            .irp
            .Tail
            .Overlay
            .__bindgen_anon_2
            .__bindgen_anon_1
            .CurrentStackLocation = above;
        let list = &raw mut packet.irp.ThreadListEntry;
        packet.irp.ThreadListEntry.Flink = list;
        packet.irp.ThreadListEntry.Blink = list;
        packet
    }

    pub(super) fn raw(&mut self) -> &mut IRP {
        self.irp
    }

    pub(super) fn status(&self) -> NTSTATUS {
        // SAFETY: the status is the union's plain member; the pointer beside it is never used.
        unsafe { self.irp.IoStatus.__bindgen_anon_1.Status }
    }

    pub(super) fn set_status(&mut self, status: NTSTATUS) {
        self.irp.IoStatus.__bindgen_anon_1.Status = status;
    }

    /// Index of the current location: StackCount for the highest driver, StackCount + 1 for the originator.
    pub(super) fn index(&self) -> i8 {
        self.irp.CurrentLocation
    }

    pub(super) fn stack_count(&self) -> i8 {
        self.irp.StackCount
    }

    fn current_pointer(&self) -> *mut IO_STACK_LOCATION {
        let irp: *const IRP = self.irp;
        let slot = irp
            .wrapping_byte_add(CURRENT_LOCATION)
            .cast::<*mut IO_STACK_LOCATION>();
        // SAFETY: an IRP's tail holds the pointer from its initialisation on.
        unsafe { slot.read() }
    }

    /// The current location. Only while [`Packet::index`] is at most StackCount.
    pub(super) fn current(&mut self) -> &mut IO_STACK_LOCATION {
        // SAFETY: the pointer is inside the IRP for such an index, which the caller has looked at.
        unsafe { &mut *self.current_pointer() }
    }

    /// The location of the next lower driver. Only while [`Packet::index`] is above 1.
    pub(super) fn next(&mut self) -> &mut IO_STACK_LOCATION {
        // SAFETY: as for `current`, one location lower.
        unsafe { &mut *self.current_pointer().wrapping_sub(1) }
    }

    /// Moves by a number of locations: down (to lower drivers) is negative.
    pub(super) fn step(&mut self, by: i8) {
        self.irp.CurrentLocation += by;
        let moved = self.current_pointer().wrapping_offset(by.into());
        self.irp
            .Tail
            .Overlay
            .__bindgen_anon_2
            .__bindgen_anon_1
            .CurrentStackLocation = moved;
    }

    pub(super) fn set_thread(&mut self, thread: nt_sys::PETHREAD) {
        self.irp.Tail.Overlay.Thread = thread;
    }

    /// Exchanges the cancel routine, atomically as IoSetCancelRoutine does.
    pub(super) fn swap_cancel_routine(&mut self, routine: PDRIVER_CANCEL) -> PDRIVER_CANCEL {
        let slot = (&raw mut self.irp.CancelRoutine).cast::<*mut ()>();
        let new = routine.map_or(std::ptr::null_mut(), |routine| routine as *mut ());
        // SAFETY: the field is an aligned pointer that lives as long as the borrow.
        let old = unsafe { AtomicPtr::from_ptr(slot) }.swap(new, SeqCst);
        // SAFETY: NULL and the address of a routine are exactly the values of this type.
        unsafe { std::mem::transmute::<*mut (), PDRIVER_CANCEL>(old) }
    }

    pub(super) fn has_cancel_routine(&self) -> bool {
        self.irp.CancelRoutine.is_some()
    }
}

/// Zeroes what Windows zeroes of a location when the IRP has passed it.
pub(super) fn clear(location: &mut IO_STACK_LOCATION) {
    location.MinorFunction = 0;
    location.Flags = 0;
    location.Control = 0;
    // SAFETY: all bytes zero is a valid value.
    location.Parameters = unsafe { std::mem::zeroed() };
    location.FileObject = std::ptr::null_mut();
}

/// Bug check 0xC9, DRIVER_VERIFIER_IOMANAGER_VIOLATION.
pub(super) fn iomanager(parameters: [u64; 4], explanation: impl std::fmt::Display) -> ! {
    bugcheck::stop(
        code::DRIVER_VERIFIER_IOMANAGER_VIOLATION,
        parameters,
        explanation,
    )
}

/// Bug check 0xC4 with an IRP as second parameter.
pub(super) fn violation(code: u64, irp: PIRP, explanation: impl std::fmt::Display) -> ! {
    verifier([code, irp.addr() as u64, 0, 0], explanation)
}
