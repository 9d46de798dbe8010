//! A driver for edu that records which of its callbacks the framework calls, in which order.

use std::cell::{Cell, RefCell};
use std::ptr;

use machine::ddi;
use machine::nt_sys::*;
use machine::testdriver::TestDriver;
use machine::user::{Access, File, Overlapped, Process, Token, Win32Error};
use machine::{Config, Device, DriverSource, Machine};

/// The device interface of the driver.
const INTERFACE: GUID = GUID::from_u128(0x3f0d7c52_5d6b_4d0e_9a54_8a4f5f1b6d02);
/// Bytes of the device's registers that are used.
const REGISTERS_LENGTH: usize = 0x1000;
/// Edu's register that raises an interrupt, its register that says why it interrupts, and the one that ends it.
pub const RAISE: usize = 0x60;
pub const STATUS: usize = 0x24;
pub const ACKNOWLEDGE: usize = 0x64;

/// What a test's driver has, besides power callbacks, that record themselves whatever the plan.
#[derive(Clone, Copy)]
pub struct Plan {
    /// Called before the device object is made.
    pub init: unsafe fn(PWDFDEVICE_INIT),
    /// DMA enablers.
    pub enablers: usize,
    /// Shapes the default queue.
    pub queue: fn(&mut WDF_IO_QUEUE_CONFIG),
    /// What EvtIoRead does after it has recorded the request.
    pub read: unsafe fn(WDFQUEUE, WDFREQUEST),
    /// What EvtIoStop does after it has recorded the request.
    pub stop: unsafe fn(WDFREQUEST, ULONG),
    /// The interrupt service routine.
    pub isr: unsafe extern "win64" fn(WDFINTERRUPT, ULONG) -> BOOLEAN,
    /// What a callback of the device, an enabler or the interrupt does, by name, before it is recorded.
    pub before: unsafe fn(&str),
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            init: |_| {},
            enablers: 0,
            queue: |_| {},
            read: |_, request| hold(request),
            stop: |request, _| unsafe { ddi!(WdfRequestStopAcknowledge(request, 0)) },
            isr,
            before: |_| {},
        }
    }
}

thread_local! {
    static PLAN: Cell<Plan> = Cell::new(Plan::default());
    static LOG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    /// The callback that fails.
    static FAILING: Cell<&'static str> = const { Cell::new("") };
    static ENABLERS: RefCell<Vec<WDFDMAENABLER>> = const { RefCell::new(Vec::new()) };
    /// Requests in the driver's hands, the oldest first.
    static HELD: RefCell<Vec<WDFREQUEST>> = const { RefCell::new(Vec::new()) };
    static DEVICE: Cell<WDFDEVICE> = const { Cell::new(ptr::null_mut()) };
    static QUEUE: Cell<WDFQUEUE> = const { Cell::new(ptr::null_mut()) };
    static INTERRUPT: Cell<WDFINTERRUPT> = const { Cell::new(ptr::null_mut()) };
    static REGISTERS: Cell<*mut u8> = const { Cell::new(ptr::null_mut()) };
}

/// Puts a line into the record.
pub fn record(line: impl Into<String>) {
    LOG.with_borrow_mut(|log| log.push(line.into()));
}

/// What was recorded since the last call.
pub fn recorded() -> Vec<String> {
    LOG.take()
}

/// Makes the callback that records itself as `name` fail; no callback for "".
pub fn fail(name: &'static str) {
    FAILING.set(name);
}

/// Forgets the enablers of a device that has gone.
pub fn forget() {
    ENABLERS.take();
}

/// Puts a request into the driver's hands.
pub fn hold(request: WDFREQUEST) {
    HELD.with_borrow_mut(|held| held.push(request));
}

/// Takes the oldest request out of the driver's hands.
pub fn take_held() -> WDFREQUEST {
    HELD.with_borrow_mut(|held| held.remove(0))
}

/// Requests in the driver's hands.
pub fn held() -> usize {
    HELD.with_borrow(Vec::len)
}

pub fn device() -> WDFDEVICE {
    DEVICE.get()
}

pub fn queue() -> WDFQUEUE {
    QUEUE.get()
}

pub fn interrupt() -> WDFINTERRUPT {
    INTERRUPT.get()
}

/// Reads a register.
pub unsafe fn register(offset: usize) -> u32 {
    REGISTERS.get().add(offset).cast::<u32>().read_volatile()
}

