//! A driver without a framework, for edu unless it is told otherwise: it keeps what it is given, counts what it is asked, and can be told to refuse.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::SeqCst};

use machine_nt::exports::{
    IoAttachDeviceToDeviceStack, IoConnectInterruptEx, IoCreateDevice, IoDeleteDevice,
    IoDetachDevice, IoDisconnectInterruptEx, IoReportInterruptActive, IoReportInterruptInactive,
    IofCallDriver, IofCompleteRequest, KeInitializeEvent, KeSetEvent, KeWaitForSingleObject,
    MmMapIoSpaceEx, MmUnmapIoSpace, PoRequestPowerIrp,
};
use nt_sys::inline::{
    IoCopyCurrentIrpStackLocationToNext, IoGetCurrentIrpStackLocation, IoMarkIrpPending,
    IoSetCompletionRoutine, IoSkipCurrentIrpStackLocation,
};
use nt_sys::*;

/// PnP and power requests in the order they came; power is `0x100 | minor`, with the state in bits 23:16.
pub static LOG: Mutex<Vec<u32>> = Mutex::new(Vec::new());
/// What the request named by `REFUSED` is failed with.
pub static REFUSAL: AtomicI32 = AtomicI32::new(STATUS_UNSUCCESSFUL);
/// Minor function of the PnP request that is refused; `u32::MAX` for none.
pub static REFUSED: AtomicU32 = AtomicU32::new(u32::MAX);
/// What the driver answers to IRP_MN_QUERY_PNP_DEVICE_STATE.
pub static STATE: AtomicU32 = AtomicU32::new(0);
/// How the driver connects its interrupt: `CONNECT_...`.
pub static CONNECT: AtomicU32 = AtomicU32::new(CONNECT_FULLY_SPECIFIED);
/// The service routine, with the number of the message; whether the interrupt is the device's.
pub static SERVICE: Mutex<fn(u32) -> bool> = Mutex::new(serve_edu);
/// Interrupts claimed.
pub static CLAIMED: AtomicU32 = AtomicU32::new(0);
/// Registers (address), and what the driver got when it was last started.
pub static STARTED: Mutex<Started> = Mutex::new(Started {
    registers: 0,
    physical: 0,
    message: false,
    descriptors: Vec::new(),
    interrupts: Vec::new(),
    windows: Vec::new(),
    channels: Vec::new(),
});

pub struct Started {
    pub registers: usize,
    pub physical: u64,
    pub message: bool,
    /// First vector and number of messages of each interrupt descriptor; 1 for a line.
    pub descriptors: Vec<(u32, u32)>,
    /// What connecting returned: an object for each interrupt, or one table for all of them.
    pub interrupts: Vec<usize>,
    /// Address and bytes of all that is mapped.
    pub windows: Vec<(usize, u32)>,
    /// Channel, request line and width of each connection to the system DMA controller.
    pub channels: Vec<(u32, u32, u8)>,
}

#[repr(C)]
struct Extension {
    pdo: PDEVICE_OBJECT,
    lower: PDEVICE_OBJECT,
}

/// edu's registers.
pub mod register {
    pub const STATUS: usize = 0x24;
    pub const RAISE: usize = 0x60;
    pub const ACKNOWLEDGE: usize = 0x64;
    pub const SOURCE: usize = 0x80;
    pub const DESTINATION: usize = 0x88;
    pub const COUNT: usize = 0x90;
    pub const COMMAND: usize = 0x98;
}

/// Reads a register of the started device.
pub fn read(offset: usize) -> u32 {
    let base = STARTED.lock().unwrap().registers;
    // SAFETY: the registers are mapped, and this is one of them.
    unsafe { ((base + offset) as *const u32).read_volatile() }
}

/// Writes a register of the started device.
pub fn write(offset: usize, value: u32) {
    let base = STARTED.lock().unwrap().registers;
    // SAFETY: as in `read`.
    unsafe { ((base + offset) as *mut u32).write_volatile(value) };
}

/// DriverEntry.
pub unsafe extern "win64" fn driver_entry(
    driver: PDRIVER_OBJECT,
    _path: PUNICODE_STRING,
) -> NTSTATUS {
    // SAFETY: a new driver object.
    let driver = unsafe { &mut *driver };
    driver.MajorFunction[IRP_MJ_PNP as usize] = Some(pnp);
    driver.MajorFunction[IRP_MJ_POWER as usize] = Some(power);
    // SAFETY: it has an extension.
    unsafe { (*driver.DriverExtension).AddDevice = Some(add_device) };
    STATUS_SUCCESS
}

