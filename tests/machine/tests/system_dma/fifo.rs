//! A driver of the FIFO peripheral: resources, registers, interrupt; a test runs once the device is in D0.

use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use abi::fifo::{CAUSES, CAUSES_ENABLE, CONTROL, Causes, Control, HARDWARE_ID};
use abi::fifo::{RX_COUNT, RX_DATA, TX_COUNT, TX_DATA};
use machine::ddi;
use machine::nt_sys::*;
use machine::testdriver::TestDriver;
use machine::{Config, Device, DriverSource, Machine};
use machine_nt::exports::{KeDelayExecutionThread, MmMapIoSpaceEx, MmUnmapIoSpace};

use crate::bench::{self, Buffer, FROM_DEVICE, Report, TO_DEVICE, enabler_config};
use DMA_COMPLETION_STATUS::Type as Status;

type Test = Box<dyn FnOnce(&Fifo) + Send>;
type Prepare = fn(&Fifo) -> NTSTATUS;

static TEST: Mutex<Option<Test>> = Mutex::new(None);
static PREPARE: Mutex<Option<Prepare>> = Mutex::new(None);
static RELEASE: Mutex<Option<fn()>> = Mutex::new(None);
static DPC: Mutex<Option<fn(Causes)>> = Mutex::new(None);
static FIFO: Mutex<Option<Fifo>> = Mutex::new(None);
static REGISTERS: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

/// The started device.
#[derive(Clone)]
pub struct Fifo {
    device: usize,
    physical: i64,
    /// What the translated resources say of the connections to the controller.
    pub connections: Vec<CM_PARTIAL_RESOURCE_DESCRIPTOR>,
}

// SAFETY: plain numbers.
unsafe impl Send for Fifo {}

/// What a test changes.
#[derive(Default)]
pub struct Hooks {
    /// Called at the end of EvtDevicePrepareHardware.
    pub prepare: Option<Prepare>,
    /// Called in EvtDeviceReleaseHardware.
    pub release: Option<fn()>,
    /// Called by the DPC with what the ISR acknowledged.
    pub dpc: Option<fn(Causes)>,
}

/// Runs `test` with the device that has no interrupt.
pub fn run(test: impl FnOnce(&Fifo) + Send + 'static) {
    with_device(Device::FifoWithoutInterrupt, Hooks::default(), test);
}

/// Runs `test` with a device.
pub fn with_device(device: Device, hooks: Hooks, test: impl FnOnce(&Fifo) + Send + 'static) {
    on_machine(device, hooks, test, |machine| {
        machine.start().expect("the device starts");
        machine.shut_down();
    });
}

/// Runs `test` when the device is started for the first time, and `user` as the machine's first thread.
pub fn on_machine(
    device: Device,
    hooks: Hooks,
    test: impl FnOnce(&Fifo) + Send + 'static,
    user: impl FnOnce(&Machine) + 'static,
) {
    *TEST.lock().expect("not poisoned") = Some(Box::new(test));
    *PREPARE.lock().expect("not poisoned") = hooks.prepare;
    *RELEASE.lock().expect("not poisoned") = hooks.release;
    *DPC.lock().expect("not poisoned") = hooks.dpc;
    let driver = TestDriver {
        device_add: Some(device_add),
        ..TestDriver::default()
    };
    let mut config = Config::new(DriverSource::Test(driver));
    config.device = device;
    config.inf.hardware_ids.push(HARDWARE_ID.to_owned());
    machine::run(config, user).expect("a machine");
}

unsafe extern "win64" fn device_add(_driver: WDFDRIVER, mut init: PWDFDEVICE_INIT) -> NTSTATUS {
    let mut events = WDF_PNPPOWER_EVENT_CALLBACKS {
        Size: bench::size::<WDF_PNPPOWER_EVENT_CALLBACKS>(),
        EvtDevicePrepareHardware: Some(prepare_hardware),
        EvtDeviceReleaseHardware: Some(release_hardware),
        EvtDeviceSelfManagedIoInit: Some(run_test),
        ..Default::default()
    };
    ddi!(WdfDeviceInitSetPnpPowerEventCallbacks(init, &mut events));
    let mut device = ptr::null_mut();
    let status = ddi!(WdfDeviceCreate(&mut init, ptr::null_mut(), &mut device));
    if !nt_success(status) || DPC.lock().expect("not poisoned").is_none() {
        return status;
    }
    let mut config = WDF_INTERRUPT_CONFIG {
        Size: bench::size::<WDF_INTERRUPT_CONFIG>(),
        EvtInterruptIsr: Some(isr),
        EvtInterruptDpc: Some(dpc),
        ..Default::default()
    };
    let mut interrupt = ptr::null_mut();
    ddi!(WdfInterruptCreate(
        device,
        &mut config,
        ptr::null_mut(),
        &mut interrupt
    ))
}

