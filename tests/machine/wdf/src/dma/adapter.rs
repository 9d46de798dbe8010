//! A DMA adapter, through its table of operations.

use std::ffi::c_void;

use crate::flat::*;
use crate::lock::Ptr;
use crate::wdm::{self, Mdl};

/// Calls an operation of the adapter's table; the HAL fills all that the adapter's version has.
macro_rules! operation {
    ($self:ident, $name:ident($($argument:expr),* $(,)?)) => {{
        // SAFETY: the adapter lives until `put`.
        let operations = unsafe { (*$self.object.0).DmaOperations };
        // SAFETY: the HAL's table lives as long as the adapter.
        let routine = unsafe { (*operations).$name };
        match routine {
            // SAFETY: the operation of this adapter, with the arguments its documentation asks for.
            Some(routine) => unsafe { routine($self.object.0, $($argument),*) },
            None => unreachable!(concat!("the adapter's table has no ", stringify!($name))),
        }
    }};
}

/// One direction of an enabler: the adapter and what it can do.
#[derive(Clone, Copy)]
pub(crate) struct Adapter {
    object: Ptr<DMA_ADAPTER>,
    /// Map registers that a transfer can have.
    pub(crate) map_registers: u32,
    /// The longest transfer they allow, and the enabler's maximum.
    pub(crate) max_fragment: usize,
    /// Bytes of a scatter/gather list for all map registers.
    pub(crate) list_size: usize,
}

/// A buffer that the device and the processor share.
#[derive(Clone, Copy)]
pub(crate) struct CommonMemory {
    /// Where the processor sees it.
    pub(crate) address: *mut c_void,
    /// Where the device sees it.
    pub(crate) logical: i64,
}

/// Where a transfer takes its data from or puts it.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// The first MDL.
    pub(crate) mdl: Mdl,
    /// Bytes into the chain.
    pub(crate) offset: usize,
    /// Bytes of the transfer.
    pub(crate) length: usize,
    /// `WriteToDevice`.
    pub(crate) write: bool,
}

impl Place {
    /// The virtual address version 2 routines want.
    fn current_va(&self) -> *mut c_void {
        (self.mdl.virtual_address() + self.offset) as *mut c_void
    }

    fn write(&self) -> BOOLEAN {
        BOOLEAN::from(self.write)
    }
}

fn physical(value: i64) -> PHYSICAL_ADDRESS {
    // SAFETY: all-zero bytes are a valid value of this plain union.
    let mut address: PHYSICAL_ADDRESS = unsafe { std::mem::zeroed() };
    address.QuadPart = value;
    address
}

fn quad(address: PHYSICAL_ADDRESS) -> i64 {
    // SAFETY: every member of the union is plain bits.
    unsafe { address.QuadPart }
}

impl Adapter {
    /// The adapter the HAL returned, nothing known about it yet.
    ///
    /// # Safety
    /// `object` came from `IoGetDmaAdapter` and is given back by [`Adapter::put`] once.
    pub(crate) unsafe fn new(object: *mut DMA_ADAPTER, map_registers: u32) -> Self {
        Self {
            object: Ptr(object),
            map_registers,
            max_fragment: 0,
            list_size: 0,
        }
    }

    /// The adapter object.
    pub(crate) fn raw(&self) -> *mut DMA_ADAPTER {
        self.object.0
    }

    /// `PutDmaAdapter`.
    pub(crate) fn put(&self) {
        operation!(self, PutDmaAdapter());
    }

    /// `GetDmaAlignment`, in bytes.
    pub(crate) fn alignment(&self) -> u32 {
        operation!(self, GetDmaAlignment())
    }

    /// Bytes of a list that describes `length` bytes. Errors: the HAL's.
    pub(crate) fn calculate_list(&self, length: u32) -> Result<usize, NTSTATUS> {
        let (mut size, mut registers) = (0, 0);
        let status = operation!(
            self,
            CalculateScatterGatherList(
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                length,
                &raw mut size,
                &raw mut registers,
            )
        );
        wdm::check(status).map(|()| size as usize)
    }

