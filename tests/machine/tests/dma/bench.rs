//! A device whose hardware never moves: the test itself says what was transferred.
//!
//! The test runs in EvtDriverDeviceAdd, with a device and nothing else; EvtProgramDma only takes notes.

use std::ffi::c_void;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering::Relaxed};

use machine::ddi;
use machine::nt_sys::*;
use machine::testdriver::TestDriver;
use machine::user::{Access, File, Process, Token};
use machine::{Config, Device, DriverSource, Machine};
use machine_nt::exports::{
    ExAllocatePool2, ExFreePool, IoAllocateMdl, IoFreeMdl, KeLowerIrql, KfRaiseIrql,
    MmBuildMdlForNonPagedPool,
};

pub use _WDF_DMA_DIRECTION::{
    WdfDmaDirectionReadFromDevice as FROM_DEVICE, WdfDmaDirectionWriteToDevice as TO_DEVICE,
};
pub use _WDF_DMA_PROFILE::{
    WdfDmaProfilePacket as PACKET, WdfDmaProfilePacket64 as PACKET64,
    WdfDmaProfileScatterGather as LIST, WdfDmaProfileScatterGather64 as LIST64,
    WdfDmaProfileScatterGather64Duplex as LIST64_DUPLEX,
    WdfDmaProfileScatterGatherDuplex as LIST_DUPLEX, WdfDmaProfileSystem as SYSTEM,
};

/// Bytes of a page.
pub const PAGE: usize = PAGE_SIZE as usize;

type Test = Box<dyn FnOnce(WDFDEVICE) + Send>;
/// Serves a request with the driver's transaction.
pub type Handler = fn(WDFDMATRANSACTION, WDFREQUEST);
type Configure = Box<dyn FnOnce(&mut Config)>;

/// The device interface.
const INTERFACE: GUID = GUID::from_u128(0x51f0a0c7_6c1b_4d0e_9d1c_3f8e2b7a9c10);

static IO_TYPE: AtomicI32 = AtomicI32::new(_WDF_DEVICE_IO_TYPE::WdfDeviceIoDirect);
static HANDLER: Mutex<Option<Handler>> = Mutex::new(None);
static SERVING: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static TEST: Mutex<Option<Test>> = Mutex::new(None);
static PROGRAMMED: Mutex<Vec<Programmed>> = Mutex::new(Vec::new());

/// Runs `test` with the device.
pub fn run(test: impl FnOnce(WDFDEVICE) + Send + 'static) {
    configured(Box::new(|_| {}), test);
}

/// As [`run`], in a machine that `configure` has changed.
pub fn configured(configure: Configure, test: impl FnOnce(WDFDEVICE) + Send + 'static) {
    start(configure, test, |_| {});
}

/// Runs `user` with the device's file opened; `handler` is EvtIoDefault of its queue, and gets a transaction of `enabler`.
pub fn served(
    io_type: WDF_DEVICE_IO_TYPE,
    config: WDF_DMA_ENABLER_CONFIG,
    handler: Handler,
    user: impl FnOnce(&Process, &File) + 'static,
) {
    IO_TYPE.store(io_type, Relaxed);
    *HANDLER.lock().expect("not poisoned") = Some(handler);
    let serve = move |device| {
        SERVING.store(transaction(enabler(device, config)).cast(), Relaxed);
        create_queue(device);
    };
    start(Box::new(|_| {}), serve, |machine| {
        let process = machine.process(Token::Administrator);
        let path = process.interfaces(&INTERFACE).remove(0);
        let file = process.open(&path, Access::READ_WRITE).expect("opened");
        user(&process, &file);
    });
}

fn start(
    configure: Configure,
    test: impl FnOnce(WDFDEVICE) + Send + 'static,
    user: impl FnOnce(&Machine) + 'static,
) {
    *TEST.lock().expect("not poisoned") = Some(Box::new(test));
    let driver = TestDriver {
        device_add: Some(device_add),
        ..TestDriver::default()
    };
    let mut config = Config::new(DriverSource::Test(driver));
    config.device = Device::EduTwin;
    configure(&mut config);
    machine::run(config, |machine| {
        machine.start().expect("the device starts");
        user(machine);
        machine.shut_down();
    })
    .expect("a machine");
}