unsafe extern "win64" fn add_device(driver: PDRIVER_OBJECT, pdo: PDEVICE_OBJECT) -> NTSTATUS {
    if REFUSED.load(SeqCst) == IRP_MJ_PNP << 8 {
        return REFUSAL.load(SeqCst);
    }
    let mut device = std::ptr::null_mut();
    // SAFETY: as any driver does.
    let status = unsafe {
        IoCreateDevice(
            driver,
            size_of::<Extension>() as u32,
            std::ptr::null_mut(),
            FILE_DEVICE_UNKNOWN,
            0,
            0,
            &raw mut device,
        )
    };
    assert_eq!(status, STATUS_SUCCESS);
    // SAFETY: both exist.
    let lower = unsafe { IoAttachDeviceToDeviceStack(device, pdo) };
    // SAFETY: just created.
    let extension = unsafe { (*device).DeviceExtension }.cast::<Extension>();
    // SAFETY: of this size.
    unsafe { extension.write(Extension { pdo, lower }) };
    // SAFETY: just created.
    unsafe { (*device).Flags &= !DO_DEVICE_INITIALIZING };
    STATUS_SUCCESS
}

/// What the driver keeps with a device, which must be its own.
fn extension(device: PDEVICE_OBJECT) -> Extension {
    // SAFETY: a device of this driver.
    let extension = unsafe { (*device).DeviceExtension }.cast::<Extension>();
    // SAFETY: written by `add_device`.
    unsafe { extension.read() }
}

/// The stack location of an IRP that was dispatched to this driver.
fn location(irp: PIRP) -> IO_STACK_LOCATION {
    // SAFETY: dispatched here.
    let location = unsafe { IoGetCurrentIrpStackLocation(irp) };
    // SAFETY: it points into the IRP.
    unsafe { location.read() }
}

/// Where an IRP that was dispatched to this driver keeps its status.
fn block<'a>(irp: PIRP) -> &'a mut IO_STATUS_BLOCK {
    // SAFETY: dispatched here, and not completed yet.
    unsafe { &mut (*irp).IoStatus }
}

unsafe extern "win64" fn signal(_device: PDEVICE_OBJECT, _irp: PIRP, event: PVOID) -> NTSTATUS {
    // SAFETY: the event of `forward_and_wait`.
    unsafe { KeSetEvent(event.cast(), 0, 0) };
    STATUS_MORE_PROCESSING_REQUIRED
}

/// Has the drivers below do their part first.
fn forward_and_wait(lower: PDEVICE_OBJECT, irp: PIRP) -> NTSTATUS {
    let mut event = KEVENT::default();
    let event = &raw mut event;
    // SAFETY: a local, which lives until it has been set.
    unsafe { KeInitializeEvent(event, _EVENT_TYPE::NotificationEvent, 0) };
    // SAFETY: dispatched here.
    unsafe { IoCopyCurrentIrpStackLocationToNext(irp) };
    // SAFETY: as above.
    unsafe { IoSetCompletionRoutine(irp, Some(signal), event.cast(), true, true, true) };
    // SAFETY: as above; this driver is attached to `lower`.
    unsafe { IofCallDriver(lower, irp) };
    // SAFETY: initialised above.
    unsafe {
        KeWaitForSingleObject(
            event.cast(),
            _KWAIT_REASON::Executive,
            0,
            0,
            std::ptr::null_mut(),
        )
    };
    // SAFETY: a plain number.
    unsafe { block(irp).__bindgen_anon_1.Status }
}

fn complete(irp: PIRP, status: NTSTATUS) -> NTSTATUS {
    block(irp).__bindgen_anon_1.Status = status;
    // SAFETY: dispatched here, and not used after this.
    unsafe { IofCompleteRequest(irp, 0) };
    status
}

/// Passes an IRP down, as a success so far or as it is.
fn pass(lower: PDEVICE_OBJECT, irp: PIRP, succeed: bool) -> NTSTATUS {
    if succeed {
        block(irp).__bindgen_anon_1.Status = STATUS_SUCCESS;
    }
    // SAFETY: dispatched here.
    unsafe { IoSkipCurrentIrpStackLocation(irp) };
    // SAFETY: this driver is attached to `lower`.
    unsafe { IofCallDriver(lower, irp) }
}

