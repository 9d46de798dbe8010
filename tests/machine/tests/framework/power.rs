//! The order in which the framework calls a driver on the way up and down, whole, and what it calls when one of them fails.

use abi::card;
use harness::Suite;
use machine::ddi;
use machine::nt_sys::*;
use machine::{Config, Device, Machine};

use crate::recorder::{self, Opened, Plan, complete_oldest, fail, recorded, take_held};

const INTO_D0: &[&str] = &[
    "D0Entry",
    "InterruptEnable",
    "D0EntryPostInterruptsEnabled",
    "Fill 0",
    "Enable 0",
    "Start 0",
    "Fill 1",
    "Enable 1",
    "Start 1",
];
const OUT_OF_D0: &[&str] = &[
    "Stop 0",
    "Disable 0",
    "Flush 0",
    "Stop 1",
    "Disable 1",
    "Flush 1",
    "D0ExitPreInterruptsDisabled",
    "InterruptDisable",
    "D0Exit",
];

/// What follows when a device that had started fails.
const FAILED_IN_USE: &[&str] = &[
    "ReleaseHardware",
    "SelfManagedIoFlush",
    "SurpriseRemoval",
    "SelfManagedIoCleanup",
];

/// A callback that fails while the device starts, and all that is called until the device has failed.
struct Failure {
    test: &'static str,
    failing: &'static str,
    called: &'static [&'static str],
}

/// Of an enabler that fails, what would undo the failed step and the later ones is left out, but for Stop; enablers that were
/// never reached are undone in full.
const FAILURES: &[Failure] = &[
    Failure {
        test: "prepare_hardware_fails",
        failing: "PrepareHardware",
        called: &["PrepareHardware", "ReleaseHardware"],
    },
    Failure {
        test: "d0_entry_fails",
        failing: "D0Entry",
        called: &["PrepareHardware", "D0Entry", "ReleaseHardware"],
    },
    Failure {
        test: "post_interrupts_enabled_fails",
        failing: "D0EntryPostInterruptsEnabled",
        called: &[
            "PrepareHardware",
            "D0Entry",
            "InterruptEnable",
            "D0EntryPostInterruptsEnabled",
            "InterruptDisable",
            "D0Exit",
            "ReleaseHardware",
        ],
    },
    Failure {
        test: "interrupt_enable_fails",
        failing: "InterruptEnable",
        called: &[
            "PrepareHardware",
            "D0Entry",
            "InterruptEnable",
            "D0Exit",
            "ReleaseHardware",
        ],
    },
    Failure {
        test: "fill_of_the_first_enabler_fails",
        failing: "Fill 0",
        called: &[
            "PrepareHardware",
            "D0Entry",
            "InterruptEnable",
            "D0EntryPostInterruptsEnabled",
            "Fill 0",
            "Stop 0",
            "Stop 1",
            "Disable 1",
            "Flush 1",
            "D0ExitPreInterruptsDisabled",
            "InterruptDisable",
            "D0Exit",
            "ReleaseHardware",
        ],
    },
    Failure {
        test: "enable_of_the_first_enabler_fails",
        failing: "Enable 0",
        called: &[
            "PrepareHardware",
            "D0Entry",
            "InterruptEnable",
            "D0EntryPostInterruptsEnabled",
            "Fill 0",
            "Enable 0",
            "Stop 0",
            "Disable 0",
            "Stop 1",
            "Disable 1",
            "Flush 1",
            "D0ExitPreInterruptsDisabled",
            "InterruptDisable",
            "D0Exit",
            "ReleaseHardware",
        ],
    },
    Failure {
        test: "start_of_the_first_enabler_fails",
        failing: "Start 0",
        called: &[
            "PrepareHardware",
            "D0Entry",
            "InterruptEnable",
            "D0EntryPostInterruptsEnabled",
            "Fill 0",
            "Enable 0",
            "Start 0",
            "Stop 0",
            "Disable 0",
            "Flush 0",
            "Stop 1",
            "Disable 1",
            "Flush 1",
            "D0ExitPreInterruptsDisabled",
            "InterruptDisable",
            "D0Exit",
            "ReleaseHardware",
        ],
    },
    Failure {
        test: "fill_of_the_second_enabler_fails",
        failing: "Fill 1",
        called: &[
            "PrepareHardware",
            "D0Entry",
            "InterruptEnable",
            "D0EntryPostInterruptsEnabled",
            "Fill 0",
            "Enable 0",
            "Start 0",
            "Fill 1",
            "Stop 0",
            "Disable 0",
            "Flush 0",
            "Stop 1",
            "D0ExitPreInterruptsDisabled",
            "InterruptDisable",
            "D0Exit",
            "ReleaseHardware",
        ],
    },
];

