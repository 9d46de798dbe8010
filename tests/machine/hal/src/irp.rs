//! IRPs: the ones a native driver is given, and the ones the PnP manager sends.

use machine_nt::exports::{
    IoAllocateIrp, IoFreeIrp, IoGetAttachedDeviceReference, IofCallDriver, IofCompleteRequest,
    KeInitializeEvent, KeSetEvent, KeWaitForSingleObject, ObfDereferenceObject,
};
use nt_sys::inline::{
    IoGetCurrentIrpStackLocation, IoGetNextIrpStackLocation, IoSetCompletionRoutine,
    IoSkipCurrentIrpStackLocation,
};
use nt_sys::{
    _EVENT_TYPE, _KWAIT_REASON, IO_STACK_LOCATION, IRP, KEVENT, NTSTATUS, PDEVICE_OBJECT, PIRP,
    PVOID, STATUS_MORE_PROCESSING_REQUIRED, STATUS_NOT_SUPPORTED, STATUS_SUCCESS,
};

/// KernelMode.
const KERNEL_MODE: i8 = 0;

/// An IRP that arrived in a dispatch routine.
#[derive(Clone, Copy)]
pub struct Irp(PIRP);

impl Irp {
    /// The IRP a dispatch routine was passed.
    ///
    /// # Safety
    /// `irp` is an IRP whose current stack location belongs to the caller, until it is completed or passed down.
    pub unsafe fn new(irp: PIRP) -> Self {
        Self(irp)
    }

    fn raw(&mut self) -> &mut IRP {
        // SAFETY: the IRP is live and the caller's by the promise of `new`.
        unsafe { &mut *self.0 }
    }

    /// A copy of the current stack location.
    pub fn location(&self) -> IO_STACK_LOCATION {
        // SAFETY: the IRP is live by the promise of `new`.
        let location = unsafe { IoGetCurrentIrpStackLocation(self.0) };
        // SAFETY: it points into the IRP.
        unsafe { location.read() }
    }

    /// Minor function code.
    pub fn minor(&self) -> u32 {
        self.location().MinorFunction.into()
    }

    /// The status it holds now.
    pub fn status(&self) -> NTSTATUS {
        // SAFETY: the IRP is live by the promise of `new`.
        unsafe { outcome(self.0) }.status
    }

    /// Completes it with a status and the information it holds already.
    pub fn complete(mut self, status: NTSTATUS) -> NTSTATUS {
        self.raw().IoStatus.__bindgen_anon_1.Status = status;
        // SAFETY: the IRP is live by the promise of `new`; the caller does not use it after this.
        unsafe { IofCompleteRequest(self.0, 0) };
        status
    }

    /// Completes it successfully with a result.
    pub fn succeed_with(mut self, information: u64) -> NTSTATUS {
        self.raw().IoStatus.Information = information;
        self.complete(STATUS_SUCCESS)
    }

    /// Completes it as it is: what a bus driver does with what it does not know.
    pub fn complete_unchanged(self) -> NTSTATUS {
        self.complete(self.status())
    }