unsafe extern "win64" fn pnp(device: PDEVICE_OBJECT, irp: PIRP) -> NTSTATUS {
    let location = location(irp);
    let Extension { pdo, lower } = extension(device);
    let minor = u32::from(location.MinorFunction);
    LOG.lock().unwrap().push(minor);
    let refused = minor == REFUSED.load(SeqCst);
    match minor {
        IRP_MN_START_DEVICE => {
            let status = match forward_and_wait(lower, irp) {
                STATUS_SUCCESS if refused => REFUSAL.load(SeqCst),
                status => status,
            };
            if status == STATUS_SUCCESS {
                // SAFETY: the member of start requests.
                let lists = unsafe { location.Parameters.StartDevice };
                start(
                    pdo,
                    lists.AllocatedResources,
                    lists.AllocatedResourcesTranslated,
                );
            }
            complete(irp, status)
        }
        _ if refused => complete(irp, REFUSAL.load(SeqCst)),
        IRP_MN_QUERY_PNP_DEVICE_STATE => {
            block(irp).Information = STATE.load(SeqCst).into();
            complete(irp, STATUS_SUCCESS)
        }
        IRP_MN_STOP_DEVICE | IRP_MN_SURPRISE_REMOVAL => {
            stop();
            pass(lower, irp, true)
        }
        IRP_MN_REMOVE_DEVICE => {
            stop();
            let status = pass(lower, irp, true);
            // SAFETY: nobody uses the device any more.
            unsafe { IoDetachDevice(lower) };
            // SAFETY: as above.
            unsafe { IoDeleteDevice(device) };
            status
        }
        IRP_MN_QUERY_STOP_DEVICE
        | IRP_MN_CANCEL_STOP_DEVICE
        | IRP_MN_QUERY_REMOVE_DEVICE
        | IRP_MN_CANCEL_REMOVE_DEVICE => pass(lower, irp, true),
        _ => pass(lower, irp, false),
    }
}

unsafe extern "win64" fn message_isr(
    interrupt: PKINTERRUPT,
    _context: PVOID,
    message: ULONG,
) -> BOOLEAN {
    // SAFETY: as if it were the other one.
    unsafe { isr(interrupt, message as PVOID) }
}

/// The context is the number of the message.
unsafe extern "win64" fn isr(_interrupt: PKINTERRUPT, context: PVOID) -> BOOLEAN {
    let service = *SERVICE.lock().unwrap();
    let claimed = service(context as u32);
    if claimed {
        CLAIMED.fetch_add(1, SeqCst);
    }
    claimed.into()
}

fn serve_edu(message: u32) -> bool {
    assert_eq!(message, 0);
    let status = read(register::STATUS);
    if status == 0 || status == u32::MAX {
        return false;
    }
    write(register::ACKNOWLEDGE, status);
    true
}

/// The descriptors of a resource list.
fn descriptors(list: PCM_RESOURCE_LIST) -> Vec<CM_PARTIAL_RESOURCE_DESCRIPTOR> {
    // SAFETY: the list of a start request.
    let partial = unsafe { (*list).List[0].PartialResourceList };
    let offset = std::mem::offset_of!(CM_RESOURCE_LIST, List)
        + std::mem::offset_of!(
            CM_FULL_RESOURCE_DESCRIPTOR,
            PartialResourceList.PartialDescriptors
        );
    let first = list
        .wrapping_byte_add(offset)
        .cast::<CM_PARTIAL_RESOURCE_DESCRIPTOR>();
    // SAFETY: there are so many descriptors.
    let descriptor = |index| unsafe { first.wrapping_add(index).read_unaligned() };
    (0..partial.Count as usize).map(descriptor).collect()
}

fn start(pdo: PDEVICE_OBJECT, raw: PCM_RESOURCE_LIST, translated: PCM_RESOURCE_LIST) {
    for (raw, descriptor) in descriptors(raw).into_iter().zip(descriptors(translated)) {
        match u32::from(descriptor.Type) {
            kind if kind == CmResourceTypeMemory => map(descriptor),
            kind if kind == CmResourceTypeInterrupt => connect_all(pdo, raw, descriptor),
            kind if kind == CmResourceTypeDma => {
                // SAFETY: the type names the member.
                let dma = unsafe { descriptor.u.DmaV3 };
                let connection = (dma.Channel, dma.RequestLine, dma.TransferWidth);
                STARTED.lock().unwrap().channels.push(connection);
            }
            other => panic!("a resource of type {other}"),
        }
    }
}

