//! A machine with edu in a slot and no framework: what the tests of this crate run in.

#![allow(dead_code)]

use std::sync::Arc;

use machine_bus::{Board, Edu, FunctionAddress, LocalBoard, MemoryConfig};
use machine_hal::pnp::{Manager, Node};
use machine_hal::{Config, install};
use machine_nt::exports::{
    ExAllocatePool2, IoAllocateMdl, IoGetDmaAdapter, MmBuildMdlForNonPagedPool,
};
use machine_nt::sched;
use nt_sys::*;

/// Where edu is.
pub const EDU: FunctionAddress = FunctionAddress::new(0, 4, 0);

/// A machine that runs.
pub struct Rig {
    pub board: Arc<LocalBoard>,
    pub manager: Manager,
}

/// Runs `f` in a machine with this HAL.
pub fn run(config: Config, f: impl FnOnce(Rig) + 'static) {
    let memory = MemoryConfig::default();
    let devices: Vec<(_, Box<dyn machine_bus::Device>)> =
        vec![(EDU, Box::new(Edu::new((1 << 28) - 1)))];
    run_on(LocalBoard::new(&memory, devices).unwrap(), config, f);
}

/// Runs `f` in a machine with this board and this HAL.
pub fn run_on(board: LocalBoard, config: Config, f: impl FnOnce(Rig) + 'static) {
    let board = Arc::new(board);
    machine_nt::mm::set_memory(board.memory().clone());
    sched::run(sched::Config::default(), move || {
        install(config, board.clone()).unwrap();
        let manager = Manager::new();
        f(Rig { board, manager });
    });
}

impl Rig {
    /// edu's node, after a look at the bus.
    pub fn edu(&self) -> Arc<Node> {
        self.manager.start_devices();
        let is_edu = |node: &Arc<Node>| node.hardware_ids[0].contains("VEN_1234&DEV_11E8");
        self.manager.devices().into_iter().find(is_edu).unwrap()
    }

    /// What edu reads at a logical address; the address that is not mapped if it cannot.
    pub fn device_read(&self, logical: u64, length: usize) -> Result<Vec<u8>, u64> {
        let mut bytes = Vec::new();
        let segments = self
            .board
            .iommu()
            .unwrap()
            .translate(EDU, logical, length, false);
        for segment in segments.map_err(|fault| fault.address)? {
            let mut part = vec![0; segment.length];
            self.board
                .memory()
                .read(segment.physical, &mut part)
                .unwrap();
            bytes.extend(part);
        }
        Ok(bytes)
    }

    /// Has edu write to a logical address; the address that is not mapped if it cannot.
    pub fn device_write(&self, logical: u64, bytes: &[u8]) -> Result<(), u64> {
        device_write(&self.board, logical, bytes)
    }
}

/// As [`Rig::device_write`].
pub fn device_write(board: &LocalBoard, logical: u64, bytes: &[u8]) -> Result<(), u64> {
    let iommu = board.iommu().unwrap();
    let segments = iommu.translate(EDU, logical, bytes.len(), true);
    let mut rest = bytes;
    for segment in segments.map_err(|fault| fault.address)? {
        let (part, left) = rest.split_at(segment.length);
        board.memory().write(segment.physical, part).unwrap();
        rest = left;
    }
    Ok(())
}

/// A description of edu as the framework makes it: version 3, 28 bits.
pub fn packet(maximum_length: u32) -> DEVICE_DESCRIPTION {
    DEVICE_DESCRIPTION {
        Version: DEVICE_DESCRIPTION_VERSION3,
        Master: 1,
        DmaAddressWidth: 28,
        InterfaceType: _INTERFACE_TYPE::PCIBus,
        MaximumLength: maximum_length,
        ..DEVICE_DESCRIPTION::default()
    }
}

/// A description of a device that takes lists and reaches everything.
pub fn scatter_gather(maximum_length: u32) -> DEVICE_DESCRIPTION {
    DEVICE_DESCRIPTION {
        ScatterGather: 1,
        DmaAddressWidth: 64,
        ..packet(maximum_length)
    }
}

/// A locked buffer in nonpaged pool, which is scattered over high pages.
pub struct Buffer {
    pub mdl: PMDL,
    pub address: *mut u8,
    pub length: u32,
}

