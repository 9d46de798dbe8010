//! IRPs that the I/O manager itself makes for a driver and takes back: IoBuildSynchronousFsdRequest and
//! IoBuildDeviceIoControlRequest.

use super::irp::{allocate, release};
use super::packet::{Packet, iomanager};
use crate::bugcheck::{Stop, stop_machine};
use crate::entry::{borrow, enter_with};
use crate::ex::pool::{self, Pool};
use crate::ke::event::set_event;
use crate::mm::mdl::{IoAllocateMdl, IoFreeMdl, MmProbeAndLockPages, MmUnlockPages};
use crate::sched::{APC_LEVEL, PASSIVE_LEVEL, with};
use nt_sys::{
    BOOLEAN, DEVICE_OBJECT, PDEVICE_OBJECT, PIO_STATUS_BLOCK, PIRP, PKEVENT, PLARGE_INTEGER, UCHAR,
    ULONG,
};
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, PoisonError};

const TAG: u32 = u32::from_le_bytes(*b"Io  ");

/// Where the data of a buffered request goes when the IRP comes back.
#[derive(Debug, Clone, Copy)]
struct CopyBack {
    from: usize,
    to: usize,
    length: usize,
}

/// What has to be done when such an IRP comes back.
#[derive(Debug, Default)]
struct Pending {
    system_buffer: Option<usize>,
    copy_back: Option<CopyBack>,
}

static REQUESTS: Mutex<BTreeMap<usize, Pending>> = Mutex::new(BTreeMap::new());

fn requests() -> MutexGuard<'static, BTreeMap<usize, Pending>> {
    REQUESTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Memory of the caller: where and how long.
#[derive(Clone, Copy)]
struct Memory {
    address: *mut c_void,
    length: ULONG,
}

/// An IRP for `device` that comes back through `event` and `block`.
fn build(
    device: PDEVICE_OBJECT,
    major: ULONG,
    event: PKEVENT,
    block: PIO_STATUS_BLOCK,
) -> Option<PIRP> {
    // SAFETY: the callers of the routines below pass a device object.
    let stack_size = unsafe { borrow(device, "IoBuildRequest") }.StackSize;
    let irp = allocate(stack_size);
    if irp.is_null() {
        return None;
    }
    let thread = with(|k| k.current_thread().object);
    // SAFETY: a fresh IRP.
    let mut packet = unsafe { Packet::checked(irp, 3, "IoBuildRequest") };
    packet.set_thread(std::ptr::with_exposed_provenance_mut(thread));
    packet.raw().UserEvent = event;
    packet.raw().__bindgen_anon_1.UserIosb = block;
    packet.next().MajorFunction = major as UCHAR;
    requests().insert(irp.addr(), Pending::default());
    Some(irp)
}

fn add_system_buffer(irp: PIRP, size: usize, source: Option<Memory>) -> bool {
    let Some(buffer) = pool::allocate(Pool::NonPaged, size, TAG) else {
        return false;
    };
    // SAFETY: a fresh block of this size.
    unsafe { buffer.cast::<u8>().write_bytes(0, size) };
    if let Some(source) = source {
        let length = source.length as usize;
        // SAFETY: the caller of the routine passed this memory; the block is as long.
        unsafe {
            std::ptr::copy_nonoverlapping(source.address.cast::<u8>(), buffer.cast(), length)
        };
    }
    // SAFETY: the IRP was made by `build` and not sent.
    let mut packet = unsafe { Packet::checked(irp, 3, "IoBuildRequest") };
    packet.raw().AssociatedIrp.SystemBuffer = buffer;
    packet.raw().Flags |= nt_sys::IRP_BUFFERED_IO | nt_sys::IRP_DEALLOCATE_BUFFER;
    requests().entry(irp.addr()).or_default().system_buffer = Some(buffer.expose_provenance());
    true
}

fn copy_back(irp: PIRP, to: Memory) {
    let mut requests = requests();
    let pending = requests.entry(irp.addr()).or_default();
    if let Some(from) = pending.system_buffer {
        pending.copy_back = Some(CopyBack {
            from,
            to: to.address.expose_provenance(),
            length: to.length as usize,
        });
    }
}

