//! One request: the IRP that the I/O manager makes of a call, and its way back.
//!
//! What NtReadFile, NtWriteFile and NtDeviceIoControlFile do after their checks, and what the I/O manager does when the
//! IRP comes back: it unlocks the pages at once, and in the caller's context copies buffered data and frees the IRP.

#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "each block names one place in a structure of nested unions"
)]

use std::cell::{Cell, UnsafeCell};
use std::ffi::c_void;
use std::pin::Pin;
use std::ptr;
use std::time::Duration;

use machine_nt::bugcheck::{self, code};
use machine_nt::counters;
use machine_nt::exports::{
    ExAllocatePool2, ExFreePoolWithTag, IoAllocateIrp, IoAllocateMdl, IoCancelIrp, IoFreeIrp,
    IoFreeMdl, IofCallDriver, KeGetCurrentThread, KeInitializeEvent, KeSetEvent,
    KeWaitForSingleObject, MmUnlockPages,
};
use machine_nt::mm::probe_and_lock;
use nt_sys::*;

use super::object::FileObject;
use super::thread::relative;

/// Pool tag of buffered data, as the I/O manager's.
const TAG: u32 = u32::from_le_bytes(*b"Io  ");

/// A user's memory: where it starts, and how many bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    pub(super) address: *mut u8,
    pub(super) length: usize,
}

/// How an IRP came back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    pub(super) status: NTSTATUS,
    pub(super) information: usize,
}

/// An IRP under way, with what the I/O manager needs when it comes back.
pub(super) struct Issued {
    irp: PIRP,
    /// Set when the IRP has come back.
    event: UnsafeCell<KEVENT>,
    ended: Cell<Option<Ended>>,
    /// Whether a driver has seen the IRP.
    sent: Cell<bool>,
    /// Pool block of buffered data, null if there is none.
    system_buffer: Cell<*mut c_void>,
    /// Where buffered data goes at the end.
    pub(super) destination: Cell<Option<Memory>>,
    /// Every IRP holds its file object, but the one that closes it.
    _file: Option<FileObject>,
}

impl Issued {
    /// An IRP for `device`, with the stack location of its highest driver to be filled in.
    pub(super) fn new(
        device: PDEVICE_OBJECT,
        object: PFILE_OBJECT,
        file: Option<&FileObject>,
        major: u32,
    ) -> Result<(Pin<Box<Self>>, PIO_STACK_LOCATION), NTSTATUS> {
        // SAFETY: the device object is kept by the file object.
        let stack_size = unsafe { (*device).StackSize };
        // SAFETY: no memory is passed.
        let irp = unsafe { IoAllocateIrp(stack_size, 1) };
        if irp.is_null() {
            return Err(STATUS_INSUFFICIENT_RESOURCES);
        }
        let issued = Box::pin(Self {
            irp,
            // SAFETY: all zero is a valid value; it is initialised below, at its final place.
            event: UnsafeCell::new(unsafe { std::mem::zeroed() }),
            ended: Cell::new(None),
            sent: Cell::new(false),
            system_buffer: Cell::new(ptr::null_mut()),
            destination: Cell::new(None),
            _file: file.cloned(),
        });
        // SAFETY: the event stays where it is, the box being pinned.
        unsafe { KeInitializeEvent(issued.event.get(), _EVENT_TYPE::NotificationEvent, 0) };
        // SAFETY: the IRP is ours until it is sent.
        let packet = unsafe { &mut *irp };
        packet.RequestorMode = _MODE::UserMode as KPROCESSOR_MODE;
        packet.Tail.Overlay.Thread = thread();
        packet.Tail.Overlay.OriginalFileObject = object;
        // SAFETY: a fresh IRP has a location above its first.
        let location = unsafe {
            packet
                .Tail
                .Overlay
                .__bindgen_anon_2
                .__bindgen_anon_1
                .CurrentStackLocation
        }
        .wrapping_sub(1);
        // SAFETY: as above; the location is zeroed.
        let next = unsafe { &mut *location };
        next.MajorFunction = major as UCHAR;
        next.FileObject = object;
        // The originator has no location of its own; its completion routine stands in the highest driver's.
        next.CompletionRoutine = Some(come_back);
        next.Context = ptr::from_ref(&*issued).cast_mut().cast();
        next.Control = (SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_ERROR | SL_INVOKE_ON_CANCEL) as UCHAR;
        Ok((issued, location))
    }