/// Writes a register.
pub unsafe fn set_register(offset: usize, value: u32) {
    REGISTERS
        .get()
        .add(offset)
        .cast::<u32>()
        .write_volatile(value);
}

/// Runs `test` in a machine with the twin of edu and the driver of `plan`, not started.
pub fn machine(
    plan: Plan,
    configure: impl FnOnce(&mut Config),
    test: impl FnOnce(&Machine) + 'static,
) {
    PLAN.set(plan);
    let driver = TestDriver {
        device_add: Some(device_add),
        ..TestDriver::default()
    };
    let mut config = Config::new(DriverSource::Test(driver));
    config.device = Device::EduTwin;
    configure(&mut config);
    machine::run(config, test).expect("a machine");
}

/// Runs `test` with the device started and opened, and nothing recorded.
pub fn opened(plan: Plan, test: impl FnOnce(&Machine, &Opened) + 'static) {
    opened_in(plan, |_| {}, test);
}

/// As [`opened`], in a machine that `configure` has changed.
pub fn opened_in(
    plan: Plan,
    configure: impl FnOnce(&mut Config),
    test: impl FnOnce(&Machine, &Opened) + 'static,
) {
    machine(plan, configure, |machine| {
        machine.start().expect("the device starts");
        recorded();
        let opened = Opened::new(machine);
        test(machine, &opened);
        drop(opened);
        machine.shut_down();
    });
}

/// The device, opened.
pub struct Opened {
    file: File,
    process: Process,
}

impl Opened {
    /// Opens the started device in a process of its own.
    pub fn new(machine: &Machine) -> Self {
        Self::try_new(machine).expect("opened")
    }

    /// As [`Opened::new`], if the driver agrees.
    pub fn try_new(machine: &Machine) -> Result<Self, Win32Error> {
        let process = machine.process(Token::Administrator);
        let path = process.interfaces(&INTERFACE).remove(0);
        let file = process.open(&path, Access::READ_WRITE)?;
        Ok(Self { file, process })
    }

    /// Starts to read `length` bytes.
    pub fn read(&self, length: usize) -> Overlapped {
        let buffer = self.process.buffer(length.max(1)).expect("memory");
        self.file.read(0, buffer, 0..length)
    }

    /// Starts to write `length` bytes.
    pub fn write(&self, length: usize) -> Overlapped {
        let buffer = self.process.buffer(length.max(1)).expect("memory");
        self.file.write(0, buffer, 0..length)
    }
}

/// Completes the oldest request of the driver's.
pub fn complete_oldest(status: NTSTATUS) {
    unsafe { ddi!(WdfRequestComplete(take_held(), status)) };
}

/// Records a callback, and says what it returns.
fn called(name: &str) -> NTSTATUS {
    unsafe { (PLAN.get().before)(name) };
    record(name);
    if FAILING.get() == name {
        STATUS_UNSUCCESSFUL
    } else {
        STATUS_SUCCESS
    }
}

/// Callbacks that do nothing but record themselves under their own names.
macro_rules! recording {
    ($($name:ident($($argument:ty),*) -> $result:ty;)*) => {
        $(
            #[allow(non_snake_case, reason = "the names of the events")]
            unsafe extern "win64" fn $name($(_: $argument),*) -> $result {
                Answer::from(called(stringify!($name))).into()
            }
        )*
    };
}

/// What a callback returns, for those that return nothing too.
struct Answer(NTSTATUS);

impl From<NTSTATUS> for Answer {
    fn from(status: NTSTATUS) -> Self {
        Self(status)
    }
}

impl From<Answer> for NTSTATUS {
    fn from(answer: Answer) -> Self {
        answer.0
    }
}

impl From<Answer> for () {
    fn from(_: Answer) {}
}

recording! {
    D0Entry(WDFDEVICE, WDF_POWER_DEVICE_STATE) -> NTSTATUS;
    D0EntryPostInterruptsEnabled(WDFDEVICE, WDF_POWER_DEVICE_STATE) -> NTSTATUS;
    D0Exit(WDFDEVICE, WDF_POWER_DEVICE_STATE) -> NTSTATUS;
    D0ExitPreInterruptsDisabled(WDFDEVICE, WDF_POWER_DEVICE_STATE) -> NTSTATUS;
    SelfManagedIoInit(WDFDEVICE) -> NTSTATUS;
    SelfManagedIoSuspend(WDFDEVICE) -> NTSTATUS;
    SelfManagedIoRestart(WDFDEVICE) -> NTSTATUS;
    SelfManagedIoFlush(WDFDEVICE) -> ();
    SelfManagedIoCleanup(WDFDEVICE) -> ();
    SurpriseRemoval(WDFDEVICE) -> ();
    QueryStop(WDFDEVICE) -> NTSTATUS;
    QueryRemove(WDFDEVICE) -> NTSTATUS;
    InterruptEnable(WDFINTERRUPT, WDFDEVICE) -> NTSTATUS;
    InterruptDisable(WDFINTERRUPT, WDFDEVICE) -> NTSTATUS;
}