impl Buffer {
    pub fn new(length: u32) -> Self {
        // SAFETY: at PASSIVE_LEVEL.
        let address = unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED, length.into(), 1) };
        // SAFETY: the range was just allocated.
        let mdl = unsafe { IoAllocateMdl(address, length, 0, 0, std::ptr::null_mut()) };
        // SAFETY: it is nonpaged pool.
        unsafe { MmBuildMdlForNonPagedPool(mdl) };
        Self {
            mdl,
            address: address.cast(),
            length,
        }
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the buffer is this value's.
        unsafe { std::slice::from_raw_parts_mut(self.address, self.length as usize) }
    }
}

/// An adapter and short forms of the routines the tests call most.
#[derive(Clone, Copy)]
pub struct Adapter {
    pub raw: PDMA_ADAPTER,
    pub registers: u32,
}

/// What `AdapterControl` of the tests was last called with.
pub static mut GRANTED: PVOID = std::ptr::null_mut();

/// An AdapterControl routine that keeps its map registers.
pub unsafe extern "win64" fn keep_registers(
    _device: PDEVICE_OBJECT,
    _irp: PIRP,
    base: PVOID,
    context: PVOID,
) -> IO_ALLOCATION_ACTION {
    // SAFETY: the context is where a test wants the base.
    unsafe { context.cast::<PVOID>().write(base) };
    _IO_ALLOCATION_ACTION::DeallocateObjectKeepRegisters
}

/// An AdapterControl routine that keeps everything.
pub unsafe extern "win64" fn keep_object(
    _device: PDEVICE_OBJECT,
    _irp: PIRP,
    base: PVOID,
    context: PVOID,
) -> IO_ALLOCATION_ACTION {
    // SAFETY: the context is where a test wants the base.
    unsafe { context.cast::<PVOID>().write(base) };
    _IO_ALLOCATION_ACTION::KeepObject
}

/// An AdapterListControl routine that notes the list.
pub unsafe extern "win64" fn note_list(
    _device: PDEVICE_OBJECT,
    _irp: PIRP,
    list: PSCATTER_GATHER_LIST,
    context: PVOID,
) {
    // SAFETY: the context is where a test wants the list.
    unsafe { context.cast::<PSCATTER_GATHER_LIST>().write(list) };
}

/// Memory for a DMA_TRANSFER_CONTEXT, and for a list of one element.
#[repr(C, align(16))]
pub struct Storage(pub [u8; 128]);

/// Fresh memory of that kind, which is never freed.
pub fn storage() -> PVOID {
    Box::into_raw(Box::new(Storage([0; 128]))).cast()
}

/// A list of up to `elements` ranges, in memory that is never freed.
pub fn list_memory(elements: usize) -> (PSCATTER_GATHER_LIST, u32) {
    let words = 2 + 3 * elements;
    let memory = Box::leak(vec![0u64; words].into_boxed_slice());
    (memory.as_mut_ptr().cast(), 8 * words as u32)
}

/// The ranges of a list.
pub fn elements(list: PSCATTER_GATHER_LIST) -> Vec<(u64, u32)> {
    // SAFETY: a list that was built.
    let count = unsafe { (*list).NumberOfElements } as usize;
    // SAFETY: as above.
    let first = unsafe { &raw const (*list).Elements }.cast::<SCATTER_GATHER_ELEMENT>();
    let element = |index| {
        // SAFETY: the list has so many elements.
        let element = unsafe { first.wrapping_add(index).read() };
        // SAFETY: plain numbers.
        (unsafe { element.Address.QuadPart } as u64, element.Length)
    };
    (0..count).map(element).collect()
}

impl Adapter {
    pub fn get(pdo: PDEVICE_OBJECT, mut description: DEVICE_DESCRIPTION) -> Option<Self> {
        let mut registers = 0;
        // SAFETY: both structures are locals.
        let raw = unsafe { IoGetDmaAdapter(pdo, &raw mut description, &raw mut registers) };
        (!raw.is_null()).then_some(Self { raw, registers })
    }

