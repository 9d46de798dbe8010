//! Taking requests out of a queue and moving them (`GetRequest`, `PeekRequest`, `ForwardRequest`, `Requeue`).

use std::sync::Arc;

use crate::flat::*;

use super::Queue;
use crate::io::request::{Flags, List, Owner, Request};
use crate::{trace, verifier};

impl Queue {
    /// The next request of a manual or sequential queue, or the one of a file.
    ///
    /// # Errors
    /// `STATUS_NO_MORE_ENTRIES`, `STATUS_WDF_PAUSED` while the queue does not deliver, `STATUS_INVALID_DEVICE_STATE` for parallel queues.
    pub(crate) fn retrieve(&self, file: Option<PFILE_OBJECT>) -> Result<Arc<Request>, NTSTATUS> {
        loop {
            let request = self.take(|request| {
                file.is_none_or(|file| {
                    request
                        .try_irp()
                        .is_some_and(|irp| irp.file_object() == file)
                })
            });
            if matches!(request, Err(STATUS_NO_MORE_ENTRIES)) && file.is_none() {
                let mut state = self.lock();
                state.force_transition |= !state.pending.is_empty();
            }
            match request {
                Ok(request) if self.completes_itself(&request) => {
                    request.complete_with_information(STATUS_SUCCESS, 0);
                }
                other => return other.inspect(|request| self.hand_over(request)),
            }
        }
    }

    /// A request found before, if it is still there.
    ///
    /// # Errors
    /// `STATUS_NOT_FOUND`, those of [`Queue::retrieve`], `STATUS_INVALID_DEVICE_REQUEST` (not a manual queue).
    pub(super) fn retrieve_found(&self, found: &Arc<Request>) -> Result<Arc<Request>, NTSTATUS> {
        if !self.is_manual() {
            verifier::break_point(self.globals());
            return Err(STATUS_INVALID_DEVICE_REQUEST);
        }
        let taken = self.take(|request| std::ptr::eq(request, Arc::as_ptr(found)));
        let request = taken.map_err(|status| {
            if status == STATUS_NO_MORE_ENTRIES {
                STATUS_NOT_FOUND
            } else {
                status
            }
        })?;
        self.hand_over(&request);
        Ok(request)
    }

    /// The first request of a manual queue after `after`, optionally of a file; it stays in the queue and has one reference more.
    ///
    /// # Errors
    /// `STATUS_NO_MORE_ENTRIES`, `STATUS_NOT_FOUND` if `after` is no longer there, `STATUS_INVALID_DEVICE_REQUEST` (not a manual queue).
    pub(super) fn find(
        &self,
        after: Option<&Arc<Request>>,
        file: Option<PFILE_OBJECT>,
    ) -> Result<Arc<Request>, NTSTATUS> {
        if !self.is_manual() {
            verifier::break_point(self.globals());
            return Err(STATUS_INVALID_DEVICE_REQUEST);
        }
        let mut state = self.lock();
        let start = match after {
            None => 0,
            Some(after) => {
                let position = state
                    .pending
                    .iter()
                    .position(|request| Arc::ptr_eq(request, after));
                position.ok_or(STATUS_NOT_FOUND)? + 1
            }
        };
        let found = state
            .pending
            .iter()
            .skip(start)
            .find(|request| {
                file.is_none_or(|file| {
                    request
                        .try_irp()
                        .is_some_and(|irp| irp.file_object() == file)
                })
            })
            .cloned();
        state.force_transition |=
            found.is_none() && after.is_none() && file.is_none() && !state.pending.is_empty();
        drop(state);
        let request = found.ok_or(STATUS_NO_MORE_ENTRIES)?;
        request.set_flags(Flags::TAG_REQUEST);
        Ok(request)
    }

