//! A driver for edu as short as one can be: one request, one transaction, transfers of at most 1024 bytes.
//!
//! It is sound as it stands; each test of a mistake exchanges one [`Steps`] for a faulty one.

#![allow(
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "a driver in C is nothing but this; the machine is what watches it"
)]

#[path = "neighbour.rs"]
pub mod neighbour;

use std::ffi::c_void;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering::Relaxed};

use machine::ddi;
use machine::nt_sys::*;
use machine::testdriver::TestDriver;
use machine::user::{Access, Completion, File, Overlapped, Process, Token};
use machine::{Config, Device, DriverSource, Machine};

/// The device interface of the test driver.
pub const INTERFACE: GUID = GUID::from_u128(0xb2d9c7f0_8c1e_4f57_9f6a_0d6a3a5f7e01);
/// Bytes of one transfer at most.
pub const TRANSFER: usize = 1024;
/// Edu's own address of its memory.
const DEVICE_MEMORY: u64 = 0x4_0000;

/// The pending interrupts.
pub const STATUS: usize = 0x24;
/// Raises interrupts.
pub const RAISE: usize = 0x60;
/// Takes interrupts back.
pub const ACKNOWLEDGE: usize = 0x64;
const SOURCE: usize = 0x80;
const DESTINATION: usize = 0x88;
const COUNT: usize = 0x90;
const COMMAND: usize = 0x98;
/// In [`STATUS`]: a transfer has ended.
pub const DONE: u32 = 0x100;

/// What a mistake changes.
#[derive(Clone, Copy)]
pub struct Steps {
    /// Says what the device can do.
    pub enable: fn(&mut WDF_DMA_ENABLER_CONFIG),
    /// Called once at the end of EvtDriverDeviceAdd, with nothing started.
    pub added: unsafe fn(WDFDMATRANSACTION),
    /// Starts a request; returns what EvtIoRead and EvtIoWrite complete it with at once, if they do.
    pub begin: unsafe fn(WDFREQUEST, WDF_DMA_DIRECTION) -> NTSTATUS,
    /// The address that the device is given, for an element of the scatter/gather list.
    pub address: unsafe fn(WDFDMATRANSACTION, &SCATTER_GATHER_ELEMENT) -> u64,
    /// The service routine; whether it claims the interrupt.
    pub interrupt: unsafe fn(WDFINTERRUPT) -> bool,
    /// The deferred routine.
    pub dpc: unsafe fn(),
    /// What the deferred routine does when the device has finished a transfer.
    pub finished: unsafe fn(WDFDMATRANSACTION),
    /// EvtIoStop.
    pub io_stop: PFN_WDF_IO_QUEUE_IO_STOP,
}

impl Default for Steps {
    fn default() -> Self {
        Self {
            enable,
            added: |_| {},
            begin,
            address: |_, element| logical(element),
            interrupt,
            dpc,
            finished,
            io_stop: None,
        }
    }
}

/// The logical address of an element.
pub fn logical(element: &SCATTER_GATHER_ELEMENT) -> u64 {
    unsafe { element.Address.QuadPart as u64 }
}

static STEPS: OnceLock<Steps> = OnceLock::new();
static TRANSACTION: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static REGISTERS: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
/// Where in the device's memory the request begins.
static OFFSET: AtomicU64 = AtomicU64::new(0);

fn steps() -> Steps {
    *STEPS.get().expect("set before the machine runs")
}

/// The handle of the driver's only transaction.
pub fn transaction() -> WDFDMATRANSACTION {
    TRANSACTION.load(Relaxed).cast()
}