unsafe extern "win64" fn device_add(_driver: WDFDRIVER, mut init: PWDFDEVICE_INIT) -> NTSTATUS {
    ddi!(WdfDeviceInitSetIoType(init, IO_TYPE.load(Relaxed)));
    let mut device = ptr::null_mut();
    let status = ddi!(WdfDeviceCreate(&mut init, ptr::null_mut(), &mut device));
    assert_eq!(status, STATUS_SUCCESS);
    let test = TEST.lock().expect("not poisoned").take();
    test.expect("one device")(device);
    STATUS_SUCCESS
}

fn create_queue(device: WDFDEVICE) {
    let mut config = WDF_IO_QUEUE_CONFIG {
        Size: size::<WDF_IO_QUEUE_CONFIG>(),
        DispatchType: _WDF_IO_QUEUE_DISPATCH_TYPE::WdfIoQueueDispatchSequential,
        PowerManaged: _WDF_TRI_STATE::WdfUseDefault,
        AllowZeroLengthRequests: 1,
        DefaultQueue: 1,
        EvtIoDefault: Some(serve),
        ..Default::default()
    };
    let mut queue = ptr::null_mut();
    let status = unsafe {
        ddi!(WdfIoQueueCreate(
            device,
            &mut config,
            ptr::null_mut(),
            &mut queue
        ))
    };
    assert_eq!(status, STATUS_SUCCESS);
    let status = unsafe {
        ddi!(WdfDeviceCreateDeviceInterface(
            device,
            &INTERFACE,
            ptr::null_mut()
        ))
    };
    assert_eq!(status, STATUS_SUCCESS);
}

unsafe extern "win64" fn serve(_queue: WDFQUEUE, request: WDFREQUEST) {
    let handler = *HANDLER.lock().expect("not poisoned");
    handler.expect("set before the queue is made")(SERVING.load(Relaxed).cast(), request);
}

/// The size field of a structure.
pub fn size<T>() -> ULONG {
    size_of::<T>() as ULONG
}

/// Attributes that say nothing.
pub fn attributes() -> WDF_OBJECT_ATTRIBUTES {
    WDF_OBJECT_ATTRIBUTES {
        Size: size::<WDF_OBJECT_ATTRIBUTES>(),
        ExecutionLevel: _WDF_EXECUTION_LEVEL::WdfExecutionLevelInheritFromParent,
        SynchronizationScope: _WDF_SYNCHRONIZATION_SCOPE::WdfSynchronizationScopeInheritFromParent,
        ..Default::default()
    }
}

/// The configuration of an enabler.
pub fn enabler_config(profile: WDF_DMA_PROFILE, maximum: usize) -> WDF_DMA_ENABLER_CONFIG {
    WDF_DMA_ENABLER_CONFIG {
        Size: size::<WDF_DMA_ENABLER_CONFIG>(),
        Profile: profile,
        MaximumLength: maximum,
        ..Default::default()
    }
}

/// The same with DMA version 3.
pub fn version3(profile: WDF_DMA_PROFILE, maximum: usize) -> WDF_DMA_ENABLER_CONFIG {
    WDF_DMA_ENABLER_CONFIG {
        WdmDmaVersionOverride: 3,
        ..enabler_config(profile, maximum)
    }
}

/// Creates an enabler, or returns why not.
pub fn try_enabler(
    device: WDFDEVICE,
    mut config: WDF_DMA_ENABLER_CONFIG,
) -> Result<WDFDMAENABLER, NTSTATUS> {
    let mut enabler = ptr::null_mut();
    let status = unsafe {
        ddi!(WdfDmaEnablerCreate(
            device,
            &mut config,
            ptr::null_mut(),
            &mut enabler
        ))
    };
    assert_eq!(nt_success(status), !enabler.is_null());
    if nt_success(status) {
        Ok(enabler)
    } else {
        Err(status)
    }
}

