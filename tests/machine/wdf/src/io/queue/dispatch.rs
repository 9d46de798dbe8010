//! The loop that dispatches a queue's events (`FxIoQueue::DispatchEvents`).

use std::sync::Arc;

use crate::flat::*;

use super::{Notification, PowerState, Queue, State};
use crate::io::request::{Flags, List, Owner, Request};
use crate::lock::{SpinGuard, serialized};
use crate::trace;

/// What the loop does next, without the lock.
pub(super) enum Step {
    /// Calls the driver's cancel callback.
    Cancel(Arc<Request>),
    /// Calls EvtIoCanceledOnQueue.
    CanceledOnQueue(Arc<Request>),
    /// Calls a completion of stop, drain or purge, or the ready notification.
    Notify(Notification),
    /// Tells the driver of a power change: EvtIoStop.
    Stop(Arc<Request>, u32),
    /// Tells the driver of a power change: EvtIoResume.
    Resume(Arc<Request>),
    /// Puts a request the driver gave back to the head of the queue.
    Requeue(Arc<Request>),
    /// Nothing to call; looks again.
    Again,
    /// Gives the driver a request.
    Deliver(Arc<Request>),
    /// The queue is empty and may go.
    Disposed,
    /// Nothing to do.
    Idle,
}

impl Queue {
    /// Runs the loop until there is nothing left to do; `new` is a request not in the queue yet.
    ///
    /// Called with the queue's lock held; false if the queue was deleted.
    pub(super) fn dispatch_events<'a>(
        &'a self,
        mut state: SpinGuard<'a, State>,
        new: Option<Arc<Request>>,
    ) -> bool {
        if state.deleted {
            return false;
        }
        if !self.may_dispatch(&mut state) {
            state.redispatch = true;
            if let Some(request) = new {
                self.insert_new(state, request);
            }
            return true;
        }
        state.dispatching += 1;
        if let Some(request) = new {
            if state.pending.is_empty() && self.can_deliver(&state) {
                // It is delivered without ever having been in the queue.
                request.set_queue(&self.strong());
                state.set_transition();
                state.give_to_driver(&request);
                drop(state);
                self.deliver(&request);
            } else {
                self.insert_new(state, request);
            }
            state = self.lock();
        }
        loop {
            match self.next_step(&mut state) {
                Step::Idle => break,
                Step::Again => {}
                Step::Disposed => {
                    drop(state);
                    self.disposed.set();
                    return true;
                }
                step => {
                    drop(state);
                    self.perform(step);
                    state = self.lock();
                }
            }
        }
        state.dispatching -= 1;
        true
    }

    /// Runs the loop unless some thread is in it already (`DispatchInternalEvents`).
    pub(super) fn dispatch_internal(&self, state: SpinGuard<'_, State>) {
        if state.dispatching == 0 {
            self.dispatch_events(state, None);
        }
    }

    /// Whether this thread may call the driver; otherwise a worker or DPC is asked to.
    fn may_dispatch(&self, state: &mut SpinGuard<'_, State>) -> bool {
        let too_high = self.passive && state.previous_irql() != PASSIVE_LEVEL as KIRQL;
        if !too_high && !self.dispatch_lock.is_owner() {
            return true;
        }
        if !std::mem::replace(&mut state.deferred, true) {
            self.defer();
        }
        false
    }

    fn defer(&self) {
        match &self.worker {
            Some(worker) => {
                let queue = self.strong();
                worker.run(move || queue.dispatch_deferred());
            }
            None => self.dpc.insert(),
        }
    }

    /// The worker's or the DPC's part.
    pub(super) fn dispatch_deferred(&self) {
        let mut state = self.lock();
        state.redispatch = false;
        self.dispatch_events(state, None);
        let mut state = self.lock();
        if !state.deleted && state.redispatch {
            self.defer();
        } else {
            state.deferred = false;
        }
    }

    /// Puts a new request into the queue; a canceled one is completed. False if it was.
    fn insert_new(&self, mut state: SpinGuard<'_, State>, request: Arc<Request>) -> bool {
        if self.insert(&mut state, &request, List::Pending, false) {
            request.set_queue(&self.strong());
            state.check_transition();
            return true;
        }
        drop(state);
        request.complete_with_information(STATUS_CANCELLED, 0);
        false
    }

    /// Whether a request could be delivered now.
    fn can_deliver(&self, state: &State) -> bool {
        let room = match self.kind {
            WdfIoQueueDispatchSequential => state.driver_count == 0,
            WdfIoQueueDispatchParallel => state.driver_count < self.max_presented,
            _ => false,
        };
        state.power == PowerState::On && state.dispatching_allowed && room
    }

    /// Decides what comes next, in the order of the published source.
    fn next_step(&self, state: &mut State) -> Step {
        let total = state.pending.len() + state.driver_count;
        let alone = state.dispatching == 1;
        let notifying = state.power.is_notifying();
        if !notifying && let Some(request) = state.canceled.pop_front() {
            return Step::Cancel(request);
        }
        if !notifying && let Some(request) = state.canceled_on_queue.pop_front() {
            return Step::CanceledOnQueue(request);
        }
        if alone
            && state.driver_count == 0
            && let Some(notification) = state.idle_complete.take()
        {
            state.cancel_dispatched = false;
            return Step::Notify(notification);
        }
        if alone
            && total == 0
            && let Some(notification) = state.purge_complete.take()
        {
            state.cancel_dispatched = false;
            return Step::Notify(notification);
        }
        if state.power.is_transitional() {
            return self.power_step(state);
        }
        if state.disposing && total == 0 && alone {
            state.deleted = true;
            return Step::Disposed;
        }
        if state.power == PowerState::Off || !state.dispatching_allowed {
            return Step::Idle;
        }
        if self.is_manual() {
            return match state.ready {
                Some(ready) if state.transition_from_empty => {
                    state.transition_from_empty = false;
                    Step::Notify(ready)
                }
                _ => Step::Idle,
            };
        }
        if !self.can_deliver(state) {
            return Step::Idle;
        }
        match Self::remove_next(state, List::Pending) {
            Some(request) => {
                state.give_to_driver(&request);
                Step::Deliver(request)
            }
            None => Step::Idle,
        }
    }

    /// Does what the lock may not be held for.
    fn perform(&self, step: Step) {
        let lock = self.callback_lock.as_deref();
        match step {
            Step::Cancel(request) => {
                request.set_flags(Flags::CANCELLED);
                if let Some(cancel) = request.take_cancel() {
                    // SAFETY: the driver registered the callback for this request, which it owns.
                    serialized(lock, || unsafe { cancel(request.handle()) });
                }
            }
            Step::CanceledOnQueue(request) => {
                request.set_flags(Flags::CANCELLED);
                if let Some(canceled) = self.callbacks.canceled {
                    // SAFETY: the driver registered the callback.
                    serialized(lock, || unsafe {
                        canceled(self.handle(), request.handle())
                    });
                }
            }
            Step::Notify(notification) => {
                // SAFETY: the driver, or the framework for a synchronous call, asked to be told.
                serialized(lock, || unsafe {
                    (notification.callback)(self.handle(), notification.context.0.cast())
                });
            }
            Step::Stop(request, flags) => {
                request.set_flags(Flags::IN_STOP);
                if let Some(stop) = self.callbacks.stop {
                    // SAFETY: the driver registered the callback and owns the request.
                    serialized(lock, || unsafe {
                        stop(self.handle(), request.handle(), flags as _)
                    });
                }
            }
            Step::Resume(request) => {
                if let Some(resume) = self.callbacks.resume {
                    // SAFETY: the driver registered the callback and owns the request.
                    serialized(lock, || unsafe { resume(self.handle(), request.handle()) });
                }
            }
            Step::Requeue(request) => self.requeue_stopped(&request),
            Step::Deliver(request) => self.deliver(&request),
            Step::Again | Step::Disposed | Step::Idle => {}
        }
    }

    /// Gives a request to the driver's callback for its type (`DispatchRequestToDriver`).
    fn deliver(&self, request: &Arc<Request>) {
        let irp = request.irp();
        request.set_owner(Owner::Queue);
        request.set_flags(Flags::DRIVER_OWNED);
        let major = irp.major() as _;
        let transfer = major == IRP_MJ_READ || major == IRP_MJ_WRITE;
        let callbacks = self.callbacks;
        let handled = match major {
            IRP_MJ_READ => callbacks.read.is_some(),
            IRP_MJ_WRITE => callbacks.write.is_some(),
            IRP_MJ_DEVICE_CONTROL => callbacks.control.is_some(),
            IRP_MJ_INTERNAL_DEVICE_CONTROL => callbacks.internal_control.is_some(),
            _ => false,
        };
        if !handled && callbacks.default.is_none() {
            trace::error(
                self.globals(),
                &format!(
                    "WDFQUEUE {:p} has no callback for major function {major:#x}",
                    self.handle()
                ),
            );
            return request.complete(STATUS_INVALID_DEVICE_REQUEST);
        }
        if transfer && irp.transfer_length() == 0 && !self.zero_length {
            return request.complete(STATUS_SUCCESS);
        }
        request.set_presented();
        let (queue, handle) = (self.handle(), request.handle());
        let (length, output, input) = (
            irp.transfer_length(),
            irp.output_length(),
            irp.input_length(),
        );
        let code = irp.control_code();
        let control = match major {
            IRP_MJ_DEVICE_CONTROL => callbacks.control,
            IRP_MJ_INTERNAL_DEVICE_CONTROL => callbacks.internal_control,
            _ => None,
        };
        serialized(self.callback_lock.as_deref(), || {
            if let (IRP_MJ_READ, Some(read)) = (major, callbacks.read) {
                // SAFETY: the driver registered the callback.
                unsafe { read(queue, handle, length as usize) };
            } else if let (IRP_MJ_WRITE, Some(write)) = (major, callbacks.write) {
                // SAFETY: the driver registered the callback.
                unsafe { write(queue, handle, length as usize) };
            } else if let Some(control) = control {
                // SAFETY: the driver registered the callback.
                unsafe { control(queue, handle, output as usize, input as usize, code as _) };
            } else if let Some(default) = callbacks.default {
                // SAFETY: the driver registered the callback.
                unsafe { default(queue, handle) };
            }
        });
    }

    /// Called when a request this queue delivered was completed (`RequestCompletedCallback`).
    pub(crate) fn request_completed(&self, request: &Arc<Request>) {
        request.clear_flags(Flags::DRIVER_OWNED);
        let mut state = self.lock();
        state.take_from_driver(request);
        self.dispatch_internal(state);
    }

    /// Accepts a request that just arrived (`QueueRequest`).
    pub(crate) fn queue_request(&self, request: &Arc<Request>) -> NTSTATUS {
        let state = self.lock();
        if !state.accepting {
            drop(state);
            request.complete_with_information(STATUS_INVALID_DEVICE_STATE, 0);
            return STATUS_INVALID_DEVICE_STATE;
        }
        request.irp().mark_pending();
        self.dispatch_events(state, Some(request.clone()));
        STATUS_PENDING
    }
}
