//! WDFQUEUE (`fxioqueue.cpp`).
//!
//! A queue's events - deliveries, cancellations, notifications, power - are all dispatched by one loop ([`dispatch`]), run by
//! whichever thread gives it something to do; a second thread adds its work and leaves. So there is no recursion, and the order of
//! events is that of the published source.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::flat::*;

use super::request::Request;
use crate::device::Device;
use crate::globals::DriverGlobals;
use crate::lock::{CallbackLock, Event, Ptr, SpinCell, SpinGuard};
use crate::object::{Attributes, Header, Kind, Object, Typed};
use crate::worker::Worker;

pub(crate) mod api;
mod cancel;
mod control;
mod create;
mod dispatch;
mod dpc;
mod power;
mod retrieve;

pub(crate) use create::create;
pub(crate) use power::{PowerAction, PowerState};

use dpc::DispatchDpc;

/// A notification the driver asked for once (stop, drain and purge completions) or for good (ready).
#[derive(Clone, Copy)]
pub(super) struct Notification {
    callback: unsafe extern "win64" fn(WDFQUEUE, WDFCONTEXT),
    context: Ptr<c_void>,
}

/// The driver's callbacks.
#[derive(Clone, Copy)]
struct Callbacks {
    default: PFN_WDF_IO_QUEUE_IO_DEFAULT,
    read: PFN_WDF_IO_QUEUE_IO_READ,
    write: PFN_WDF_IO_QUEUE_IO_WRITE,
    control: PFN_WDF_IO_QUEUE_IO_DEVICE_CONTROL,
    internal_control: PFN_WDF_IO_QUEUE_IO_INTERNAL_DEVICE_CONTROL,
    stop: PFN_WDF_IO_QUEUE_IO_STOP,
    resume: PFN_WDF_IO_QUEUE_IO_RESUME,
    canceled: PFN_WDF_IO_QUEUE_IO_CANCELED_ON_QUEUE,
}

/// What the queue's lock protects.
pub(super) struct State {
    accepting: bool,
    dispatching_allowed: bool,
    shutdown: bool,
    /// Requests waiting for delivery.
    pending: VecDeque<Arc<Request>>,
    /// Delivered requests that the driver marked cancelable.
    cancelable: VecDeque<Arc<Request>>,
    /// Delivered requests.
    driver_owned: VecDeque<Arc<Request>>,
    /// Delivered requests about which the driver is being told of a power change.
    power_notify: VecDeque<Arc<Request>>,
    /// Delivered requests about which it was told.
    power_notified: VecDeque<Arc<Request>>,
    /// How many requests the driver has.
    driver_count: usize,
    /// Canceled requests whose cancel callback is due.
    canceled: VecDeque<Arc<Request>>,
    /// Requests canceled in the queue whose EvtIoCanceledOnQueue is due.
    canceled_on_queue: VecDeque<Arc<Request>>,
    idle_complete: Option<Notification>,
    purge_complete: Option<Notification>,
    ready: Option<Notification>,
    transition_from_empty: bool,
    force_transition: bool,
    /// Requests being requeued or marked cancelable are canceled.
    cancel_dispatched: bool,
    power: PowerState,
    /// Threads in the dispatch loop.
    dispatching: usize,
    disposing: bool,
    deleted: bool,
    deferred: bool,
    redispatch: bool,
}

/// A queue.
pub(crate) struct Queue {
    header: Header,
    device: Arc<Device>,
    kind: WDF_IO_QUEUE_DISPATCH_TYPE,
    power_managed: bool,
    zero_length: bool,
    max_presented: usize,
    callbacks: Callbacks,
    passive: bool,
    /// Serialises the callbacks, if the synchronization scope says so.
    callback_lock: Option<Arc<CallbackLock>>,
    /// What a thread that holds it must not dispatch under; made for every queue.
    dispatch_lock: Arc<CallbackLock>,
    state: SpinCell<State>,
    power_idle: Event,
    disposed: Event,
    worker: Option<Worker>,
    dpc: DispatchDpc,
    interrupt_queue: AtomicBool,
}

impl Object for Queue {
    fn header(&self) -> &Header {
        &self.header
    }

    fn dispose(&self) {
        self.dispose_queue();
    }

    fn dump(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "{}, {}, {}",
            self.kind_name(),
            if self.power_managed {
                "power-managed"
            } else {
                "not power-managed"
            },
            if self.passive { "passive" } else { "dispatch" },
        )];
        // SAFETY: the machine is stopping; nothing else runs on.
        let state = unsafe { self.state.peek() };
        let (queued, owned) = (state.pending.len(), state.driver_count);
        lines.push(format!(
            "{queued} request(s) queued, {owned} owned by the driver"
        ));
        lines
    }
}

impl Typed for Queue {
    const KIND: Kind = Kind::Queue;
}