/// Creates an enabler.
pub fn enabler(device: WDFDEVICE, config: WDF_DMA_ENABLER_CONFIG) -> WDFDMAENABLER {
    try_enabler(device, config).unwrap_or_else(|status| panic!("no enabler: {status:#x}"))
}

/// Creates a transaction.
pub fn transaction(enabler: WDFDMAENABLER) -> WDFDMATRANSACTION {
    let mut transaction = ptr::null_mut();
    let status = unsafe {
        ddi!(WdfDmaTransactionCreate(
            enabler,
            ptr::null_mut(),
            &mut transaction
        ))
    };
    assert_eq!(status, STATUS_SUCCESS);
    transaction
}

/// Non-paged memory with MDLs over its parts.
pub struct Buffer {
    memory: PVOID,
    mdls: Vec<PMDL>,
}

impl Buffer {
    /// `length` bytes that begin `offset` bytes into a page.
    pub fn at(offset: usize, length: usize) -> Self {
        Self::chain(&[(offset, length)])
    }

    /// A chain of MDLs; each is (offset into its page, bytes), on pages of its own.
    pub fn chain(parts: &[(usize, usize)]) -> Self {
        let pages = |&(offset, length): &(usize, usize)| (offset + length).div_ceil(PAGE);
        let total: usize = parts.iter().map(pages).sum();
        let memory =
            unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED, (total * PAGE) as SIZE_T, u32::MAX) };
        assert!(!memory.is_null() && (memory as usize).is_multiple_of(PAGE));
        let (mut mdls, mut page): (Vec<PMDL>, usize) = (Vec::new(), 0);
        for part in parts {
            let start = memory.cast::<u8>().wrapping_add(page * PAGE + part.0);
            page += pages(part);
            let mdl =
                unsafe { IoAllocateMdl(start.cast(), part.1 as ULONG, 0, 0, ptr::null_mut()) };
            assert!(!mdl.is_null());
            unsafe { MmBuildMdlForNonPagedPool(mdl) };
            if let Some(&last) = mdls.last() {
                unsafe { (*last).Next = mdl };
            }
            mdls.push(mdl);
        }
        Self { memory, mdls }
    }

    /// The first MDL.
    pub fn mdl(&self) -> PMDL {
        self.mdls[0]
    }

    /// The address the first MDL begins at.
    pub fn address(&self) -> PVOID {
        let mdl = self.mdl();
        unsafe { (*mdl).StartVa.cast::<u8>().add((*mdl).ByteOffset as usize) }.cast()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        for &mdl in &self.mdls {
            unsafe { IoFreeMdl(mdl) };
        }
        unsafe { ExFreePool(self.memory) };
    }
}

/// Prepares a transaction to the device over the first `length` bytes of a buffer.
pub fn initialize(transaction: WDFDMATRANSACTION, buffer: &Buffer, length: usize) -> NTSTATUS {
    unsafe {
        ddi!(WdfDmaTransactionInitialize(
            transaction,
            Some(program),
            TO_DEVICE,
            buffer.mdl(),
            buffer.address(),
            length
        ))
    }
}

/// WdfDmaTransactionExecute.
pub fn execute(transaction: WDFDMATRANSACTION) -> NTSTATUS {
    unsafe { ddi!(WdfDmaTransactionExecute(transaction, ptr::null_mut())) }
}

/// Prepares and executes, which must succeed.
pub fn begin(transaction: WDFDMATRANSACTION, buffer: &Buffer, length: usize) {
    assert_eq!(initialize(transaction, buffer, length), STATUS_SUCCESS);
    assert_eq!(execute(transaction), STATUS_SUCCESS);
}

/// How a transfer is reported.
#[derive(Clone, Copy, Debug)]
pub enum Report {
    /// `WdfDmaTransactionDmaCompleted`.
    Full,
    /// `WdfDmaTransactionDmaCompletedWithLength`.
    Length(usize),
    /// `WdfDmaTransactionDmaCompletedFinal`.
    Final(usize),
}

