//! I/O queues.

use core::marker::PhantomData;

use wdk_sys::{
    _WDF_EXECUTION_LEVEL, _WDF_IO_QUEUE_DISPATCH_TYPE, _WDF_IO_QUEUE_STATE,
    _WDF_REQUEST_STOP_ACTION_FLAGS, _WDF_TRI_STATE, ULONG, WDF_IO_QUEUE_CONFIG,
    WDF_IO_QUEUE_DISPATCH_TYPE, WDFQUEUE, WDFREQUEST,
};

use crate::context::{self, Home};
use crate::device::{Device, DeviceEvents};
use crate::request::{Request, RequestKey};
use crate::versioned::size;
use crate::{NtStatus, Result, ddi};

/// What a device does with reads and writes. IRQL <= DISPATCH_LEVEL.
pub trait TransferEvents: DeviceEvents {
    /// `EvtIoRead`: the driver owns the request now. `length` is never 0.
    fn read(&self, request: Request, length: usize);

    /// `EvtIoWrite`: the driver owns the request now. `length` is never 0.
    fn write(&self, request: Request, length: usize);

    /// `EvtIoStop`: the queue is being stopped and waits for the request, which the driver owns. PASSIVE_LEVEL.
    ///
    /// The request is to be completed, here or soon; until it is, the device's power does not change and the device is
    /// not removed.
    fn stop(&self, request: RequestKey, reason: StopReason);
}

/// What a device does with control requests. IRQL <= DISPATCH_LEVEL.
pub trait ControlEvents: DeviceEvents {
    /// `EvtIoDeviceControl`: the driver owns the request now.
    fn device_control(&self, request: Request, code: u32);
}

/// What a device does with control requests whose handlers wait. PASSIVE_LEVEL.
pub trait WaitingControlEvents: DeviceEvents {
    /// `EvtIoDeviceControl`: the driver owns the request now.
    fn device_control_and_wait(&self, request: Request, code: u32);
}

/// Why a queue is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The device is about to leave its working state, and will come back to it.
    Suspend,
    /// The device is being removed, or is gone.
    Purge,
}

/// How a queue hands out its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dispatch {
    /// The next one when the one before it has been completed.
    Sequential,
    /// All of them as they come.
    Parallel,
}

/// A queue that is about to be made, for a device whose context is a `T`.
pub struct QueueConfig<T> {
    raw: WDF_IO_QUEUE_CONFIG,
    passive: bool,
    context: PhantomData<fn() -> T>,
}

impl<T: DeviceEvents> QueueConfig<T> {
    /// A queue that gets only what is [dispatched](Device::dispatch) to it, and hands it out while the device is in
    /// its working state.
    #[must_use]
    pub fn new(dispatch: Dispatch) -> Self {
        let mut raw = WDF_IO_QUEUE_CONFIG {
            Size: size::<WDF_IO_QUEUE_CONFIG>(),
            DispatchType: dispatch.raw(),
            PowerManaged: _WDF_TRI_STATE::WdfTrue,
            ..WDF_IO_QUEUE_CONFIG::default()
        };
        if dispatch == Dispatch::Parallel {
            raw.Settings.Parallel.NumberOfPresentedRequests = ULONG::MAX;
        }
        Self {
            raw,
            passive: false,
            context: PhantomData,
        }
    }

    /// Hands out at most so many requests that have not ended; the others wait in the queue. For a parallel queue.
    #[must_use]
    pub fn at_most(mut self, requests: u32) -> Self {
        self.raw.Settings.Parallel.NumberOfPresentedRequests = requests;
        self
    }

    /// Makes the queue get everything for which there is no other.
    #[must_use]
    pub fn default_queue(mut self) -> Self {
        self.raw.DefaultQueue = 1;
        self
    }

    /// Makes the queue hand out requests in every power state: for requests that need no hardware.
    #[must_use]
    pub fn without_power(mut self) -> Self {
        self.raw.PowerManaged = _WDF_TRI_STATE::WdfFalse;
        self
    }