/// Runs `test` in a machine with the twin of edu and this driver, started and opened.
pub fn run(steps: Steps, test: impl FnOnce(&Opened<'_>) + 'static) {
    configured(steps, |_| {}, test);
}

/// As [`run`], in a machine that `configure` has changed.
pub fn configured(
    steps: Steps,
    configure: impl FnOnce(&mut Config),
    test: impl FnOnce(&Opened<'_>) + 'static,
) {
    machine(steps, configure, |machine| {
        machine.start().expect("the device starts");
        test(&Opened::new(machine));
    });
}

/// Runs `test` in a machine with this driver, nothing started.
pub fn machine(
    steps: Steps,
    configure: impl FnOnce(&mut Config),
    test: impl FnOnce(&Machine) + 'static,
) {
    let mut config = Config::new(DriverSource::Test(driver(steps)));
    config.device = Device::EduTwin;
    configure(&mut config);
    machine::run(config, |machine| {
        test(machine);
        machine.shut_down();
    })
    .expect("a machine");
}

/// The driver with these steps. Once a process.
pub fn driver(steps: Steps) -> TestDriver {
    assert!(STEPS.set(steps).is_ok(), "one driver to a process");
    TestDriver {
        device_add: Some(device_add),
        ..TestDriver::default()
    }
}

/// The started device, opened.
pub struct Opened<'a> {
    /// Where it is.
    pub machine: &'a Machine,
    file: File,
    process: Process,
}

impl<'a> Opened<'a> {
    fn new(machine: &'a Machine) -> Self {
        let process = machine.process(Token::Administrator);
        let path = process.interfaces(&INTERFACE).remove(0);
        let file = process.open(&path, Access::READ_WRITE).expect("opened");
        Self {
            machine,
            file,
            process,
        }
    }

    /// Writes `length` bytes of a pattern at `offset`.
    pub fn write(&self, offset: u64, length: usize) -> Completion {
        self.start_write(offset, length).wait()
    }

    /// As [`Opened::write`], without waiting.
    pub fn start_write(&self, offset: u64, length: usize) -> Overlapped {
        let mut buffer = self.process.buffer(length.max(1)).expect("memory");
        for (byte, value) in buffer.iter_mut().zip(pattern()) {
            *byte = value;
        }
        self.file.write(offset, buffer, 0..length)
    }

    /// Reads `length` bytes at `offset`.
    pub fn read(&self, offset: u64, length: usize) -> Completion {
        let buffer = self.process.buffer(length.max(1)).expect("memory");
        self.file.read(offset, buffer, 0..length).wait()
    }
}

/// What [`Opened::write`] writes.
pub fn pattern() -> impl Iterator<Item = u8> {
    (0_u8..251).cycle()
}

unsafe extern "win64" fn device_add(_driver: WDFDRIVER, mut init: PWDFDEVICE_INIT) -> NTSTATUS {
    if !transaction().is_null() {
        return neighbour::device_add(init);
    }
    ddi!(WdfDeviceInitSetIoType(
        init,
        _WDF_DEVICE_IO_TYPE::WdfDeviceIoDirect
    ));
    let mut events = WDF_PNPPOWER_EVENT_CALLBACKS {
        Size: size_of::<WDF_PNPPOWER_EVENT_CALLBACKS>() as ULONG,
        EvtDevicePrepareHardware: Some(prepare_hardware),
        EvtDeviceReleaseHardware: Some(release_hardware),
        ..Default::default()
    };
    ddi!(WdfDeviceInitSetPnpPowerEventCallbacks(init, &mut events));
    let mut device = ptr::null_mut();
    let status = ddi!(WdfDeviceCreate(&mut init, ptr::null_mut(), &mut device));
    if !nt_success(status) {
        return status;
    }
    let status = create_objects(device);
    if nt_success(status) {
        (steps().added)(transaction());
    }
    status
}

unsafe fn create_objects(device: WDFDEVICE) -> NTSTATUS {
    let mut config = WDF_DMA_ENABLER_CONFIG {
        Size: size_of::<WDF_DMA_ENABLER_CONFIG>() as ULONG,
        ..Default::default()
    };
    (steps().enable)(&mut config);
    let (mut enabler, mut transaction) = (ptr::null_mut(), ptr::null_mut());
    let mut status = ddi!(WdfDmaEnablerCreate(
        device,
        &mut config,
        ptr::null_mut(),
        &mut enabler
    ));
    if nt_success(status) {
        status = ddi!(WdfDmaTransactionCreate(
            enabler,
            ptr::null_mut(),
            &mut transaction
        ));
    }
    TRANSACTION.store(transaction.cast(), Relaxed);
    if nt_success(status) {
        let mut config = WDF_IO_QUEUE_CONFIG {
            Size: size_of::<WDF_IO_QUEUE_CONFIG>() as ULONG,
            DispatchType: _WDF_IO_QUEUE_DISPATCH_TYPE::WdfIoQueueDispatchSequential,
            PowerManaged: _WDF_TRI_STATE::WdfUseDefault,
            AllowZeroLengthRequests: 1,
            DefaultQueue: 1,
            EvtIoRead: Some(io_read),
            EvtIoWrite: Some(io_write),
            EvtIoStop: steps().io_stop,
            ..Default::default()
        };
        let mut queue = ptr::null_mut();
        status = ddi!(WdfIoQueueCreate(
            device,
            &mut config,
            ptr::null_mut(),
            &mut queue
        ));
    }
    if nt_success(status) {
        let mut config = WDF_INTERRUPT_CONFIG {
            Size: size_of::<WDF_INTERRUPT_CONFIG>() as ULONG,
            EvtInterruptIsr: Some(evt_interrupt),
            EvtInterruptDpc: Some(evt_dpc),
            ..Default::default()
        };
        let mut interrupt = ptr::null_mut();
        status = ddi!(WdfInterruptCreate(
            device,
            &mut config,
            ptr::null_mut(),
            &mut interrupt
        ));
    }
    if nt_success(status) {
        status = ddi!(WdfDeviceCreateDeviceInterface(
            device,
            &INTERFACE,
            ptr::null_mut()
        ));
    }
    status
}

fn enable(config: &mut WDF_DMA_ENABLER_CONFIG) {
    config.Profile = _WDF_DMA_PROFILE::WdfDmaProfilePacket;
    config.MaximumLength = TRANSFER;
    config.AddressWidthOverride = 28;
    config.WdmDmaVersionOverride = 3;
}

unsafe extern "win64" fn prepare_hardware(
    _device: WDFDEVICE,
    _raw: WDFCMRESLIST,
    translated: WDFCMRESLIST,
) -> NTSTATUS {
    let registers = map_registers(translated);
    REGISTERS.store(registers, Relaxed);
    if registers.is_null() {
        STATUS_DEVICE_CONFIGURATION_ERROR
    } else {
        STATUS_SUCCESS
    }
}

/// Maps the registers among a device's resources; null if there are none.
pub unsafe fn map_registers(translated: WDFCMRESLIST) -> *mut u8 {
    for index in 0..ddi!(WdfCmResourceListGetCount(translated)) {
        let descriptor = &*ddi!(WdfCmResourceListGetDescriptor(translated, index));
        if u32::from(descriptor.Type) == CmResourceTypeMemory {
            let memory = descriptor.u.Memory;
            return machine_nt::exports::MmMapIoSpaceEx(
                memory.Start,
                memory.Length as SIZE_T,
                PAGE_READWRITE | PAGE_NOCACHE,
            )
            .cast();
        }
    }
    ptr::null_mut()
}

/// Takes the mapping away.
pub unsafe fn unmap_registers(registers: *mut u8) {
    machine_nt::exports::MmUnmapIoSpace(registers.cast(), 0x10_0000);
}

unsafe extern "win64" fn release_hardware(
    _device: WDFDEVICE,
    _translated: WDFCMRESLIST,
) -> NTSTATUS {
    unmap_registers(REGISTERS.swap(ptr::null_mut(), Relaxed));
    STATUS_SUCCESS
}

unsafe extern "win64" fn io_read(_queue: WDFQUEUE, request: WDFREQUEST, _length: usize) {
    start(request, _WDF_DMA_DIRECTION::WdfDmaDirectionReadFromDevice);
}

unsafe extern "win64" fn io_write(_queue: WDFQUEUE, request: WDFREQUEST, _length: usize) {
    start(request, _WDF_DMA_DIRECTION::WdfDmaDirectionWriteToDevice);
}

unsafe fn start(request: WDFREQUEST, direction: WDF_DMA_DIRECTION) {
    let mut parameters = WDF_REQUEST_PARAMETERS {
        Size: size_of::<WDF_REQUEST_PARAMETERS>() as USHORT,
        ..Default::default()
    };
    ddi!(WdfRequestGetParameters(request, &mut parameters));
    OFFSET.store(parameters.Parameters.Read.DeviceOffset as u64, Relaxed);
    let status = (steps().begin)(request, direction);
    if !nt_success(status) {
        ddi!(WdfRequestComplete(request, status));
    }
}

/// The sound way to start a request.
pub unsafe fn begin(request: WDFREQUEST, direction: WDF_DMA_DIRECTION) -> NTSTATUS {
    begin_with(Some(program), request, direction)
}

/// As [`begin`], with another EvtProgramDma.
pub unsafe fn begin_with(
    program: PFN_WDF_PROGRAM_DMA,
    request: WDFREQUEST,
    direction: WDF_DMA_DIRECTION,
) -> NTSTATUS {
    let status = ddi!(WdfDmaTransactionInitializeUsingRequest(
        transaction(),
        request,
        program,
        direction,
    ));
    if !nt_success(status) {
        return status;
    }
    let status = ddi!(WdfDmaTransactionExecute(transaction(), ptr::null_mut()));
    if !nt_success(status) {
        ddi!(WdfDmaTransactionRelease(transaction()));
    }
    status
}

/// EvtProgramDma: gives the device one transfer.
pub unsafe extern "win64" fn program(
    transaction: WDFDMATRANSACTION,
    _device: WDFDEVICE,
    _context: WDFCONTEXT,
    direction: WDF_DMA_DIRECTION,
    list: PSCATTER_GATHER_LIST,
) -> BOOLEAN {
    let element = &*(*list).Elements.as_ptr();
    let moved = ddi!(WdfDmaTransactionGetBytesTransferred(transaction)) as u64;
    let card = DEVICE_MEMORY + OFFSET.load(Relaxed) + moved;
    let bus = (steps().address)(transaction, element);
    let to_device = direction == _WDF_DMA_DIRECTION::WdfDmaDirectionWriteToDevice;
    let (source, destination, command) = if to_device {
        (bus, card, 0b101)
    } else {
        (card, bus, 0b111)
    };
    write(SOURCE, source);
    write(DESTINATION, destination);
    write(COUNT, u64::from(element.Length));
    write(COMMAND, command);
    1
}

unsafe extern "win64" fn evt_interrupt(interrupt: WDFINTERRUPT, _message: ULONG) -> BOOLEAN {
    (steps().interrupt)(interrupt).into()
}

/// The sound service routine: acknowledges what is pending, and asks for the DPC.
pub unsafe fn interrupt(interrupt: WDFINTERRUPT) -> bool {
    let status = register(STATUS);
    if status == 0 {
        return false;
    }
    set_register(ACKNOWLEDGE, status);
    if status & DONE != 0 {
        ddi!(WdfInterruptQueueDpcForIsr(interrupt));
    }
    true
}

unsafe extern "win64" fn evt_dpc(_interrupt: WDFINTERRUPT, _device: WDFOBJECT) {
    (steps().dpc)();
}

/// The sound DPC.
pub unsafe fn dpc() {
    (steps().finished)(transaction());
}

/// Reads a register of 32 bits.
pub unsafe fn register(offset: usize) -> u32 {
    REGISTERS
        .load(Relaxed)
        .add(offset)
        .cast::<u32>()
        .read_volatile()
}

/// Writes a register of 32 bits.
pub unsafe fn set_register(offset: usize, value: u32) {
    REGISTERS
        .load(Relaxed)
        .add(offset)
        .cast::<u32>()
        .write_volatile(value);
}

/// The sound way to end a transfer.
pub unsafe fn finished(transaction: WDFDMATRANSACTION) {
    let mut status = STATUS_SUCCESS;
    if ddi!(WdfDmaTransactionDmaCompleted(transaction, &mut status)) != 0 {
        complete(transaction, status);
    }
}

/// Ends a transaction that is done, and then its request.
pub unsafe fn complete(transaction: WDFDMATRANSACTION, status: NTSTATUS) {
    let moved = ddi!(WdfDmaTransactionGetBytesTransferred(transaction));
    let request = ddi!(WdfDmaTransactionGetRequest(transaction));
    ddi!(WdfDmaTransactionRelease(transaction));
    ddi!(WdfRequestCompleteWithInformation(
        request,
        status,
        moved as ULONG_PTR
    ));
}

unsafe fn write(register: usize, value: u64) {
    REGISTERS
        .load(Relaxed)
        .add(register)
        .cast::<u64>()
        .write_volatile(value);
}
