//! Queues: in which order and when they deliver, and what becomes of requests that they still hold.

use std::ptr;

use harness::Suite;
use machine::ddi;
use machine::nt_sys::*;
use machine::user::Win32Error;

use crate::recorder::{self, Opened, Plan, complete_oldest, held, queue, record, recorded};

pub fn tests(suite: Suite) -> Suite {
    suite
        .passes(
            "a_sequential_queue_delivers_one_at_a_time",
            a_sequential_queue_delivers_one_at_a_time,
        )
        .passes(
            "a_parallel_queue_delivers_all_at_once",
            a_parallel_queue_delivers_all_at_once,
        )
        .passes(
            "a_parallel_queue_keeps_to_its_number",
            a_parallel_queue_keeps_to_its_number,
        )
        .passes(
            "a_manual_queue_delivers_when_it_is_asked",
            a_manual_queue_delivers_when_it_is_asked,
        )
        .passes(
            "a_power_managed_queue_holds_requests_while_asleep",
            a_power_managed_queue_holds_requests_while_asleep,
        )
        .passes(
            "a_queue_without_power_management_delivers_while_asleep",
            a_queue_without_power_management_delivers_while_asleep,
        )
        .passes(
            "a_request_cancelled_in_the_queue_never_reaches_the_driver",
            a_request_cancelled_in_the_queue_never_reaches_the_driver,
        )
        .passes(
            "canceled_on_queue_is_for_delivered_requests_only",
            canceled_on_queue_is_for_delivered_requests_only,
        )
        .passes(
            "empty_requests_end_in_the_framework",
            empty_requests_end_in_the_framework,
        )
        .passes(
            "a_request_without_a_handler_is_refused",
            a_request_without_a_handler_is_refused,
        )
        .passes(
            "a_stopped_queue_delivers_when_started",
            a_stopped_queue_delivers_when_started,
        )
        .passes(
            "a_purged_queue_refuses_until_started",
            a_purged_queue_refuses_until_started,
        )
}

fn with_queue(shape: fn(&mut WDF_IO_QUEUE_CONFIG), test: impl FnOnce(&Opened) + 'static) {
    let plan = Plan {
        queue: shape,
        ..Plan::default()
    };
    recorder::opened(plan, |_, device| test(device));
}

fn parallel(config: &mut WDF_IO_QUEUE_CONFIG) {
    config.DispatchType = _WDF_IO_QUEUE_DISPATCH_TYPE::WdfIoQueueDispatchParallel;
    config.Settings.Parallel.NumberOfPresentedRequests = ULONG::MAX;
}

fn manual(config: &mut WDF_IO_QUEUE_CONFIG) {
    config.DispatchType = _WDF_IO_QUEUE_DISPATCH_TYPE::WdfIoQueueDispatchManual;
    config.EvtIoRead = None;
}

fn a_sequential_queue_delivers_one_at_a_time() {
    with_queue(
        |_| {},
        |device| {
            let reads = [1, 2, 3].map(|length| device.read(length));
            for length in 1..=3 {
                assert_eq!(recorded(), [format!("read {length}")]);
                assert_eq!(held(), 1);
                complete_oldest(STATUS_SUCCESS);
            }
            assert!(reads.iter().all(|read| read.has_ended()));
        },
    );
}

fn a_parallel_queue_delivers_all_at_once() {
    with_queue(parallel, |device| {
        let _reads = [1, 2, 3].map(|length| device.read(length));
        assert_eq!(recorded(), ["read 1", "read 2", "read 3"]);
        (0..3).for_each(|_| complete_oldest(STATUS_SUCCESS));
    });
}

fn a_parallel_queue_keeps_to_its_number() {
    let two = |config: &mut WDF_IO_QUEUE_CONFIG| {
        parallel(config);
        config.Settings.Parallel.NumberOfPresentedRequests = 2;
    };
    with_queue(two, |device| {
        let _reads = [1, 2, 3].map(|length| device.read(length));
        assert_eq!(recorded(), ["read 1", "read 2"]);
        complete_oldest(STATUS_SUCCESS);
        assert_eq!(recorded(), ["read 3"]);
        (0..2).for_each(|_| complete_oldest(STATUS_SUCCESS));
    });
}

/// WdfIoQueueRetrieveNextRequest.
unsafe fn next() -> Result<WDFREQUEST, NTSTATUS> {
    let mut request = ptr::null_mut();
    let status = ddi!(WdfIoQueueRetrieveNextRequest(queue(), &mut request));
    if nt_success(status) {
        Ok(request)
    } else {
        Err(status)
    }
}

fn a_manual_queue_delivers_when_it_is_asked() {
    with_queue(manual, |device| unsafe {
        assert_eq!(next(), Err(STATUS_NO_MORE_ENTRIES));
        let reads = [1, 2].map(|length| device.read(length));
        for read in reads {
            assert!(!read.has_ended());
            let request = next().expect("one waits");
            ddi!(WdfRequestComplete(request, STATUS_SUCCESS));
            assert!(read.has_ended(), "the oldest comes first");
        }
        assert_eq!(next(), Err(STATUS_NO_MORE_ENTRIES));
    });
}