impl Queue {
    /// The driver's globals.
    pub(crate) fn globals(&self) -> &'static DriverGlobals {
        self.header.globals()
    }

    /// The WDFQUEUE.
    pub(crate) fn handle(&self) -> WDFQUEUE {
        self.header.handle() as WDFQUEUE
    }

    /// The device whose requests it holds.
    pub(crate) fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// The lock of its synchronization scope; None without one.
    pub(crate) fn callback_lock(&self) -> Option<Arc<CallbackLock>> {
        self.callback_lock.clone()
    }

    /// Whether its callbacks run at `PASSIVE_LEVEL`.
    pub(crate) fn is_passive(&self) -> bool {
        self.passive
    }

    /// An interrupt's callbacks are serialised with the queue's.
    pub(crate) fn set_interrupt_queue(&self) {
        self.interrupt_queue.store(true, Ordering::Relaxed);
    }

    fn kind_name(&self) -> &'static str {
        match self.kind {
            WdfIoQueueDispatchSequential => "sequential",
            WdfIoQueueDispatchParallel => "parallel",
            _ => "manual",
        }
    }

    fn is_manual(&self) -> bool {
        self.kind == WdfIoQueueDispatchManual
    }

    /// Whether a request of a type would reach a callback (`IsIoEventHandlerRegistered`).
    pub(super) fn handles(&self, major: u32) -> bool {
        if self.is_manual() || self.callbacks.default.is_some() {
            return true;
        }
        match major as _ {
            IRP_MJ_READ => self.callbacks.read.is_some(),
            IRP_MJ_WRITE => self.callbacks.write.is_some(),
            IRP_MJ_DEVICE_CONTROL => self.callbacks.control.is_some(),
            IRP_MJ_INTERNAL_DEVICE_CONTROL => self.callbacks.internal_control.is_some(),
            _ => false,
        }
    }

    fn lock(&self) -> SpinGuard<'_, State> {
        self.state.lock()
    }

    fn strong(&self) -> Arc<Self> {
        crate::object::handle::get(self.globals(), self.header.handle())
    }
}

impl State {
    fn new(power: PowerState) -> Self {
        Self {
            accepting: true,
            dispatching_allowed: true,
            shutdown: false,
            pending: VecDeque::new(),
            cancelable: VecDeque::new(),
            driver_owned: VecDeque::new(),
            power_notify: VecDeque::new(),
            power_notified: VecDeque::new(),
            driver_count: 0,
            canceled: VecDeque::new(),
            canceled_on_queue: VecDeque::new(),
            idle_complete: None,
            purge_complete: None,
            ready: None,
            transition_from_empty: false,
            force_transition: false,
            cancel_dispatched: false,
            power,
            dispatching: 0,
            disposing: false,
            deleted: false,
            deferred: false,
            redispatch: false,
        }
    }

    /// The queue got its first request, or one after a vain retrieval.
    fn check_transition(&mut self) {
        if self.pending.len() == 1 || self.force_transition {
            self.set_transition();
        }
    }

    fn set_transition(&mut self) {
        self.transition_from_empty = true;
        self.force_transition = false;
    }

    /// The driver has the request now.
    fn give_to_driver(&mut self, request: &Arc<Request>) {
        self.driver_owned.push_back(request.clone());
        self.driver_count += 1;
    }

    /// The driver has it no more.
    fn take_from_driver(&mut self, request: &Arc<Request>) {
        self.unlink_driver_owned(request);
        self.driver_count -= 1;
    }

    fn unlink_driver_owned(&mut self, request: &Arc<Request>) {
        for list in [
            &mut self.driver_owned,
            &mut self.power_notify,
            &mut self.power_notified,
        ] {
            list.retain(|other| !Arc::ptr_eq(other, request));
        }
    }

    fn set_accepting(&mut self, accepting: bool) {
        // A queue that is shut down accepts nothing until it restarts.
        self.accepting = accepting && !self.shutdown;
    }

    fn set_dispatching_allowed(&mut self, allowed: bool) {
        self.dispatching_allowed = allowed;
        if allowed {
            self.cancel_dispatched = false;
        }
    }
}

/// What the attributes of a queue say about its callbacks, the device's word where they say nothing.
fn constraints(
    device: &Device,
    attributes: Option<&Attributes>,
) -> (WDF_EXECUTION_LEVEL, WDF_SYNCHRONIZATION_SCOPE) {
    let (device_level, device_scope) = device.constraints();
    let level = attributes.map_or(
        WdfExecutionLevelInheritFromParent,
        Attributes::execution_level,
    );
    let scope = attributes.map_or(
        WdfSynchronizationScopeInheritFromParent,
        Attributes::synchronization_scope,
    );
    (
        if level == WdfExecutionLevelInheritFromParent {
            device_level
        } else {
            level
        },
        if scope == WdfSynchronizationScopeInheritFromParent {
            device_scope
        } else {
            scope
        },
    )
}
