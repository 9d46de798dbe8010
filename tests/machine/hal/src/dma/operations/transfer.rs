//! MapTransfer(Ex) and FlushAdapterBuffers(Ex).

use nt_sys::{
    BOOLEAN, NTSTATUS, PDMA_ADAPTER, PDMA_COMPLETION_ROUTINE, PHYSICAL_ADDRESS, PMDL,
    PSCATTER_GATHER_LIST, PULONG, PVOID, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER,
    STATUS_SUCCESS, TRUE, ULONG, ULONGLONG,
};

use super::{At, enter, offset_of};
use crate::dma::buffer::Buffer;
use crate::dma::system::{self, Start};
use crate::dma::transfer::{self, Range};
use crate::dma::{list, with};
use crate::large_integer;
use machine_nt::failure;

pub unsafe extern "win64" fn map_transfer(
    adapter: PDMA_ADAPTER,
    mdl: PMDL,
    base: PVOID,
    address: PVOID,
    length: PULONG,
    write: BOOLEAN,
) -> PHYSICAL_ADDRESS {
    const NAME: &str = "MapTransfer";
    let _inside = enter(NAME, At::UpToDispatch, adapter);
    // SAFETY: the driver passes an MDL chain.
    let buffer = unsafe { Buffer::read(mdl) };
    // SAFETY: the driver passes its length.
    let wanted = unsafe { length.read() };
    let offset = offset_of(NAME, &buffer, address);
    let range = Range {
        buffer: &buffer,
        offset,
        length: wanted.into(),
        write: write != 0,
    };
    let elements = transfer::map(NAME, adapter as u64, base as u64, &range, 1, true);
    let (logical, mapped) = elements.first().copied().unwrap_or((0, 0));
    // SAFETY: as above.
    unsafe { length.write(mapped as ULONG) };
    large_integer(logical as i64)
}

pub unsafe extern "win64" fn map_transfer_ex(
    adapter: PDMA_ADAPTER,
    mdl: PMDL,
    base: PVOID,
    offset: ULONGLONG,
    device_offset: ULONG,
    length: PULONG,
    write: BOOLEAN,
    list: PSCATTER_GATHER_LIST,
    list_length: ULONG,
    completion: PDMA_COMPLETION_ROUTINE,
    completion_context: PVOID,
) -> NTSTATUS {
    const NAME: &str = "MapTransferEx";
    let _inside = enter(NAME, At::UpToDispatch, adapter);
    let system = with(|dma| dma.system_channel(NAME, adapter as u64)).is_some();
    // Without a list, a channel's transfer has one element in memory of the HAL's.
    let room = match (list.is_null(), system) {
        (true, true) => 1,
        (true, false) => 0,
        (false, _) => list::capacity(list_length).min(system::most_ranges(adapter as u64)),
    };
    if room == 0 || !system && (device_offset != 0 || completion.is_some()) {
        return STATUS_INVALID_PARAMETER;
    }
    if failure::strikes(failure::Point::Mapping) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    // SAFETY: the driver passes an MDL chain.
    let buffer = unsafe { Buffer::read(mdl) };
    // SAFETY: the driver passes its length.
    let wanted = unsafe { length.read() };
    let range = Range {
        buffer: &buffer,
        offset,
        length: wanted.into(),
        write: write != 0,
    };
    let runs = buffer.runs(range.offset, range.length);
    if let Err(status) = system::check(NAME, adapter as u64, &runs) {
        return status;
    }
    let elements = transfer::map(NAME, adapter as u64, base as u64, &range, room, false);
    if !list.is_null() {
        // SAFETY: the list has room for `room` elements, and no more were mapped.
        unsafe { list::write(list, &elements) };
    }
    let mapped: u64 = elements.iter().map(|(_, length)| length).sum();
    // SAFETY: as above.
    unsafe { length.write(mapped as ULONG) };
    let start = Start {
        ranges: &elements,
        device_offset,
        to_device: range.write,
        routine: completion,
        context: completion_context,
    };
    system::start(adapter as u64, &start);
    STATUS_SUCCESS
}

pub unsafe extern "win64" fn flush_adapter_buffers(
    adapter: PDMA_ADAPTER,
    mdl: PMDL,
    base: PVOID,
    address: PVOID,
    length: ULONG,
    write: BOOLEAN,
) -> BOOLEAN {
    const NAME: &str = "FlushAdapterBuffers";
    let _inside = enter(NAME, At::UpToDispatch, adapter);
    // SAFETY: the driver passes the MDL chain it mapped.
    let buffer = unsafe { Buffer::read(mdl) };
    let offset = offset_of(NAME, &buffer, address);
    let range = Range {
        buffer: &buffer,
        offset,
        length: length.into(),
        write: write != 0,
    };
    transfer::flush(NAME, adapter as u64, base as u64, &range);
    TRUE as BOOLEAN
}

pub unsafe extern "win64" fn flush_adapter_buffers_ex(
    adapter: PDMA_ADAPTER,
    mdl: PMDL,
    base: PVOID,
    offset: ULONGLONG,
    length: ULONG,
    write: BOOLEAN,
) -> NTSTATUS {
    const NAME: &str = "FlushAdapterBuffersEx";
    let _inside = enter(NAME, At::UpToDispatch, adapter);
    // SAFETY: the driver passes the MDL chain it mapped.
    let buffer = unsafe { Buffer::read(mdl) };
    let range = Range {
        buffer: &buffer,
        offset,
        length: length.into(),
        write: write != 0,
    };
    if system::begin_flush(NAME, adapter as u64, range.length) {
        transfer::flush(NAME, adapter as u64, base as u64, &range);
    }
    STATUS_SUCCESS
}