unsafe extern "win64" fn prepare_hardware(
    device: WDFDEVICE,
    _raw: WDFCMRESLIST,
    translated: WDFCMRESLIST,
) -> NTSTATUS {
    let mut fifo = Fifo {
        device: device as usize,
        physical: 0,
        connections: Vec::new(),
    };
    for index in 0..ddi!(WdfCmResourceListGetCount(translated)) {
        let descriptor = *ddi!(WdfCmResourceListGetDescriptor(translated, index));
        match u32::from(descriptor.Type) {
            kind if kind == CmResourceTypeMemory => {
                let memory = descriptor.u.Memory;
                fifo.physical = memory.Start.QuadPart;
                let flags = PAGE_READWRITE | PAGE_NOCACHE;
                let registers = MmMapIoSpaceEx(memory.Start, memory.Length as SIZE_T, flags);
                REGISTERS.store(registers.cast(), Relaxed);
            }
            kind if kind == CmResourceTypeDma => fifo.connections.push(descriptor),
            _ => {}
        }
    }
    *FIFO.lock().expect("not poisoned") = Some(fifo.clone());
    let prepare = *PREPARE.lock().expect("not poisoned");
    prepare.map_or(STATUS_SUCCESS, |prepare| prepare(&fifo))
}

unsafe extern "win64" fn release_hardware(_device: WDFDEVICE, _list: WDFCMRESLIST) -> NTSTATUS {
    if let Some(release) = *RELEASE.lock().expect("not poisoned") {
        release();
    }
    let registers = REGISTERS.swap(ptr::null_mut(), Relaxed);
    MmUnmapIoSpace(registers.cast(), abi::fifo::WINDOW_LENGTH as SIZE_T);
    STATUS_SUCCESS
}

unsafe extern "win64" fn run_test(_device: WDFDEVICE) -> NTSTATUS {
    let fifo = FIFO
        .lock()
        .expect("not poisoned")
        .clone()
        .expect("prepared");
    let test = TEST.lock().expect("not poisoned").take();
    if let Some(test) = test {
        test(&fifo);
    }
    STATUS_SUCCESS
}

static ACKNOWLEDGED: Mutex<Causes> = Mutex::new(Causes::empty());

unsafe extern "win64" fn isr(interrupt: WDFINTERRUPT, _message: ULONG) -> BOOLEAN {
    let causes = get(CAUSES.offset()) & get(CAUSES_ENABLE.offset());
    if causes == 0 {
        return 0;
    }
    set(CAUSES.offset(), causes);
    *ACKNOWLEDGED.lock().expect("not poisoned") |= Causes::from_bits_retain(causes);
    ddi!(WdfInterruptQueueDpcForIsr(interrupt));
    1
}

unsafe extern "win64" fn dpc(_interrupt: WDFINTERRUPT, _device: WDFOBJECT) {
    let causes = std::mem::replace(
        &mut *ACKNOWLEDGED.lock().expect("not poisoned"),
        Causes::empty(),
    );
    let dpc = *DPC.lock().expect("not poisoned");
    dpc.expect("set before the interrupt is made")(causes);
}

/// Writes a register.
pub fn set(offset: usize, value: u32) {
    let register = REGISTERS.load(Relaxed).wrapping_add(offset).cast::<u32>();
    unsafe { register.write_volatile(value) };
}

/// Reads a register.
pub fn get(offset: usize) -> u32 {
    let register = REGISTERS.load(Relaxed).wrapping_add(offset).cast::<u32>();
    unsafe { register.read_volatile() }
}

/// Loops what is transmitted back, both sides by DMA.
pub fn loop_back() {
    let control = Control::TX_ENABLE | Control::RX_ENABLE | Control::LOOPBACK;
    set(
        CONTROL.offset(),
        (control | Control::TX_DMA | Control::RX_DMA).bits(),
    );
}

