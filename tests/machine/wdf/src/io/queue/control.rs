//! Starting, stopping, draining and purging a queue (`QueueStart`, `QueueIdle`, `QueuePurge`).

use std::ffi::c_void;
use std::sync::Arc;

use crate::flat::*;
use machine_nt::ke::stack::machine_code;

use super::{Notification, Queue};
use crate::io::request::{List, Request};
use crate::lock::{Event, Ptr};
use crate::trace;

unsafe extern "win64" fn signal(_queue: WDFQUEUE, context: WDFCONTEXT) {
    let _inside = machine_code();
    // SAFETY: the event of a thread that waits in `wait_for`.
    unsafe { &*context.cast::<Event>() }.set();
}

/// The notification a driver asked for, if it did.
pub(super) fn notification(
    callback: PFN_WDF_IO_QUEUE_STATE,
    context: WDFCONTEXT,
) -> Option<Notification> {
    callback.map(|callback| Notification {
        callback,
        context: Ptr(context.cast::<c_void>()),
    })
}

impl Queue {
    /// Accepts and delivers again.
    pub(super) fn start(&self) {
        let mut state = self.lock();
        state.set_accepting(true);
        state.set_dispatching_allowed(true);
        if !state.pending.is_empty() {
            state.set_transition();
        }
        self.dispatch_events(state, None);
    }

    /// Accepts but does not deliver; `cancel`: what the queue and, if cancelable, the driver has is canceled. `done` is called when
    /// the driver has nothing left.
    ///
    /// # Errors
    /// `STATUS_INVALID_DEVICE_REQUEST` if another stop is not finished, `STATUS_DELETE_PENDING`.
    pub(super) fn stop(&self, cancel: bool, done: Option<Notification>) -> Result<(), NTSTATUS> {
        let mut state = self.lock();
        if state.deleted {
            return Err(STATUS_DELETE_PENDING);
        }
        if let Some(done) = done {
            if state.idle_complete.is_some() {
                trace::error(
                    self.globals(),
                    &format!("WDFQUEUE {:p} is being stopped already", self.handle()),
                );
                return Err(STATUS_INVALID_DEVICE_REQUEST);
            }
            state.idle_complete = Some(done);
        }
        state.set_accepting(true);
        state.set_dispatching_allowed(false);
        if cancel {
            state.cancel_dispatched = true;
            let waiting: Vec<Arc<Request>> = state.pending.iter().cloned().collect();
            drop(state);
            for request in waiting {
                self.cancel_if_queued(&request);
            }
            self.cancel_cancelable();
        } else {
            drop(state);
        }
        self.dispatch_events(self.lock(), None);
        Ok(())
    }

    /// Accepts nothing more; `cancel`: what the queue and, if cancelable, the driver has is canceled, otherwise it is delivered still.
    /// `done` is called when nothing is left.
    ///
    /// Errors, of which only those with `done` matter: as [`Queue::stop`].
    pub(super) fn purge_with(
        &self,
        cancel: bool,
        done: Option<Notification>,
    ) -> Result<(), NTSTATUS> {
        let mut state = self.lock();
        if state.deleted {
            return Err(STATUS_DELETE_PENDING);
        }
        if let Some(done) = done {
            if state.purge_complete.is_some() {
                trace::error(
                    self.globals(),
                    &format!(
                        "WDFQUEUE {:p} is being purged or drained already",
                        self.handle()
                    ),
                );
                return Err(STATUS_INVALID_DEVICE_REQUEST);
            }
            state.purge_complete = Some(done);
        }
        state.set_accepting(false);
        if cancel && self.globals().is_at_least(11) {
            state.cancel_dispatched = true;
        }
        drop(state);
        if cancel {
            loop {
                let mut state = self.lock();
                let Some(request) = Self::remove_next(&mut state, List::Pending) else {
                    break;
                };
                self.cancel_queued(state, &request);
            }
            self.cancel_cancelable();
        }
        self.dispatch_events(self.lock(), None);
        Ok(())
    }

    /// [`Queue::purge_with`], for the framework's own purposes.
    pub(super) fn purge(&self, cancel: bool, done: Option<Notification>) {
        // Without a notification only a deleted queue refuses, and that has nothing to purge.
        let _ = self.purge_with(cancel, done);
    }

    fn cancel_if_queued(&self, request: &Arc<Request>) {
        let mut state = self.lock();
        if Self::remove(&mut state, request, List::Pending) {
            self.cancel_queued(state, request);
        }
    }

    fn cancel_cancelable(&self) {
        loop {
            let mut state = self.lock();
            let Some(request) = Self::remove_next(&mut state, List::Cancelable) else {
                break;
            };
            request.mark_canceled();
            drop(state);
            self.cancel_owned(&request);
        }
    }

    /// Cancels what waits in the queue for a file whose last handle closed (`FlushByFileObject`).
    pub(crate) fn flush_file(&self, file: PFILE_OBJECT) {
        loop {
            let mut state = self.lock();
            let of_file = |request: &Request| {
                request
                    .try_irp()
                    .is_some_and(|irp| irp.file_object() == file)
            };
            let Some(request) = Self::remove_matching(&mut state, List::Pending, of_file) else {
                break;
            };
            self.cancel_queued(state, &request);
        }
        self.dispatch_events(self.lock(), None);
    }

    /// Begins something with a notification and waits for it. `PASSIVE_LEVEL`, not from one of the queue's callbacks.
    ///
    /// # Errors
    /// Those of `begin`.
    pub(super) fn synchronously(
        &self,
        what: &str,
        begin: impl FnOnce(&Self, Option<Notification>) -> Result<(), NTSTATUS>,
    ) -> Result<(), NTSTATUS> {
        let event = Event::new();
        let done = Notification {
            callback: signal,
            context: Ptr(std::ptr::from_ref(&event).cast_mut().cast()),
        };
        begin(self, Some(done))?;
        self.wait(&event, what);
        Ok(())
    }
}
