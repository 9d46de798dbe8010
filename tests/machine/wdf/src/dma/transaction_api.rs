//! `WdfDmaTransaction*` (`fxdmatransactionapi.cpp`).

use std::sync::Arc;

use machine_nt::bugcheck::{Stop, stop_machine};

use super::transaction::{Completion, DmaTransaction, Phase};
use crate::flat::*;
use crate::globals::DriverGlobals;
use crate::io::request::Request;
use crate::object::attributes::Rules;
use crate::object::{Attributes, Object, handle};
use crate::wdm::{Mdl, status_of, transfer_method};
use crate::{trace, verifier};

fn transaction(globals: PWDF_DRIVER_GLOBALS, value: WDFDMATRANSACTION) -> Arc<DmaTransaction> {
    handle::get(DriverGlobals::from_ddi(globals), value as usize)
}

/// The direction as `WriteToDevice`. Errors: `STATUS_INVALID_PARAMETER`.
fn direction(value: WDF_DMA_DIRECTION) -> Result<bool, NTSTATUS> {
    match value {
        WdfDmaDirectionReadFromDevice => Ok(false),
        WdfDmaDirectionWriteToDevice => Ok(true),
        _ => Err(STATUS_INVALID_PARAMETER),
    }
}

/// Whether the enabler uses DMA version 3; a verifier break if not.
fn needs_v3(transaction: &DmaTransaction, call: &str) -> bool {
    let uses = transaction.enabler().uses_v3();
    if !uses {
        trace::error(
            transaction.globals(),
            &format!("{call} needs an enabler of DMA version 3"),
        );
        verifier::break_point(transaction.globals());
    }
    uses
}

