//! IRPs: their life, their way down through the drivers of a stack and back up.

use super::packet::{
    INVOKE_ON_CANCEL, INVOKE_ON_ERROR, INVOKE_ON_SUCCESS, PENDING_RETURNED, Packet, clear,
    iomanager,
};
use super::verify::{self, Passed, Returned};
use super::{device, request};
use crate::bugcheck::{self, code};
use crate::entry::{borrow, enter_with, verifier};
use crate::ex::pool::{self, Pool};
use crate::ke::stack::driver_call;
use crate::ob;
use crate::sched::{DISPATCH_LEVEL, HIGH_LEVEL, irql, with};
use nt_sys::{
    BOOLEAN, CCHAR, IO_STACK_LOCATION, IRP, NTSTATUS, PDEVICE_OBJECT, PIO_COMPLETION_ROUTINE, PIRP,
    STATUS_INSUFFICIENT_RESOURCES, STATUS_MORE_PROCESSING_REQUIRED, STATUS_PENDING, STATUS_SUCCESS,
    ULONG, USHORT,
};
use std::ffi::c_void;

/// Pool tag of IRPs.
pub(crate) const TAG: u32 = u32::from_le_bytes(*b"Irp ");

/// Bytes of an IRP with that many stack locations.
fn size_of_irp(stack_size: CCHAR) -> usize {
    size_of::<IRP>() + usize::from(stack_size.cast_unsigned()) * size_of::<IO_STACK_LOCATION>()
}

pub(super) fn allocate(stack_size: CCHAR) -> PIRP {
    let size = size_of_irp(stack_size);
    let Some(block) = pool::allocate(Pool::NonPaged, size, TAG) else {
        return std::ptr::null_mut();
    };
    let irp: PIRP = block.cast();
    // SAFETY: a fresh block of this size.
    unsafe { Packet::format(irp, size, stack_size) };
    verify::begin(irp, true);
    irp
}

/// Frees an IRP from [`allocate`].
///
/// # Safety
/// Nothing uses the IRP any more.
pub(super) unsafe fn release(irp: PIRP) {
    verify::end(irp);
    // SAFETY: by the caller's promise.
    unsafe { pool::free(irp.cast()) };
}

/// IRPs that were allocated and not freed.
pub fn live_irps() -> usize {
    verify::live()
}

/// IoAllocateIrp. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn IoAllocateIrp(stack_size: CCHAR, _charge_quota: BOOLEAN) -> PIRP {
    let _inside = enter_with("IoAllocateIrp", DISPATCH_LEVEL, stack_size as usize);
    allocate(stack_size)
}

/// IoFreeIrp. IRQL <= DISPATCH_LEVEL. What is no IRP is 0xC9, 1; an IRP that a driver still has 0x20B.
///
/// # Safety
/// `irp` is from [`IoAllocateIrp`].
pub unsafe extern "win64" fn IoFreeIrp(irp: PIRP) {
    let _inside = enter_with("IoFreeIrp", DISPATCH_LEVEL, irp.addr());
    // SAFETY: by the caller's promise.
    unsafe { Packet::checked(irp, 1, "IoFreeIrp") };
    if verify::is_in_use(irp) {
        iomanager(
            [0x20B, irp.addr() as u64, 0, 0],
            format!("IoFreeIrp of {irp:p}, which a driver still has"),
        );
    }
    if !verify::is_allocated(irp) {
        iomanager(
            [1, irp.addr() as u64, 0, 0],
            format!("IoFreeIrp of {irp:p}, which IoAllocateIrp did not make"),
        );
    }
    // SAFETY: by the caller's promise.
    unsafe { release(irp) };
}

/// IoInitializeIrp. IRQL <= DISPATCH_LEVEL. An IRP from IoAllocateIrp is 0xC9, 0x20D.
///
/// # Safety
/// `irp` points to `size` bytes.
pub unsafe extern "win64" fn IoInitializeIrp(irp: PIRP, size: USHORT, stack_size: CCHAR) {
    let _inside = enter_with("IoInitializeIrp", DISPATCH_LEVEL, irp.addr());
    if verify::is_allocated(irp) {
        let explanation = format!("IoInitializeIrp for {irp:p}, which is from IoAllocateIrp");
        iomanager([0x20D, irp.addr() as u64, 0, 0], explanation);
    }
    // SAFETY: by the caller's promise.
    unsafe { Packet::format(irp, size.into(), stack_size) };
    verify::begin(irp, false);
}

