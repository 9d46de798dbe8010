//! Completing a request (`FxRequest::CompleteInternal`).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use machine_nt::bugcheck;

use crate::flat::*;

use super::{Flags, Owner, Request};
use crate::object::{self, Object};
use crate::wdm::{Irp, success, transfer_method};
use crate::{trace, verifier};

/// The facility of the framework's own statuses.
const FACILITY_DRIVER_FRAMEWORK: i32 = 0x20;

/// What a caller sees instead of a status of the framework's own.
pub(super) fn visible_status(status: NTSTATUS) -> NTSTATUS {
    if status & 0x0FFF_0000 != FACILITY_DRIVER_FRAMEWORK << 16 {
        return status;
    }
    match status {
        STATUS_WDF_PAUSED | STATUS_WDF_BUSY => STATUS_DEVICE_BUSY,
        STATUS_WDF_INTERNAL_ERROR => STATUS_INTERNAL_ERROR,
        STATUS_WDF_NOT_ENOUGH_MAP_REGISTERS => STATUS_INSUFFICIENT_RESOURCES,
        _ => STATUS_INVALID_DEVICE_REQUEST,
    }
}

/// Bytes the caller's buffer holds, where that can be told; more information than that is an error.
fn buffer_length(irp: Irp) -> Option<u32> {
    match irp.major() as _ {
        IRP_MJ_READ | IRP_MJ_WRITE => Some(irp.transfer_length()),
        IRP_MJ_DEVICE_CONTROL if irp.is_from_user() && irp.output_length() > 0 => {
            Some(irp.output_length())
        }
        _ => None,
    }
}

impl Request {
    /// Completes with information.
    pub(crate) fn complete_with_information(
        self: &Arc<Self>,
        status: NTSTATUS,
        information: usize,
    ) {
        self.irp().set_information(information);
        self.complete(status);
    }

    /// Completes: cleanup callbacks, checks, the IRP, the queue's bookkeeping, the end of the object.
    ///
    /// IRQL <= `DISPATCH_LEVEL`. Stops with 0x10D/6/4 (verifier) if more bytes are reported than the buffer holds, with 0x10D/3 if
    /// somebody still refers to the IRP: a DMA transaction that executes, or memory taken from the request; with 0x44 if
    /// somebody else is completing it.
    pub(crate) fn complete(self: &Arc<Self>, status: NTSTATUS) {
        let irp = self.irp();
        self.claim_completion(irp);
        if self.globals().verifier_on() {
            self.verify_completion(irp, status);
        }
        self.forget_input_copy(irp);
        let shown = visible_status(status);
        if shown != status {
            trace::error(
                self.globals(),
                &format!("the status {status:#010x} of the framework is shown as {shown:#010x}"),
            );
        }
        let (owner, queue) = self.with(|state| {
            (
                std::mem::replace(&mut state.owner, Owner::None),
                state.queue.take(),
            )
        });
        if !self.is_presented() {
            self.header.contexts().clear_callbacks();
        }
        object::early_dispose(self);
        object::destroy_children(self);
        self.check_irp_references(irp);
        irp.set_status(shown);
        let boost = self.with(|state| {
            state.irp = None;
            state.boost
        });
        if irp.major() == IRP_MJ_CREATE {
            self.device().files.create_completed(self.device(), irp);
        }
        irp.complete(boost);
        if owner == Owner::Queue
            && let Some(queue) = queue
        {
            queue.request_completed(self);
        }
        object::delete_early_disposed(self);
    }

    /// The second to complete a request finds, in Windows, an IRP that the first has completed or is about to.
    fn claim_completion(&self, irp: Irp) {
        if self.with(|state| std::mem::replace(&mut state.completed, true)) {
            bugcheck::stop(
                bugcheck::code::MULTIPLE_IRP_COMPLETE_REQUESTS,
                [irp.raw() as u64, 0, 0, 0],
                format_args!(
                    "WDFREQUEST {:p}, IRP {:p}, is completed while somebody else is completing it: a request has one owner, who \
                     completes it once",
                    self.handle(),
                    irp.raw(),
                ),
            );
        }
    }

