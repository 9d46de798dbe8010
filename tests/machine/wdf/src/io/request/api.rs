//! `WdfRequest*`: completion, cancellation, parameters, queues.

use std::sync::Arc;

use crate::flat::*;
use machine_nt::exports::IoGetRequestorProcessId;

use super::{Request, StopAnswer};
use crate::globals::DriverGlobals;
use crate::io::queue::Queue;
use crate::object::{Object, handle};
use crate::wdm::{status_of, success};
use crate::{trace, verifier};

fn request(globals: PWDF_DRIVER_GLOBALS, value: WDFREQUEST) -> Arc<Request> {
    handle::get(DriverGlobals::from_ddi(globals), value as usize)
}

/// The queue a request belongs to; without one, a verifier break and `None`.
fn queue_of(request: &Request) -> Option<Arc<Queue>> {
    let queue = request.queue();
    if queue.is_none() {
        trace::error(
            request.globals(),
            &format!("WDFREQUEST {:p} belongs to no queue", request.handle()),
        );
        verifier::break_point(request.globals());
    }
    queue
}

/// Whether the verifier lets the request be completed at all (`VerifyRequestCanBeCompleted`).
fn may_complete(request: &Request) -> bool {
    if !request.globals().verifier_on() {
        return true;
    }
    let valid = request
        .try_irp()
        .is_some_and(|irp| irp.has_stack_location());
    if !valid {
        trace::error(
            request.globals(),
            &format!(
                "WDFREQUEST {:p} cannot be completed: it has no IRP any more",
                request.handle()
            ),
        );
        verifier::break_point(request.globals());
    }
    valid
}

/// Completes a request. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRequestComplete(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFREQUEST,
    status: NTSTATUS,
) {
    let request = request(globals, value);
    if may_complete(&request) {
        request.complete(status);
    }
}

/// Completes a request with the number of bytes that were transferred. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRequestCompleteWithInformation(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFREQUEST,
    status: NTSTATUS,
    information: ULONG_PTR,
) {
    let request = request(globals, value);
    if may_complete(&request) {
        request.complete_with_information(status, information as usize);
    }
}

/// Completes a request and raises the priority of the thread that waits. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRequestCompleteWithPriorityBoost(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFREQUEST,
    status: NTSTATUS,
    boost: CCHAR,
) {
    let request = request(globals, value);
    if may_complete(&request) {
        request.with(|state| state.boost = boost);
        request.complete(status);
    }
}

/// Sets the information the request will complete with. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRequestSetInformation(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFREQUEST,
    information: ULONG_PTR,
) {
    let request = request(globals, value);
    if request.verify_not_completed().is_ok() {
        request.irp().set_information(information as usize);
    }
}

/// The information set so far. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRequestGetInformation(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFREQUEST,
) -> ULONG_PTR {
    let request = request(globals, value);
    if request.verify_not_completed().is_ok() {
        request.irp().information() as ULONG_PTR
    } else {
        0
    }
}

/// The request's parameters. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRequestGetParameters(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFREQUEST,
    parameters: PWDF_REQUEST_PARAMETERS,
) {
    let request = request(globals, value);
    let globals = request.globals();
    verifier::not_null(globals, parameters, "Parameters");
    // SAFETY: checked not to be null; the driver's structure.
    let size = unsafe { (*parameters).Size } as usize;
    if size != size_of::<WDF_REQUEST_PARAMETERS>() {
        trace::error(
            globals,
            &format!("WDF_REQUEST_PARAMETERS size {size:#x} is wrong"),
        );
        return verifier::break_point(globals);
    }
    if request.verify_not_completed().is_ok() {
        // SAFETY: as above.
        fill(&request, unsafe { &mut *parameters });
    }
}