    /// Hands out reads and writes; those of no length are completed by the framework with success.
    #[must_use]
    pub fn transfers(mut self) -> Self
    where
        T: TransferEvents,
    {
        self.raw.EvtIoRead = Some(io_read::<T>);
        self.raw.EvtIoWrite = Some(io_write::<T>);
        self.raw.EvtIoStop = Some(io_stop::<T>);
        self
    }

    /// Hands out control requests.
    #[must_use]
    pub fn controls(mut self) -> Self
    where
        T: ControlEvents,
    {
        self.raw.EvtIoDeviceControl = Some(io_device_control::<T>);
        self
    }

    /// Hands out control requests at PASSIVE_LEVEL, to handlers that wait.
    #[must_use]
    pub fn waiting_controls(mut self) -> Self
    where
        T: WaitingControlEvents,
    {
        self.raw.EvtIoDeviceControl = Some(io_device_control_and_wait::<T>);
        self.passive = true;
        self
    }
}

impl Dispatch {
    const fn raw(self) -> WDF_IO_QUEUE_DISPATCH_TYPE {
        match self {
            Self::Sequential => _WDF_IO_QUEUE_DISPATCH_TYPE::WdfIoQueueDispatchSequential,
            Self::Parallel => _WDF_IO_QUEUE_DISPATCH_TYPE::WdfIoQueueDispatchParallel,
        }
    }
}

/// A queue. The framework deletes it with its device.
#[derive(Debug)]
pub struct Queue {
    raw: WDFQUEUE,
}

// SAFETY: the handle belongs to no thread.
unsafe impl Send for Queue {}

// SAFETY: the functions called through a shared handle may be called by several threads at once.
unsafe impl Sync for Queue {}

impl Queue {
    /// Makes the queue. PASSIVE_LEVEL.
    ///
    /// # Errors
    ///
    /// What `WdfIoQueueCreate` returns.
    pub fn create<T: DeviceEvents>(device: &Device<T>, mut config: QueueConfig<T>) -> Result<Self> {
        // SAFETY: the device is valid.
        let home = unsafe { Home::of::<T>(device.raw().cast()) }?;
        let mut attributes = context::attributes::<Home>();
        if config.passive {
            attributes.ExecutionLevel = _WDF_EXECUTION_LEVEL::WdfExecutionLevelPassive;
        }
        let mut queue = core::ptr::null_mut();
        // SAFETY: the device is valid, and the others live across the call.
        let status = unsafe {
            ddi::WdfIoQueueCreate(
                device.raw(),
                &raw mut config.raw,
                &raw mut attributes,
                &raw mut queue,
            )
        };
        NtStatus::from_code(status).ok()?;
        // SAFETY: the queue has just been made, with room for this.
        unsafe { context::set(queue.cast(), home) }?;
        Ok(Self { raw: queue })
    }

    pub(crate) const fn raw(&self) -> WDFQUEUE {
        self.raw
    }

    /// `WdfIoQueueStop`: no further request is handed out until [`start`](Self::start); those that were are not
    /// affected. IRQL <= DISPATCH_LEVEL.
    pub fn stop(&self) {
        // SAFETY: the queue is valid, and nobody needs to be told when those that were handed out have ended.
        unsafe { ddi::WdfIoQueueStop(self.raw, None, core::ptr::null_mut()) };
    }

    /// `WdfIoQueueGetState`: whether a request was handed out that has not ended. Of a [stopped](Self::stop) queue,
    /// once there is none, there is none until the start. IRQL <= DISPATCH_LEVEL.
    #[must_use]
    pub fn has_handed_out(&self) -> bool {
        let none = core::ptr::null_mut();
        // SAFETY: the queue is valid, and the numbers are optional.
        let state = unsafe { ddi::WdfIoQueueGetState(self.raw, none, none) };
        state & _WDF_IO_QUEUE_STATE::WdfIoQueueDriverNoRequests == 0
    }