    fn check_irp_references(&self, irp: Irp) {
        let references = self.irp_references.load(Ordering::SeqCst);
        if references == 0 {
            return;
        }
        verifier::bug_check(
            self.globals(),
            WDF_VERIFIER_FATAL_ERROR,
            self.header().handle(),
            references as usize,
            &format!(
                "WDFREQUEST {:p}, IRP {:p}, major function {:#x}, is completed with {references} outstanding reference(s): a DMA \
                 transaction that has not completed, or memory retrieved from the request",
                self.handle(),
                irp.raw(),
                irp.major(),
            ),
        );
    }

    /// What the verifier looks at (`VerifyCompleteInternal`).
    fn verify_completion(&self, irp: Irp, status: NTSTATUS) {
        let flags = self.with(|state| state.flags);
        if flags.contains(Flags::DRIVER_CANCELABLE) && !flags.contains(Flags::CANCELLED) {
            trace::error(
                self.globals(),
                &format!(
                    "WDFREQUEST {:p} is completed while cancelable: call WdfRequestUnmarkCancelable first",
                    self.handle()
                ),
            );
            verifier::break_point(self.globals());
        }
        let Some(length) = buffer_length(irp) else {
            return;
        };
        if !success(status) || irp.information() <= length as usize {
            return;
        }
        let data = WDF_REQUEST_FATAL_ERROR_INFORMATION_LENGTH_MISMATCH_DATA {
            Request: self.handle(),
            Irp: irp.raw(),
            OutputBufferLength: length as _,
            Information: irp.information() as _,
            MajorFunction: irp.major() as _,
        };
        verifier::request_fatal(
            self.globals(),
            WDF_REQUEST_FATAL_ERROR_INFORMATION_LENGTH_MISMATCH,
            (&raw const data).cast(),
            &format!(
                "information {:#x} is more than the buffer's {length:#x} bytes",
                irp.information()
            ),
        );
    }

    /// A buffered device control without output must not have its buffer copied back, whatever the driver reports.
    fn forget_input_copy(&self, irp: Irp) {
        let copies_back = irp.major() == IRP_MJ_DEVICE_CONTROL
            && transfer_method(irp.control_code()) == METHOD_BUFFERED
            && irp.is_from_user()
            && irp.output_length() == 0
            && irp.flags() & IRP_INPUT_OPERATION != 0;
        if !copies_back {
            return;
        }
        if irp.information() != 0 {
            trace::error(
                self.globals(),
                "information is reported for a device control without an output buffer",
            );
            verifier::break_point(self.globals());
        }
        irp.set_flags(irp.flags() & !IRP_INPUT_OPERATION);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_of_the_framework_are_rewritten() {
        for (own, shown) in [
            (STATUS_WDF_BUSY, STATUS_DEVICE_BUSY),
            (STATUS_WDF_PAUSED, STATUS_DEVICE_BUSY),
            (STATUS_WDF_TOO_FRAGMENTED, STATUS_INVALID_DEVICE_REQUEST),
            (STATUS_WDF_TOO_MANY_TRANSFERS, STATUS_INVALID_DEVICE_REQUEST),
            (
                STATUS_WDF_NOT_ENOUGH_MAP_REGISTERS,
                STATUS_INSUFFICIENT_RESOURCES,
            ),
            (STATUS_WDF_INTERNAL_ERROR, STATUS_INTERNAL_ERROR),
            (STATUS_WDF_NO_CALLBACK, STATUS_INVALID_DEVICE_REQUEST),
        ] {
            assert_eq!(visible_status(own), shown, "{own:#010x}");
        }
    }

    #[test]
    fn other_statuses_pass() {
        for status in [
            STATUS_SUCCESS,
            STATUS_CANCELLED,
            STATUS_IO_TIMEOUT,
            STATUS_INVALID_PARAMETER,
        ] {
            assert_eq!(visible_status(status), status);
        }
    }
}
