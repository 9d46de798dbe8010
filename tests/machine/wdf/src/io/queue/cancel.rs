//! Cancelable IRPs in a queue's lists (`FxIrpQueue`, `CancelForQueue`, `CancelForDriver`, `RequestCancelable`).
//!
//! An IRP in a list has the framework's cancel routine. Whoever takes the routine out owns the request: the framework that
//! removes it, or the I/O manager that cancels it. So each request leaves its list once.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::flat::*;
use machine_nt::exports::IoReleaseCancelSpinLock;
use machine_nt::ke::stack::machine_code;

use super::{Queue, State};
use crate::io::request::{Flags, List, Owner, Request};
use crate::lock::SpinGuard;
use crate::object::handle;
use crate::wdm::Irp;

/// Where the request's handle is kept in the IRP.
const CONTEXT_REQUEST: usize = 0;

impl State {
    fn list(&mut self, list: List) -> &mut VecDeque<Arc<Request>> {
        match list {
            List::Pending => &mut self.pending,
            List::Cancelable => &mut self.cancelable,
        }
    }

    fn unlink(&mut self, list: List, request: &Arc<Request>) {
        self.list(list).retain(|other| !Arc::ptr_eq(other, request));
        request.set_list(None);
    }
}

impl Queue {
    /// Puts a request into a list and makes its IRP cancelable. False if the IRP is canceled already: it is not in the list then.
    pub(super) fn insert(
        &self,
        state: &mut State,
        request: &Arc<Request>,
        list: List,
        head: bool,
    ) -> bool {
        let irp = request.irp();
        if head {
            state.list(list).push_front(request.clone());
        } else {
            state.list(list).push_back(request.clone());
        }
        request.set_list(Some(list));
        irp.set_driver_context(CONTEXT_REQUEST, request.handle() as usize);
        irp.exchange_cancel_routine(Some(cancel_irp));
        if irp.is_cancelled() && irp.exchange_cancel_routine(None) {
            state.unlink(list, request);
            return false;
        }
        true
    }

    /// Takes a request out of its list. False if it is being canceled: the cancel routine takes care of it.
    pub(super) fn remove(state: &mut State, request: &Arc<Request>, list: List) -> bool {
        let taken = request.list() == Some(list)
            && request
                .try_irp()
                .is_some_and(|irp| irp.exchange_cancel_routine(None));
        if taken {
            state.unlink(list, request);
        }
        taken
    }

    /// Takes the first request out of a list that is not being canceled.
    pub(super) fn remove_next(state: &mut State, list: List) -> Option<Arc<Request>> {
        Self::remove_matching(state, list, |_| true)
    }

    /// Takes the first request that matches and is not being canceled.
    pub(super) fn remove_matching(
        state: &mut State,
        list: List,
        matches: impl Fn(&Request) -> bool,
    ) -> Option<Arc<Request>> {
        let candidates: Vec<_> = state
            .list(list)
            .iter()
            .filter(|request| matches(request))
            .cloned()
            .collect();
        candidates
            .into_iter()
            .find(|request| Self::remove(state, request, list))
    }

    /// The I/O manager cancels an IRP of a list.
    fn irp_canceled(&self, request: &Arc<Request>) {
        let mut state = self.lock();
        let Some(list) = request.list() else { return };
        state.unlink(list, request);
        match list {
            List::Pending => self.cancel_queued(state, request),
            List::Cancelable => {
                request.mark_canceled();
                drop(state);
                self.cancel_owned(request);
            }
        }
    }

    /// A request that was in the queue is canceled: EvtIoCanceledOnQueue if the driver knows it, completion otherwise.
    pub(super) fn cancel_queued<'a>(
        &'a self,
        mut state: SpinGuard<'a, State>,
        request: &Arc<Request>,
    ) {
        request.clear_flags(Flags::DRIVER_CANCELABLE);
        request.mark_canceled();
        if self.callbacks.canceled.is_some() && request.is_presented() {
            request.set_owner(Owner::Queue);
            request.set_flags(Flags::DRIVER_OWNED);
            state.give_to_driver(request);
            state.canceled_on_queue.push_back(request.clone());
        } else {
            drop(state);
            request.complete_with_information(STATUS_CANCELLED, 0);
            state = self.lock();
        }
        self.dispatch_internal(state);
    }

    /// A request the driver has and marked cancelable is canceled: its cancel callback is due.
    pub(super) fn cancel_owned(&self, request: &Arc<Request>) {
        let mut state = self.lock();
        state.canceled.push_back(request.clone());
        self.dispatch_internal(state);
    }

    /// Makes a request of the driver cancelable. `fail_if_canceled`: an IRP canceled already is reported, not called back.
    ///
    /// # Errors
    /// `STATUS_CANCELLED` as said, `STATUS_INVALID_DEVICE_REQUEST` (verifier: not owned, cancelable already).
    pub(crate) fn mark_cancelable(
        &self,
        request: &Arc<Request>,
        cancel: PFN_WDF_REQUEST_CANCEL,
        fail_if_canceled: bool,
    ) -> Result<(), NTSTATUS> {
        request.verify_driver_owned()?;
        request.verify_not_cancelable()?;
        request.set_flags(Flags::DRIVER_CANCELABLE);
        let mut state = self.lock();
        request.set_cancel(cancel);
        if !state.cancel_dispatched && self.insert(&mut state, request, List::Cancelable, false) {
            return Ok(());
        }
        if fail_if_canceled {
            request.set_cancel(None);
            drop(state);
            request.clear_flags(Flags::DRIVER_CANCELABLE);
            return Err(STATUS_CANCELLED);
        }
        request.mark_canceled();
        drop(state);
        self.cancel_owned(request);
        Ok(())
    }

    /// Takes cancelability back.
    ///
    /// # Errors
    /// `STATUS_CANCELLED` if the cancel callback was or will be called, `STATUS_INVALID_DEVICE_REQUEST` (verifier: not owned, not cancelable).
    pub(crate) fn unmark_cancelable(&self, request: &Arc<Request>) -> Result<(), NTSTATUS> {
        request.verify_driver_owned()?;
        request.verify_cancelable()?;
        let mut state = self.lock();
        if !Self::remove(&mut state, request, List::Cancelable) {
            return Err(STATUS_CANCELLED);
        }
        request.set_cancel(None);
        drop(state);
        request.clear_flags(Flags::DRIVER_CANCELABLE);
        Ok(())
    }
}

unsafe extern "win64" fn cancel_irp(_device: PDEVICE_OBJECT, irp: PIRP) {
    let _inside = machine_code();
    // SAFETY: the I/O manager cancels a packet of the framework.
    let irp = unsafe { Irp::new(irp) };
    // SAFETY: the I/O manager holds the cancel spin lock when it calls a cancel routine.
    unsafe { IoReleaseCancelSpinLock(irp.cancel_irql()) };
    let object = handle::find(irp.driver_context(CONTEXT_REQUEST));
    let request = object
        .map(|object| handle::get::<Request>(object.header().globals(), object.header().handle()));
    let Some(request) = request else { return };
    if let Some(queue) = request.queue() {
        queue.irp_canceled(&request);
    }
}