/// Copies the stack location's parameters, which have the same layout.
pub(in crate::io) fn fill(request: &Request, parameters: &mut WDF_REQUEST_PARAMETERS) {
    let irp = request.irp();
    parameters.Type = irp.major() as _;
    parameters.MinorFunction = irp.minor() as _;
    let from = irp.parameters().cast::<u8>();
    let to = (&raw mut parameters.Parameters).cast::<u8>();
    // SAFETY: both are unions of the same 32 bytes.
    unsafe { to.copy_from_nonoverlapping(from, size_of_val(&parameters.Parameters)) };
}

/// The IRP. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRequestWdmGetIrp(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFREQUEST,
) -> PIRP {
    let request = request(globals, value);
    if request.verify_not_completed().is_err() {
        return std::ptr::null_mut();
    }
    request
        .try_irp()
        .map_or(std::ptr::null_mut(), |irp| irp.raw())
}

/// Who asked: kernel or user mode. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRequestGetRequestorMode(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFREQUEST,
) -> KPROCESSOR_MODE {
    let request = request(globals, value);
    if request.verify_not_completed().is_ok() {
        request.irp().requestor_mode()
    } else {
        UserMode as KPROCESSOR_MODE
    }
}

/// Whether a 32-bit process asked: never, in this machine. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRequestIsFrom32BitProcess(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFREQUEST,
) -> BOOLEAN {
    request(globals, value);
    FALSE as BOOLEAN
}

/// Whether the request is one of those reserved for low memory: none is, no policy can be assigned.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRequestIsReserved(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFREQUEST,
) -> BOOLEAN {
    request(globals, value);
    FALSE as BOOLEAN
}

/// The file object the request came through, or NULL. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRequestGetFileObject(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFREQUEST,
) -> WDFFILEOBJECT {
    let request = request(globals, value);
    if request.verify_not_completed().is_err() {
        return std::ptr::null_mut();
    }
    let file = request.device().files.find(request.irp().file_object());
    file.map_or(std::ptr::null_mut(), |file| {
        file.header().handle() as WDFFILEOBJECT
    })
}

/// The queue the request was delivered from, or NULL. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRequestGetIoQueue(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFREQUEST,
) -> WDFQUEUE {
    let queue = request(globals, value).queue();
    queue.map_or(std::ptr::null_mut(), |queue| {
        queue.header().handle() as WDFQUEUE
    })
}

/// Makes a request cancelable; an IRP canceled already has `EvtRequestCancel` called. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRequestMarkCancelable(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFREQUEST,
    cancel: PFN_WDF_REQUEST_CANCEL,
) {
    let request = request(globals, value);
    verifier::required(request.globals(), cancel, "EvtRequestCancel");
    if let Some(queue) = queue_of(&request) {
        // The outcome is EvtRequestCancel, or a report of the verifier's.
        let _ = queue.mark_cancelable(&request, cancel, false);
    }
}

/// Makes a request cancelable; `STATUS_CANCELLED` if it is canceled already: the driver completes it then.
///
/// IRQL <= `DISPATCH_LEVEL`. Errors: `STATUS_CANCELLED`, `STATUS_INVALID_DEVICE_REQUEST` (no queue; verifier: not owned, cancelable already).
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRequestMarkCancelableEx(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFREQUEST,
    cancel: PFN_WDF_REQUEST_CANCEL,
) -> NTSTATUS {
    let request = request(globals, value);
    verifier::required(request.globals(), cancel, "EvtRequestCancel");
    match queue_of(&request) {
        Some(queue) => status_of(queue.mark_cancelable(&request, cancel, true)),
        None => STATUS_INVALID_DEVICE_REQUEST,
    }
}

/// Takes cancelability back; `STATUS_CANCELLED` if EvtRequestCancel was or will be called.
///
/// IRQL <= `DISPATCH_LEVEL`. Errors: `STATUS_CANCELLED`, `STATUS_INVALID_DEVICE_REQUEST`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRequestUnmarkCancelable(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFREQUEST,
) -> NTSTATUS {
    let request = request(globals, value);
    match queue_of(&request) {
        Some(queue) => status_of(queue.unmark_cancelable(&request)),
        None => STATUS_INVALID_DEVICE_REQUEST,
    }
}

