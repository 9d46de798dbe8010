//! Making and disposing a queue (`FxIoQueue::Initialize`, `ConfigureConstraints`, `Dispose`).

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::flat::*;

use super::{Callbacks, DispatchDpc, PowerState, Queue, State, constraints};
use crate::device::Device;
use crate::lock::{CallbackLock, Event, SpinCell};
use crate::object::{self, Attributes, Header, Kind, Parent};
use crate::worker::Worker;

/// A version 1.9 configuration has no `Driver`, one of version 1.7 no settings either.
const CONFIG_V1_9: usize = std::mem::offset_of!(WDF_IO_QUEUE_CONFIG, Driver);
const CONFIG_V1_7: usize = std::mem::offset_of!(WDF_IO_QUEUE_CONFIG, Settings);

/// A driver's configuration of any version, in the present form. Errors: `STATUS_INFO_LENGTH_MISMATCH`.
///
/// # Safety
/// `config` points to a configuration as large as its `Size` says.
pub(super) unsafe fn normalize(
    config: *const WDF_IO_QUEUE_CONFIG,
) -> Result<WDF_IO_QUEUE_CONFIG, NTSTATUS> {
    // SAFETY: the caller's promise; the size comes first.
    let size = unsafe { (*config).Size } as usize;
    if ![size_of::<WDF_IO_QUEUE_CONFIG>(), CONFIG_V1_9, CONFIG_V1_7].contains(&size) {
        return Err(STATUS_INFO_LENGTH_MISMATCH);
    }
    // SAFETY: all-zero bytes are a valid value of this plain structure.
    let mut whole: WDF_IO_QUEUE_CONFIG = unsafe { std::mem::zeroed() };
    if size == CONFIG_V1_7 {
        whole.Settings.Parallel.NumberOfPresentedRequests = ULONG::MAX;
    }
    let to = (&raw mut whole).cast::<u8>();
    // SAFETY: `size` bytes are there to read, and `whole` is at least as large.
    unsafe { to.copy_from_nonoverlapping(config.cast::<u8>(), size) };
    Ok(whole)
}

/// Whether dispatch type and callbacks go together. Errors: `STATUS_INVALID_PARAMETER`, `STATUS_WDF_NO_CALLBACK`.
fn validate(config: &WDF_IO_QUEUE_CONFIG) -> Result<usize, NTSTATUS> {
    if config.DispatchType <= WdfIoQueueDispatchInvalid
        || config.DispatchType >= WdfIoQueueDispatchMax
    {
        return Err(STATUS_INVALID_PARAMETER);
    }
    let any = config.EvtIoDefault.is_some()
        || config.EvtIoRead.is_some()
        || config.EvtIoWrite.is_some()
        || config.EvtIoDeviceControl.is_some()
        || config.EvtIoInternalDeviceControl.is_some();
    let manual = config.DispatchType == WdfIoQueueDispatchManual;
    if !manual && !any {
        return Err(STATUS_WDF_NO_CALLBACK);
    }
    if manual && any {
        return Err(STATUS_INVALID_PARAMETER);
    }
    // SAFETY: the union has one member.
    let presented = unsafe { config.Settings.Parallel.NumberOfPresentedRequests } as usize;
    let parallel = config.DispatchType == WdfIoQueueDispatchParallel;
    if !parallel && presented != 0 && presented != ULONG::MAX as usize {
        return Err(STATUS_INVALID_PARAMETER);
    }
    Ok(presented)
}