/// Waits for so many microseconds of virtual time.
pub fn delay(microseconds: i64) {
    let mut interval = LARGE_INTEGER {
        QuadPart: -10 * microseconds,
    };
    let mode = _MODE::KernelMode as KPROCESSOR_MODE;
    let status = unsafe { KeDelayExecutionThread(mode, 0, &mut interval) };
    assert_eq!(status, STATUS_SUCCESS);
}

/// Waits until `done`, in virtual time.
pub fn wait_until(done: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if done() {
            return;
        }
        delay(100);
    }
    panic!("it did not happen; events: {:?}", events());
}

impl Fifo {
    /// The WDFDEVICE.
    pub fn device(&self) -> WDFDEVICE {
        self.device as WDFDEVICE
    }

    /// How a direction is configured.
    pub fn profile_config(&self, write: bool) -> WDF_DMA_SYSTEM_PROFILE_CONFIG {
        let connection = usize::from(!write).min(self.connections.len() - 1);
        let descriptor = &raw const self.connections[connection];
        let width = unsafe { self.connections[connection].u.DmaV3.TransferWidth };
        WDF_DMA_SYSTEM_PROFILE_CONFIG {
            Size: bench::size::<WDF_DMA_SYSTEM_PROFILE_CONFIG>(),
            DemandMode: 1,
            LoopedTransfer: 0,
            DmaWidth: width.into(),
            DeviceAddress: LARGE_INTEGER {
                QuadPart: self.physical,
            },
            DmaDescriptor: descriptor.cast_mut(),
        }
    }

    /// An enabler with no direction configured.
    pub fn bare_enabler(&self, profile: WDF_DMA_PROFILE, maximum: usize) -> WDFDMAENABLER {
        bench::enabler(self.device(), enabler_config(profile, maximum))
    }

    /// WdfDmaEnablerConfigureSystemProfile.
    pub fn configure(&self, enabler: WDFDMAENABLER, write: bool) -> NTSTATUS {
        configure(enabler, self.profile_config(write), direction(write))
    }

    /// An enabler for both directions, read first.
    pub fn duplex(&self, maximum: usize) -> WDFDMAENABLER {
        let enabler = self.bare_enabler(SYSTEM_DUPLEX, maximum);
        assert_eq!(self.configure(enabler, false), STATUS_SUCCESS);
        assert_eq!(self.configure(enabler, true), STATUS_SUCCESS);
        enabler
    }
}

/// The profiles.
pub use _WDF_DMA_PROFILE::{
    WdfDmaProfileSystem as SYSTEM, WdfDmaProfileSystemDuplex as SYSTEM_DUPLEX,
};

/// The direction's value.
pub fn direction(write: bool) -> WDF_DMA_DIRECTION {
    if write { TO_DEVICE } else { FROM_DEVICE }
}

/// WdfDmaEnablerConfigureSystemProfile with any configuration.
pub fn configure(
    enabler: WDFDMAENABLER,
    mut config: WDF_DMA_SYSTEM_PROFILE_CONFIG,
    direction: WDF_DMA_DIRECTION,
) -> NTSTATUS {
    unsafe {
        ddi!(WdfDmaEnablerConfigureSystemProfile(
            enabler,
            &mut config,
            direction
        ))
    }
}

/// What was called, in order: the transaction, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// EvtDmaTransactionConfigureDmaChannel, with so many bytes at this offset.
    Configure(usize, usize),
    /// EvtProgramDma, with so many bytes.
    Program(usize),
    /// EvtDmaTransactionDmaTransferComplete.
    Complete(Status),
    /// EvtReserveDma.
    Reserve,
    /// DmaCompleted (or one of its relatives) returned this.
    Ended(bool, NTSTATUS),
}

static EVENTS: Mutex<Vec<(usize, Event)>> = Mutex::new(Vec::new());

/// Notes an event.
pub fn note(transaction: WDFDMATRANSACTION, event: Event) {
    let mut events = EVENTS.lock().expect("not poisoned");
    events.push((transaction as usize, event));
}

/// What has happened since the last call.
pub fn events() -> Vec<(usize, Event)> {
    std::mem::take(&mut EVENTS.lock().expect("not poisoned"))
}

