//! A driver without a framework, for edu: it keeps what it is given, counts what it is asked, and can be told to refuse.

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
/// Interrupts claimed.
pub static CLAIMED: AtomicU32 = AtomicU32::new(0);
/// Registers (address), and what the driver got when it was last started.
pub static STARTED: Mutex<Started> = Mutex::new(Started {
    registers: 0,
    physical: 0,
    message: false,
    interrupt: 0,
    channels: Vec::new(),
});

pub struct Started {
    pub registers: usize,
    pub physical: u64,
    pub message: bool,
    pub interrupt: usize,
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
                start(pdo, unsafe {
                    location.Parameters.StartDevice.AllocatedResourcesTranslated
                });
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
    context: PVOID,
    message: ULONG,
) -> BOOLEAN {
    assert_eq!(message, 0);
    // SAFETY: as if it were the other one.
    unsafe { isr(interrupt, context) }
}

unsafe extern "win64" fn isr(_interrupt: PKINTERRUPT, _context: PVOID) -> BOOLEAN {
    let status = read(register::STATUS);
    if status == 0 || status == u32::MAX {
        return 0;
    }
    write(register::ACKNOWLEDGE, status);
    CLAIMED.fetch_add(1, SeqCst);
    1
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

fn start(pdo: PDEVICE_OBJECT, list: PCM_RESOURCE_LIST) {
    for descriptor in descriptors(list) {
        match u32::from(descriptor.Type) {
            kind if kind == CmResourceTypeMemory => map(descriptor),
            kind if kind == CmResourceTypeInterrupt => connect(pdo, descriptor),
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

fn map(descriptor: CM_PARTIAL_RESOURCE_DESCRIPTOR) {
    // SAFETY: the type names the member.
    let memory = unsafe { descriptor.u.Memory };
    let protection = PAGE_READWRITE | PAGE_NOCACHE;
    // SAFETY: as a driver would.
    let registers = unsafe { MmMapIoSpaceEx(memory.Start, memory.Length.into(), protection) };
    let mut started = STARTED.lock().unwrap();
    started.registers = registers as usize;
    // SAFETY: a plain number.
    started.physical = unsafe { memory.Start.QuadPart } as u64;
}

fn connect(pdo: PDEVICE_OBJECT, descriptor: CM_PARTIAL_RESOURCE_DESCRIPTOR) {
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
                    Vector: interrupt.Vector,
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
    let mut started = STARTED.lock().unwrap();
    started.message = message;
    started.interrupt = object as usize;
}

/// Reports the interrupt of the started device active or not.
pub fn report(active: bool) {
    let mut parameters = IO_REPORT_INTERRUPT_ACTIVE_STATE_PARAMETERS {
        Version: CONNECT.load(SeqCst),
        ..Default::default()
    };
    parameters.ConnectionContext.Generic = STARTED.lock().unwrap().interrupt as PVOID;
    let routine = if active {
        IoReportInterruptActive
    } else {
        IoReportInterruptInactive
    };
    // SAFETY: the interrupt is connected.
    unsafe { routine(&raw mut parameters) };
}

fn stop() {
    let (registers, interrupt) = {
        let mut started = STARTED.lock().unwrap();
        (
            std::mem::take(&mut started.registers),
            std::mem::take(&mut started.interrupt),
        )
    };
    if registers == 0 {
        return;
    }
    let mut parameters = IO_DISCONNECT_INTERRUPT_PARAMETERS {
        Version: CONNECT.load(SeqCst),
        ..Default::default()
    };
    parameters.ConnectionContext.Generic = interrupt as PVOID;
    // SAFETY: connected in `start`.
    unsafe { IoDisconnectInterruptEx(&raw mut parameters) };
    // SAFETY: mapped in `start`.
    unsafe { MmUnmapIoSpace(registers as PVOID, 1 << 20) };
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