/// Makes a queue of `device`; `powered` says whether its power-managed queues deliver now.
///
/// # Errors
/// As `WdfIoQueueCreate`.
pub(crate) fn create(
    device: &Arc<Device>,
    config: &WDF_IO_QUEUE_CONFIG,
    attributes: Option<&Attributes>,
    parent: Parent,
    powered: bool,
) -> Result<Arc<Queue>, NTSTATUS> {
    let globals = device.globals();
    let (level, scope) = constraints(device, attributes);
    let passive = level == WdfExecutionLevelPassive;
    let (callback_lock, dispatch_lock) = match scope {
        WdfSynchronizationScopeDevice => {
            if device.constraints().0 != level {
                return Err(STATUS_INVALID_PARAMETER);
            }
            let lock = device
                .callback_lock()
                .unwrap_or_else(|| Arc::new(CallbackLock::new(passive)));
            (Some(lock.clone()), lock)
        }
        WdfSynchronizationScopeQueue => {
            let lock = Arc::new(CallbackLock::new(passive));
            (Some(lock.clone()), lock)
        }
        _ => (None, Arc::new(CallbackLock::new(passive))),
    };
    let max_presented = validate(config)?;
    let worker = match passive {
        true => Some(
            Worker::new(device.function_object().cast()).ok_or(STATUS_INSUFFICIENT_RESOURCES)?,
        ),
        false => None,
    };
    let power_managed = match config.PowerManaged {
        WdfTrue => true,
        WdfFalse => false,
        _ => !device.settings().filter,
    };
    let power = if power_managed && !powered {
        PowerState::Off
    } else {
        PowerState::On
    };
    let queue = Arc::new(Queue {
        header: Header::new(Kind::Queue, globals),
        device: device.clone(),
        kind: config.DispatchType,
        power_managed,
        zero_length: config.AllowZeroLengthRequests != 0,
        max_presented,
        callbacks: Callbacks {
            default: config.EvtIoDefault,
            read: config.EvtIoRead,
            write: config.EvtIoWrite,
            control: config.EvtIoDeviceControl,
            internal_control: config.EvtIoInternalDeviceControl,
            stop: config.EvtIoStop,
            resume: config.EvtIoResume,
            canceled: config.EvtIoCanceledOnQueue,
        },
        passive,
        callback_lock,
        dispatch_lock,
        state: SpinCell::new(State::new(power)),
        power_idle: Event::new(),
        disposed: Event::new(),
        worker,
        dpc: DispatchDpc::new(),
        interrupt_queue: AtomicBool::new(false),
    });
    if passive {
        queue.header.mark_passive_callbacks();
    }
    queue.dpc.bind(&queue);
    object::commit(&queue, attributes, parent)?;
    device.io.add_queue(&queue);
    Ok(queue)
}

impl Queue {
    /// Cancels what is left, waits for the driver to complete what it has, and takes the queue out of its device.
    pub(super) fn dispose_queue(&self) {
        let queue = self.strong();
        queue.purge(true, None);
        queue.device.io.remove_queue(&queue);
        let mut state = queue.lock();
        state.disposing = true;
        queue.dispatch_events(state, None);
        queue.wait(&queue.disposed, "the queue to be deleted");
        if let Some(worker) = &self.worker {
            worker.wait_until_idle();
        }
        self.dpc.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(kind: WDF_IO_QUEUE_DISPATCH_TYPE) -> WDF_IO_QUEUE_CONFIG {
        // SAFETY: all-zero bytes are a valid value of this plain structure.
        let mut config: WDF_IO_QUEUE_CONFIG = unsafe { std::mem::zeroed() };
        config.Size = size_of::<WDF_IO_QUEUE_CONFIG>() as _;
        config.DispatchType = kind;
        config
    }

    unsafe extern "win64" fn on_default(_queue: WDFQUEUE, _request: WDFREQUEST) {}

    #[test]
    fn callbacks_must_suit_the_dispatch_type() {
        assert_eq!(
            validate(&config(WdfIoQueueDispatchSequential)),
            Err(STATUS_WDF_NO_CALLBACK)
        );
        assert_eq!(validate(&config(WdfIoQueueDispatchManual)), Ok(0));
        let mut manual = config(WdfIoQueueDispatchManual);
        manual.EvtIoDefault = Some(on_default);
        assert_eq!(validate(&manual), Err(STATUS_INVALID_PARAMETER));
        assert_eq!(
            validate(&config(WdfIoQueueDispatchMax)),
            Err(STATUS_INVALID_PARAMETER)
        );
    }

    #[test]
    fn only_parallel_queues_limit_what_they_present() {
        let mut sequential = config(WdfIoQueueDispatchSequential);
        sequential.EvtIoDefault = Some(on_default);
        sequential.Settings.Parallel.NumberOfPresentedRequests = 2;
        assert_eq!(validate(&sequential), Err(STATUS_INVALID_PARAMETER));
        sequential.DispatchType = WdfIoQueueDispatchParallel;
        assert_eq!(validate(&sequential), Ok(2));
    }

    #[test]
    fn configurations_of_older_versions_are_widened() {
        let mut old = config(WdfIoQueueDispatchParallel);
        old.Size = CONFIG_V1_7 as _;
        old.Settings.Parallel.NumberOfPresentedRequests = 7;
        // SAFETY: a whole structure is there.
        let whole = unsafe { normalize(&raw const old) }.expect("a size of version 1.7");
        // SAFETY: the union has one member.
        let presented = unsafe { whole.Settings.Parallel.NumberOfPresentedRequests };
        assert_eq!(presented, ULONG::MAX);
        old.Size = 5;
        // SAFETY: as above.
        let refused = unsafe { normalize(&raw const old) };
        assert_eq!(refused.err(), Some(STATUS_INFO_LENGTH_MISMATCH));
    }
}
