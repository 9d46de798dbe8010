//! Which queue an IRP goes to (`fxpkgio.cpp`), and all queues of a device.

use std::sync::Arc;

use crate::flat::*;
use machine_nt::exports::{KeEnterCriticalRegion, KeGetCurrentIrql, KeLeaveCriticalRegion};
use machine_nt::ke::stack::driver_call;

use super::queue::{PowerAction, Queue};
use super::request::{Flags, Owner, Request};
use crate::device::Device;
use crate::lock::Record;
use crate::object::Object;
use crate::wdm::Irp;
use crate::{trace, verifier};

#[derive(Default)]
struct State {
    queues: Vec<Arc<Queue>>,
    default: Option<Arc<Queue>>,
    /// Queues of WdfDeviceConfigureRequestDispatching, by major function.
    configured: Vec<(u32, Arc<Queue>)>,
    powered: bool,
    shutting_down: bool,
}

/// The I/O package of a device.
#[derive(Default)]
pub(crate) struct IoPackage(Record<State>);

impl IoPackage {
    /// Whether power-managed queues deliver now.
    pub(crate) fn is_powered(&self) -> bool {
        self.0.with(|state| state.powered)
    }

    /// A new queue of the device.
    pub(super) fn add_queue(&self, queue: &Arc<Queue>) {
        let (powered, shutting_down) = self.0.with(|state| {
            state.queues.push(queue.clone());
            (state.powered, state.shutting_down)
        });
        queue.set_initial_power(powered, shutting_down);
    }

    /// A queue that is going.
    pub(super) fn remove_queue(&self, queue: &Arc<Queue>) {
        let removed = self.0.with(|state| {
            let keep = |other: &Arc<Queue>| !Arc::ptr_eq(other, queue);
            let gone = state
                .queues
                .extract_if(.., |other| !keep(other))
                .collect::<Vec<_>>();
            if state.default.as_ref().is_some_and(|default| !keep(default)) {
                state.default = None;
            }
            state.configured.retain(|(_, other)| keep(other));
            gone
        });
        drop(removed);
    }

    /// Makes a queue the default one.
    ///
    /// # Errors
    /// `STATUS_UNSUCCESSFUL` if there is one.
    pub(super) fn set_default(&self, queue: &Arc<Queue>) -> Result<(), NTSTATUS> {
        self.0.with(|state| {
            if state.default.is_some() {
                return Err(STATUS_UNSUCCESSFUL);
            }
            state.default = Some(queue.clone());
            Ok(())
        })?;
        queue.header().mark_no_delete();
        Ok(())
    }

    /// The default queue.
    pub(crate) fn default_queue(&self) -> Option<Arc<Queue>> {
        self.0.with(|state| state.default.clone())
    }

    /// Sends one type of request to a queue of its own (`ConfigureForwarding`).
    ///
    /// # Errors
    /// `STATUS_INVALID_DEVICE_REQUEST` (no callback for it; the default queue), `STATUS_WDF_BUSY` if it has one.
    pub(crate) fn configure(&self, queue: &Arc<Queue>, major: u32) -> Result<(), NTSTATUS> {
        let refuse = |status| {
            verifier::break_point(queue.globals());
            Err(status)
        };
        if !queue.handles(major) {
            return refuse(STATUS_INVALID_DEVICE_REQUEST);
        }
        if self
            .default_queue()
            .is_some_and(|default| Arc::ptr_eq(&default, queue))
        {
            return refuse(STATUS_INVALID_DEVICE_REQUEST);
        }
        let taken = self.0.with(|state| {
            let taken = state.configured.iter().any(|(other, _)| *other == major);
            if !taken {
                state.configured.push((major, queue.clone()));
            }
            taken
        });
        if taken {
            return refuse(STATUS_WDF_BUSY);
        }
        queue.header().mark_no_delete();
        Ok(())
    }

    /// The queue for a major function.
    pub(super) fn queue_for(&self, major: u32) -> Option<Arc<Queue>> {
        self.0.with(|state| {
            let configured = state
                .configured
                .iter()
                .find(|(other, _)| *other == major)
                .map(|(_, queue)| queue.clone());
            configured.or_else(|| state.default.clone())
        })
    }