    /// `InitializeDmaTransferContext`.
    pub(crate) fn initialize_context(&self, context: *mut c_void) {
        // Fails only for a NULL context, which stops the HAL.
        let _ = operation!(self, InitializeDmaTransferContext(context));
    }

    /// `GetDmaTransferInfo`, with the version the caller set. Errors: the HAL's.
    pub(crate) fn transfer_info(
        &self,
        place: &Place,
        info: &mut DMA_TRANSFER_INFO,
    ) -> Result<(), NTSTATUS> {
        let status = operation!(
            self,
            GetDmaTransferInfo(
                place.mdl.raw(),
                place.offset as u64,
                place.length as u32,
                place.write(),
                info
            )
        );
        wdm::check(status)
    }

    /// `AllocateAdapterChannelEx`. Errors: the HAL's.
    pub(crate) fn allocate_channel_ex(
        &self,
        device: PDEVICE_OBJECT,
        context: *mut c_void,
        registers: u32,
        flags: u32,
        control: PDRIVER_CONTROL,
        argument: *mut c_void,
    ) -> Result<(), NTSTATUS> {
        let base = std::ptr::null_mut();
        wdm::check(operation!(
            self,
            AllocateAdapterChannelEx(device, context, registers, flags, control, argument, base)
        ))
    }

    /// `AllocateAdapterChannel`. Errors: the HAL's.
    pub(crate) fn allocate_channel(
        &self,
        device: PDEVICE_OBJECT,
        registers: u32,
        control: PDRIVER_CONTROL,
        argument: *mut c_void,
    ) -> Result<(), NTSTATUS> {
        wdm::check(operation!(
            self,
            AllocateAdapterChannel(device, registers, control, argument)
        ))
    }

    /// `MapTransferEx`: the bytes mapped. Errors: the HAL's.
    pub(crate) fn map_transfer_ex(
        &self,
        place: &Place,
        base: *mut c_void,
        device_offset: u32,
        list: (*mut SCATTER_GATHER_LIST, u32),
        completion: (PDMA_COMPLETION_ROUTINE, *mut c_void),
    ) -> Result<usize, NTSTATUS> {
        let mut length = place.length as u32;
        let status = operation!(
            self,
            MapTransferEx(
                place.mdl.raw(),
                base,
                place.offset as u64,
                device_offset,
                &raw mut length,
                place.write(),
                list.0,
                list.1,
                completion.0,
                completion.1.cast(),
            )
        );
        wdm::check(status).map(|()| length as usize)
    }

    /// `MapTransfer`: where the device sees the bytes, and how many.
    pub(crate) fn map_transfer(&self, place: &Place, base: *mut c_void) -> (i64, usize) {
        let mut length = place.length as u32;
        let logical = operation!(
            self,
            MapTransfer(
                place.mdl.raw(),
                base,
                place.current_va(),
                &raw mut length,
                place.write()
            )
        );
        (quad(logical), length as usize)
    }

    /// `FlushAdapterBuffersEx`. Errors: the HAL's.
    pub(crate) fn flush_ex(&self, place: &Place, base: *mut c_void) -> Result<(), NTSTATUS> {
        let (offset, length) = (place.offset as u64, place.length as u32);
        wdm::check(operation!(
            self,
            FlushAdapterBuffersEx(place.mdl.raw(), base, offset, length, place.write())
        ))
    }

    /// `FlushAdapterBuffers`. Errors: `STATUS_UNSUCCESSFUL`.
    pub(crate) fn flush(&self, place: &Place, base: *mut c_void) -> Result<(), NTSTATUS> {
        let length = place.length as u32;
        let flushed = operation!(
            self,
            FlushAdapterBuffers(
                place.mdl.raw(),
                base,
                place.current_va(),
                length,
                place.write()
            )
        );
        if flushed != 0 {
            Ok(())
        } else {
            Err(STATUS_UNSUCCESSFUL)
        }
    }

    /// `FreeMapRegisters`. `DISPATCH_LEVEL`.
    pub(crate) fn free_map_registers(&self, base: *mut c_void, count: u32) {
        operation!(self, FreeMapRegisters(base, count));
    }