    pub fn operations(&self) -> &'static DMA_OPERATIONS {
        // SAFETY: an adapter has its table.
        let table = unsafe { (*self.raw).DmaOperations };
        // SAFETY: the table is static.
        unsafe { &*table }
    }

    pub fn put(&self) {
        // SAFETY: as a driver would.
        unsafe { self.operations().PutDmaAdapter.unwrap()(self.raw) }
    }

    /// A fresh, initialised transfer context.
    pub fn context(&self) -> PVOID {
        let context = storage();
        // SAFETY: the memory is large enough.
        let status =
            unsafe { self.operations().InitializeDmaTransferContext.unwrap()(self.raw, context) };
        assert_eq!(status, STATUS_SUCCESS);
        context
    }

    /// AllocateAdapterChannelEx with a routine that writes the base to `base`.
    pub fn allocate_ex(
        &self,
        context: PVOID,
        registers: u32,
        flags: u32,
        routine: PDRIVER_CONTROL,
        base: *mut PVOID,
    ) -> NTSTATUS {
        at_dispatch(|| {
            // SAFETY: as a driver would.
            unsafe {
                self.operations().AllocateAdapterChannelEx.unwrap()(
                    self.raw,
                    std::ptr::null_mut(),
                    context,
                    registers,
                    flags,
                    routine,
                    base.cast(),
                    std::ptr::null_mut(),
                )
            }
        })
    }

    /// Map registers that are granted at once.
    pub fn registers(&self, count: u32) -> PVOID {
        let mut base = std::ptr::null_mut();
        let status = self.allocate_ex(
            self.context(),
            count,
            0,
            Some(keep_registers),
            &raw mut base,
        );
        assert_eq!(status, STATUS_SUCCESS);
        assert!(!base.is_null());
        base
    }

    pub fn free_registers(&self, base: PVOID, count: u32) {
        // SAFETY: as a driver would.
        at_dispatch(|| unsafe {
            self.operations().FreeMapRegisters.unwrap()(self.raw, base, count)
        });
    }

    /// MapTransferEx into a list of up to `room` elements: status, elements, bytes mapped.
    pub fn map_ex(
        &self,
        mdl: PMDL,
        base: PVOID,
        offset: u64,
        length: u32,
        write: bool,
        room: usize,
    ) -> (NTSTATUS, Vec<(u64, u32)>, u32) {
        let (list, size) = list_memory(room);
        let mut mapped = length;
        // SAFETY: as a driver would.
        let status = unsafe {
            self.operations().MapTransferEx.unwrap()(
                self.raw,
                mdl,
                base,
                offset,
                0,
                &raw mut mapped,
                write.into(),
                list,
                size,
                None,
                std::ptr::null_mut(),
            )
        };
        (status, elements(list), mapped)
    }

    pub fn flush_ex(
        &self,
        mdl: PMDL,
        base: PVOID,
        offset: u64,
        length: u32,
        write: bool,
    ) -> NTSTATUS {
        // SAFETY: as a driver would.
        unsafe {
            self.operations().FlushAdapterBuffersEx.unwrap()(
                self.raw,
                mdl,
                base,
                offset,
                length,
                write.into(),
            )
        }
    }

    /// GetScatterGatherList with a routine that notes the list.
    pub fn list(
        &self,
        buffer: &Buffer,
        length: u32,
        write: bool,
    ) -> (NTSTATUS, PSCATTER_GATHER_LIST) {
        let mut list: PSCATTER_GATHER_LIST = std::ptr::null_mut();
        let status = at_dispatch(|| {
            // SAFETY: as a driver would; the list is noted before the call returns.
            unsafe {
                self.operations().GetScatterGatherList.unwrap()(
                    self.raw,
                    std::ptr::null_mut(),
                    buffer.mdl,
                    buffer.address.cast(),
                    length,
                    Some(note_list),
                    (&raw mut list).cast(),
                    write.into(),
                )
            }
        });
        (status, list)
    }

    pub fn put_list(&self, list: PSCATTER_GATHER_LIST, write: bool) {
        // SAFETY: as a driver would.
        at_dispatch(|| unsafe {
            self.operations().PutScatterGatherList.unwrap()(self.raw, list, write.into())
        });
    }
}

/// Runs `f` at DISPATCH_LEVEL.
pub fn at_dispatch<R>(f: impl FnOnce() -> R) -> R {
    sched::at_irql(sched::DISPATCH_LEVEL, f)
}