/// Creates a transaction; parent: the enabler. IRQL <= `DISPATCH_LEVEL`. Errors: those of the attributes (no parent),
/// `STATUS_INSUFFICIENT_RESOURCES`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaTransactionCreate(
    globals: PWDF_DRIVER_GLOBALS,
    enabler: WDFDMAENABLER,
    attributes: PWDF_OBJECT_ATTRIBUTES,
    place: *mut WDFDMATRANSACTION,
) -> NTSTATUS {
    let globals = DriverGlobals::from_ddi(globals);
    let enabler = handle::get(globals, enabler as usize);
    verifier::not_null(globals, place, "DmaTransaction");
    // SAFETY: checked not to be null.
    unsafe { place.write(std::ptr::null_mut()) };
    // SAFETY: null or the driver's structure.
    let attributes = match unsafe { Attributes::check(globals, attributes, Rules::NO_PARENT) } {
        Ok(attributes) => attributes,
        Err(status) => return status,
    };
    match DmaTransaction::create(&enabler, attributes.as_ref()) {
        Ok(transaction) => {
            // SAFETY: checked not to be null.
            unsafe { place.write(transaction.handle()) };
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

/// Prepares a transaction over a buffer whose address lies in the first MDL. IRQL <= `DISPATCH_LEVEL`.
///
/// Errors: `STATUS_INVALID_PARAMETER` (no length, direction, an address outside the first MDL, a chain for a version 2 packet), those of
/// [`DmaTransaction::initialize`].
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaTransactionInitialize(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDMATRANSACTION,
    program: PFN_WDF_PROGRAM_DMA,
    dma_direction: WDF_DMA_DIRECTION,
    mdl: PMDL,
    address: PVOID,
    length: usize,
) -> NTSTATUS {
    let transaction = transaction(globals, value);
    let globals = transaction.globals();
    verifier::required(globals, program, "EvtProgramDmaFunction");
    verifier::not_null(globals, mdl, "Mdl");
    // SAFETY: not null; the driver keeps the buffer locked until the transaction ends.
    let mdl = unsafe { Mdl::new(mdl) };
    if length == 0 {
        return STATUS_INVALID_PARAMETER;
    }
    let write = match direction(dma_direction) {
        Ok(write) => write,
        Err(status) => return status,
    };
    let (start, address) = (mdl.virtual_address(), address as usize);
    let end = start + mdl.byte_count();
    if address < start || address >= end {
        trace::error(
            globals,
            &format!("the address {address:#x} is not in the MDL, {start:#x} to {end:#x}"),
        );
        return STATUS_INVALID_PARAMETER;
    }
    if !transaction.enabler().supports_chains() && address.wrapping_add(length) > end {
        trace::error(globals, "a packet of DMA version 2 must lie in one MDL");
        return STATUS_INVALID_PARAMETER;
    }
    status_of(transaction.initialize(program, write, mdl, address - start, length as u32))
}

/// Prepares a transaction at an offset, which must lie in the first MDL. IRQL <= `DISPATCH_LEVEL`. Errors: those of
/// [`WdfDmaTransactionInitialize`]. A null MDL is an access violation, as in the published source.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaTransactionInitializeUsingOffset(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDMATRANSACTION,
    program: PFN_WDF_PROGRAM_DMA,
    dma_direction: WDF_DMA_DIRECTION,
    mdl: PMDL,
    offset: usize,
    length: usize,
) -> NTSTATUS {
    if mdl.is_null() {
        verifier::access_violation(
            DriverGlobals::from_ddi(globals),
            "the MDL of WdfDmaTransactionInitializeUsingOffset is NULL",
        );
    }
    // SAFETY: not null; the driver keeps the buffer locked until the transaction ends.
    let start = unsafe { Mdl::new(mdl) }.virtual_address();
    // SAFETY: the same contract.
    unsafe {
        WdfDmaTransactionInitialize(
            globals,
            value,
            program,
            dma_direction,
            mdl,
            start.wrapping_add(offset) as PVOID,
            length,
        )
    }
}

/// The buffer of a request for a direction. Errors: `STATUS_INVALID_DEVICE_REQUEST` (a direction that does not go with the request,
/// METHOD_NEITHER, another major), those of [`Request::mdl`].
fn request_buffer(request: &Request, write: bool) -> Result<(u32, Mdl), NTSTATUS> {
    let irp = request.irp();
    let only = |right: bool| {
        if right {
            Ok(())
        } else {
            Err(STATUS_INVALID_DEVICE_REQUEST)
        }
    };
    match irp.major() {
        IRP_MJ_READ => only(!write).and_then(|()| Ok((irp.transfer_length(), request.mdl()?))),
        IRP_MJ_WRITE => only(write).and_then(|()| Ok((irp.transfer_length(), request.mdl()?))),
        IRP_MJ_DEVICE_CONTROL | IRP_MJ_INTERNAL_DEVICE_CONTROL => {
            match transfer_method(irp.control_code()) {
                METHOD_BUFFERED => {
                    let length = if write {
                        irp.input_length()
                    } else {
                        irp.output_length()
                    };
                    // The MDL covers the input alone, in both directions.
                    Ok((length, request.mdl()?))
                }
                METHOD_IN_DIRECT => {
                    only(write).and_then(|()| Ok((irp.output_length(), request.output_mdl()?)))
                }
                METHOD_OUT_DIRECT => {
                    only(!write).and_then(|()| Ok((irp.output_length(), request.output_mdl()?)))
                }
                _ => {
                    verifier::break_point(request.globals());
                    Err(STATUS_INVALID_DEVICE_REQUEST)
                }
            }
        }
        _ => Err(STATUS_INVALID_DEVICE_REQUEST),
    }
}

/// Prepares a transaction over a request's buffer and associates the request. IRQL <= `DISPATCH_LEVEL`.
///
/// Errors: `STATUS_INVALID_PARAMETER` (direction value; version 2 packet: longer than the first MDL), `STATUS_INVALID_DEVICE_REQUEST` (wrong direction,
/// no length, METHOD_NEITHER), `STATUS_BUFFER_TOO_SMALL` (no buffer), those of [`DmaTransaction::initialize`].
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaTransactionInitializeUsingRequest(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDMATRANSACTION,
    request: WDFREQUEST,
    program: PFN_WDF_PROGRAM_DMA,
    dma_direction: WDF_DMA_DIRECTION,
) -> NTSTATUS {
    let transaction = transaction(globals, value);
    let globals = transaction.globals();
    verifier::required(globals, program, "EvtProgramDmaFunction");
    let write = match direction(dma_direction) {
        Ok(write) => write,
        Err(status) => return status,
    };
    let request: Arc<Request> = handle::get(globals, request as usize);
    let (length, mdl) = match request_buffer(&request, write) {
        Ok(buffer) => buffer,
        Err(status) => {
            trace::error(
                globals,
                &format!(
                    "WDFREQUEST {:p} has no buffer for the transaction: {status:#010x}",
                    request.handle()
                ),
            );
            return status;
        }
    };
    if length == 0 {
        return STATUS_INVALID_DEVICE_REQUEST;
    }
    if !transaction.enabler().supports_chains() && length as usize > mdl.byte_count() {
        return STATUS_INVALID_PARAMETER;
    }
    let result = transaction.initialize(program, write, mdl, 0, length);
    if result.is_ok() {
        transaction.set_request(&request);
    }
    status_of(result)
}

/// Executes an initialized transaction. IRQL <= `DISPATCH_LEVEL`. Errors: those of [`DmaTransaction::execute`]. Stops with 0x10D/8 in another state.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaTransactionExecute(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDMATRANSACTION,
    context: WDFCONTEXT,
) -> NTSTATUS {
    status_of(transaction(globals, value).execute(context.cast()))
}

/// Makes a transaction ready to be initialized again; reserved map registers stay. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaTransactionRelease(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDMATRANSACTION,
) -> NTSTATUS {
    transaction(globals, value).release_for_reuse(false);
    STATUS_SUCCESS
}

