//! The routines of DMA_OPERATIONS as drivers call them: the caller's IRQL and pointers are checked here, the work is
//! done in the neighbouring modules.

use machine_nt::bugcheck::{Stop, stop_machine};
use machine_nt::sched::{self, DISPATCH_LEVEL, PASSIVE_LEVEL, Point};
use nt_sys::*;

use super::adapter::Description;
use super::buffer::Buffer;
use super::channel::{self, Wanted};
use super::list::{self, Call, Memory};
use super::transfer::{self, Range};
use super::transfer_context::TransferContext;
use super::verifier::Violation;
use super::{common_buffer, with};
use crate::bus_interface::Requester;
use crate::{large_integer, quad_part};

/// IRQL a routine must be called at.
#[derive(Clone, Copy)]
enum At {
    Passive,
    Dispatch,
    UpToDispatch,
}

/// Checks the caller's IRQL and lets the machine switch.
fn enter(routine: &'static str, at: At) {
    let current = sched::irql();
    let (lowest, highest) = match at {
        At::Passive => (PASSIVE_LEVEL, PASSIVE_LEVEL),
        At::Dispatch => (DISPATCH_LEVEL, DISPATCH_LEVEL),
        At::UpToDispatch => (PASSIVE_LEVEL, DISPATCH_LEVEL),
    };
    if current > highest {
        Violation::IrqlTooHigh {
            routine,
            maximum: highest.into(),
            current: current.into(),
        }
        .raise();
    }
    if current < lowest {
        Violation::IrqlNotEqual {
            routine,
            expected: lowest.into(),
            current: current.into(),
        }
        .raise();
    }
    sched::switch_point(Point::Routine);
}

/// Makes an adapter for the function `requester`: what GetDmaAdapter of its bus interface does. NULL if the description
/// describes no bus master that can be served.
///
/// # Safety
/// `description` points to a DEVICE_DESCRIPTION, `registers` to a ULONG.
pub unsafe fn get_adapter(
    requester: Requester,
    description: PDEVICE_DESCRIPTION,
    registers: PULONG,
) -> PDMA_ADAPTER {
    enter("IoGetDmaAdapter", At::Passive);
    // SAFETY: the caller vouches for the description.
    let description = Description::try_from(unsafe { &*description });
    match description {
        Ok(description) => {
            let (address, granted) = with(|dma| {
                let adapter = dma.create(description, requester);
                (adapter.address, adapter.granted)
            });
            // SAFETY: the caller vouches for the counter.
            unsafe { registers.write(granted) };
            address as PDMA_ADAPTER
        }
        Err(refusal) => {
            super::refuse(refusal, with(|dma| dma.config.verifier));
            std::ptr::null_mut()
        }
    }
}

unsafe extern "win64" fn put_dma_adapter(adapter: PDMA_ADAPTER) {
    enter("PutDmaAdapter", At::UpToDispatch);
    with(|dma| {
        let waiting = dma.waiting(adapter as u64);
        let adapter = dma.adapter("PutDmaAdapter", adapter as u64);
        adapter.verify_release(waiting);
        adapter.released = true;
        dma.pool.check_free();
    });
}

// ---- common buffers ----

/// Allocates a common buffer and writes its logical address.
///
/// # Safety
/// `logical` points to a PHYSICAL_ADDRESS.
unsafe fn common_buffer(
    routine: &'static str,
    adapter: PDMA_ADAPTER,
    length: ULONG,
    bounds: std::ops::Range<u64>,
    logical: PPHYSICAL_ADDRESS,
) -> PVOID {
    enter(routine, At::Passive);
    let Some((address, bus)) = common_buffer::allocate(routine, adapter as u64, length, bounds)
    else {
        return std::ptr::null_mut();
    };
    // SAFETY: the caller vouches for the result.
    unsafe { logical.write(large_integer(bus as i64)) };
    address.as_ptr().cast()
}

unsafe extern "win64" fn allocate_common_buffer(
    adapter: PDMA_ADAPTER,
    length: ULONG,
    logical: PPHYSICAL_ADDRESS,
    _cache_enabled: BOOLEAN,
) -> PVOID {
    // SAFETY: the driver passes where it wants the logical address.
    unsafe {
        common_buffer(
            "AllocateCommonBuffer",
            adapter,
            length,
            0..u64::MAX,
            logical,
        )
    }
}