    fn take(&self, matches: impl Fn(&Request) -> bool) -> Result<Arc<Request>, NTSTATUS> {
        if !self.is_manual() && self.kind != WdfIoQueueDispatchSequential {
            trace::error(
                self.globals(),
                &format!(
                    "WDFQUEUE {:p} is parallel: requests cannot be retrieved",
                    self.handle()
                ),
            );
            return Err(STATUS_INVALID_DEVICE_STATE);
        }
        let mut state = self.lock();
        if state.power == super::PowerState::Off || !state.dispatching_allowed {
            return Err(STATUS_WDF_PAUSED);
        }
        let request = Self::remove_matching(&mut state, List::Pending, matches)
            .ok_or(STATUS_NO_MORE_ENTRIES)?;
        if !self.completes_itself(&request) {
            state.give_to_driver(&request);
        }
        Ok(request)
    }

    /// Reads and writes of no bytes complete without the driver, unless it wants them.
    fn completes_itself(&self, request: &Request) -> bool {
        let irp = request.irp();
        let transfer = irp.major() == IRP_MJ_READ || irp.major() == IRP_MJ_WRITE;
        transfer && irp.transfer_length() == 0 && !self.zero_length
    }

    fn hand_over(&self, request: &Request) {
        request.set_owner(Owner::Queue);
        request.clear_flags(Flags::TAG_REQUEST);
        request.set_flags(Flags::DRIVER_OWNED);
        request.set_presented();
    }

    /// Moves a request of the driver to another queue of the device.
    ///
    /// # Errors
    /// `STATUS_WDF_BUSY` if that accepts nothing; verifier: `STATUS_INVALID_DEVICE_REQUEST` (not owned, cancelable, the same queue, another
    /// device).
    pub(crate) fn forward(
        &self,
        request: &Arc<Request>,
        destination: &Arc<Self>,
    ) -> Result<(), NTSTATUS> {
        if self.globals().verifier_on() {
            request.verify_driver_owned()?;
            request.verify_not_cancelable()?;
            if std::ptr::eq(self, Arc::as_ptr(destination))
                || !Arc::ptr_eq(&self.device, &destination.device)
            {
                trace::error(
                    self.globals(),
                    "a request is forwarded to its own queue or to another device's",
                );
                verifier::break_point(self.globals());
                return Err(STATUS_INVALID_DEVICE_REQUEST);
            }
        }
        request.set_owner(Owner::None);
        request.clear_flags(Flags::DRIVER_OWNED);
        self.lock().unlink_driver_owned(request);
        if let Err(status) = destination.accept_forwarded(request) {
            request.set_owner(Owner::Queue);
            request.set_flags(Flags::DRIVER_OWNED);
            self.lock().driver_owned.push_back(request.clone());
            return Err(status);
        }
        let mut state = self.lock();
        state.driver_count -= 1;
        self.dispatch_internal(state);
        Ok(())
    }

    /// Accepts a request the driver had (`QueueRequestFromForward`).
    ///
    /// # Errors
    /// `STATUS_WDF_BUSY`.
    pub(crate) fn accept_forwarded(&self, request: &Arc<Request>) -> Result<(), NTSTATUS> {
        let mut state = self.lock();
        if !state.accepting {
            return Err(STATUS_WDF_BUSY);
        }
        let inserted = self.insert(&mut state, request, List::Pending, false);
        request.set_queue(&self.strong());
        if inserted {
            state.check_transition();
            self.dispatch_events(state, None);
        } else {
            self.cancel_queued(state, request);
            self.dispatch_events(self.lock(), None);
        }
        Ok(())
    }

    /// Puts a request of the driver back to the head of this manual queue.
    ///
    /// # Errors
    /// `STATUS_INVALID_DEVICE_REQUEST` for another kind of queue; verifier: not owned, cancelable.
    pub(crate) fn requeue(&self, request: &Arc<Request>) -> Result<(), NTSTATUS> {
        if self.globals().verifier_on() {
            request.verify_driver_owned()?;
            request.verify_not_cancelable()?;
        }
        if !self.is_manual() {
            trace::error(
                self.globals(),
                &format!(
                    "WDFQUEUE {:p} is not manual: nothing can be requeued",
                    self.handle()
                ),
            );
            verifier::break_point(self.globals());
            return Err(STATUS_INVALID_DEVICE_REQUEST);
        }
        self.requeue_stopped(request);
        self.dispatch_events(self.lock(), None);
        Ok(())
    }
}