    pub(super) fn send(&self, device: PDEVICE_OBJECT) {
        counters().irps_issued.increment();
        self.sent.set(true);
        // SAFETY: the IRP is complete, and the device object is kept by the file object.
        unsafe { IofCallDriver(device, self.irp) };
    }

    /// The IRP's event, for waiting on several.
    pub(super) fn event(&self) -> *mut c_void {
        self.event.get().cast()
    }

    /// Whether the IRP has come back.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.get().is_some()
    }

    /// Waits until the IRP has come back. That it has ended is not enough: whoever completed it has yet to set the event,
    /// which must be there until then.
    pub(super) fn wait(&self) -> Ended {
        loop {
            // SAFETY: the event lives as long as `self`.
            unsafe {
                KeWaitForSingleObject(
                    self.event(),
                    _KWAIT_REASON::UserRequest,
                    _MODE::UserMode as KPROCESSOR_MODE,
                    0,
                    ptr::null_mut(),
                )
            };
            if let Some(ended) = self.ended.get() {
                return ended;
            }
        }
    }

    /// Waits until the IRP has come back, but not for longer than `limit`; whether it has.
    pub(super) fn wait_for(&self, limit: Duration) -> bool {
        let mut timeout = relative(limit);
        // SAFETY: the event lives as long as `self`, the timeout is a local variable.
        unsafe {
            KeWaitForSingleObject(
                self.event(),
                _KWAIT_REASON::UserRequest,
                _MODE::UserMode as KPROCESSOR_MODE,
                0,
                &raw mut timeout,
            )
        };
        self.has_ended()
    }

    /// Whether the caller's thread made the request.
    pub(super) fn is_of_current_thread(&self) -> bool {
        // SAFETY: the IRP is freed by the drop of `self` only; drivers leave its originator's thread alone.
        let issuer = unsafe { (*self.irp).Tail.Overlay.Thread };
        issuer == thread()
    }

    /// Asks for the IRP's cancellation; whether a driver had a cancel routine set.
    pub(super) fn cancel(&self) -> bool {
        // SAFETY: the IRP is freed by the drop of `self` only.
        unsafe { IoCancelIrp(self.irp) != 0 }
    }

    /// What the I/O manager does in the caller's context: gives buffered data to the user.
    fn deliver(&self, ended: Ended) {
        let Some(destination) = self.destination.get() else {
            return;
        };
        // Warnings carry data, errors do not.
        let is_error = ended.status.cast_unsigned() >> 30 == 3;
        if is_error || ended.information == 0 {
            return;
        }
        if ended.information > destination.length {
            bugcheck::stop(
                code::PAGE_FAULT_IN_NONPAGED_AREA,
                [
                    self.system_buffer.get().addr() as u64 + destination.length as u64,
                    0,
                    0,
                    0,
                ],
                format!(
                    "an IRP came back with Information {} for a buffer of {} bytes: the I/O manager copies that much",
                    ended.information, destination.length
                ),
            );
        }
        // SAFETY: both have room for so many bytes; the destination is the user's, who gave it to this request.
        unsafe {
            ptr::copy_nonoverlapping(
                self.system_buffer.get().cast::<u8>(),
                destination.address,
                ended.information,
            );
        }
    }
}

impl Drop for Issued {
    fn drop(&mut self) {
        if self.sent.get() {
            // A request that its owner gives up is cancelled and waited for, since its memory is about to go.
            if !self.has_ended() {
                self.cancel();
            }
            let ended = self.wait();
            self.deliver(ended);
        }
        let system_buffer = self.system_buffer.get();
        if !system_buffer.is_null() {
            // SAFETY: allocated for this IRP, which no driver has.
            unsafe { ExFreePoolWithTag(system_buffer, TAG) };
        }
        // SAFETY: no driver has the IRP, and nobody else frees it.
        unsafe { IoFreeIrp(self.irp) };
    }
}

