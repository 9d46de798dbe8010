//! The routines of DMA_OPERATIONS as drivers call them: the caller's IRQL and pointers are checked here, the work is
//! done in the modules of the same names above. An entry the machine does not have stops it by name.

mod channel;
mod common_buffer;
mod info;
mod list;
mod system;
mod transfer;

use machine_bus::FunctionAddress;
use machine_bus::system_dma::DmaController;
use machine_nt::bugcheck::{Stop, stop_machine};
use machine_nt::counters::counters;
use machine_nt::entry::enter_with;
use machine_nt::ke::stack::Inside;
use machine_nt::sched::{self, DISPATCH_LEVEL, HIGH_LEVEL, PASSIVE_LEVEL};
use nt_sys::{DMA_OPERATIONS, PDEVICE_DESCRIPTION, PDMA_ADAPTER, PULONG, PVOID, ULONG};

use super::adapter::{Description, Refusal};
use super::buffer::Buffer;
use super::verifier::Violation;
use super::with;
use crate::bus_interface::Requester;

/// IRQL a routine must be called at.
#[derive(Clone, Copy)]
enum At {
    Passive,
    Dispatch,
    UpToDispatch,
}

/// Enters a routine: checks the caller's IRQL, and does what every kernel routine does. The result is kept until the
/// routine returns.
fn enter(routine: &'static str, at: At, adapter: PDMA_ADAPTER) -> Inside {
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
    enter_with(routine, HIGH_LEVEL, adapter as usize)
}

/// Makes an adapter for the physical device object `device`, which has `function` if it is one of the PCI bus: what
/// GetDmaAdapter of its bus interface does. NULL if the description is none that can be served.
///
/// # Safety
/// `description` points to a DEVICE_DESCRIPTION, `registers` to a ULONG.
pub unsafe fn get_adapter(
    device: u64,
    function: Option<FunctionAddress>,
    description: PDEVICE_DESCRIPTION,
    registers: PULONG,
) -> PDMA_ADAPTER {
    let _inside = enter("IoGetDmaAdapter", At::Passive, std::ptr::null_mut());
    let controller = with(|dma| dma.board.dma_controller().map(DmaController::capabilities));
    // SAFETY: the caller vouches for the description.
    let description = Description::new(unsafe { &*description }, controller);
    let checked = description.and_then(|description| {
        let function = match description.system {
            Some(system) => Some(machine_bus::system_dma::requester(system.channel)),
            None => function,
        };
        let function = function.ok_or(Refusal::NoMaster)?;
        Ok((description, Requester { device, function }))
    });
    match checked {
        Ok((description, requester)) => {
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
    let _inside = enter("PutDmaAdapter", At::UpToDispatch, adapter);
    with(|dma| {
        let waiting = dma.waiting(adapter as u64);
        let adapter = dma.adapter("PutDmaAdapter", adapter as u64);
        adapter.verify_release(waiting);
        adapter.released = true;
        counters().dma_adapters_put.increment();
        dma.pool.check_free();
    });
}

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
    AllocateCommonBuffer: Some(common_buffer::allocate_common_buffer),
    FreeCommonBuffer: Some(common_buffer::free_common_buffer),
    AllocateAdapterChannel: Some(channel::allocate_adapter_channel),
    FlushAdapterBuffers: Some(transfer::flush_adapter_buffers),
    FreeAdapterChannel: Some(channel::free_adapter_channel),
    FreeMapRegisters: Some(channel::free_map_registers),
    MapTransfer: Some(transfer::map_transfer),
    GetDmaAlignment: Some(info::get_dma_alignment),
    ReadDmaCounter: Some(system::read_dma_counter),
    GetScatterGatherList: Some(list::get_scatter_gather_list),
    PutScatterGatherList: Some(list::put_scatter_gather_list),
    CalculateScatterGatherList: Some(list::calculate_scatter_gather_list),
    BuildScatterGatherList: Some(list::build_scatter_gather_list),
    BuildMdlFromScatterGatherList: absent!(BuildMdlFromScatterGatherList),
    GetDmaAdapterInfo: Some(info::get_dma_adapter_info),
    GetDmaTransferInfo: Some(info::get_dma_transfer_info),
    InitializeDmaTransferContext: Some(channel::initialize_dma_transfer_context),
    AllocateCommonBufferEx: Some(common_buffer::allocate_common_buffer_ex),
    AllocateAdapterChannelEx: Some(channel::allocate_adapter_channel_ex),
    ConfigureAdapterChannel: Some(system::configure_adapter_channel),
    CancelAdapterChannel: Some(channel::cancel_adapter_channel),
    MapTransferEx: Some(transfer::map_transfer_ex),
    GetScatterGatherListEx: Some(list::get_scatter_gather_list_ex),
    BuildScatterGatherListEx: Some(list::build_scatter_gather_list_ex),
    FlushAdapterBuffersEx: Some(transfer::flush_adapter_buffers_ex),
    FreeAdapterObject: Some(channel::free_adapter_object),
    CancelMappedTransfer: Some(system::cancel_mapped_transfer),
    AllocateDomainCommonBuffer: absent!(AllocateDomainCommonBuffer),
    FlushDmaBuffer: absent!(FlushDmaBuffer),
    JoinDmaDomain: absent!(JoinDmaDomain),
    LeaveDmaDomain: absent!(LeaveDmaDomain),
    GetDmaDomain: absent!(GetDmaDomain),
    AllocateCommonBufferWithBounds: Some(common_buffer::allocate_common_buffer_with_bounds),
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