fn add_mdl(irp: PIRP, memory: Memory, writes_memory: bool) -> bool {
    // SAFETY: the IRP was made by `build`.
    let mdl = unsafe { IoAllocateMdl(memory.address, memory.length, 0, 0, irp) };
    if mdl.is_null() {
        return false;
    }
    let operation = if writes_memory {
        nt_sys::_LOCK_OPERATION::IoWriteAccess
    } else {
        nt_sys::_LOCK_OPERATION::IoReadAccess
    };
    // SAFETY: a fresh MDL over memory of the caller.
    unsafe { MmProbeAndLockPages(mdl, 0, operation) };
    true
}

fn give_up(irp: PIRP) -> PIRP {
    let pending = requests().remove(&irp.addr());
    if let Some(buffer) = pending.and_then(|pending| pending.system_buffer) {
        // SAFETY: allocated for this IRP, which is not sent.
        unsafe { pool::free(std::ptr::with_exposed_provenance_mut(buffer)) };
    }
    // SAFETY: nobody has the IRP.
    unsafe { release(irp) };
    std::ptr::null_mut()
}

/// IoBuildSynchronousFsdRequest. IRQL = PASSIVE_LEVEL. Read, write, flush, shutdown and PnP.
///
/// # Safety
/// As for the Windows routine.
pub unsafe extern "win64" fn IoBuildSynchronousFsdRequest(
    major: ULONG,
    device: PDEVICE_OBJECT,
    buffer: *mut c_void,
    length: ULONG,
    offset: PLARGE_INTEGER,
    event: PKEVENT,
    block: PIO_STATUS_BLOCK,
) -> PIRP {
    let _inside = enter_with("IoBuildSynchronousFsdRequest", PASSIVE_LEVEL, device.addr());
    let Some(irp) = build(device, major, event, block) else {
        return std::ptr::null_mut();
    };
    let reads = match major {
        nt_sys::IRP_MJ_READ => true,
        nt_sys::IRP_MJ_WRITE => false,
        nt_sys::IRP_MJ_FLUSH_BUFFERS | nt_sys::IRP_MJ_SHUTDOWN | nt_sys::IRP_MJ_PNP => return irp,
        _ => stop_machine(
            Stop::Unimplemented,
            format!("IoBuildSynchronousFsdRequest for major function {major:#x}"),
        ),
    };
    // SAFETY: by the caller's promise.
    let offset = unsafe { offset.as_ref() }.copied().unwrap_or_default();
    // SAFETY: made above.
    let mut packet = unsafe { Packet::checked(irp, 3, "IoBuildSynchronousFsdRequest") };
    let location = packet.next();
    if reads {
        location.Parameters.Read.Length = length;
        location.Parameters.Read.ByteOffset = offset;
    } else {
        location.Parameters.Write.Length = length;
        location.Parameters.Write.ByteOffset = offset;
    }
    // SAFETY: by the caller's promise.
    let flags = unsafe { borrow::<DEVICE_OBJECT>(device, "IoBuildSynchronousFsdRequest") }.Flags;
    let memory = Memory {
        address: buffer,
        length,
    };
    let ok = if flags & nt_sys::DO_BUFFERED_IO != 0 {
        let ok = add_system_buffer(irp, length as usize, (!reads).then_some(memory));
        if reads {
            copy_back(irp, memory);
        }
        ok
    } else if flags & nt_sys::DO_DIRECT_IO != 0 {
        add_mdl(irp, memory, reads)
    } else {
        packet.raw().UserBuffer = buffer;
        true
    };
    if ok { irp } else { give_up(irp) }
}