/// The IRP is back: its pages are unlocked, its caller is told. The IRP itself is freed in the caller's context.
///
/// # Safety
/// `context` is the [`Issued`] of this IRP. IRQL <= DISPATCH_LEVEL.
unsafe extern "win64" fn come_back(_device: PDEVICE_OBJECT, irp: PIRP, context: PVOID) -> NTSTATUS {
    counters().irps_completed.increment();
    // SAFETY: by the caller's promise; an `Issued` does not go before its IRP has come back.
    let issued = unsafe { &*context.cast::<Issued>() };
    // SAFETY: the IRP is the originator's again.
    let packet = unsafe { &mut *irp };
    let mut mdl = std::mem::replace(&mut packet.MdlAddress, ptr::null_mut());
    while !mdl.is_null() {
        // SAFETY: an MDL of the chain, locked by `lock`.
        let next = unsafe { (*mdl).Next };
        // SAFETY: as above.
        unsafe { MmUnlockPages(mdl) };
        // SAFETY: as above; nobody may use it any more.
        unsafe { IoFreeMdl(mdl) };
        mdl = next;
    }
    // SAFETY: the status is the first member of the union that drivers set.
    let status = unsafe { packet.IoStatus.__bindgen_anon_1.Status };
    issued.ended.set(Some(Ended {
        status,
        information: packet.IoStatus.Information as usize,
    }));
    // SAFETY: the event lives in `issued`.
    unsafe { KeSetEvent(issued.event.get(), IO_NO_INCREMENT as KPRIORITY, 0) };
    STATUS_MORE_PROCESSING_REQUIRED
}

impl Issued {
    pub(super) fn add_flags(&self, flags: u32) {
        // SAFETY: the IRP is there as long as `self`, and not sent yet.
        unsafe { (*self.irp).Flags |= flags };
    }

    pub(super) fn set_user_buffer(&self, memory: Memory) {
        // SAFETY: as in `add_flags`.
        unsafe { (*self.irp).UserBuffer = memory.address.cast() };
    }

    /// Gives the IRP a system buffer of `length` bytes that starts with a copy of `source`.
    pub(super) fn buffer(&self, length: usize, source: Option<Memory>) -> Result<(), NTSTATUS> {
        // SAFETY: no memory is passed.
        let block = unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED, length as SIZE_T, TAG) };
        if block.is_null() {
            return Err(STATUS_INSUFFICIENT_RESOURCES);
        }
        if let Some(source) = source.filter(|source| source.length > 0) {
            // SAFETY: the block has at least that length; the user's memory is part of this request.
            unsafe { ptr::copy_nonoverlapping(source.address, block.cast(), source.length) };
        }
        self.system_buffer.set(block);
        // SAFETY: as in `add_flags`.
        unsafe { (*self.irp).AssociatedIrp.SystemBuffer = block };
        self.add_flags(IRP_BUFFERED_IO | IRP_DEALLOCATE_BUFFER);
        Ok(())
    }

    /// Gives the IRP an MDL over the locked pages of `memory`; none if it is empty.
    pub(super) fn lock(&self, memory: Memory, access: LOCK_OPERATION) -> Result<(), NTSTATUS> {
        if memory.length == 0 {
            return Ok(());
        }
        let length = memory.length as u32;
        // SAFETY: the IRP has not been sent and has no MDL.
        let mdl = unsafe { IoAllocateMdl(memory.address.cast(), length, 0, 1, self.irp) };
        if mdl.is_null() {
            return Err(STATUS_INSUFFICIENT_RESOURCES);
        }
        // SAFETY: a new MDL, over memory of the caller, who gave it to this request.
        let locked = unsafe { probe_and_lock(mdl, _MODE::UserMode as KPROCESSOR_MODE, access) };
        if locked.is_err() {
            // SAFETY: as in `add_flags`.
            unsafe { (*self.irp).MdlAddress = ptr::null_mut() };
            // SAFETY: nobody has seen the MDL.
            unsafe { IoFreeMdl(mdl) };
        }
        locked
    }
}

fn thread() -> PETHREAD {
    // SAFETY: takes nothing.
    unsafe { KeGetCurrentThread() }.cast()
}