fn completed(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDMATRANSACTION,
    completion: Completion,
    place: *mut NTSTATUS,
) -> BOOLEAN {
    let transaction = transaction(globals, value);
    verifier::not_null(transaction.globals(), place, "Status");
    let (ended, status) = transaction.dma_completed(completion);
    // SAFETY: checked not to be null.
    unsafe { place.write(status) };
    BOOLEAN::from(ended)
}

/// The transfer is complete. True: the transaction has ended, with the status; false: the next transfer was programmed. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaTransactionDmaCompleted(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDMATRANSACTION,
    status: *mut NTSTATUS,
) -> BOOLEAN {
    completed(globals, value, Completion::Full, status)
}

/// The transfer is complete, with so many bytes; the rest is transferred again. As [`WdfDmaTransactionDmaCompleted`]; `STATUS_INVALID_PARAMETER`
/// with true for more bytes than were programmed.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaTransactionDmaCompletedWithLength(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDMATRANSACTION,
    length: usize,
    status: *mut NTSTATUS,
) -> BOOLEAN {
    completed(globals, value, Completion::Partial(length), status)
}

/// The transfer is complete, with so many bytes, and is the last. As [`WdfDmaTransactionDmaCompletedWithLength`], never false.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaTransactionDmaCompletedFinal(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDMATRANSACTION,
    length: usize,
    status: *mut NTSTATUS,
) -> BOOLEAN {
    completed(globals, value, Completion::Final(length), status)
}

/// Bytes transferred so far. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaTransactionGetBytesTransferred(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDMATRANSACTION,
) -> usize {
    let transaction = transaction(globals, value);
    let (phase, transferred) = transaction.with(|state| (state.phase, state.transferred));
    if phase == Phase::Released && transaction.globals().verifier_on() {
        stop_machine(
            Stop::Misuse,
            "WdfDmaTransactionGetBytesTransferred after Release, which has forgotten the number",
        );
    }
    transferred
}

/// Lowers the transaction's longest transfer, between Initialize and Execute; otherwise an access violation, as in the published source.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaTransactionSetMaximumLength(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDMATRANSACTION,
    length: usize,
) {
    let transaction = transaction(globals, value);
    let most = transaction.adapter().max_fragment;
    if length < most {
        transaction.with(|state| state.max_fragment = length);
    }
}

/// Whether the transaction may be split. Version 3, before Initialize; otherwise ignored with a verifier break. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaTransactionSetSingleTransferRequirement(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDMATRANSACTION,
    required: BOOLEAN,
) {
    let call = "WdfDmaTransactionSetSingleTransferRequirement";
    let transaction = transaction(globals, value);
    if verifier::check_irql(transaction.globals(), DISPATCH_LEVEL).is_err()
        || !needs_v3(&transaction, call)
    {
        return;
    }
    if !matches!(
        transaction.phase(),
        Phase::Created | Phase::Released | Phase::Reserved
    ) {
        trace::error(
            transaction.globals(),
            &format!("{call} comes too late: the transaction is initialized"),
        );
        return verifier::break_point(transaction.globals());
    }
    transaction.with(|state| state.single = required != 0);
}

/// The request of [`WdfDmaTransactionInitializeUsingRequest`], or NULL. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaTransactionGetRequest(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDMATRANSACTION,
) -> WDFREQUEST {
    let request = transaction(globals, value).request();
    request.map_or(std::ptr::null_mut(), |request| {
        request.header().handle() as WDFREQUEST
    })
}

/// Bytes of the present transfer; 0 once the transaction has ended. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaTransactionGetCurrentDmaTransferLength(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDMATRANSACTION,
) -> usize {
    transaction(globals, value).with(|state| state.current_length)
}

/// The device. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaTransactionGetDevice(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDMATRANSACTION,
) -> WDFDEVICE {
    transaction(globals, value).enabler().device().handle()
}