/// What has happened to a transaction since the last call; other transactions' events are dropped.
pub fn events_of(transaction: WDFDMATRANSACTION) -> Vec<Event> {
    let mine = |(whose, event)| (whose == transaction as usize).then_some(event);
    events().into_iter().filter_map(mine).collect()
}

/// Whether a transaction has ended.
pub fn has_ended(transaction: WDFDMATRANSACTION) -> bool {
    EVENTS
        .lock()
        .expect("not poisoned")
        .iter()
        .any(|(whose, event)| {
            *whose == transaction as usize && matches!(event, Event::Ended(true, _))
        })
}

/// EvtProgramDma: tells the device how many bytes will come. The context of Execute is not looked at.
pub unsafe extern "win64" fn program(
    transaction: WDFDMATRANSACTION,
    _device: WDFDEVICE,
    _context: WDFCONTEXT,
    direction: WDF_DMA_DIRECTION,
    _list: PSCATTER_GATHER_LIST,
) -> BOOLEAN {
    assert_eq!(
        u32::from(machine_nt::exports::KeGetCurrentIrql()),
        DISPATCH_LEVEL
    );
    let length = bench::current(transaction);
    note(transaction, Event::Program(length));
    let count = if direction == TO_DEVICE {
        TX_COUNT.offset()
    } else {
        RX_COUNT.offset()
    };
    set(count, length as u32);
    1
}

/// Reports a transfer and notes what comes of it.
pub fn report(transaction: WDFDMATRANSACTION, report: Report) -> (bool, NTSTATUS) {
    let (ended, status) = bench::report(transaction, report);
    note(transaction, Event::Ended(ended, status));
    (ended, status)
}

/// EvtDmaTransactionDmaTransferComplete, as it should be: a transfer that was not made is ended with what was.
pub unsafe extern "win64" fn completed(
    transaction: WDFDMATRANSACTION,
    _device: WDFDEVICE,
    _context: WDFCONTEXT,
    _direction: WDF_DMA_DIRECTION,
    status: Status,
) {
    assert_eq!(
        u32::from(machine_nt::exports::KeGetCurrentIrql()),
        DISPATCH_LEVEL
    );
    note(transaction, Event::Complete(status));
    if status == DMA_COMPLETION_STATUS::DmaComplete {
        report(transaction, Report::Full);
    } else {
        report(transaction, Report::Final(0));
    }
}

/// Prepares a transfer of all of a buffer, with the transfer-complete callback.
pub fn initialize(transaction: WDFDMATRANSACTION, buffer: &Buffer, length: usize, write: bool) {
    prepare(transaction, buffer, length, write);
    unsafe {
        ddi!(WdfDmaTransactionSetTransferCompleteCallback(
            transaction,
            Some(completed),
            ptr::null_mut()
        ))
    };
}

/// Prepares a transfer without any callback but EvtProgramDma.
pub fn prepare(transaction: WDFDMATRANSACTION, buffer: &Buffer, length: usize, write: bool) {
    let status = unsafe {
        ddi!(WdfDmaTransactionInitialize(
            transaction,
            Some(program),
            direction(write),
            buffer.mdl(),
            buffer.address(),
            length
        ))
    };
    assert_eq!(status, STATUS_SUCCESS);
    let register = if write {
        TX_DATA.offset()
    } else {
        RX_DATA.offset()
    };
    unsafe {
        ddi!(WdfDmaTransactionSetDeviceAddressOffset(
            transaction,
            register as ULONG
        ))
    };
}

/// Prepares a transfer with the transfer-complete callback, and executes it.
pub fn begin(transaction: WDFDMATRANSACTION, buffer: &Buffer, length: usize, write: bool) {
    initialize(transaction, buffer, length, write);
    assert_eq!(bench::execute(transaction), STATUS_SUCCESS);
}

/// The bytes of a buffer.
pub fn bytes(buffer: &Buffer, length: usize) -> &[u8] {
    unsafe { std::slice::from_raw_parts(buffer.address().cast::<u8>(), length) }
}

/// Changes a byte of a buffer.
pub fn put(buffer: &Buffer, index: usize, value: u8) {
    unsafe { buffer.address().cast::<u8>().add(index).write(value) };
}

/// A buffer with a pattern in it.
pub fn filled(length: usize) -> Buffer {
    let buffer = Buffer::at(0, length);
    for index in 0..length {
        put(&buffer, index, (index * 7 + index / 253) as u8);
    }
    buffer
}
