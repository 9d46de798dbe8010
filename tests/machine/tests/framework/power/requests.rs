//! What becomes of a request in the driver's hands when the power goes, or the device.

use harness::Suite;
use machine::ddi;
use machine::nt_sys::*;

use crate::recorder::{self, Opened, Plan, complete_oldest, recorded, take_held};

pub(super) fn tests(suite: Suite) -> Suite {
    suite
        .passes(
            "a_request_kept_while_asleep_is_resumed",
            a_request_kept_while_asleep_is_resumed,
        )
        .passes(
            "a_request_given_back_while_asleep_is_delivered_again",
            a_request_given_back_while_asleep_is_delivered_again,
        )
        .passes(
            "a_request_may_be_completed_in_io_stop",
            a_request_may_be_completed_in_io_stop,
        )
        .passes(
            "a_request_kept_when_pulled_out_is_asked_for_again",
            a_request_kept_when_pulled_out_is_asked_for_again,
        )
}

/// Acknowledged without giving it back, a request stays in the driver's hands.
fn a_request_kept_while_asleep_is_resumed() {
    recorder::opened(Plan::default(), |machine, device| {
        let read = device.read(8);
        machine.suspend().expect("asleep");
        assert_eq!(
            recorded(),
            [
                "read 8",
                "SelfManagedIoSuspend",
                "IoStop 0x1",
                "D0ExitPreInterruptsDisabled",
                "InterruptDisable",
                "D0Exit",
            ]
        );
        machine.resume().expect("awake");
        assert_eq!(
            recorded(),
            [
                "D0Entry",
                "InterruptEnable",
                "D0EntryPostInterruptsEnabled",
                "IoResume",
                "SelfManagedIoRestart",
            ]
        );
        complete_oldest(STATUS_SUCCESS);
        assert_eq!(read.wait().status, STATUS_SUCCESS);
    });
}

fn a_request_given_back_while_asleep_is_delivered_again() {
    let stop = |request, _| unsafe {
        assert_eq!(take_held(), request);
        ddi!(WdfRequestStopAcknowledge(request, 1));
    };
    let plan = Plan {
        stop,
        ..Plan::default()
    };
    recorder::opened(plan, |machine, device| {
        let read = device.read(8);
        machine.suspend().expect("asleep");
        recorded();
        assert_eq!(recorder::held(), 0);
        machine.resume().expect("awake");
        let calls = recorded();
        assert!(calls.contains(&"read 8".to_owned()), "{calls:?}");
        assert!(!calls.contains(&"IoResume".to_owned()), "{calls:?}");
        complete_oldest(STATUS_SUCCESS);
        assert_eq!(read.wait().status, STATUS_SUCCESS);
    });
}

fn a_request_may_be_completed_in_io_stop() {
    let plan = Plan {
        stop: |_, _| complete_oldest(STATUS_CANCELLED),
        ..Plan::default()
    };
    recorder::opened(plan, |machine, device| {
        let read = device.read(8);
        machine.suspend().expect("asleep");
        assert!(read.has_ended());
        assert_eq!(read.wait().status, STATUS_CANCELLED);
        machine.resume().expect("awake");
        assert!(!recorded().contains(&"IoResume".to_owned()));
    });
}

/// First the device loses its power, and the driver may keep the request; then it goes, and the driver may not.
fn a_request_kept_when_pulled_out_is_asked_for_again() {
    let stop = |request, flags| unsafe {
        if flags == _WDF_REQUEST_STOP_ACTION_FLAGS::WdfRequestStopActionPurge as ULONG {
            complete_oldest(STATUS_NO_SUCH_DEVICE);
        } else {
            ddi!(WdfRequestStopAcknowledge(request, 0));
        }
    };
    let plan = Plan {
        stop,
        ..Plan::default()
    };
    recorder::machine(
        plan,
        |_| {},
        |machine| {
            machine.start().expect("the device starts");
            recorded();
            let device = Opened::new(machine);
            let read = device.read(8);
            machine.surprise_remove().expect("pulled out");
            assert_eq!(read.wait().status, STATUS_NO_SUCH_DEVICE);
            drop(device);
            machine.finish_removals();
            assert_eq!(
                recorded(),
                [
                    "read 8",
                    "SurpriseRemoval",
                    "SelfManagedIoSuspend",
                    "IoStop 0x1",
                    "D0ExitPreInterruptsDisabled",
                    "InterruptDisable",
                    "D0Exit",
                    "ReleaseHardware",
                    "IoStop 0x2",
                    "SelfManagedIoFlush",
                    "SelfManagedIoCleanup",
                ]
            );
            machine.shut_down();
        },
    );
}