/// IoReuseIrp. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// `irp` is an IRP of the caller.
pub unsafe extern "win64" fn IoReuseIrp(irp: PIRP, status: NTSTATUS) {
    let _inside = enter_with("IoReuseIrp", DISPATCH_LEVEL, irp.addr());
    // SAFETY: by the caller's promise.
    let mut packet = unsafe { Packet::checked(irp, 1, "IoReuseIrp") };
    if verify::is_in_use(irp) {
        let explanation = format!("IoReuseIrp of {irp:p}, which a driver still has");
        iomanager([0x20B, irp.addr() as u64, 0, 0], explanation);
    }
    let allocated = verify::is_allocated(irp);
    let (size, stack_size, flags) = {
        let raw = packet.raw();
        (raw.Size, raw.StackCount, raw.AllocationFlags)
    };
    // SAFETY: the IRP has this size.
    let mut packet = unsafe { Packet::format(irp, size.into(), stack_size) };
    packet.raw().AllocationFlags = flags;
    packet.set_status(status);
    verify::begin(irp, allocated);
}

/// IofCallDriver. IRQL <= DISPATCH_LEVEL (0xC9, 0x10). Checks of I/O verification: 3 no IRP, 4 no device, 5 the IRQL
/// changed, 0x203 a cancel routine is set, and those of the pending rules.
///
/// # Safety
/// `irp` is the caller's, with the next stack location filled in; `device` is a device object.
pub unsafe extern "win64" fn IofCallDriver(device: PDEVICE_OBJECT, irp: PIRP) -> NTSTATUS {
    let before = irql();
    if before > DISPATCH_LEVEL {
        iomanager(
            [0x10, before.into(), 0, 0],
            format!("IoCallDriver at IRQL {before}"),
        );
    }
    let _inside = enter_with("IofCallDriver", DISPATCH_LEVEL, irp.addr());
    // SAFETY: by the caller's promise.
    unsafe { send(device, irp) }
}

/// IoCallDriver, as older drivers import it.
///
/// # Safety
/// As [`IofCallDriver`].
pub unsafe extern "win64" fn IoCallDriver(device: PDEVICE_OBJECT, irp: PIRP) -> NTSTATUS {
    // SAFETY: by the caller's promise.
    unsafe { IofCallDriver(device, irp) }
}

/// Sends an IRP to the driver of `device`.
///
/// # Safety
/// As [`IofCallDriver`].
unsafe fn send(device: PDEVICE_OBJECT, irp: PIRP) -> NTSTATUS {
    // SAFETY: by the caller's promise.
    let mut packet = unsafe { Packet::checked(irp, 3, "IoCallDriver") };
    // SAFETY: by the caller's promise.
    let driver = unsafe { device::driver_of(device) };
    if packet.has_cancel_routine() {
        let explanation = format!("IRP {irp:p} is passed down while its cancel routine is set");
        iomanager([0x203, irp.addr() as u64, 0, 0], explanation);
    }
    if packet.index() <= 1 {
        bugcheck::stop(
            code::NO_MORE_IRP_STACK_LOCATIONS,
            [irp.addr() as u64, 0, 0, 0],
            format!(
                "IRP {irp:p} has {} stack locations, all of them used",
                packet.stack_count()
            ),
        );
    }
    packet.step(-1);
    let index = packet.index();
    let location = packet.current();
    location.DeviceObject = device;
    let major = location.MajorFunction;
    let minor = location.MinorFunction;
    let routine = driver
        .MajorFunction
        .get(usize::from(major))
        .copied()
        .flatten();
    let routine = crate::entry::routine(routine, "IoCallDriver");
    crate::trace::record(
        "irp down: major, minor",
        u64::from(major) << 8 | u64::from(minor),
    );
    let call = verify::call(irp, index);
    let (irql_before, regions_before) = (irql(), critical_regions());
    let status = driver_call(|| {
        // SAFETY: the driver's own routine, called as it registered it.
        unsafe { routine(device, irp) }
    });
    let (irql_after, regions_after) = (irql(), critical_regions());
    let routine = routine as usize;
    if irql_after != irql_before {
        let parameters = [
            5,
            device.addr() as u64,
            irql_before.into(),
            irql_after.into(),
        ];
        iomanager(
            parameters,
            format!("the dispatch routine {routine:#x} changed the IRQL"),
        );
    }
    if regions_after != regions_before {
        let parameters = [
            0xC5,
            routine as u64,
            regions_after.into(),
            regions_before.into(),
        ];
        let explanation =
            format!("the dispatch routine {routine:#x} changed the number of critical regions");
        verifier(parameters, explanation);
    }
    let passed = call.lock().is_ok_and(|passed| passed.is_some());
    let here = (!passed).then(|| {
        // SAFETY: the IRP has not gone past this location, so it lives.
        let packet = unsafe { Packet::checked(irp, 3, "IoCallDriver") };
        let below = index - packet.index();
        // SAFETY: location `index` of a live IRP.
        let location: &IO_STACK_LOCATION =
            unsafe { borrow(location_at(irp, index), "IoCallDriver") };
        (location.Control & PENDING_RETURNED != 0, below <= 0)
    });
    let returned = Returned {
        irp,
        routine,
        status,
        here,
    };
    verify::check_return(&call, &returned);
    status
}