    /// Passes it to the driver below, which gets the same stack location.
    pub fn skip_to(self, lower: PDEVICE_OBJECT) -> NTSTATUS {
        // SAFETY: the IRP is live by the promise of `new`.
        unsafe { IoSkipCurrentIrpStackLocation(self.0) };
        // SAFETY: the caller attached to `lower`, so it exists.
        unsafe { IofCallDriver(lower, self.0) }
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Its final status.
    pub status: NTSTATUS,
    /// Its result.
    pub information: u64,
}

impl Outcome {
    /// The result, if the request succeeded.
    pub fn result(self) -> Result<u64, NTSTATUS> {
        if nt_sys::nt_success(self.status) {
            Ok(self.information)
        } else {
            Err(self.status)
        }
    }
}

/// What an IRP holds of its end.
///
/// # Safety
/// `irp` is a live IRP.
pub unsafe fn outcome(irp: PIRP) -> Outcome {
    // SAFETY: the caller vouches for the IRP.
    let block = unsafe { (*irp).IoStatus };
    // SAFETY: both members of the union are plain numbers.
    let status = unsafe { block.__bindgen_anon_1.Status };
    Outcome {
        status,
        information: block.Information,
    }
}

/// Sends a request to the top of the stack `device` belongs to and waits for its end. At PASSIVE_LEVEL.
///
/// `location` holds the function codes and parameters; PnP and power requests begin with STATUS_NOT_SUPPORTED.
pub fn send(device: PDEVICE_OBJECT, location: IO_STACK_LOCATION) -> Outcome {
    send_with(device, location, |_| {})
}

/// As [`send`]; `started` is called with the IRP before a driver has it.
pub fn send_with(
    device: PDEVICE_OBJECT,
    location: IO_STACK_LOCATION,
    started: impl FnOnce(PIRP),
) -> Outcome {
    let mut event = KEVENT::default();
    let event = &raw mut event;
    // SAFETY: the event lives until this function returns, which is after its last use.
    unsafe { KeInitializeEvent(event, _EVENT_TYPE::NotificationEvent, 0) };
    let request = Prepared::new(device, location, signal, event.cast());
    started(request.irp);
    let irp = request.send();
    // SAFETY: the event is initialised, and `signal` sets it.
    unsafe {
        KeWaitForSingleObject(
            event.cast(),
            _KWAIT_REASON::Executive,
            KERNEL_MODE,
            0,
            std::ptr::null_mut(),
        )
    };
    // SAFETY: `signal` kept the IRP from being freed.
    let outcome = unsafe { outcome(irp) };
    // SAFETY: nothing uses it any more.
    unsafe { IoFreeIrp(irp) };
    outcome
}

unsafe extern "win64" fn signal(_device: PDEVICE_OBJECT, _irp: PIRP, event: PVOID) -> NTSTATUS {
    // SAFETY: `send` passes its event and waits for it.
    unsafe { KeSetEvent(event.cast(), 0, 0) };
    STATUS_MORE_PROCESSING_REQUIRED
}

/// What runs when a request that was sent is complete. The IRP is then its own: it returns
/// STATUS_MORE_PROCESSING_REQUIRED and sees to it that the IRP is freed.
pub type Completed = unsafe extern "win64" fn(PDEVICE_OBJECT, PIRP, PVOID) -> NTSTATUS;

/// Sends a request to the top of the stack `device` belongs to, without waiting.
pub fn start(
    device: PDEVICE_OBJECT,
    location: IO_STACK_LOCATION,
    completed: Completed,
    context: PVOID,
) -> PIRP {
    Prepared::new(device, location, completed, context).send()
}

/// A request that is ready to be sent.
struct Prepared {
    irp: PIRP,
    /// The top of the stack, referenced.
    top: PDEVICE_OBJECT,
}

impl Prepared {
    fn new(
        device: PDEVICE_OBJECT,
        location: IO_STACK_LOCATION,
        completed: Completed,
        context: PVOID,
    ) -> Self {
        // SAFETY: callers pass a device object that exists.
        let top = unsafe { IoGetAttachedDeviceReference(device) };
        // SAFETY: the reference just taken keeps it.
        let size = unsafe { (*top).StackSize };
        // SAFETY: no special requirement.
        let irp = unsafe { IoAllocateIrp(size, 0) };
        if irp.is_null() {
            crate::stop_internal("no pool for an IRP");
        }
        // SAFETY: the IRP was just allocated.
        let status = unsafe { &mut (*irp).IoStatus };
        status.__bindgen_anon_1.Status = STATUS_NOT_SUPPORTED;
        // SAFETY: as above.
        let next = unsafe { IoGetNextIrpStackLocation(irp) };
        // SAFETY: there is a location for each device of the stack.
        unsafe { next.write(location) };
        // SAFETY: as above.
        unsafe { IoSetCompletionRoutine(irp, Some(completed), context, true, true, true) };
        Self { irp, top }
    }

    fn send(self) -> PIRP {
        machine_nt::counters().irps_issued.increment();
        // SAFETY: the IRP is complete, the device referenced.
        unsafe { IofCallDriver(self.top, self.irp) };
        // SAFETY: the reference was taken when it was prepared.
        unsafe { ObfDereferenceObject(self.top.cast()) };
        self.irp
    }
}

/// A stack location with these function codes.
pub fn location(major: u32, minor: u32) -> IO_STACK_LOCATION {
    IO_STACK_LOCATION {
        MajorFunction: major as u8,
        MinorFunction: minor as u8,
        ..IO_STACK_LOCATION::default()
    }
}
