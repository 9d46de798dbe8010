//! Scatter/gather lists: GetScatterGatherList, BuildScatterGatherList, their version 3 forms, PutScatterGatherList.

use machine_bus::PAGE_SIZE;
use machine_nt::bugcheck::{Stop, stop_machine};
use machine_nt::exports::{ExAllocatePool2, ExFreePoolWithTag};
use machine_nt::ke::stack::driver_call;
use nt_sys::{
    NTSTATUS, PDEVICE_OBJECT, PDMA_ADAPTER, PDRIVER_LIST_CONTROL, PIRP, POOL_FLAG_NON_PAGED,
    PSCATTER_GATHER_LIST, PVOID, SCATTER_GATHER_ELEMENT, SCATTER_GATHER_LIST,
    STATUS_BUFFER_TOO_SMALL, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER,
};

use super::adapter::List;
use super::buffer::Buffer;
use super::mapping::{Mapping, Transfer};
use super::queue::{Kind, Request, pump, submit};
use super::transfer_context::TransferContext;
use super::verifier::Violation;
use super::with;

const POOL_TAG: u32 = u32::from_le_bytes(*b"HalS");

/// Bytes of a list's head and of each element.
const HEAD: usize = std::mem::offset_of!(SCATTER_GATHER_LIST, Elements);
const ELEMENT: usize = size_of::<SCATTER_GATHER_ELEMENT>();

/// Bytes of a list with `elements` elements.
pub fn size(elements: u32) -> u32 {
    (HEAD + elements as usize * ELEMENT) as u32
}

/// How many elements fit into `bytes`.
pub fn capacity(bytes: u32) -> usize {
    (bytes as usize).saturating_sub(HEAD) / ELEMENT
}

/// The IRP a device object works on, which the routines hand to their callbacks.
pub fn current_irp(device: PDEVICE_OBJECT) -> PIRP {
    if device.is_null() {
        return std::ptr::null_mut();
    }
    // SAFETY: a device object that a driver passes to a DMA routine exists.
    unsafe { (*device).CurrentIrp }
}

/// Writes a list of these ranges (logical address and length).
///
/// # Safety
/// `list` points to at least [`size`] bytes for that many elements.
pub unsafe fn write(list: PSCATTER_GATHER_LIST, elements: &[(u64, u64)]) {
    // SAFETY: the caller vouches for the head, which has no other user.
    let head = unsafe { &mut *list };
    head.NumberOfElements = elements.len() as u32;
    head.Reserved = 0;
    for (index, &(address, length)) in elements.iter().enumerate() {
        // SAFETY: all elements lie behind the head in the caller's memory.
        let element =
            unsafe { list.byte_add(HEAD + index * ELEMENT) }.cast::<SCATTER_GATHER_ELEMENT>();
        let value = SCATTER_GATHER_ELEMENT {
            Address: crate::large_integer(address as i64),
            Length: length as u32,
            Reserved: 0,
        };
        // SAFETY: as above.
        unsafe { element.write(value) };
    }
}

/// The bytes of a list request, and what follows.
pub struct ListRequest {
    buffer: Buffer,
    offset: u64,
    length: u64,
    write: bool,
    memory: Memory,
    routine: PDRIVER_LIST_CONTROL,
    argument: PVOID,
    /// Where the caller wants the list's address.
    result: *mut PSCATTER_GATHER_LIST,
    name: &'static str,
}

// SAFETY: all pointers are the driver's and only handed back to it, or followed while it waits for that.
unsafe impl Send for ListRequest {}

/// Where a list is built.
#[derive(Clone, Copy)]
pub enum Memory {
    /// In memory of its own.
    Allocate,
    /// In the caller's memory, of so many bytes.
    Given(PVOID, u32),
}

/// A call of one of the four routines.
pub struct Call {
    pub name: &'static str,
    pub adapter: u64,
    pub device: PDEVICE_OBJECT,
    pub context: Option<TransferContext>,
    pub memory: Memory,
    pub synchronous: bool,
    pub routine: PDRIVER_LIST_CONTROL,
    pub argument: PVOID,
    pub result: *mut PSCATTER_GATHER_LIST,
}

impl Call {
    /// A call that waits for map registers if need be.
    pub fn asynchronous(
        name: &'static str,
        adapter: PDMA_ADAPTER,
        device: PDEVICE_OBJECT,
        memory: Memory,
        routine: PDRIVER_LIST_CONTROL,
        argument: PVOID,
    ) -> Self {
        let (adapter, result) = (adapter as u64, std::ptr::null_mut());
        Self {
            name,
            adapter,
            device,
            context: None,
            memory,
            synchronous: false,
            routine,
            argument,
            result,
        }
    }
}

/// Bytes of an MDL chain.
pub struct Bytes {
    /// First byte in the chain.
    pub offset: u64,
    /// How many.
    pub length: u64,
    /// From memory to the device.
    pub write: bool,
}

