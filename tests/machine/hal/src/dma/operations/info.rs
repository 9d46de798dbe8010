//! What adapters say of themselves and of transfers: GetDmaAlignment, GetDmaAdapterInfo, GetDmaTransferInfo.

use nt_sys::{
    BOOLEAN, DMA_ADAPTER_INFO_V1, DMA_ADAPTER_INFO_VERSION1, DMA_TRANSFER_INFO_V1,
    DMA_TRANSFER_INFO_VERSION1, NTSTATUS, PDMA_ADAPTER, PDMA_ADAPTER_INFO, PDMA_TRANSFER_INFO,
    PMDL, STATUS_NOT_SUPPORTED, STATUS_SUCCESS, ULONG, ULONGLONG,
};

use super::{At, enter};
use crate::dma::buffer::Buffer;
use crate::dma::{list, system, with};

/// Bytes to which a buffer's start should be aligned: processor caches are coherent, so only the width of a channel's
/// accesses to its device counts.
pub unsafe extern "win64" fn get_dma_alignment(adapter: PDMA_ADAPTER) -> ULONG {
    let _inside = enter("GetDmaAlignment", At::Passive, adapter);
    let system = with(|dma| dma.system_channel("GetDmaAlignment", adapter as u64));
    system.map_or(1, |system| system.width.into())
}

pub unsafe extern "win64" fn get_dma_adapter_info(
    adapter: PDMA_ADAPTER,
    info: PDMA_ADAPTER_INFO,
) -> NTSTATUS {
    const NAME: &str = "GetDmaAdapterInfo";
    let _inside = enter(NAME, At::UpToDispatch, adapter);
    let description = with(|dma| dma.adapter(NAME, adapter as u64).description);
    // SAFETY: the driver passes its structure.
    let info = unsafe { &mut *info };
    if info.Version != DMA_ADAPTER_INFO_VERSION1 {
        return STATUS_NOT_SUPPORTED;
    }
    info.__bindgen_anon_1.V1 = DMA_ADAPTER_INFO_V1 {
        ReadDmaCounterAvailable: description.system.is_some().into(),
        ScatterGatherLimit: system::most_ranges(adapter as u64).min(ULONG::MAX as usize) as ULONG,
        DmaAddressWidth: description.width.into(),
        Flags: 0,
        MinimumTransferUnit: description.system.map_or(1, |system| system.width.into()),
    };
    STATUS_SUCCESS
}

pub unsafe extern "win64" fn get_dma_transfer_info(
    adapter: PDMA_ADAPTER,
    mdl: PMDL,
    offset: ULONGLONG,
    length: ULONG,
    _write_only: BOOLEAN,
    info: PDMA_TRANSFER_INFO,
) -> NTSTATUS {
    const NAME: &str = "GetDmaTransferInfo";
    let _inside = enter(NAME, At::UpToDispatch, adapter);
    let scatter_gather = with(|dma| dma.adapter(NAME, adapter as u64).description.scatter_gather);
    // SAFETY: the driver passes its structure.
    let info = unsafe { &mut *info };
    if info.Version != DMA_TRANSFER_INFO_VERSION1 {
        return STATUS_NOT_SUPPORTED;
    }
    // SAFETY: the driver passes an MDL chain.
    let buffer = unsafe { Buffer::read(mdl) };
    let (registers, bytes) = match list::requirements(Some(&buffer), offset, length.into()) {
        Ok(requirements) => requirements,
        Err(status) => return status,
    };
    let elements = if scatter_gather {
        registers
    } else {
        buffer.extents(offset, length.into()).len() as u32
    };
    info.__bindgen_anon_1.V1 = DMA_TRANSFER_INFO_V1 {
        MapRegisterCount: registers,
        ScatterGatherElementCount: elements,
        ScatterGatherListSize: bytes,
    };
    STATUS_SUCCESS
}