/// Whether a request that is not marked cancelable was canceled. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRequestIsCanceled(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFREQUEST,
) -> BOOLEAN {
    let request = request(globals, value);
    if request.verify_driver_owned().is_err() || request.verify_not_cancelable().is_err() {
        return FALSE as BOOLEAN;
    }
    BOOLEAN::from(
        request.is_marked_canceled() || request.try_irp().is_some_and(|irp| irp.is_cancelled()),
    )
}

/// Answers EvtIoStop: the driver keeps the request, or gives it back to its queue. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRequestStopAcknowledge(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFREQUEST,
    requeue: BOOLEAN,
) {
    let request = request(globals, value);
    if request.verify_in_stop().is_err() {
        return;
    }
    let requeue = requeue != 0;
    if requeue
        && (request.verify_driver_owned().is_err() || request.verify_not_cancelable().is_err())
    {
        return;
    }
    request.set_stop_answer(if requeue {
        StopAnswer::Requeue
    } else {
        StopAnswer::Acknowledged
    });
}

/// Moves a delivered request to another queue of the device. IRQL <= `DISPATCH_LEVEL`.
///
/// Errors: `STATUS_INVALID_DEVICE_REQUEST` (the same queue, another device's, verifier: not owned, cancelable), `STATUS_WDF_BUSY` if the
/// queue accepts nothing.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRequestForwardToIoQueue(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFREQUEST,
    destination: WDFQUEUE,
) -> NTSTATUS {
    let destination: Arc<Queue> =
        handle::get(DriverGlobals::from_ddi(globals), destination as usize);
    let request = request(globals, value);
    match request.queue() {
        Some(queue) => status_of(queue.forward(&request, &destination)),
        None => STATUS_INVALID_DEVICE_REQUEST,
    }
}

/// Puts a request back at the head of the manual queue it came from. IRQL <= `DISPATCH_LEVEL`.
///
/// Errors: `STATUS_INVALID_DEVICE_REQUEST` for other queues; verifier: not owned, cancelable.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRequestRequeue(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFREQUEST,
) -> NTSTATUS {
    let request = request(globals, value);
    match queue_of(&request) {
        Some(queue) => status_of(queue.requeue(&request)),
        None => STATUS_INVALID_DEVICE_REQUEST,
    }
}

/// Queues a request from EvtIoInCallerContext. IRQL <= `DISPATCH_LEVEL`.
///
/// Errors: `STATUS_INVALID_DEVICE_REQUEST` without a queue for it, `STATUS_WDF_BUSY`; the driver completes the request then.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDeviceEnqueueRequest(
    globals: PWDF_DRIVER_GLOBALS,
    device: WDFDEVICE,
    value: WDFREQUEST,
) -> NTSTATUS {
    let globals = DriverGlobals::from_ddi(globals);
    let device: Arc<crate::device::Device> = handle::get(globals, device as usize);
    let request: Arc<Request> = handle::get(globals, value as usize);
    status_of(device.io.enqueue(&device, &request))
}

/// The status a request completed with, as its IRP says. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRequestGetStatus(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFREQUEST,
) -> NTSTATUS {
    request(globals, value).irp().status()
}

/// The process that asked. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfRequestGetRequestorProcessId(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFREQUEST,
) -> ULONG {
    let request = request(globals, value);
    // SAFETY: the packet is the framework's until it completes.
    unsafe { IoGetRequestorProcessId(request.irp().raw()) }
}

/// The outcome of a retrieval, written where the driver wants it.
pub(super) fn deliver<T>(result: Result<T, NTSTATUS>, place: *mut T) -> NTSTATUS {
    match result {
        Ok(value) => {
            // SAFETY: the DDI checked that the place is not null.
            unsafe { place.write(value) };
            STATUS_SUCCESS
        }
        Err(status) => {
            debug_assert!(!success(status));
            status
        }
    }
}
