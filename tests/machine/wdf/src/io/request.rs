//! WDFREQUEST (`fxrequest.cpp`, `fxrequestbase.cpp`): an IRP from the I/O manager on its way through the driver.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::flat::*;

use super::queue::Queue;
use crate::device::Device;
use crate::globals::DriverGlobals;
use crate::lock::Record;
use crate::object::{self, Attributes, Header, Kind, Object, Parent, Typed};
use crate::wdm::{Irp, Mdl};
use crate::{trace, verifier};

pub(crate) mod api;
mod buffers;
pub(crate) mod buffers_api;
mod complete;

pub(crate) use buffers::Buffer;

/// Who is told when the request completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Nobody: it is in a queue, or being made.
    None,
    /// The queue that delivered it.
    Queue,
    /// The I/O package: it is in EvtIoInCallerContext.
    Package,
}

/// Which of a queue's lists of cancelable IRPs a request is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum List {
    /// Waiting for delivery.
    Pending,
    /// Delivered and marked cancelable by the driver.
    Cancelable,
}

/// What the driver answered in EvtIoStop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopAnswer {
    /// Nothing yet.
    None,
    /// It keeps the request and touches no hardware.
    Acknowledged,
    /// The request goes back to the head of the queue.
    Requeue,
}

bitflags::bitflags! {
    /// What the verifier knows about a request (`FXREQUEST_FLAG_*`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Flags: u16 {
        /// The driver owns it.
        const DRIVER_OWNED = 0x0001;
        /// Found by WdfIoQueueFindRequest.
        const TAG_REQUEST = 0x0002;
        /// Marked cancelable.
        const DRIVER_CANCELABLE = 0x0004;
        /// In EvtIoInCallerContext.
        const IN_CALLER_CONTEXT = 0x0008;
        /// Its cancel callback was called.
        const CANCELLED = 0x0010;
        /// EvtIoStop was called for it.
        const IN_STOP = 0x0020;
    }
}

/// What changes during a request's life.
pub(crate) struct State {
    irp: Option<Irp>,
    queue: Option<Arc<Queue>>,
    owner: Owner,
    list: Option<List>,
    completed: bool,
    canceled: bool,
    presented: bool,
    cancel: PFN_WDF_REQUEST_CANCEL,
    stop: StopAnswer,
    flags: Flags,
    boost: i8,
    mdl: Mdl,
    input_memory: usize,
    output_memory: usize,
}

/// A request.
pub(crate) struct Request {
    header: Header,
    device: Arc<Device>,
    state: Record<State>,
    irp_references: AtomicI32,
}

impl Object for Request {
    fn header(&self) -> &Header {
        &self.header
    }

    fn destroyed(&self) {
        self.free_mdl();
    }

    fn dump(&self) -> Vec<String> {
        let line = self.state.try_with(|state| {
            let irp = state.irp.map_or(std::ptr::null_mut(), Irp::raw);
            format!(
                "IRP {irp:p}, owner {:?}, list {:?}, completed {}, canceled {}, references on the IRP {}, {:?}",
                state.owner,
                state.list,
                state.completed,
                state.canceled,
                self.irp_references.load(Ordering::Relaxed),
                state.flags,
            )
        });
        line.into_iter().collect()
    }
}

impl Typed for Request {
    const KIND: Kind = Kind::Request;
}