/// The registers of every device are in its first window.
fn map(descriptor: CM_PARTIAL_RESOURCE_DESCRIPTOR) {
    // SAFETY: the type names the member.
    let memory = unsafe { descriptor.u.Memory };
    let protection = PAGE_READWRITE | PAGE_NOCACHE;
    // SAFETY: as a driver would.
    let window = unsafe { MmMapIoSpaceEx(memory.Start, memory.Length.into(), protection) };
    let mut started = STARTED.lock().unwrap();
    if started.windows.is_empty() {
        started.registers = window as usize;
        // SAFETY: a plain number.
        started.physical = unsafe { memory.Start.QuadPart } as u64;
    }
    started.windows.push((window as usize, memory.Length));
}

/// Connects all interrupts of a descriptor: one by one, or all of the device with the first.
fn connect_all(
    pdo: PDEVICE_OBJECT,
    raw: CM_PARTIAL_RESOURCE_DESCRIPTOR,
    descriptor: CM_PARTIAL_RESOURCE_DESCRIPTOR,
) {
    let message = u32::from(descriptor.Flags) & CM_RESOURCE_INTERRUPT_MESSAGE != 0;
    let count = if message {
        // SAFETY: the raw half of a message interrupt.
        let message = unsafe { raw.u.MessageInterrupt };
        // SAFETY: as above.
        unsafe { message.__bindgen_anon_1.Raw.MessageCount }.into()
    } else {
        1
    };
    let mut started = STARTED.lock().unwrap();
    // SAFETY: the type names the member.
    let first = unsafe { descriptor.u.Interrupt.Vector };
    started.message = message;
    started.descriptors.push((first, count));
    drop(started);
    for number in 0..count {
        let number_of_all = STARTED.lock().unwrap().interrupts.len();
        if number_of_all == 0 || CONNECT.load(SeqCst) == CONNECT_FULLY_SPECIFIED {
            connect(pdo, descriptor, number, number_of_all);
        }
    }
}

fn connect(
    pdo: PDEVICE_OBJECT,
    descriptor: CM_PARTIAL_RESOURCE_DESCRIPTOR,
    number: u32,
    context: usize,
) {
    let message = u32::from(descriptor.Flags) & CM_RESOURCE_INTERRUPT_MESSAGE != 0;
    let mode = if message {
        _KINTERRUPT_MODE::Latched
    } else {
        _KINTERRUPT_MODE::LevelSensitive
    };
    // SAFETY: the type names the member.
    let interrupt = unsafe { descriptor.u.Interrupt };
    let mut object: PVOID = std::ptr::null_mut();
    let mut parameters = IO_CONNECT_INTERRUPT_PARAMETERS {
        Version: CONNECT.load(SeqCst),
        ..Default::default()
    };
    let place = &raw mut object;
    match parameters.Version {
        CONNECT_FULLY_SPECIFIED => {
            parameters.__bindgen_anon_1.FullySpecified =
                IO_CONNECT_INTERRUPT_FULLY_SPECIFIED_PARAMETERS {
                    PhysicalDeviceObject: pdo,
                    InterruptObject: place.cast(),
                    ServiceRoutine: Some(isr),
                    SynchronizeIrql: interrupt.Level as u8,
                    ShareVector: (!message).into(),
                    ServiceContext: context as PVOID,
                    Vector: interrupt.Vector + number,
                    Irql: interrupt.Level as u8,
                    InterruptMode: mode,
                    ProcessorEnableMask: interrupt.Affinity,
                    ..Default::default()
                };
        }
        CONNECT_MESSAGE_BASED => {
            let mut based = IO_CONNECT_INTERRUPT_MESSAGE_BASED_PARAMETERS {
                PhysicalDeviceObject: pdo,
                MessageServiceRoutine: Some(message_isr),
                FallBackServiceRoutine: Some(isr),
                ..Default::default()
            };
            based.ConnectionContext.Generic = place;
            parameters.__bindgen_anon_1.MessageBased = based;
        }
        CONNECT_LINE_BASED => {
            parameters.__bindgen_anon_1.LineBased = IO_CONNECT_INTERRUPT_LINE_BASED_PARAMETERS {
                PhysicalDeviceObject: pdo,
                InterruptObject: place.cast(),
                ServiceRoutine: Some(isr),
                ..Default::default()
            };
        }
        other => panic!("version {other}"),
    }
    // SAFETY: as a driver would.
    let status = unsafe { IoConnectInterruptEx(&raw mut parameters) };
    assert_eq!(status, STATUS_SUCCESS);
    CONNECT.store(parameters.Version, SeqCst);
    STARTED.lock().unwrap().interrupts.push(object as usize);
}