fn a_power_managed_queue_holds_requests_while_asleep() {
    recorder::opened(Plan::default(), |machine, device| {
        machine.suspend().expect("asleep");
        recorded();
        let read = device.read(7);
        assert_eq!(recorded(), Vec::<String>::new());
        machine.resume().expect("awake");
        assert!(recorded().contains(&"read 7".to_owned()));
        complete_oldest(STATUS_SUCCESS);
        assert_eq!(read.wait().status, STATUS_SUCCESS);
    });
}

fn a_queue_without_power_management_delivers_while_asleep() {
    let plan = Plan {
        queue: |config| config.PowerManaged = _WDF_TRI_STATE::WdfFalse,
        ..Plan::default()
    };
    recorder::opened(plan, |machine, device| {
        machine.suspend().expect("asleep");
        recorded();
        let read = device.read(7);
        assert_eq!(recorded(), ["read 7"]);
        complete_oldest(STATUS_SUCCESS);
        assert_eq!(read.wait().status, STATUS_SUCCESS);
        machine.resume().expect("awake");
    });
}

fn a_request_cancelled_in_the_queue_never_reaches_the_driver() {
    with_queue(
        |_| {},
        |device| {
            let (first, second) = (device.read(1), device.read(2));
            second.cancel().expect("under way");
            assert_eq!(second.wait().status, STATUS_CANCELLED);
            complete_oldest(STATUS_SUCCESS);
            assert_eq!(first.wait().status, STATUS_SUCCESS);
            assert_eq!(recorded(), ["read 1"]);
        },
    );
}

unsafe extern "win64" fn canceled_on_queue(_queue: WDFQUEUE, request: WDFREQUEST) {
    record("canceled on queue");
    ddi!(WdfRequestComplete(request, STATUS_CANCELLED));
}

/// A request that the driver has never seen is cancelled by the framework alone; one that it has put back is the driver's.
fn canceled_on_queue_is_for_delivered_requests_only() {
    let shape = |config: &mut WDF_IO_QUEUE_CONFIG| {
        manual(config);
        config.EvtIoCanceledOnQueue = Some(canceled_on_queue);
    };
    with_queue(shape, |device| unsafe {
        let unseen = device.read(1);
        unseen.cancel().expect("under way");
        assert_eq!(unseen.wait().status, STATUS_CANCELLED);
        assert_eq!(recorded(), Vec::<String>::new());

        let seen = device.read(2);
        let request = next().expect("one waits");
        assert_eq!(ddi!(WdfRequestRequeue(request)), STATUS_SUCCESS);
        seen.cancel().expect("under way");
        assert_eq!(seen.wait().status, STATUS_CANCELLED);
        assert_eq!(recorded(), ["canceled on queue"]);
    });
}

fn empty_requests_end_in_the_framework() {
    with_queue(
        |_| {},
        |device| {
            let read = device.read(0).wait();
            assert_eq!((read.status, read.result), (STATUS_SUCCESS, Ok(0)));
            assert_eq!(recorded(), Vec::<String>::new());
        },
    );
}

fn a_request_without_a_handler_is_refused() {
    with_queue(
        |_| {},
        |device| {
            let written = device.write(4).wait();
            assert_eq!(written.status, STATUS_INVALID_DEVICE_REQUEST);
        },
    );
}

fn a_stopped_queue_delivers_when_started() {
    with_queue(
        |_| {},
        |device| unsafe {
            ddi!(WdfIoQueueStop(queue(), None, ptr::null_mut()));
            let read = device.read(3);
            assert_eq!(recorded(), Vec::<String>::new());
            ddi!(WdfIoQueueStart(queue()));
            assert_eq!(recorded(), ["read 3"]);
            complete_oldest(STATUS_SUCCESS);
            assert_eq!(read.wait().status, STATUS_SUCCESS);
        },
    );
}

fn a_purged_queue_refuses_until_started() {
    with_queue(
        |_| {},
        |device| unsafe {
            let (delivered, waiting) = (device.read(1), device.read(2));
            ddi!(WdfIoQueuePurge(queue(), None, ptr::null_mut()));
            assert_eq!(waiting.wait().status, STATUS_CANCELLED);
            assert!(!delivered.has_ended());
            let refused = device.read(3).wait();
            assert_eq!(refused.status, STATUS_INVALID_DEVICE_STATE);
            assert_eq!(refused.result, Err(Win32Error::from_status(refused.status)));
            complete_oldest(STATUS_SUCCESS);
            ddi!(WdfIoQueueStart(queue()));
            recorded();
            let accepted = device.read(4);
            assert_eq!(recorded(), ["read 4"]);
            complete_oldest(STATUS_SUCCESS);
            assert_eq!(accepted.wait().status, STATUS_SUCCESS);
        },
    );
}