unsafe extern "win64" fn allocate_common_buffer_ex(
    adapter: PDMA_ADAPTER,
    maximum: PPHYSICAL_ADDRESS,
    length: ULONG,
    logical: PPHYSICAL_ADDRESS,
    _cache_enabled: BOOLEAN,
    _preferred_node: NODE_REQUIREMENT,
) -> PVOID {
    // SAFETY: the driver passes NULL or its limit.
    let end = unsafe { bound(maximum) }.map_or(u64::MAX, |last| last.saturating_add(1));
    // SAFETY: the driver passes where it wants the logical address.
    unsafe { common_buffer("AllocateCommonBufferEx", adapter, length, 0..end, logical) }
}

unsafe extern "win64" fn allocate_common_buffer_with_bounds(
    adapter: PDMA_ADAPTER,
    minimum: PPHYSICAL_ADDRESS,
    maximum: PPHYSICAL_ADDRESS,
    length: ULONG,
    _flags: ULONG,
    _cache_type: *mut MEMORY_CACHING_TYPE,
    _preferred_node: NODE_REQUIREMENT,
    logical: PPHYSICAL_ADDRESS,
) -> PVOID {
    // SAFETY: the driver passes NULL or its limit.
    let start = unsafe { bound(minimum) }.unwrap_or(0);
    // SAFETY: as above.
    let end = unsafe { bound(maximum) }.map_or(u64::MAX, |last| last.saturating_add(1));
    // SAFETY: the driver passes where it wants the logical address.
    unsafe {
        common_buffer(
            "AllocateCommonBufferWithBounds",
            adapter,
            length,
            start..end,
            logical,
        )
    }
}

/// An optional limit.
///
/// # Safety
/// `address` is NULL or points to a PHYSICAL_ADDRESS.
unsafe fn bound(address: PPHYSICAL_ADDRESS) -> Option<u64> {
    // SAFETY: the caller vouches for the pointer.
    unsafe { address.as_ref() }.map(|address| quad_part(*address) as u64)
}

unsafe extern "win64" fn free_common_buffer(
    adapter: PDMA_ADAPTER,
    length: ULONG,
    logical: PHYSICAL_ADDRESS,
    address: PVOID,
    _cache_enabled: BOOLEAN,
) {
    enter("FreeCommonBuffer", At::Passive);
    common_buffer::free(
        "FreeCommonBuffer",
        adapter as u64,
        length,
        quad_part(logical) as u64,
        address as u64,
    );
}

// ---- the channel and map registers ----