impl Request {
    /// A request for a packet that arrived at `device` (`_CreateForPackage`).
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES` without memory for the driver's context.
    pub(crate) fn for_package(
        device: &Arc<Device>,
        attributes: Option<&Attributes>,
        irp: Irp,
    ) -> Result<Arc<Self>, NTSTATUS> {
        let globals = device.globals();
        let request = Arc::new(Self {
            header: Header::new(Kind::Request, globals),
            device: device.clone(),
            state: Record::new(State {
                irp: Some(irp),
                queue: None,
                owner: Owner::None,
                list: None,
                completed: false,
                canceled: false,
                presented: false,
                cancel: None,
                stop: StopAnswer::None,
                flags: Flags::empty(),
                boost: device.files.default_boost(),
                mdl: Mdl::NULL,
                input_memory: 0,
                output_memory: 0,
            }),
            irp_references: AtomicI32::new(0),
        });
        request.header.mark_no_delete();
        // With the verifier requests are children of the device, so that leaked references show.
        let parent = if globals.verifier_on() {
            Parent::Object(device.clone())
        } else {
            Parent::None
        };
        object::commit(&request, attributes, parent)?;
        Ok(request)
    }

    /// The driver's globals.
    pub(crate) fn globals(&self) -> &'static DriverGlobals {
        self.header.globals()
    }

    /// The WDFREQUEST.
    pub(crate) fn handle(&self) -> WDFREQUEST {
        self.header.handle() as WDFREQUEST
    }

    /// The device the packet arrived at.
    pub(crate) fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// The packet, if the request still has it.
    pub(crate) fn try_irp(&self) -> Option<Irp> {
        self.state.with(|state| state.irp)
    }

    /// The packet. Stops with 0x10D/6 if the request was completed.
    pub(crate) fn irp(&self) -> Irp {
        self.try_irp().unwrap_or_else(|| {
            verifier::request_fatal(
                self.globals(),
                WDF_REQUEST_FATAL_ERROR_NULL_IRP,
                self.header.handle() as *const _,
                "the request was completed and has no IRP any more",
            )
        })
    }

    /// Works on what changes. `work` must not call out.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        self.state.with(work)
    }

    /// The queue the request is in or came from.
    pub(crate) fn queue(&self) -> Option<Arc<Queue>> {
        self.with(|state| state.queue.clone())
    }

    /// Says which queue the request is in.
    pub(super) fn set_queue(&self, queue: &Arc<Queue>) {
        self.with(|state| state.queue = Some(queue.clone()));
    }

    /// Says who is told of its completion.
    pub(super) fn set_owner(&self, owner: Owner) -> Owner {
        self.with(|state| std::mem::replace(&mut state.owner, owner))
    }

    /// The list of IRPs it is in.
    pub(super) fn list(&self) -> Option<List> {
        self.with(|state| state.list)
    }

    /// Says which list of IRPs it is in.
    pub(super) fn set_list(&self, list: Option<List>) {
        self.with(|state| state.list = list);
    }

    /// Whether its cancellation was begun by the framework or the I/O manager.
    pub(super) fn is_marked_canceled(&self) -> bool {
        self.with(|state| state.canceled)
    }

    /// Marks the request as being canceled.
    pub(super) fn mark_canceled(&self) {
        self.with(|state| state.canceled = true);
    }

    /// Whether the driver has seen it.
    pub(super) fn is_presented(&self) -> bool {
        self.with(|state| state.presented)
    }

    /// The driver has seen it.
    pub(super) fn set_presented(&self) {
        self.with(|state| state.presented = true);
    }

    /// The driver's cancel callback.
    pub(super) fn set_cancel(&self, cancel: PFN_WDF_REQUEST_CANCEL) {
        self.with(|state| state.cancel = cancel);
    }

    /// The driver's cancel callback, taken out.
    pub(super) fn take_cancel(&self) -> PFN_WDF_REQUEST_CANCEL {
        self.with(|state| state.cancel.take())
    }

    /// What was answered in EvtIoStop.
    pub(super) fn stop_answer(&self) -> StopAnswer {
        self.with(|state| state.stop)
    }

    /// Notes or clears the answer to EvtIoStop.
    pub(super) fn set_stop_answer(&self, answer: StopAnswer) {
        self.with(|state| state.stop = answer);
    }

    /// Adds verifier flags, with the verifier on.
    pub(super) fn set_flags(&self, flags: Flags) {
        if self.globals().verifier_on() {
            self.with(|state| state.flags |= flags);
        }
    }

    /// Removes verifier flags.
    pub(super) fn clear_flags(&self, flags: Flags) {
        self.with(|state| state.flags -= flags);
    }

    /// Takes a reference on the IRP: completing the request with one outstanding is 0x10D/3 (`AddIrpReference`).
    pub(crate) fn add_irp_reference(&self) {
        if self.globals().verifier_on() {
            // A completed request is reported; the reference is taken all the same.
            let _ = self.verify_not_completed();
        }
        self.irp_references.fetch_add(1, Ordering::SeqCst);
    }

    /// Gives [`Request::add_irp_reference`] back.
    pub(crate) fn release_irp_reference(&self) {
        if self.irp_references.fetch_sub(1, Ordering::SeqCst) <= 0 {
            trace::error(
                self.globals(),
                &format!(
                    "WDFREQUEST {:p}: a reference too many was given back",
                    self.handle()
                ),
            );
            verifier::break_point(self.globals());
        }
    }

    /// Verifier: the request is not completed. Errors: `STATUS_INTERNAL_ERROR`.
    pub(super) fn verify_not_completed(&self) -> Result<(), NTSTATUS> {
        let completed = self.with(|state| state.completed);
        self.verify(!completed, "is completed already", STATUS_INTERNAL_ERROR)
    }

    /// Verifier: the driver owns the request. Errors: `STATUS_INVALID_DEVICE_REQUEST`.
    pub(super) fn verify_driver_owned(&self) -> Result<(), NTSTATUS> {
        self.verify_flag(Flags::DRIVER_OWNED, true, "is not owned by the driver")
    }

    /// Verifier: the request is not marked cancelable. Errors: `STATUS_INVALID_DEVICE_REQUEST`.
    pub(super) fn verify_not_cancelable(&self) -> Result<(), NTSTATUS> {
        self.verify_flag(Flags::DRIVER_CANCELABLE, false, "is cancelable")
    }

    /// Verifier: the request is marked cancelable. Errors: `STATUS_INVALID_DEVICE_REQUEST`.
    pub(super) fn verify_cancelable(&self) -> Result<(), NTSTATUS> {
        self.verify_flag(Flags::DRIVER_CANCELABLE, true, "is not cancelable")
    }

    /// Verifier: EvtIoStop was called for the request. Errors: `STATUS_INVALID_DEVICE_REQUEST`.
    pub(super) fn verify_in_stop(&self) -> Result<(), NTSTATUS> {
        self.verify_flag(Flags::IN_STOP, true, "is not being stopped")
    }

    fn verify_flag(&self, flag: Flags, wanted: bool, wrong: &str) -> Result<(), NTSTATUS> {
        let present = self.with(|state| state.flags.contains(flag));
        self.verify(present == wanted, wrong, STATUS_INVALID_DEVICE_REQUEST)
    }

    fn verify(&self, right: bool, wrong: &str, status: NTSTATUS) -> Result<(), NTSTATUS> {
        if right || !self.globals().verifier_on() {
            return Ok(());
        }
        trace::error(
            self.globals(),
            &format!("WDFREQUEST {:p} {wrong}", self.handle()),
        );
        verifier::break_point(self.globals());
        Err(status)
    }
}