/// Builds a list, now or as soon as there are map registers, and calls the routine with it.
pub fn get(call: Call, range: Bytes, buffer: Buffer) -> NTSTATUS {
    if call.routine.is_none() && (!call.synchronous || call.result.is_null()) {
        return STATUS_INVALID_PARAMETER;
    }
    buffer.verify(call.name, range.offset, range.length);
    if with(|dma| dma.system_channel(call.name, call.adapter)).is_some() {
        stop_machine(
            Stop::Unimplemented,
            format_args!("{} for a channel of the system DMA controller", call.name),
        );
    }
    let registers = buffer.span(range.offset, range.length);
    if let Memory::Given(_, bytes) = call.memory
        && bytes < size(registers)
    {
        return STATUS_BUFFER_TOO_SMALL;
    }
    if registers > with(|dma| dma.adapter(call.name, call.adapter).granted) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let list = ListRequest {
        offset: range.offset,
        length: range.length,
        write: range.write,
        memory: call.memory,
        routine: call.routine,
        argument: call.argument,
        result: call.result,
        name: call.name,
        buffer,
    };
    let request = Request {
        adapter: call.adapter,
        device: call.device as u64,
        registers,
        context: call.context,
        kind: Kind::List(list),
    };
    submit(request, call.synchronous)
}

impl ListRequest {
    /// Builds the list and calls the routine. At DISPATCH_LEVEL.
    pub fn run(self, adapter: u64, device: u64, handle: u64) {
        let (list, owned) = match self.memory {
            Memory::Given(memory, _) => (memory.cast(), false),
            Memory::Allocate => (allocate(self.buffer.span(self.offset, self.length)), true),
        };
        let elements = self.map(adapter, handle, list as u64, owned);
        // SAFETY: the list has room for an element a page, and elements are never more.
        unsafe { write(list, &elements) };
        if !self.result.is_null() {
            // SAFETY: the caller of a request with a result gave memory for it.
            unsafe { self.result.write(list) };
        }
        let Some(routine) = self.routine else { return };
        let device = device as PDEVICE_OBJECT;
        driver_call(|| {
            // SAFETY: the driver gave this routine for exactly this call.
            unsafe { routine(device, current_irp(device), list, self.argument) }
        });
    }

    fn map(&self, adapter: u64, handle: u64, list: u64, owned: bool) -> Vec<(u64, u64)> {
        with(|dma| {
            let always_bounce = dma.config.always_bounce;
            let (adapter, mut machine) = dma.parts(self.name, adapter);
            let transfer = Transfer {
                buffer: &self.buffer,
                offset: self.offset,
                length: self.length,
                write: self.write,
                elements: usize::MAX,
            };
            super::transfer::verify_not_mapped(self.name, adapter, &transfer);
            let reach = adapter.reach(always_bounce);
            let registers = adapter.allocation(self.name, handle).registers.clone();
            let mapping = Mapping::new(&mut machine, reach, &transfer, &registers, 0);
            let elements = mapping.elements().collect();
            let allocation = adapter.allocation(self.name, handle);
            allocation.used = mapping.registers;
            allocation.mappings.push(mapping);
            adapter.lists.insert(list, List { handle, owned });
            adapter.list_counts.0 += 1;
            elements
        })
    }
}

fn allocate(elements: u32) -> PSCATTER_GATHER_LIST {
    // SAFETY: at DISPATCH_LEVEL, nonpaged pool may be allocated.
    let list = unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED, size(elements).into(), POOL_TAG) };
    if list.is_null() {
        super::stop_internal("no pool for a scatter/gather list");
    }
    list.cast()
}

/// Ends the transfer of a list: data is copied back, the list and its map registers are freed.
pub fn put(routine: &'static str, adapter: u64, list: PSCATTER_GATHER_LIST, write_to_device: bool) {
    let owned = with(|dma| {
        let (adapter, mut machine) = dma.parts(routine, adapter);
        let Some(entry) = adapter.lists.remove(&(list as u64)) else {
            let (allocated, freed) = adapter.list_counts;
            Violation::ListFreedTwice {
                list: list as u64,
                allocated,
                freed: freed + 1,
            }
            .raise()
        };
        adapter.list_counts.1 += 1;
        let Some(allocation) = adapter.allocations.remove(&entry.handle) else {
            super::stop_internal("a list without map registers")
        };
        for mapping in allocation.mappings {
            if mapping.write != write_to_device {
                let (base, mdl) = (entry.handle, mapping.mdl);
                Violation::FlushedOther {
                    routine,
                    base,
                    address: list as u64,
                    mdl,
                }
                .raise();
            }
            let length = mapping.length;
            mapping.end(&mut machine, length);
        }
        dma.pool.check_guards(&allocation.registers);
        dma.pool.release(&allocation.registers);
        entry.owned
    });
    if owned {
        // SAFETY: the list was allocated here, and the driver has just given it back.
        unsafe { ExFreePoolWithTag(list.cast(), POOL_TAG) };
    }
    pump();
}

/// What CalculateScatterGatherList and GetDmaTransferInfo say of a range: map registers, which are also the most
/// elements, and bytes of the list.
pub fn requirements(
    buffer: Option<&Buffer>,
    offset: u64,
    length: u64,
) -> Result<(u32, u32), NTSTATUS> {
    let pages = match buffer {
        None => (offset % PAGE_SIZE as u64 + length).div_ceil(PAGE_SIZE as u64) as u32,
        Some(buffer) if offset + length > buffer.length() => return Err(STATUS_BUFFER_TOO_SMALL),
        Some(buffer) => buffer.span(offset, length),
    };
    Ok((pages, size(pages)))
}
