//! What only channels of the system DMA controller have: ReadDmaCounter, ConfigureAdapterChannel, CancelMappedTransfer.

use nt_sys::{
    NTSTATUS, PDMA_ADAPTER, PVOID, STATUS_INVALID_PARAMETER, STATUS_NOT_IMPLEMENTED,
    STATUS_SUCCESS, ULONG,
};

use super::{At, enter};
use crate::dma::system;
use crate::dma::transfer_context::TransferContext;

pub unsafe extern "win64" fn read_dma_counter(adapter: PDMA_ADAPTER) -> ULONG {
    const NAME: &str = "ReadDmaCounter";
    let _inside = enter(NAME, At::UpToDispatch, adapter);
    system::counter(NAME, adapter as u64) as ULONG
}

/// The context of each of the controller's functions is a ULONG.
pub unsafe extern "win64" fn configure_adapter_channel(
    adapter: PDMA_ADAPTER,
    function: ULONG,
    context: PVOID,
) -> NTSTATUS {
    const NAME: &str = "ConfigureAdapterChannel";
    let _inside = enter(NAME, At::UpToDispatch, adapter);
    if context.is_null() {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: the driver passes what the function's manual asks for.
    let value = unsafe { context.cast::<ULONG>().read() };
    if system::configure(NAME, adapter as u64, function, value) {
        STATUS_SUCCESS
    } else {
        STATUS_NOT_IMPLEMENTED
    }
}

pub unsafe extern "win64" fn cancel_mapped_transfer(
    adapter: PDMA_ADAPTER,
    context: PVOID,
) -> NTSTATUS {
    const NAME: &str = "CancelMappedTransfer";
    let _inside = enter(NAME, At::UpToDispatch, adapter);
    // SAFETY: the driver passes a context it initialised, or NULL.
    match unsafe { TransferContext::from_raw(context) } {
        Some(context) => system::cancel(NAME, adapter as u64, context),
        None => STATUS_INVALID_PARAMETER,
    }
}