/// Reports a transfer as a DPC does: whether the transaction has ended, and the status.
pub fn report(transaction: WDFDMATRANSACTION, report: Report) -> (bool, NTSTATUS) {
    let mut status = STATUS_UNSUCCESSFUL;
    let irql = unsafe { KfRaiseIrql(DISPATCH_LEVEL as KIRQL) };
    let ended = unsafe {
        match report {
            Report::Full => ddi!(WdfDmaTransactionDmaCompleted(transaction, &mut status)),
            Report::Length(bytes) => ddi!(WdfDmaTransactionDmaCompletedWithLength(
                transaction,
                bytes,
                &mut status
            )),
            Report::Final(bytes) => ddi!(WdfDmaTransactionDmaCompletedFinal(
                transaction,
                bytes,
                &mut status
            )),
        }
    };
    unsafe { KeLowerIrql(irql) };
    (ended != 0, status)
}

/// There is more to do.
pub const MORE: (bool, NTSTATUS) = (false, STATUS_MORE_PROCESSING_REQUIRED);
/// The transaction has ended well.
pub const DONE: (bool, NTSTATUS) = (true, STATUS_SUCCESS);

/// WdfDmaTransactionRelease.
pub fn release(transaction: WDFDMATRANSACTION) {
    let status = unsafe { ddi!(WdfDmaTransactionRelease(transaction)) };
    assert_eq!(status, STATUS_SUCCESS);
}

/// Deletes any object.
pub fn delete(object: *mut impl Sized) {
    unsafe { ddi!(WdfObjectDelete(object.cast())) };
}

/// WdfDmaTransactionGetBytesTransferred.
pub fn transferred(transaction: WDFDMATRANSACTION) -> usize {
    unsafe { ddi!(WdfDmaTransactionGetBytesTransferred(transaction)) }
}

/// WdfDmaTransactionGetCurrentDmaTransferLength.
pub fn current(transaction: WDFDMATRANSACTION) -> usize {
    unsafe { ddi!(WdfDmaTransactionGetCurrentDmaTransferLength(transaction)) }
}

/// WdfDmaTransactionCancel.
pub fn cancel(transaction: WDFDMATRANSACTION) -> bool {
    unsafe { ddi!(WdfDmaTransactionCancel(transaction)) != 0 }
}

/// What EvtProgramDma was called with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Programmed {
    /// The transaction.
    pub transaction: usize,
    /// Bytes transferred before.
    pub before: usize,
    /// Bytes of all elements.
    pub bytes: usize,
    /// Elements.
    pub elements: usize,
    /// The IRQL.
    pub irql: KIRQL,
}

/// EvtProgramDma: takes notes.
pub unsafe extern "win64" fn program(
    transaction: WDFDMATRANSACTION,
    _device: WDFDEVICE,
    _context: WDFCONTEXT,
    _direction: WDF_DMA_DIRECTION,
    list: PSCATTER_GATHER_LIST,
) -> BOOLEAN {
    let elements = (*list).NumberOfElements as usize;
    let first = (&raw const (*list).Elements).cast::<SCATTER_GATHER_ELEMENT>();
    let bytes = (0..elements).map(|index| (*first.add(index)).Length as usize);
    let programmed = Programmed {
        transaction: transaction as usize,
        before: transferred(transaction),
        bytes: bytes.sum(),
        elements,
        irql: machine_nt::exports::KeGetCurrentIrql(),
    };
    PROGRAMMED.lock().expect("not poisoned").push(programmed);
    // The answer means nothing to the framework.
    0
}

/// What was programmed since the last call.
pub fn programmed() -> Vec<Programmed> {
    std::mem::take(&mut PROGRAMMED.lock().expect("not poisoned"))
}

/// Bytes of each transfer programmed since the last call.
pub fn lengths() -> Vec<usize> {
    programmed().iter().map(|one| one.bytes).collect()
}