unsafe extern "win64" fn allocate_adapter_channel(
    adapter: PDMA_ADAPTER,
    device: PDEVICE_OBJECT,
    registers: ULONG,
    routine: PDRIVER_CONTROL,
    context: PVOID,
) -> NTSTATUS {
    const NAME: &str = "AllocateAdapterChannel";
    enter(NAME, At::Dispatch);
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

unsafe extern "win64" fn allocate_adapter_channel_ex(
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
    enter(NAME, At::Dispatch);
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
unsafe fn context_for_request(context: PVOID) -> Result<TransferContext, NTSTATUS> {
    // SAFETY: the caller vouches for the pointer.
    let context = unsafe { TransferContext::from_raw(context) }.ok_or(STATUS_INVALID_PARAMETER)?;
    if context.is_cancelled() {
        Err(STATUS_CANCELLED)
    } else {
        Ok(context)
    }
}

unsafe extern "win64" fn free_adapter_channel(adapter: PDMA_ADAPTER) {
    enter("FreeAdapterChannel", At::Dispatch);
    channel::free("FreeAdapterChannel", adapter as u64);
}

unsafe extern "win64" fn free_adapter_object(adapter: PDMA_ADAPTER, action: IO_ALLOCATION_ACTION) {
    enter("FreeAdapterObject", At::UpToDispatch);
    sched::at_irql(DISPATCH_LEVEL, || {
        channel::finish("FreeAdapterObject", adapter as u64, action)
    });
}

unsafe extern "win64" fn free_map_registers(adapter: PDMA_ADAPTER, base: PVOID, count: ULONG) {
    enter("FreeMapRegisters", At::Dispatch);
    channel::free_map_registers("FreeMapRegisters", adapter as u64, base as u64, count);
}

unsafe extern "win64" fn initialize_dma_transfer_context(
    adapter: PDMA_ADAPTER,
    context: PVOID,
) -> NTSTATUS {
    const NAME: &str = "InitializeDmaTransferContext";
    enter(NAME, At::UpToDispatch);
    with(|dma| _ = dma.adapter(NAME, adapter as u64));
    if context.is_null() {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: the driver passes memory of DMA_TRANSFER_CONTEXT_SIZE_V1 bytes.
    unsafe { TransferContext::initialize(context) };
    STATUS_SUCCESS
}

unsafe extern "win64" fn cancel_adapter_channel(
    adapter: PDMA_ADAPTER,
    _device: PDEVICE_OBJECT,
    context: PVOID,
) -> BOOLEAN {
    const NAME: &str = "CancelAdapterChannel";
    enter(NAME, At::UpToDispatch);
    // SAFETY: the driver passes a context it initialised, or NULL.
    let context = unsafe { TransferContext::from_raw(context) };
    context
        .is_some_and(|context| channel::cancel(NAME, adapter as u64, context))
        .into()
}

// ---- transfers ----

/// Where a virtual address lies in the MDL that begins `buffer`, as versions 1 and 2 name the start of a transfer.
fn offset_of(routine: &'static str, buffer: &Buffer, address: PVOID) -> u64 {
    let address = address as u64;
    let Some(first) = buffer.first() else {
        Violation::BufferNotMapped { routine, mdl: 0 }.raise()
    };
    let mdl = first.mdl;
    if address < first.address {
        Violation::OutsideFirstMdl {
            routine,
            after: false,
            address,
            mdl,
        }
        .raise();
    }
    if address >= first.address + first.length {
        Violation::OutsideFirstMdl {
            routine,
            after: true,
            address,
            mdl,
        }
        .raise();
    }
    address - first.address
}

unsafe extern "win64" fn map_transfer(
    adapter: PDMA_ADAPTER,
    mdl: PMDL,
    base: PVOID,
    address: PVOID,
    length: PULONG,
    write: BOOLEAN,
) -> PHYSICAL_ADDRESS {
    const NAME: &str = "MapTransfer";
    enter(NAME, At::UpToDispatch);
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

unsafe extern "win64" fn map_transfer_ex(
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
    _completion_context: PVOID,
) -> NTSTATUS {
    const NAME: &str = "MapTransferEx";
    enter(NAME, At::UpToDispatch);
    let room = list::capacity(list_length);
    if list.is_null() || room == 0 || device_offset != 0 || completion.is_some() {
        return STATUS_INVALID_PARAMETER;
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
    let elements = transfer::map(NAME, adapter as u64, base as u64, &range, room, false);
    // SAFETY: the list has room for `room` elements, and no more were mapped.
    unsafe { list::write(list, &elements) };
    let mapped: u64 = elements.iter().map(|(_, length)| length).sum();
    // SAFETY: as above.
    unsafe { length.write(mapped as ULONG) };
    STATUS_SUCCESS
}

unsafe extern "win64" fn flush_adapter_buffers(
    adapter: PDMA_ADAPTER,
    mdl: PMDL,
    base: PVOID,
    address: PVOID,
    length: ULONG,
    write: BOOLEAN,
) -> BOOLEAN {
    const NAME: &str = "FlushAdapterBuffers";
    enter(NAME, At::UpToDispatch);
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

unsafe extern "win64" fn flush_adapter_buffers_ex(
    adapter: PDMA_ADAPTER,
    mdl: PMDL,
    base: PVOID,
    offset: ULONGLONG,
    length: ULONG,
    write: BOOLEAN,
) -> NTSTATUS {
    const NAME: &str = "FlushAdapterBuffersEx";
    enter(NAME, At::UpToDispatch);
    // SAFETY: the driver passes the MDL chain it mapped.
    let buffer = unsafe { Buffer::read(mdl) };
    let range = Range {
        buffer: &buffer,
        offset,
        length: length.into(),
        write: write != 0,
    };
    transfer::flush(NAME, adapter as u64, base as u64, &range);
    STATUS_SUCCESS
}

// ---- scatter/gather lists ----

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
    enter(call.name, At::Dispatch);
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
    enter(call.name, At::UpToDispatch);
    // SAFETY: the caller vouches for the context.
    match unsafe { context_for_request(context) } {
        Ok(context) => call.context = Some(context),
        Err(status) => return status,
    }
    // SAFETY: the caller vouches for the chain.
    let buffer = unsafe { Buffer::read(mdl) };
    list::get(call, range, buffer)
}

unsafe extern "win64" fn get_scatter_gather_list(
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

unsafe extern "win64" fn build_scatter_gather_list(
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

unsafe extern "win64" fn get_scatter_gather_list_ex(
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

unsafe extern "win64" fn build_scatter_gather_list_ex(
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

unsafe extern "win64" fn put_scatter_gather_list(
    adapter: PDMA_ADAPTER,
    list: PSCATTER_GATHER_LIST,
    write: BOOLEAN,
) {
    enter("PutScatterGatherList", At::Dispatch);
    list::put("PutScatterGatherList", adapter as u64, list, write != 0);
}

unsafe extern "win64" fn calculate_scatter_gather_list(
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

// ---- what adapters say of themselves ----

/// Bytes to which a buffer's start should be aligned: processor caches are coherent, so none.
unsafe extern "win64" fn get_dma_alignment(adapter: PDMA_ADAPTER) -> ULONG {
    enter("GetDmaAlignment", At::Passive);
    with(|dma| _ = dma.adapter("GetDmaAlignment", adapter as u64));
    1
}

unsafe extern "win64" fn get_dma_adapter_info(
    adapter: PDMA_ADAPTER,
    info: PDMA_ADAPTER_INFO,
) -> NTSTATUS {
    const NAME: &str = "GetDmaAdapterInfo";
    enter(NAME, At::UpToDispatch);
    let width = with(|dma| dma.adapter(NAME, adapter as u64).description.width);
    // SAFETY: the driver passes its structure.
    let info = unsafe { &mut *info };
    if info.Version != DMA_ADAPTER_INFO_VERSION1 {
        return STATUS_NOT_SUPPORTED;
    }
    info.__bindgen_anon_1.V1 = DMA_ADAPTER_INFO_V1 {
        ReadDmaCounterAvailable: 0,
        ScatterGatherLimit: ULONG::MAX,
        DmaAddressWidth: width.into(),
        Flags: 0,
        MinimumTransferUnit: 1,
    };
    STATUS_SUCCESS
}

unsafe extern "win64" fn get_dma_transfer_info(
    adapter: PDMA_ADAPTER,
    mdl: PMDL,
    offset: ULONGLONG,
    length: ULONG,
    _write_only: BOOLEAN,
    info: PDMA_TRANSFER_INFO,
) -> NTSTATUS {
    const NAME: &str = "GetDmaTransferInfo";
    enter(NAME, At::UpToDispatch);
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

// ---- the tables ----

/// A table entry that stops the machine by its name.
macro_rules! absent {
    ($name:ident) => {{
        unsafe extern "win64" fn stop() -> ! {
            stop_machine(Stop::Unimplemented, concat!("DMA_OPERATIONS.", stringify!($name)))
        }
        // The entry's type, which the context gives, is what it becomes.
        #[allow(clippy::missing_transmute_annotations)]
        // SAFETY: the function takes nothing from its caller and never returns, so any signature will do.
        Some(unsafe { std::mem::transmute(stop as unsafe extern "win64" fn() -> !) })
    }};
}

const VERSION_3: DMA_OPERATIONS = DMA_OPERATIONS {
    Size: size_of::<DMA_OPERATIONS>() as ULONG,
    PutDmaAdapter: Some(put_dma_adapter),
    AllocateCommonBuffer: Some(allocate_common_buffer),
    FreeCommonBuffer: Some(free_common_buffer),
    AllocateAdapterChannel: Some(allocate_adapter_channel),
    FlushAdapterBuffers: Some(flush_adapter_buffers),
    FreeAdapterChannel: Some(free_adapter_channel),
    FreeMapRegisters: Some(free_map_registers),
    MapTransfer: Some(map_transfer),
    GetDmaAlignment: Some(get_dma_alignment),
    ReadDmaCounter: absent!(ReadDmaCounter),
    GetScatterGatherList: Some(get_scatter_gather_list),
    PutScatterGatherList: Some(put_scatter_gather_list),
    CalculateScatterGatherList: Some(calculate_scatter_gather_list),
    BuildScatterGatherList: Some(build_scatter_gather_list),
    BuildMdlFromScatterGatherList: absent!(BuildMdlFromScatterGatherList),
    GetDmaAdapterInfo: Some(get_dma_adapter_info),
    GetDmaTransferInfo: Some(get_dma_transfer_info),
    InitializeDmaTransferContext: Some(initialize_dma_transfer_context),
    AllocateCommonBufferEx: Some(allocate_common_buffer_ex),
    AllocateAdapterChannelEx: Some(allocate_adapter_channel_ex),
    ConfigureAdapterChannel: absent!(ConfigureAdapterChannel),
    CancelAdapterChannel: Some(cancel_adapter_channel),
    MapTransferEx: Some(map_transfer_ex),
    GetScatterGatherListEx: Some(get_scatter_gather_list_ex),
    BuildScatterGatherListEx: Some(build_scatter_gather_list_ex),
    FlushAdapterBuffersEx: Some(flush_adapter_buffers_ex),
    FreeAdapterObject: Some(free_adapter_object),
    CancelMappedTransfer: absent!(CancelMappedTransfer),
    AllocateDomainCommonBuffer: absent!(AllocateDomainCommonBuffer),
    FlushDmaBuffer: absent!(FlushDmaBuffer),
    JoinDmaDomain: absent!(JoinDmaDomain),
    LeaveDmaDomain: absent!(LeaveDmaDomain),
    GetDmaDomain: absent!(GetDmaDomain),
    AllocateCommonBufferWithBounds: Some(allocate_common_buffer_with_bounds),
    AllocateCommonBufferVector: absent!(AllocateCommonBufferVector),
    GetCommonBufferFromVectorByIndex: absent!(GetCommonBufferFromVectorByIndex),
    FreeCommonBufferFromVector: absent!(FreeCommonBufferFromVector),
    FreeCommonBufferVector: absent!(FreeCommonBufferVector),
    CreateCommonBufferFromMdl: absent!(CreateCommonBufferFromMdl),
};

/// Version 2 ends before the routines of version 3: their entries are not there.
const VERSION_2: DMA_OPERATIONS = DMA_OPERATIONS {
    Size: std::mem::offset_of!(DMA_OPERATIONS, GetDmaAdapterInfo) as ULONG,
    GetDmaAdapterInfo: None,
    GetDmaTransferInfo: None,
    InitializeDmaTransferContext: None,
    AllocateCommonBufferEx: None,
    AllocateAdapterChannelEx: None,
    ConfigureAdapterChannel: None,
    CancelAdapterChannel: None,
    MapTransferEx: None,
    GetScatterGatherListEx: None,
    BuildScatterGatherListEx: None,
    FlushAdapterBuffersEx: None,
    FreeAdapterObject: None,
    CancelMappedTransfer: None,
    AllocateDomainCommonBuffer: None,
    FlushDmaBuffer: None,
    JoinDmaDomain: None,
    LeaveDmaDomain: None,
    GetDmaDomain: None,
    AllocateCommonBufferWithBounds: None,
    AllocateCommonBufferVector: None,
    GetCommonBufferFromVectorByIndex: None,
    FreeCommonBufferFromVector: None,
    FreeCommonBufferVector: None,
    CreateCommonBufferFromMdl: None,
    ..VERSION_3
};

const VERSION_1: DMA_OPERATIONS = DMA_OPERATIONS {
    Size: std::mem::offset_of!(DMA_OPERATIONS, CalculateScatterGatherList) as ULONG,
    CalculateScatterGatherList: None,
    BuildScatterGatherList: None,
    BuildMdlFromScatterGatherList: None,
    ..VERSION_2
};

/// The table of a version, 1 to 3.
pub fn table(version: u32) -> &'static DMA_OPERATIONS {
    static TABLES: [DMA_OPERATIONS; 3] = [VERSION_1, VERSION_2, VERSION_3];
    &TABLES[version as usize - 1]
}