/// The location with this index: 1 is the lowest.
fn location_at(irp: PIRP, index: i8) -> *mut IO_STACK_LOCATION {
    irp.wrapping_add(1)
        .cast::<IO_STACK_LOCATION>()
        .wrapping_offset(isize::from(index) - 1)
}

fn critical_regions() -> u32 {
    with(|k| k.current_thread().critical_regions)
}

/// IofCompleteRequest. IRQL <= DISPATCH_LEVEL (0xC9, 0x0E). An IRP that is complete already, or none, is bug check
/// 0x44; a pending status 0xC9, 6; a cancel routine still set 0xC9, 7.
///
/// # Safety
/// `irp` is an IRP that the caller's driver has, or had.
pub unsafe extern "win64" fn IofCompleteRequest(irp: PIRP, _boost: CCHAR) {
    let before = irql();
    if before > DISPATCH_LEVEL {
        let parameters = [0xE, before.into(), irp.addr() as u64, 0];
        iomanager(parameters, format!("IoCompleteRequest at IRQL {before}"));
    }
    let _inside = enter_with("IofCompleteRequest", DISPATCH_LEVEL, irp.addr());
    // SAFETY: by the caller's promise: the pool keeps what was an IRP readable.
    let found = unsafe { Packet::find(irp) };
    let Some(mut packet) = found.filter(|packet| packet.index() <= packet.stack_count()) else {
        let parameters = [irp.addr() as u64, 0, 0, 0];
        let explanation = format!("IRP {irp:p} is completed, but it is complete already");
        bugcheck::stop(
            code::MULTIPLE_IRP_COMPLETE_REQUESTS,
            parameters,
            explanation,
        );
    };
    let status = packet.status();
    if status == STATUS_PENDING || status == -1 {
        let parameters = [6, status.cast_unsigned().into(), irp.addr() as u64, 0];
        iomanager(
            parameters,
            format!("IRP {irp:p} is completed with status {status:#x}"),
        );
    }
    if packet.has_cancel_routine() {
        let routine = packet
            .raw()
            .CancelRoutine
            .map_or(0, |routine| routine as usize);
        let parameters = [7, routine as u64, irp.addr() as u64, 0];
        iomanager(
            parameters,
            format!("IRP {irp:p} is completed while its cancel routine is set"),
        );
    }
    // SAFETY: the IRP is one, and at a driver.
    unsafe { go_up(irp) };
}

/// IoCompleteRequest, as older drivers import it.
///
/// # Safety
/// As [`IofCompleteRequest`].
pub unsafe extern "win64" fn IoCompleteRequest(irp: PIRP, boost: CCHAR) {
    // SAFETY: by the caller's promise.
    unsafe { IofCompleteRequest(irp, boost) }
}

/// Takes the IRP up from location to location, calling completion routines, until one keeps it or the originator has
/// it back.
///
/// # Safety
/// `irp` is an IRP at a driver.
unsafe fn go_up(irp: PIRP) {
    loop {
        // SAFETY: by the caller's promise; an IRP that a completion routine kept is not looked at again.
        let mut packet = unsafe { Packet::checked(irp, 3, "IoCompleteRequest") };
        let (index, count, status) = (packet.index(), packet.stack_count(), packet.status());
        if index > count {
            // SAFETY: the IRP has passed every location.
            return unsafe { request::finish(irp) };
        }
        let cancelled = packet.raw().Cancel != 0;
        let location = packet.current();
        let control = location.Control;
        let (routine, context) = (location.CompletionRoutine, location.Context);
        let pending = control & PENDING_RETURNED != 0;
        clear(location);
        location.CompletionRoutine = None;
        packet.raw().PendingReturned = pending.into();
        verify::pass(irp, index, Passed { pending, status });
        packet.step(1);
        let is_top = packet.index() > count;
        let device = if is_top {
            std::ptr::null_mut()
        } else {
            packet.current().DeviceObject
        };
        let wanted = (status >= 0 && control & INVOKE_ON_SUCCESS != 0)
            || (status < 0 && control & INVOKE_ON_ERROR != 0)
            || (cancelled && control & INVOKE_ON_CANCEL != 0);
        if let Some(routine) = routine.filter(|_| wanted) {
            if call_completion(routine, device, irp, context) == STATUS_MORE_PROCESSING_REQUIRED {
                return;
            }
        } else if pending && !is_top {
            packet.current().Control |= PENDING_RETURNED;
        }
    }
}