/// Map registers and elements the initialized transaction needs. IRQL <= `DISPATCH_LEVEL`. Stops with 0x10D/8 in another state.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaTransactionGetTransferInfo(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDMATRANSACTION,
    registers: *mut ULONG,
    elements: *mut ULONG,
) {
    let (register_count, element_count) = transaction(globals, value).transfer_info();
    for (place, count) in [(registers, register_count), (elements, element_count)] {
        if !place.is_null() {
            // SAFETY: the driver's variable.
            unsafe { place.write(count) };
        }
    }
}

/// The HAL's context of an initialized version 3 transaction; otherwise NULL with a verifier break. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaTransactionWdmGetTransferContext(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDMATRANSACTION,
) -> PVOID {
    let call = "WdfDmaTransactionWdmGetTransferContext";
    let transaction = transaction(globals, value);
    if !needs_v3(&transaction, call) {
        return std::ptr::null_mut();
    }
    if matches!(
        transaction.phase(),
        Phase::Created | Phase::Released | Phase::Deleted
    ) {
        trace::error(
            transaction.globals(),
            &format!("{call}: the transaction is not initialized"),
        );
        verifier::break_point(transaction.globals());
        return std::ptr::null_mut();
    }
    transaction.transfer_context().0.cast()
}

/// Resources are had at once or not at all. Version 3; too late after AllocateResources or Execute (a verifier break, and it is set
/// all the same, as in the published source). IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaTransactionSetImmediateExecution(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDMATRANSACTION,
    immediate: BOOLEAN,
) {
    let call = "WdfDmaTransactionSetImmediateExecution";
    let transaction = transaction(globals, value);
    if !needs_v3(&transaction, call) {
        return;
    }
    if !matches!(
        transaction.phase(),
        Phase::Created | Phase::Initialized | Phase::Released
    ) {
        trace::error(transaction.globals(), &format!("{call} comes too late"));
        verifier::break_point(transaction.globals());
    }
    transaction.with(|state| {
        if immediate != 0 {
            state.flags |= DMA_SYNCHRONOUS_CALLBACK;
        } else {
            state.flags &= !DMA_SYNCHRONOUS_CALLBACK;
        }
    });
}

/// Reserves map registers for a packet transaction. IRQL <= `DISPATCH_LEVEL`.
///
/// Errors: `STATUS_INVALID_DEVICE_REQUEST` (version 2, scatter/gather), `STATUS_INVALID_PARAMETER` (direction), those of [`DmaTransaction::reserve`].
/// Stops with 0x10D/8 in a state that does not allow it.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaTransactionAllocateResources(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDMATRANSACTION,
    dma_direction: WDF_DMA_DIRECTION,
    count: ULONG,
    reserve: PFN_WDF_RESERVE_DMA,
    context: PVOID,
) -> NTSTATUS {
    let call = "WdfDmaTransactionAllocateResources";
    let transaction = transaction(globals, value);
    let globals = transaction.globals();
    if !needs_v3(&transaction, call) {
        return STATUS_INVALID_DEVICE_REQUEST;
    }
    if transaction.enabler().profile().scatter_gather {
        trace::error(
            globals,
            &format!("{call} is for packet and system profiles"),
        );
        verifier::break_point(globals);
        return STATUS_INVALID_DEVICE_REQUEST;
    }
    let write = match direction(dma_direction) {
        Ok(write) => write,
        Err(status) => {
            verifier::break_point(globals);
            return status;
        }
    };
    verifier::required(globals, reserve, "EvtReserveDmaFunction");
    status_of(transaction.reserve(count, write, reserve, context.cast()))
}

/// Gives reserved map registers back. Version 3 packets; otherwise ignored with a verifier break. IRQL <= `DISPATCH_LEVEL`. Stops with 0x10D/8 in a
/// state that does not allow it.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaTransactionFreeResources(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDMATRANSACTION,
) {
    let call = "WdfDmaTransactionFreeResources";
    let transaction = transaction(globals, value);
    if transaction.enabler().profile().scatter_gather {
        trace::error(
            transaction.globals(),
            &format!("{call} is for packet and system profiles"),
        );
        return verifier::break_point(transaction.globals());
    }
    if needs_v3(&transaction, call) {
        transaction.free_reservation();
    }
}

/// Takes back a wait for map registers: true if no callback will come. Version 2: false, with a verifier break. IRQL <= `DISPATCH_LEVEL`. Stops with
/// 0x10D/8 in a state that does not allow it.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaTransactionCancel(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDMATRANSACTION,
) -> BOOLEAN {
    let transaction = transaction(globals, value);
    BOOLEAN::from(needs_v3(&transaction, "WdfDmaTransactionCancel") && transaction.cancel())
}