    /// `WdfIoQueueStopSynchronously`: as [`stop`](Self::stop), and waits until all that were handed out have ended.
    /// PASSIVE_LEVEL; not while the caller has one of them.
    pub fn stop_and_wait(&self) {
        // SAFETY: the queue is valid.
        unsafe { ddi::WdfIoQueueStopSynchronously(self.raw) };
    }

    /// `WdfIoQueueStart`: undoes [`stop`](Self::stop). IRQL <= DISPATCH_LEVEL.
    pub fn start(&self) {
        // SAFETY: the queue is valid.
        unsafe { ddi::WdfIoQueueStart(self.raw) };
    }
}

/// Hands a request to the context of the queue's device.
///
/// # Safety
///
/// Called in a queue's callback, with its queue and a request that the driver now owns.
unsafe fn hand_over<T: DeviceEvents>(
    queue: WDFQUEUE,
    request: WDFREQUEST,
    callback: impl FnOnce(&T, Request),
) {
    // SAFETY: the framework has just handed it to the driver.
    let request = unsafe { Request::from_raw(request) };
    // SAFETY: the queue and its device are valid during the callback.
    match unsafe { context_of::<T>(queue) } {
        Some(context) => callback(context, request),
        None => request.complete(NtStatus::INVALID_DEVICE_STATE),
    }
}

/// The context of the queue's device.
///
/// # Safety
///
/// The queue is valid for as long as the result is used.
pub(crate) unsafe fn context_of<'a, T: DeviceEvents>(queue: WDFQUEUE) -> Option<&'a T> {
    // SAFETY: the queue is valid, and the device outlives it.
    unsafe { context::of_device(queue.cast()) }
}

unsafe extern "C" fn io_read<T: TransferEvents>(
    queue: WDFQUEUE,
    request: WDFREQUEST,
    length: usize,
) {
    // SAFETY: this is the callback.
    unsafe {
        hand_over(queue, request, |context: &T, request| {
            context.read(request, length)
        })
    };
}

unsafe extern "C" fn io_write<T: TransferEvents>(
    queue: WDFQUEUE,
    request: WDFREQUEST,
    length: usize,
) {
    // SAFETY: this is the callback.
    unsafe {
        hand_over(queue, request, |context: &T, request| {
            context.write(request, length)
        })
    };
}

unsafe extern "C" fn io_device_control<T: ControlEvents>(
    queue: WDFQUEUE,
    request: WDFREQUEST,
    _output_length: usize,
    _input_length: usize,
    code: ULONG,
) {
    let callback = |context: &T, request| context.device_control(request, code);
    // SAFETY: this is the callback.
    unsafe { hand_over(queue, request, callback) };
}

unsafe extern "C" fn io_device_control_and_wait<T: WaitingControlEvents>(
    queue: WDFQUEUE,
    request: WDFREQUEST,
    _output_length: usize,
    _input_length: usize,
    code: ULONG,
) {
    let callback = |context: &T, request| context.device_control_and_wait(request, code);
    // SAFETY: this is the callback.
    unsafe { hand_over(queue, request, callback) };
}

unsafe extern "C" fn io_stop<T: TransferEvents>(
    queue: WDFQUEUE,
    request: WDFREQUEST,
    action: ULONG,
) {
    let purge = _WDF_REQUEST_STOP_ACTION_FLAGS::WdfRequestStopActionPurge as ULONG;
    let reason = if action & purge == 0 {
        StopReason::Suspend
    } else {
        StopReason::Purge
    };
    // SAFETY: the queue is valid during its callback.
    if let Some(context) = unsafe { context_of::<T>(queue) } {
        // The request may be completed on another processor during this callback, so it is not to be asked for anything.
        context.stop(RequestKey::of(request), reason);
    }
}