pub fn tests(suite: Suite) -> Suite {
    let suite = FAILURES.iter().fold(suite, |suite, failure| {
        suite.passes(failure.test, || failed_start(failure))
    });
    suite
        .passes("start_calls_in_order", start_calls_in_order)
        .passes(
            "self_managed_io_that_fails_takes_the_device_down",
            self_managed_io_that_fails_takes_the_device_down,
        )
        .passes(
            "a_failure_on_the_way_down_stops_nothing",
            a_failure_on_the_way_down_stops_nothing,
        )
        .passes(
            "an_enabler_that_fails_on_wake_takes_the_device_down",
            an_enabler_that_fails_on_wake_takes_the_device_down,
        )
        .passes("sleep_and_wake_call_in_order", sleep_and_wake_call_in_order)
        .passes(
            "the_card_starts_and_loses_its_registers_when_it_sleeps",
            the_card_starts_and_loses_its_registers_when_it_sleeps,
        )
        .passes("rebalance_calls_in_order", rebalance_calls_in_order)
        .passes("removal_calls_in_order", removal_calls_in_order)
        .passes(
            "surprise_removal_calls_in_order",
            surprise_removal_calls_in_order,
        )
        .passes(
            "a_refused_query_stop_leaves_the_device_running",
            a_refused_query_stop_leaves_the_device_running,
        )
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

fn two_enablers() -> Plan {
    Plan {
        enablers: 2,
        ..Plan::default()
    }
}

/// All of `parts`, one after the other.
fn sequence(parts: &[&[&'static str]]) -> Vec<&'static str> {
    parts.concat()
}

fn failed_start(failure: &'static Failure) {
    recorder::machine(
        two_enablers(),
        |_| {},
        |machine| {
            fail(failure.failing);
            assert!(machine.start().is_err());
            assert_eq!(recorded(), failure.called);
        },
    );
}

/// Runs `test` with the device started, and the start's own calls not recorded.
fn started(test: impl FnOnce(&Machine) + 'static) {
    recorder::machine(
        two_enablers(),
        |_| {},
        |machine| {
            machine.start().expect("the device starts");
            recorded();
            test(machine);
            machine.shut_down();
        },
    );
}

fn start_calls_in_order() {
    recorder::machine(
        two_enablers(),
        |_| {},
        |machine| {
            machine.start().expect("the device starts");
            let expected = sequence(&[&["PrepareHardware"], INTO_D0, &["SelfManagedIoInit"]]);
            assert_eq!(recorded(), expected);
            machine.shut_down();
        },
    );
}

fn self_managed_io_that_fails_takes_the_device_down() {
    recorder::machine(
        two_enablers(),
        |_| {},
        |machine| {
            fail("SelfManagedIoInit");
            assert!(machine.start().is_err());
            let expected = sequence(&[
                &["PrepareHardware"],
                INTO_D0,
                &["SelfManagedIoInit"],
                OUT_OF_D0,
                &[
                    "ReleaseHardware",
                    "SelfManagedIoFlush",
                    "SelfManagedIoCleanup",
                ],
            ]);
            assert_eq!(recorded(), expected);
        },
    );
}

/// Every enabler is walked; then the device has failed, and the PnP manager takes it away.
fn a_failure_on_the_way_down_stops_nothing() {
    started(|machine| {
        fail("Flush 0");
        machine.suspend().expect("asleep");
        machine.shut_down();
        let expected = sequence(&[&["SelfManagedIoSuspend"], OUT_OF_D0, FAILED_IN_USE]);
        assert_eq!(recorded(), expected);
    });
}

/// As at the first start: what was never reached is undone in full.
fn an_enabler_that_fails_on_wake_takes_the_device_down() {
    started(|machine| {
        machine.suspend().expect("asleep");
        recorded();
        fail("Enable 0");
        machine.resume().expect("awake, but for this device");
        machine.shut_down();
        let expected = sequence(&[
            &INTO_D0[..5],
            &[
                "Stop 0",
                "Disable 0",
                "Stop 1",
                "Disable 1",
                "Flush 1",
                "D0ExitPreInterruptsDisabled",
                "InterruptDisable",
                "D0Exit",
            ],
            FAILED_IN_USE,
        ]);
        assert_eq!(recorded(), expected);
    });
}

fn sleep_and_wake_call_in_order() {
    started(|machine| {
        machine.suspend().expect("asleep");
        assert_eq!(
            recorded(),
            sequence(&[&["SelfManagedIoSuspend"], OUT_OF_D0])
        );
        machine.resume().expect("awake");
        assert_eq!(recorded(), sequence(&[INTO_D0, &["SelfManagedIoRestart"]]));
    });
}

/// The PCI bus driver puts what can do so into D3hot, and gives it its windows again.
fn the_card_starts_and_loses_its_registers_when_it_sleeps() {
    const IDENTIFICATION: usize = card::register::IDENTIFICATION.offset();
    const ENABLE: usize = card::register::INTERRUPT_ENABLE.offset();
    let with_card = |config: &mut Config| {
        config.device = Device::Card;
        config.inf.hardware_ids = vec![card::HARDWARE_ID.to_owned()];
    };
    recorder::machine(Plan::default(), with_card, |machine| {
        machine.start().expect("the card starts");
        // SAFETY: the driver has mapped the registers.
        let read = |offset| unsafe { recorder::register(offset) };
        assert_eq!(read(IDENTIFICATION), card::IDENTITY);
        // SAFETY: the same.
        unsafe { recorder::set_register(ENABLE, 3) };
        assert_eq!(read(ENABLE), 3);
        machine.suspend().expect("asleep");
        assert_eq!(read(IDENTIFICATION), u32::MAX);
        machine.resume().expect("awake");
        assert_eq!(read(IDENTIFICATION), card::IDENTITY);
        assert_eq!(read(ENABLE), 0);
        machine.shut_down();
    });
}

fn rebalance_calls_in_order() {
    started(|machine| {
        machine.rebalance().expect("started again");
        let expected = sequence(&[
            &["QueryStop", "SelfManagedIoSuspend"],
            OUT_OF_D0,
            &["ReleaseHardware", "PrepareHardware"],
            INTO_D0,
            &["SelfManagedIoRestart"],
        ]);
        assert_eq!(recorded(), expected);
    });
}

fn removal_calls_in_order() {
    started(|machine| {
        machine.remove().expect("removed");
        let expected = sequence(&[
            &["QueryRemove", "SelfManagedIoSuspend"],
            OUT_OF_D0,
            &[
                "ReleaseHardware",
                "SelfManagedIoFlush",
                "SelfManagedIoCleanup",
            ],
        ]);
        assert_eq!(recorded(), expected);
    });
}

fn surprise_removal_calls_in_order() {
    started(|machine| {
        machine.surprise_remove().expect("pulled out");
        machine.finish_removals();
        let expected = sequence(&[
            &["SurpriseRemoval", "SelfManagedIoSuspend"],
            OUT_OF_D0,
            &[
                "ReleaseHardware",
                "SelfManagedIoFlush",
                "SelfManagedIoCleanup",
            ],
        ]);
        assert_eq!(recorded(), expected);
    });
}

fn a_refused_query_stop_leaves_the_device_running() {
    started(|machine| {
        fail("QueryStop");
        assert!(machine.rebalance().is_err());
        assert_eq!(recorded(), ["QueryStop"]);
        fail("");
        machine.rebalance().expect("started again");
    });
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
