//! The adapter channel and map registers: AllocateAdapterChannel(Ex), FreeAdapterChannel, FreeAdapterObject,
//! FreeMapRegisters, InitializeDmaTransferContext, CancelAdapterChannel.

use machine_nt::failure;
use machine_nt::sched::{self, DISPATCH_LEVEL};
use nt_sys::{
    BOOLEAN, DMA_SYNCHRONOUS_CALLBACK, IO_ALLOCATION_ACTION, NTSTATUS, PDEVICE_OBJECT,
    PDMA_ADAPTER, PDRIVER_CONTROL, PVOID, STATUS_CANCELLED, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_PARAMETER, STATUS_SUCCESS, ULONG,
};

use super::{At, enter};
use crate::dma::channel::{self, Wanted};
use crate::dma::transfer_context::TransferContext;
use crate::dma::with;

pub unsafe extern "win64" fn allocate_adapter_channel(
    adapter: PDMA_ADAPTER,
    device: PDEVICE_OBJECT,
    registers: ULONG,
    routine: PDRIVER_CONTROL,
    context: PVOID,
) -> NTSTATUS {
    const NAME: &str = "AllocateAdapterChannel";
    let _inside = enter(NAME, At::Dispatch, adapter);
    let wanted = Wanted {
        adapter: adapter as u64,
        device,
        registers,
        context: None,
    };
    channel::verify_single(NAME, wanted.adapter, device);
    match channel::check(NAME, &wanted) {
        Ok(()) => channel::allocate(wanted, routine, context, false),
        Err(status) => status,
    }
}

pub unsafe extern "win64" fn allocate_adapter_channel_ex(
    adapter: PDMA_ADAPTER,
    device: PDEVICE_OBJECT,
    context: PVOID,
    registers: ULONG,
    flags: ULONG,
    routine: PDRIVER_CONTROL,
    argument: PVOID,
    base: *mut PVOID,
) -> NTSTATUS {
    const NAME: &str = "AllocateAdapterChannelEx";
    let _inside = enter(NAME, At::Dispatch, adapter);
    let synchronous = flags & DMA_SYNCHRONOUS_CALLBACK != 0;
    if base.is_null() == routine.is_none() || (!base.is_null() && !synchronous) {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: the driver passes a context it initialised, or NULL.
    let context = match unsafe { context_for_request(context) } {
        Ok(context) => context,
        Err(status) => return status,
    };
    let wanted = Wanted {
        adapter: adapter as u64,
        device,
        registers,
        context: Some(context),
    };
    if let Err(status) = channel::check(NAME, &wanted) {
        return status;
    }
    if failure::strikes(failure::Point::Channel) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let status = channel::allocate(wanted, routine, argument, synchronous);
    if status == STATUS_SUCCESS && !base.is_null() {
        let handle = with(|dma| {
            dma.adapter(NAME, adapter as u64)
                .channel
                .map_or(0, |channel| channel.handle)
        });
        // SAFETY: the driver passes where it wants the map registers.
        unsafe { base.write(handle as PVOID) };
    }
    status
}

/// The context of a new version 3 request, or the status with which the request fails.
///
/// # Safety
/// As [`TransferContext::from_raw`].
pub unsafe fn context_for_request(context: PVOID) -> Result<TransferContext, NTSTATUS> {
    // SAFETY: the caller vouches for the pointer.
    let context = unsafe { TransferContext::from_raw(context) }.ok_or(STATUS_INVALID_PARAMETER)?;
    if context.is_cancelled() {
        Err(STATUS_CANCELLED)
    } else {
        Ok(context)
    }
}

pub unsafe extern "win64" fn free_adapter_channel(adapter: PDMA_ADAPTER) {
    let _inside = enter("FreeAdapterChannel", At::Dispatch, adapter);
    channel::free("FreeAdapterChannel", adapter as u64);
}

pub unsafe extern "win64" fn free_adapter_object(
    adapter: PDMA_ADAPTER,
    action: IO_ALLOCATION_ACTION,
) {
    let _inside = enter("FreeAdapterObject", At::UpToDispatch, adapter);
    sched::at_irql(DISPATCH_LEVEL, || {
        channel::finish("FreeAdapterObject", adapter as u64, action)
    });
}

pub unsafe extern "win64" fn free_map_registers(adapter: PDMA_ADAPTER, base: PVOID, count: ULONG) {
    let _inside = enter("FreeMapRegisters", At::Dispatch, adapter);
    channel::free_map_registers("FreeMapRegisters", adapter as u64, base as u64, count);
}

pub unsafe extern "win64" fn initialize_dma_transfer_context(
    adapter: PDMA_ADAPTER,
    context: PVOID,
) -> NTSTATUS {
    const NAME: &str = "InitializeDmaTransferContext";
    let _inside = enter(NAME, At::UpToDispatch, adapter);
    with(|dma| _ = dma.adapter(NAME, adapter as u64));
    if context.is_null() {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: the driver passes memory of DMA_TRANSFER_CONTEXT_SIZE_V1 bytes.
    unsafe { TransferContext::initialize(context) };
    STATUS_SUCCESS
}

pub unsafe extern "win64" fn cancel_adapter_channel(
    adapter: PDMA_ADAPTER,
    _device: PDEVICE_OBJECT,
    context: PVOID,
) -> BOOLEAN {
    const NAME: &str = "CancelAdapterChannel";
    let _inside = enter(NAME, At::UpToDispatch, adapter);
    // SAFETY: the driver passes a context it initialised, or NULL.
    let context = unsafe { TransferContext::from_raw(context) };
    context
        .is_some_and(|context| channel::cancel(NAME, adapter as u64, context))
        .into()
}
