//! Scatter/gather lists: Get, Build, Put and Calculate, with their version 3 forms.

use machine_nt::failure;
use nt_sys::{
    BOOLEAN, DMA_SYNCHRONOUS_CALLBACK, NTSTATUS, PDEVICE_OBJECT, PDMA_ADAPTER,
    PDMA_COMPLETION_ROUTINE, PDRIVER_LIST_CONTROL, PMDL, PSCATTER_GATHER_LIST, PULONG, PVOID,
    STATUS_INSUFFICIENT_RESOURCES, STATUS_SUCCESS, ULONG, ULONGLONG,
};

use super::channel::context_for_request;
use super::{At, enter, offset_of};
use crate::dma::buffer::Buffer;
use crate::dma::list::{self, Call, Memory};
use crate::dma::with;

/// A list routine of versions 1 and 2.
///
/// # Safety
/// `mdl` points to an MDL chain.
unsafe fn list_by_address(
    call: Call,
    mdl: PMDL,
    address: PVOID,
    length: ULONG,
    write: BOOLEAN,
) -> NTSTATUS {
    let _inside = enter(call.name, At::Dispatch, call.adapter as PDMA_ADAPTER);
    // SAFETY: the caller vouches for the chain.
    let buffer = unsafe { Buffer::read(mdl) };
    let offset = offset_of(call.name, &buffer, address);
    let range = list::Bytes {
        offset,
        length: length.into(),
        write: write != 0,
    };
    list::get(call, range, buffer)
}

/// A list routine of version 3.
///
/// # Safety
/// `mdl` points to an MDL chain, `context` as [`TransferContext::from_raw`].
unsafe fn list_by_offset(
    mut call: Call,
    context: PVOID,
    mdl: PMDL,
    range: list::Bytes,
) -> NTSTATUS {
    let _inside = enter(call.name, At::UpToDispatch, call.adapter as PDMA_ADAPTER);
    // SAFETY: the caller vouches for the context.
    match unsafe { context_for_request(context) } {
        Ok(context) => call.context = Some(context),
        Err(status) => return status,
    }
    if failure::strikes(failure::Point::List) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    // SAFETY: the caller vouches for the chain.
    let buffer = unsafe { Buffer::read(mdl) };
    list::get(call, range, buffer)
}

pub unsafe extern "win64" fn get_scatter_gather_list(
    adapter: PDMA_ADAPTER,
    device: PDEVICE_OBJECT,
    mdl: PMDL,
    address: PVOID,
    length: ULONG,
    routine: PDRIVER_LIST_CONTROL,
    context: PVOID,
    write: BOOLEAN,
) -> NTSTATUS {
    let call = Call::asynchronous(
        "GetScatterGatherList",
        adapter,
        device,
        Memory::Allocate,
        routine,
        context,
    );
    // SAFETY: the driver passes an MDL chain.
    unsafe { list_by_address(call, mdl, address, length, write) }
}

pub unsafe extern "win64" fn build_scatter_gather_list(
    adapter: PDMA_ADAPTER,
    device: PDEVICE_OBJECT,
    mdl: PMDL,
    address: PVOID,
    length: ULONG,
    routine: PDRIVER_LIST_CONTROL,
    context: PVOID,
    write: BOOLEAN,
    memory: PVOID,
    memory_length: ULONG,
) -> NTSTATUS {
    let memory = Memory::Given(memory, memory_length);
    let call = Call::asynchronous(
        "BuildScatterGatherList",
        adapter,
        device,
        memory,
        routine,
        context,
    );
    // SAFETY: the driver passes an MDL chain.
    unsafe { list_by_address(call, mdl, address, length, write) }
}

pub unsafe extern "win64" fn get_scatter_gather_list_ex(
    adapter: PDMA_ADAPTER,
    device: PDEVICE_OBJECT,
    transfer_context: PVOID,
    mdl: PMDL,
    offset: ULONGLONG,
    length: ULONG,
    flags: ULONG,
    routine: PDRIVER_LIST_CONTROL,
    context: PVOID,
    write: BOOLEAN,
    _completion: PDMA_COMPLETION_ROUTINE,
    _completion_context: PVOID,
    result: *mut PSCATTER_GATHER_LIST,
) -> NTSTATUS {
    let mut call = Call::asynchronous(
        "GetScatterGatherListEx",
        adapter,
        device,
        Memory::Allocate,
        routine,
        context,
    );
    call.synchronous = flags & DMA_SYNCHRONOUS_CALLBACK != 0;
    call.result = result;
    let range = list::Bytes {
        offset,
        length: length.into(),
        write: write != 0,
    };
    // SAFETY: the driver passes an MDL chain and a context it initialised.
    unsafe { list_by_offset(call, transfer_context, mdl, range) }
}

pub unsafe extern "win64" fn build_scatter_gather_list_ex(
    adapter: PDMA_ADAPTER,
    device: PDEVICE_OBJECT,
    transfer_context: PVOID,
    mdl: PMDL,
    offset: ULONGLONG,
    length: ULONG,
    flags: ULONG,
    routine: PDRIVER_LIST_CONTROL,
    context: PVOID,
    write: BOOLEAN,
    memory: PVOID,
    memory_length: ULONG,
    _completion: PDMA_COMPLETION_ROUTINE,
    _completion_context: PVOID,
    result: PVOID,
) -> NTSTATUS {
    let memory = Memory::Given(memory, memory_length);
    let mut call = Call::asynchronous(
        "BuildScatterGatherListEx",
        adapter,
        device,
        memory,
        routine,
        context,
    );
    call.synchronous = flags & DMA_SYNCHRONOUS_CALLBACK != 0;
    call.result = result.cast();
    let range = list::Bytes {
        offset,
        length: length.into(),
        write: write != 0,
    };
    // SAFETY: the driver passes an MDL chain and a context it initialised.
    unsafe { list_by_offset(call, transfer_context, mdl, range) }
}

pub unsafe extern "win64" fn put_scatter_gather_list(
    adapter: PDMA_ADAPTER,
    list: PSCATTER_GATHER_LIST,
    write: BOOLEAN,
) {
    let _inside = enter("PutScatterGatherList", At::Dispatch, adapter);
    list::put("PutScatterGatherList", adapter as u64, list, write != 0);
}

pub unsafe extern "win64" fn calculate_scatter_gather_list(
    adapter: PDMA_ADAPTER,
    mdl: PMDL,
    address: PVOID,
    length: ULONG,
    list_size: PULONG,
    registers: PULONG,
) -> NTSTATUS {
    const NAME: &str = "CalculateScatterGatherList";
    with(|dma| _ = dma.adapter(NAME, adapter as u64));
    // SAFETY: the driver passes NULL or an MDL chain.
    let buffer = (!mdl.is_null()).then(|| unsafe { Buffer::read(mdl) });
    let offset = match &buffer {
        Some(buffer) => offset_of(NAME, buffer, address),
        None => address as u64,
    };
    let (count, bytes) = match list::requirements(buffer.as_ref(), offset, length.into()) {
        Ok(requirements) => requirements,
        Err(status) => return status,
    };
    // SAFETY: the driver passes where it wants the size.
    unsafe { list_size.write(bytes) };
    if !registers.is_null() {
        // SAFETY: the driver passes NULL or where it wants the count.
        unsafe { registers.write(count) };
    }
    STATUS_SUCCESS
}