/// Calls a completion routine. One that returns at another IRQL is 0xC4, 0xFA.
fn call_completion(
    routine: unsafe extern "win64" fn(PDEVICE_OBJECT, PIRP, *mut c_void) -> NTSTATUS,
    device: PDEVICE_OBJECT,
    irp: PIRP,
    context: *mut c_void,
) -> NTSTATUS {
    let before = irql();
    let status = driver_call(|| {
        // SAFETY: the routine that a driver set for this IRP.
        unsafe { routine(device, irp, context) }
    });
    let after = irql();
    if after != before {
        let parameters = [0xFA, routine as usize as u64, before.into(), after.into()];
        verifier(
            parameters,
            "a completion routine returned at another IRQL than it was called at",
        );
    }
    status
}

/// What IoSetCompletionRoutineEx keeps until the completion routine has run.
struct Guarded {
    device: PDEVICE_OBJECT,
    routine: PIO_COMPLETION_ROUTINE,
    context: *mut c_void,
}

/// IoSetCompletionRoutineEx. IRQL <= DISPATCH_LEVEL. The device object is referenced until the routine has run.
///
/// # Safety
/// As for the Windows routine.
pub unsafe extern "win64" fn IoSetCompletionRoutineEx(
    device: PDEVICE_OBJECT,
    irp: PIRP,
    routine: PIO_COMPLETION_ROUTINE,
    context: *mut c_void,
    on_success: BOOLEAN,
    on_error: BOOLEAN,
    on_cancel: BOOLEAN,
) -> NTSTATUS {
    let _inside = enter_with("IoSetCompletionRoutineEx", DISPATCH_LEVEL, irp.addr());
    // SAFETY: by the caller's promise.
    let mut packet = unsafe { Packet::checked(irp, 3, "IoSetCompletionRoutineEx") };
    if packet.index() <= 1 {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    // SAFETY: by the caller's promise; the reference is given up in `guarded`.
    unsafe { ob::reference(device.cast()) };
    let guarded_context = Box::new(Guarded {
        device,
        routine,
        context,
    });
    let location = packet.next();
    location.CompletionRoutine = Some(guarded);
    location.Context = Box::into_raw(guarded_context).cast();
    let flag = |wanted: BOOLEAN, bit| if wanted != 0 { bit } else { 0 };
    location.Control = flag(on_success, INVOKE_ON_SUCCESS)
        | flag(on_error, INVOKE_ON_ERROR)
        | flag(on_cancel, INVOKE_ON_CANCEL);
    STATUS_SUCCESS
}

/// The completion routine that [`IoSetCompletionRoutineEx`] sets.
unsafe extern "win64" fn guarded(
    device: PDEVICE_OBJECT,
    irp: PIRP,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: the context is the box that IoSetCompletionRoutineEx made, and the routine runs once.
    let guarded = unsafe { Box::from_raw(context.cast::<Guarded>()) };
    let routine = crate::entry::routine(guarded.routine, "IoSetCompletionRoutineEx");
    let status = call_completion(routine, device, irp, guarded.context);
    // SAFETY: the reference taken when the routine was set.
    unsafe { ob::dereference(guarded.device.cast()) };
    status
}

/// IoGetRequestorProcessId. Any IRQL.
///
/// # Safety
/// `irp` is an IRP.
pub unsafe extern "win64" fn IoGetRequestorProcessId(irp: PIRP) -> ULONG {
    let _inside = enter_with("IoGetRequestorProcessId", HIGH_LEVEL, irp.addr());
    // SAFETY: by the caller's promise.
    let mut packet = unsafe { Packet::checked(irp, 3, "IoGetRequestorProcessId") };
    if packet.raw().RequestorMode == 0 {
        4
    } else {
        8
    }
}

/// IoIs32bitProcess. Any IRQL. Programs of the machine have 64 bits.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn IoIs32bitProcess(_irp: PIRP) -> BOOLEAN {
    0
}