/// Callbacks of enablers, which record themselves with the enabler's number.
macro_rules! recording_of_enabler {
    ($($name:ident)*) => {
        $(
            #[allow(non_snake_case, reason = "the names of the events")]
            unsafe extern "win64" fn $name(enabler: WDFDMAENABLER) -> NTSTATUS {
                let number = ENABLERS.with_borrow(|all| all.iter().position(|one| *one == enabler));
                called(&format!(concat!(stringify!($name), " {}"), number.expect("a known one")))
            }
        )*
    };
}

recording_of_enabler! { Fill Enable Start Stop Disable Flush }

unsafe extern "win64" fn prepare_hardware(
    _device: WDFDEVICE,
    _raw: WDFCMRESLIST,
    translated: WDFCMRESLIST,
) -> NTSTATUS {
    for index in 0..ddi!(WdfCmResourceListGetCount(translated)) {
        let descriptor = &*ddi!(WdfCmResourceListGetDescriptor(translated, index));
        // The registers of every device are in its first window.
        if u32::from(descriptor.Type) == CmResourceTypeMemory && REGISTERS.get().is_null() {
            let registers = machine_nt::exports::MmMapIoSpaceEx(
                descriptor.u.Memory.Start,
                REGISTERS_LENGTH as SIZE_T,
                PAGE_READWRITE | PAGE_NOCACHE,
            );
            REGISTERS.set(registers.cast());
        }
    }
    called("PrepareHardware")
}

unsafe extern "win64" fn release_hardware(
    _device: WDFDEVICE,
    _translated: WDFCMRESLIST,
) -> NTSTATUS {
    let registers = REGISTERS.replace(ptr::null_mut());
    machine_nt::exports::MmUnmapIoSpace(registers.cast(), REGISTERS_LENGTH as SIZE_T);
    called("ReleaseHardware")
}

unsafe extern "win64" fn io_read(queue: WDFQUEUE, request: WDFREQUEST, length: usize) {
    record(format!("read {length}"));
    (PLAN.get().read)(queue, request);
}

unsafe extern "win64" fn io_stop(_queue: WDFQUEUE, request: WDFREQUEST, flags: ULONG) {
    record(format!("IoStop {flags:#x}"));
    (PLAN.get().stop)(request, flags);
}

unsafe extern "win64" fn io_resume(_queue: WDFQUEUE, _request: WDFREQUEST) {
    record("IoResume");
}

/// Ends the device's interrupt and queues the DPC, whose answer it records.
unsafe extern "win64" fn isr(interrupt: WDFINTERRUPT, _message: ULONG) -> BOOLEAN {
    let status = register(STATUS);
    if status == 0 {
        return 0;
    }
    set_register(ACKNOWLEDGE, status);
    let queued = ddi!(WdfInterruptQueueDpcForIsr(interrupt));
    record(format!("isr {status:#x} queued {queued}"));
    1
}

unsafe extern "win64" fn dpc(_interrupt: WDFINTERRUPT, _device: WDFOBJECT) {
    let irql = machine_nt::exports::KeGetCurrentIrql();
    record(format!("dpc at {irql}"));
}