/// Reports the interrupt of the started device active or not.
pub fn report(active: bool) {
    let mut parameters = IO_REPORT_INTERRUPT_ACTIVE_STATE_PARAMETERS {
        Version: CONNECT.load(SeqCst),
        ..Default::default()
    };
    parameters.ConnectionContext.Generic = STARTED.lock().unwrap().interrupts[0] as PVOID;
    let routine = if active {
        IoReportInterruptActive
    } else {
        IoReportInterruptInactive
    };
    // SAFETY: the interrupt is connected.
    unsafe { routine(&raw mut parameters) };
}

fn stop() {
    let (windows, interrupts) = {
        let mut started = STARTED.lock().unwrap();
        started.registers = 0;
        started.descriptors.clear();
        (
            std::mem::take(&mut started.windows),
            std::mem::take(&mut started.interrupts),
        )
    };
    for interrupt in interrupts {
        let mut parameters = IO_DISCONNECT_INTERRUPT_PARAMETERS {
            Version: CONNECT.load(SeqCst),
            ..Default::default()
        };
        parameters.ConnectionContext.Generic = interrupt as PVOID;
        // SAFETY: connected in `start`.
        unsafe { IoDisconnectInterruptEx(&raw mut parameters) };
    }
    for (address, length) in windows {
        // SAFETY: mapped in `start`.
        unsafe { MmUnmapIoSpace(address as PVOID, length.into()) };
    }
}

unsafe extern "win64" fn power(device: PDEVICE_OBJECT, irp: PIRP) -> NTSTATUS {
    let location = location(irp);
    // SAFETY: the member of power requests.
    let power = unsafe { location.Parameters.Power };
    // SAFETY: both members are plain numbers.
    let state = unsafe { power.State.SystemState };
    let minor = u32::from(location.MinorFunction);
    LOG.lock()
        .unwrap()
        .push(0x100 | minor | (state as u32) << 16 | (power.Type as u32) << 12);
    if minor != IRP_MN_SET_POWER || power.Type != _POWER_STATE_TYPE::SystemPowerState {
        return pass(extension(device).lower, irp, false);
    }
    let target = if state == _SYSTEM_POWER_STATE::PowerSystemWorking {
        _DEVICE_POWER_STATE::PowerDeviceD0
    } else {
        _DEVICE_POWER_STATE::PowerDeviceD3
    };
    // SAFETY: dispatched here.
    unsafe { IoMarkIrpPending(irp) };
    let target = POWER_STATE {
        DeviceState: target,
    };
    let (minor, context, result) = (IRP_MN_SET_POWER as u8, irp.cast(), std::ptr::null_mut());
    // SAFETY: the system request goes on when the device request is over.
    unsafe {
        PoRequestPowerIrp(
            device,
            minor,
            target,
            Some(device_power_set),
            context,
            result,
        )
    };
    STATUS_PENDING
}

unsafe extern "win64" fn device_power_set(
    device: PDEVICE_OBJECT,
    _minor: UCHAR,
    _state: POWER_STATE,
    context: PVOID,
    status: PIO_STATUS_BLOCK,
) {
    // SAFETY: the status of the request that is over.
    let status = unsafe { *status };
    // SAFETY: a plain number.
    assert_eq!(unsafe { status.__bindgen_anon_1.Status }, STATUS_SUCCESS);
    // SAFETY: the system request that waited for it, whose location stays marked as pending.
    unsafe { IoCopyCurrentIrpStackLocationToNext(context.cast()) };
    // SAFETY: as above.
    unsafe { IofCallDriver(extension(device).lower, context.cast()) };
}