/// IoBuildDeviceIoControlRequest. IRQL = PASSIVE_LEVEL.
///
/// # Safety
/// As for the Windows routine.
pub unsafe extern "win64" fn IoBuildDeviceIoControlRequest(
    control_code: ULONG,
    device: PDEVICE_OBJECT,
    input: *mut c_void,
    input_length: ULONG,
    output: *mut c_void,
    output_length: ULONG,
    internal: BOOLEAN,
    event: PKEVENT,
    block: PIO_STATUS_BLOCK,
) -> PIRP {
    let _inside = enter_with("IoBuildDeviceIoControlRequest", APC_LEVEL, device.addr());
    let major = if internal != 0 {
        nt_sys::IRP_MJ_INTERNAL_DEVICE_CONTROL
    } else {
        nt_sys::IRP_MJ_DEVICE_CONTROL
    };
    let Some(irp) = build(device, major, event, block) else {
        return std::ptr::null_mut();
    };
    // SAFETY: made above.
    let mut packet = unsafe { Packet::checked(irp, 3, "IoBuildDeviceIoControlRequest") };
    let location = packet.next();
    location.Parameters.DeviceIoControl.IoControlCode = control_code;
    location.Parameters.DeviceIoControl.InputBufferLength = input_length;
    location.Parameters.DeviceIoControl.OutputBufferLength = output_length;
    let (input, output) = (
        Memory {
            address: input,
            length: input_length,
        },
        Memory {
            address: output,
            length: output_length,
        },
    );
    let method = control_code & 3;
    let ok = match method {
        nt_sys::METHOD_BUFFERED => {
            let size = input_length.max(output_length) as usize;
            let ok = size == 0 || add_system_buffer(irp, size, Some(input));
            copy_back(irp, output);
            ok
        }
        nt_sys::METHOD_NEITHER => {
            location.Parameters.DeviceIoControl.Type3InputBuffer = input.address;
            packet.raw().UserBuffer = output.address;
            true
        }
        method => {
            let writes = method == nt_sys::METHOD_OUT_DIRECT;
            (input_length == 0 || add_system_buffer(irp, input_length as usize, Some(input)))
                && (output_length == 0 || add_mdl(irp, output, writes))
        }
    };
    if ok { irp } else { give_up(irp) }
}

/// The IRP has passed its highest location: the I/O manager takes it back. An IRP from IoAllocateIrp has to be kept by
/// a completion routine of its maker: Windows would complete it to a thread that it does not have.
///
/// # Safety
/// `irp` is an IRP that has passed every location.
pub(super) unsafe fn finish(irp: PIRP) {
    let Some(pending) = requests().remove(&irp.addr()) else {
        let explanation = format!(
            "IRP {irp:p} has come back to the I/O manager, which did not make it: the completion routine of its maker \
             has to return STATUS_MORE_PROCESSING_REQUIRED"
        );
        iomanager([2, irp.addr() as u64, 0, 0], explanation);
    };
    // SAFETY: by the caller's promise.
    let mut packet = unsafe { Packet::checked(irp, 3, "IoCompleteRequest") };
    let (status, information) = (packet.status(), packet.raw().IoStatus.Information);
    if let Some(copy) = pending
        .copy_back
        .filter(|_| status.cast_unsigned() >> 30 != 3)
    {
        let (from, to): (*const u8, *mut u8) = (
            std::ptr::with_exposed_provenance(copy.from),
            std::ptr::with_exposed_provenance_mut(copy.to),
        );
        // SAFETY: both were given for this request and are as long as the shorter of the two lengths.
        unsafe { std::ptr::copy_nonoverlapping(from, to, copy.length.min(information as usize)) };
    }
    let mut mdl = std::mem::replace(&mut packet.raw().MdlAddress, std::ptr::null_mut());
    // SAFETY: the union's member for requests.
    let block = unsafe { packet.raw().__bindgen_anon_1.UserIosb };
    let (io_status, event) = (packet.raw().IoStatus, packet.raw().UserEvent);
    // SAFETY: the chain of this IRP consists of MDLs.
    while let Some(header) = unsafe { mdl.as_ref() } {
        let next = header.Next;
        // SAFETY: locked when the request was built.
        unsafe { MmUnlockPages(mdl) };
        // SAFETY: nobody uses it any more.
        unsafe { IoFreeMdl(mdl) };
        mdl = next;
    }
    if let Some(buffer) = pending.system_buffer {
        // SAFETY: allocated for this IRP.
        unsafe { pool::free(std::ptr::with_exposed_provenance_mut(buffer)) };
    }
    // SAFETY: the block that the maker of the request passed, or NULL.
    if let Some(block) = unsafe { block.as_mut() } {
        *block = io_status;
    }
    // SAFETY: the IRP has come back.
    unsafe { release(irp) };
    if !event.is_null() {
        // SAFETY: the event that the maker of the request passed.
        unsafe { set_event(event) };
    }
}