    /// `FreeAdapterChannel`. `DISPATCH_LEVEL`.
    pub(crate) fn free_channel(&self) {
        operation!(self, FreeAdapterChannel());
    }

    /// `CancelMappedTransfer`. Errors: the HAL's, if the transfer was cancelled before.
    pub(crate) fn cancel_mapped_transfer(&self, context: *mut c_void) -> Result<(), NTSTATUS> {
        wdm::check(operation!(self, CancelMappedTransfer(context.cast())))
    }

    /// `CancelAdapterChannel`: true if the allocation was waiting and will not come.
    pub(crate) fn cancel_channel(&self, device: PDEVICE_OBJECT, context: *mut c_void) -> bool {
        operation!(self, CancelAdapterChannel(device, context)) != 0
    }

    /// `GetScatterGatherList(Ex)` or `BuildScatterGatherList(Ex)`: with a `buffer`, build. Errors: the HAL's.
    pub(crate) fn scatter_gather(&self, request: &ListRequest) -> Result<(), NTSTATUS> {
        let ListRequest {
            device,
            place,
            context,
            flags,
            control,
            argument,
            buffer,
            version3,
        } = *request;
        let (mdl, offset, length, write) = (
            place.mdl.raw(),
            place.offset as u64,
            place.length as u32,
            place.write(),
        );
        let (va, null) = (place.current_va(), std::ptr::null_mut::<c_void>());
        let status = match (buffer, version3) {
            (Some((buffer, size)), true) => operation!(
                self,
                BuildScatterGatherListEx(
                    device, context.0, mdl, offset, length, flags, control, argument.0, write,
                    buffer.0, size, None, null, null,
                )
            ),
            (Some((buffer, size)), false) => operation!(
                self,
                BuildScatterGatherList(
                    device, mdl, va, length, control, argument.0, write, buffer.0, size
                )
            ),
            (None, true) => operation!(
                self,
                GetScatterGatherListEx(
                    device,
                    context.0,
                    mdl,
                    offset,
                    length,
                    flags,
                    control,
                    argument.0,
                    write,
                    None,
                    null,
                    null.cast(),
                )
            ),
            (None, false) => {
                operation!(
                    self,
                    GetScatterGatherList(device, mdl, va, length, control, argument.0, write)
                )
            }
        };
        wdm::check(status)
    }

    /// `PutScatterGatherList`. `DISPATCH_LEVEL`.
    pub(crate) fn put_list(&self, list: *mut SCATTER_GATHER_LIST, write: bool) {
        operation!(self, PutScatterGatherList(list, BOOLEAN::from(write)));
    }

    /// `AllocateCommonBuffer`, cached. None without memory.
    pub(crate) fn allocate_common(&self, length: u32) -> Option<CommonMemory> {
        let mut logical = physical(0);
        let address = operation!(
            self,
            AllocateCommonBuffer(length, &raw mut logical, TRUE as BOOLEAN)
        );
        (!address.is_null()).then(|| CommonMemory {
            address: address.cast(),
            logical: quad(logical),
        })
    }

    /// `FreeCommonBuffer`.
    pub(crate) fn free_common(&self, memory: CommonMemory, length: u32) {
        let logical = physical(memory.logical);
        operation!(
            self,
            FreeCommonBuffer(length, logical, memory.address.cast(), TRUE as BOOLEAN)
        );
    }
}

/// What [`Adapter::scatter_gather`] needs.
#[derive(Clone, Copy)]
pub(crate) struct ListRequest {
    /// The function device object.
    pub(crate) device: PDEVICE_OBJECT,
    /// The data.
    pub(crate) place: Place,
    /// The transfer context (version 3).
    pub(crate) context: Ptr<c_void>,
    /// `DMA_SYNCHRONOUS_CALLBACK` or nothing (version 3).
    pub(crate) flags: u32,
    /// Called with the list.
    pub(crate) control: PDRIVER_LIST_CONTROL,
    /// Its context.
    pub(crate) argument: Ptr<c_void>,
    /// Memory for the list, if it was allocated beforehand.
    pub(crate) buffer: Option<(Ptr<c_void>, u32)>,
    /// Whether the routines of version 3 are used.
    pub(crate) version3: bool,
}