    /// A read, write or device control arrived (`FxPkgIo::Dispatch`).
    pub(crate) fn dispatch(&self, device: &Arc<Device>, irp: Irp) -> NTSTATUS {
        let settings = device.settings();
        let queue = self.queue_for(irp.major());
        let in_caller_context = settings.in_caller_context;
        if queue.is_none() && in_caller_context.is_none() {
            if settings.filter {
                return device.forward(irp);
            }
            return irp.complete_with(STATUS_INVALID_DEVICE_REQUEST);
        }
        let passes = settings.filter
            && in_caller_context.is_none()
            && queue
                .as_ref()
                .is_some_and(|queue| self.is_default(queue) && !queue.handles(irp.major()));
        if passes {
            return device.forward(irp);
        }
        let request = match Request::for_package(device, settings.request_attributes.as_ref(), irp)
        {
            Ok(request) => request,
            Err(status) => return irp.complete_with(status),
        };
        let _region = CriticalRegion::enter();
        match (in_caller_context, queue) {
            (Some(callback), _) => {
                irp.mark_pending();
                request.set_flags(Flags::IN_CALLER_CONTEXT | Flags::DRIVER_OWNED);
                request.set_owner(Owner::Package);
                request.set_presented();
                // SAFETY: the driver registered the callback.
                driver_call(|| unsafe { callback(device.handle(), request.handle()) });
                STATUS_PENDING
            }
            (None, Some(queue)) => queue.queue_request(&request),
            (None, None) => unreachable!("handled above"),
        }
    }

    fn is_default(&self, queue: &Arc<Queue>) -> bool {
        self.default_queue()
            .is_some_and(|default| Arc::ptr_eq(&default, queue))
    }

    /// Queues a request from EvtIoInCallerContext (`EnqueueRequest`).
    ///
    /// # Errors
    /// `STATUS_INVALID_DEVICE_REQUEST` without a queue; `STATUS_WDF_BUSY`.
    pub(crate) fn enqueue(
        &self,
        device: &Arc<Device>,
        request: &Arc<Request>,
    ) -> Result<(), NTSTATUS> {
        if device.globals().verifier_on() {
            request.verify_driver_owned()?;
            request.clear_flags(Flags::IN_CALLER_CONTEXT | Flags::DRIVER_OWNED);
        }
        let Some(queue) = self.queue_for(request.irp().major()) else {
            trace::error(device.globals(), "no queue takes the request");
            verifier::break_point(device.globals());
            return Err(STATUS_INVALID_DEVICE_REQUEST);
        };
        request.set_owner(Owner::None);
        queue.accept_forwarded(request).inspect_err(|_| {
            request.set_owner(Owner::Package);
            request.set_flags(Flags::IN_CALLER_CONTEXT | Flags::DRIVER_OWNED);
        })
    }

    /// Stops all queues for a power change or a removal (`StopProcessingForPower`). `PASSIVE_LEVEL`.
    pub(crate) fn power_off(&self, action: PowerAction) {
        let queues = self.0.with(|state| {
            state.powered = false;
            state.shutting_down |= action != PowerAction::Hold;
            state.queues.clone()
        });
        if action == PowerAction::Hold {
            for queue in &queues {
                queue.begin_power_off();
            }
        }
        for queue in &queues {
            queue.power_off(action);
        }
    }

    /// Lets all queues deliver (`ResumeProcessingForPower`). `PASSIVE_LEVEL`.
    pub(crate) fn power_on(&self) {
        let queues = self.0.with(|state| {
            state.powered = true;
            state.shutting_down = false;
            state.queues.clone()
        });
        for queue in &queues {
            queue.power_on();
        }
        for queue in &queues {
            queue.finish_power_on();
        }
    }

    /// Cancels what waits for a file whose last handle closed.
    pub(super) fn flush_file(&self, file: PFILE_OBJECT) {
        for queue in self.0.with(|state| state.queues.clone()) {
            queue.flush_file(file);
        }
    }
}

/// Keeps normal kernel APCs off while a caller's thread is in the driver's callbacks.
struct CriticalRegion(bool);

impl CriticalRegion {
    fn enter() -> Self {
        // SAFETY: callable at any IRQL.
        let low = unsafe { KeGetCurrentIrql() } <= APC_LEVEL as KIRQL;
        if low {
            // SAFETY: at or below APC_LEVEL.
            unsafe { KeEnterCriticalRegion() };
        }
        Self(low)
    }
}

impl Drop for CriticalRegion {
    fn drop(&mut self) {
        if self.0 {
            // SAFETY: entered by this thread.
            unsafe { KeLeaveCriticalRegion() };
        }
    }
}
