//! Requests in the driver's hands: completing them, their buffers, cancelling them.

use std::ptr;

use harness::{Suite, bug_check};
use machine::ddi;
use machine::nt_sys::*;

use crate::recorder::{self, Opened, Plan, complete_oldest, record, recorded, take_held};

const MULTIPLE_COMPLETION: u32 = 0x44;
const WDF_VIOLATION: u32 = 0x10D;
/// First parameters of [`WDF_VIOLATION`], and the second of the last.
const INVALID_HANDLE: u64 = 5;
const REQUEST_ERROR: u64 = 6;
const INFORMATION_TOO_LONG: u64 = 4;

pub fn tests(suite: Suite) -> Suite {
    suite
        .passes(
            "callers_never_see_statuses_of_the_framework",
            callers_never_see_statuses_of_the_framework,
        )
        .stops(
            "a_request_completed_twice",
            bug_check(WDF_VIOLATION)
                .p1(INVALID_HANDLE)
                .says("who completes one twice does this"),
            a_request_completed_twice,
        )
        .stops(
            "a_request_completed_while_it_is_being_completed",
            bug_check(MULTIPLE_COMPLETION)
                .says("is completed while somebody else is completing it"),
            a_request_completed_while_it_is_being_completed,
        )
        .stops(
            "more_information_than_the_buffer_holds",
            bug_check(WDF_VIOLATION)
                .p1(REQUEST_ERROR)
                .p2(INFORMATION_TOO_LONG),
            || information(9),
        )
        .passes("as_much_information_as_the_buffer_holds", || information(8))
        .passes(
            "buffers_have_a_length_and_a_direction",
            buffers_have_a_length_and_a_direction,
        )
        .passes(
            "cancelling_calls_the_driver_once_it_has_agreed",
            cancelling_calls_the_driver_once_it_has_agreed,
        )
        .passes(
            "a_request_cancelled_before_it_is_marked_says_so",
            a_request_cancelled_before_it_is_marked_says_so,
        )
        .passes(
            "an_unmarked_request_is_the_drivers_to_complete",
            an_unmarked_request_is_the_drivers_to_complete,
        )
}

fn with_device(test: impl FnOnce(&Opened) + 'static) {
    recorder::opened(Plan::default(), |_, device| test(device));
}

fn callers_never_see_statuses_of_the_framework() {
    const ROWS: &[(NTSTATUS, NTSTATUS)] = &[
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
        (STATUS_IO_TIMEOUT, STATUS_IO_TIMEOUT),
    ];
    with_device(|device| {
        for &(completed, seen) in ROWS {
            let read = device.read(8);
            complete_oldest(completed);
            assert_eq!(read.wait().status, seen, "{completed:#010x}");
        }
    });
}

/// The first completion has ended the life of the handle.
fn a_request_completed_twice() {
    with_device(|device| unsafe {
        let read = device.read(8);
        let request = take_held();
        ddi!(WdfRequestComplete(request, STATUS_SUCCESS));
        assert!(read.has_ended());
        ddi!(WdfRequestComplete(request, STATUS_SUCCESS));
    });
}

/// The handle is good still, and so is the IRP, when the request's children are cleaned up.
fn a_request_completed_while_it_is_being_completed() {
    unsafe extern "win64" fn cleanup(_object: WDFOBJECT) {
        complete_oldest(STATUS_SUCCESS);
    }
    recorder::opened(
        Plan {
            read: |_, request| unsafe {
                recorder::hold(request);
                recorder::hold(request);
                let mut attributes = WDF_OBJECT_ATTRIBUTES {
                    Size: size_of::<WDF_OBJECT_ATTRIBUTES>() as ULONG,
                    ExecutionLevel: _WDF_EXECUTION_LEVEL::WdfExecutionLevelInheritFromParent,
                    SynchronizationScope:
                        _WDF_SYNCHRONIZATION_SCOPE::WdfSynchronizationScopeInheritFromParent,
                    ParentObject: request.cast(),
                    EvtCleanupCallback: Some(cleanup),
                    ..Default::default()
                };
                let mut child = ptr::null_mut();
                let status = ddi!(WdfObjectCreate(&mut attributes, &mut child));
                assert_eq!(status, STATUS_SUCCESS);
            },
            ..Plan::default()
        },
        |_, device| {
            let _read = device.read(8);
            complete_oldest(STATUS_SUCCESS);
        },
    );
}

/// Completes a read of 8 bytes with `information`.
fn information(information: ULONG_PTR) {
    with_device(move |device| unsafe {
        let read = device.read(8);
        ddi!(WdfRequestCompleteWithInformation(
            take_held(),
            STATUS_SUCCESS,
            information
        ));
        assert_eq!(read.wait().result, Ok(information as usize));
    });
}

fn buffers_have_a_length_and_a_direction() {
    with_device(|device| unsafe {
        let _read = device.read(8);
        let request = take_held();
        let (mut buffer, mut length) = (ptr::null_mut(), 0);
        let mut output = |least| {
            let status = ddi!(WdfRequestRetrieveOutputBuffer(
                request,
                least,
                &mut buffer,
                &mut length
            ));
            (status, length)
        };
        assert_eq!(output(8), (STATUS_SUCCESS, 8));
        assert_eq!(output(9).0, STATUS_BUFFER_TOO_SMALL);
        let status = ddi!(WdfRequestRetrieveInputBuffer(
            request,
            1,
            &mut buffer,
            ptr::null_mut()
        ));
        assert_eq!(status, STATUS_INVALID_DEVICE_REQUEST);
        ddi!(WdfRequestComplete(request, STATUS_SUCCESS));
    });
}

unsafe extern "win64" fn cancelled(request: WDFREQUEST) {
    record("cancel");
    ddi!(WdfRequestComplete(request, STATUS_CANCELLED));
}

fn cancelling_calls_the_driver_once_it_has_agreed() {
    with_device(|device| unsafe {
        let read = device.read(8);
        let status = ddi!(WdfRequestMarkCancelableEx(take_held(), Some(cancelled)));
        assert_eq!(status, STATUS_SUCCESS);
        read.cancel().expect("under way");
        assert_eq!(recorded(), ["read 8", "cancel"]);
        assert_eq!(read.wait().status, STATUS_CANCELLED);
    });
}

fn a_request_cancelled_before_it_is_marked_says_so() {
    with_device(|device| unsafe {
        let read = device.read(8);
        let request = take_held();
        read.cancel().expect("under way");
        assert!(!read.has_ended(), "the driver has not agreed");
        assert_eq!(ddi!(WdfRequestIsCanceled(request)), 1);
        let status = ddi!(WdfRequestMarkCancelableEx(request, Some(cancelled)));
        assert_eq!(status, STATUS_CANCELLED);
        assert_eq!(recorded(), ["read 8"]);
        ddi!(WdfRequestComplete(request, STATUS_CANCELLED));
        assert_eq!(read.wait().status, STATUS_CANCELLED);
    });
}

fn an_unmarked_request_is_the_drivers_to_complete() {
    with_device(|device| unsafe {
        let read = device.read(8);
        let request = take_held();
        ddi!(WdfRequestMarkCancelableEx(request, Some(cancelled)));
        assert_eq!(ddi!(WdfRequestUnmarkCancelable(request)), STATUS_SUCCESS);
        read.cancel().expect("under way");
        assert_eq!(recorded(), ["read 8"]);
        ddi!(WdfRequestComplete(request, STATUS_SUCCESS));
        assert_eq!(read.wait().status, STATUS_SUCCESS);
    });
}