unsafe extern "win64" fn device_add(_driver: WDFDRIVER, mut init: PWDFDEVICE_INIT) -> NTSTATUS {
    ddi!(WdfDeviceInitSetIoType(
        init,
        _WDF_DEVICE_IO_TYPE::WdfDeviceIoDirect
    ));
    let mut events = WDF_PNPPOWER_EVENT_CALLBACKS {
        Size: size_of::<WDF_PNPPOWER_EVENT_CALLBACKS>() as ULONG,
        EvtDeviceD0Entry: Some(D0Entry),
        EvtDeviceD0EntryPostInterruptsEnabled: Some(D0EntryPostInterruptsEnabled),
        EvtDeviceD0Exit: Some(D0Exit),
        EvtDeviceD0ExitPreInterruptsDisabled: Some(D0ExitPreInterruptsDisabled),
        EvtDevicePrepareHardware: Some(prepare_hardware),
        EvtDeviceReleaseHardware: Some(release_hardware),
        EvtDeviceSelfManagedIoCleanup: Some(SelfManagedIoCleanup),
        EvtDeviceSelfManagedIoFlush: Some(SelfManagedIoFlush),
        EvtDeviceSelfManagedIoInit: Some(SelfManagedIoInit),
        EvtDeviceSelfManagedIoSuspend: Some(SelfManagedIoSuspend),
        EvtDeviceSelfManagedIoRestart: Some(SelfManagedIoRestart),
        EvtDeviceSurpriseRemoval: Some(SurpriseRemoval),
        EvtDeviceQueryRemove: Some(QueryRemove),
        EvtDeviceQueryStop: Some(QueryStop),
        ..Default::default()
    };
    ddi!(WdfDeviceInitSetPnpPowerEventCallbacks(init, &mut events));
    (PLAN.get().init)(init);
    let mut device = ptr::null_mut();
    let status = ddi!(WdfDeviceCreate(&mut init, ptr::null_mut(), &mut device));
    assert_eq!(status, STATUS_SUCCESS, "WdfDeviceCreate");
    DEVICE.set(device);
    for _ in 0..PLAN.get().enablers {
        create_enabler(device);
    }
    create_queue(device);
    create_interrupt(device);
    ddi!(WdfDeviceCreateDeviceInterface(
        device,
        &INTERFACE,
        ptr::null_mut()
    ))
}

unsafe fn create_enabler(device: WDFDEVICE) {
    let mut config = WDF_DMA_ENABLER_CONFIG {
        Size: size_of::<WDF_DMA_ENABLER_CONFIG>() as ULONG,
        Profile: _WDF_DMA_PROFILE::WdfDmaProfilePacket,
        MaximumLength: 4096,
        EvtDmaEnablerFill: Some(Fill),
        EvtDmaEnablerFlush: Some(Flush),
        EvtDmaEnablerDisable: Some(Disable),
        EvtDmaEnablerEnable: Some(Enable),
        EvtDmaEnablerSelfManagedIoStart: Some(Start),
        EvtDmaEnablerSelfManagedIoStop: Some(Stop),
        ..Default::default()
    };
    let mut enabler = ptr::null_mut();
    let status = ddi!(WdfDmaEnablerCreate(
        device,
        &mut config,
        ptr::null_mut(),
        &mut enabler
    ));
    assert_eq!(status, STATUS_SUCCESS, "WdfDmaEnablerCreate");
    ENABLERS.with_borrow_mut(|all| all.push(enabler));
}

unsafe fn create_queue(device: WDFDEVICE) {
    let mut config = WDF_IO_QUEUE_CONFIG {
        Size: size_of::<WDF_IO_QUEUE_CONFIG>() as ULONG,
        DispatchType: _WDF_IO_QUEUE_DISPATCH_TYPE::WdfIoQueueDispatchSequential,
        PowerManaged: _WDF_TRI_STATE::WdfUseDefault,
        DefaultQueue: 1,
        EvtIoRead: Some(io_read),
        EvtIoStop: Some(io_stop),
        EvtIoResume: Some(io_resume),
        ..Default::default()
    };
    (PLAN.get().queue)(&mut config);
    let mut queue = ptr::null_mut();
    let status = ddi!(WdfIoQueueCreate(
        device,
        &mut config,
        ptr::null_mut(),
        &mut queue
    ));
    assert_eq!(status, STATUS_SUCCESS, "WdfIoQueueCreate");
    QUEUE.set(queue);
}

unsafe fn create_interrupt(device: WDFDEVICE) {
    let mut config = WDF_INTERRUPT_CONFIG {
        Size: size_of::<WDF_INTERRUPT_CONFIG>() as ULONG,
        EvtInterruptIsr: Some(PLAN.get().isr),
        EvtInterruptDpc: Some(dpc),
        EvtInterruptEnable: Some(InterruptEnable),
        EvtInterruptDisable: Some(InterruptDisable),
        ..Default::default()
    };
    let mut interrupt = ptr::null_mut();
    let status = ddi!(WdfInterruptCreate(
        device,
        &mut config,
        ptr::null_mut(),
        &mut interrupt
    ));
    assert_eq!(status, STATUS_SUCCESS, "WdfInterruptCreate");
    INTERRUPT.set(interrupt);
}
