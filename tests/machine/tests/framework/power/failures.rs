//! What is called when a callback fails: on the way up, on the way down, and on waking up.

use harness::Suite;

use super::{FAILED_IN_USE, INTO_D0, OUT_OF_D0, sequence, started, two_enablers};
use crate::recorder::{self, fail, recorded};

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
    Failure {
        test: "enable_of_the_second_enabler_fails",
        failing: "Enable 1",
        called: &[
            "PrepareHardware",
            "D0Entry",
            "InterruptEnable",
            "D0EntryPostInterruptsEnabled",
            "Fill 0",
            "Enable 0",
            "Start 0",
            "Fill 1",
            "Enable 1",
            "Stop 0",
            "Disable 0",
            "Flush 0",
            "Stop 1",
            "Disable 1",
            "D0ExitPreInterruptsDisabled",
            "InterruptDisable",
            "D0Exit",
            "ReleaseHardware",
        ],
    },
    Failure {
        test: "start_of_the_second_enabler_fails",
        failing: "Start 1",
        called: &[
            "PrepareHardware",
            "D0Entry",
            "InterruptEnable",
            "D0EntryPostInterruptsEnabled",
            "Fill 0",
            "Enable 0",
            "Start 0",
            "Fill 1",
            "Enable 1",
            "Start 1",
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
];

/// A callback that fails while the device leaves D0: all the others are called all the same.
const FAILURES_ON_THE_WAY_DOWN: &[(&str, &str)] = &[
    ("suspending_self_managed_io_fails", "SelfManagedIoSuspend"),
    ("stop_of_the_first_enabler_fails", "Stop 0"),
    ("disable_of_the_first_enabler_fails", "Disable 0"),
    ("flush_of_the_first_enabler_fails", "Flush 0"),
    ("stop_of_the_second_enabler_fails", "Stop 1"),
    ("disable_of_the_second_enabler_fails", "Disable 1"),
    ("flush_of_the_second_enabler_fails", "Flush 1"),
    (
        "pre_interrupts_disabled_fails",
        "D0ExitPreInterruptsDisabled",
    ),
    ("interrupt_disable_fails", "InterruptDisable"),
    ("d0_exit_fails", "D0Exit"),
];

pub(super) fn tests(suite: Suite) -> Suite {
    let suite = FAILURES.iter().fold(suite, |suite, failure| {
        suite.passes(failure.test, || failed_start(failure))
    });
    let suite = FAILURES_ON_THE_WAY_DOWN
        .iter()
        .fold(suite, |suite, (test, failing)| {
            suite.passes(*test, || failed_on_the_way_down(failing))
        });
    suite
        .passes(
            "self_managed_io_that_fails_takes_the_device_down",
            self_managed_io_that_fails_takes_the_device_down,
        )
        .passes(
            "an_enabler_that_fails_on_wake_takes_the_device_down",
            an_enabler_that_fails_on_wake_takes_the_device_down,
        )
        .passes(
            "a_failed_start_is_forgotten_with_its_enablers",
            a_failed_start_is_forgotten_with_its_enablers,
        )
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

/// Every enabler is walked; then the device has failed, and the PnP manager takes it away.
fn failed_on_the_way_down(failing: &'static str) {
    started(move |machine| {
        fail(failing);
        machine.suspend().expect("asleep");
        machine.shut_down();
        let expected = sequence(&[&["SelfManagedIoSuspend"], OUT_OF_D0, FAILED_IN_USE]);
        assert_eq!(recorded(), expected);
    });
}

/// Which step failed is remembered for good, but by the enabler: the next device has enablers of its own.
fn a_failed_start_is_forgotten_with_its_enablers() {
    recorder::machine(
        two_enablers(),
        |_| {},
        |machine| {
            fail("Fill 0");
            assert!(machine.start().is_err());
            fail("");
            recorder::forget();
            machine.start().expect("the device starts");
            recorded();
            machine.suspend().expect("asleep");
            assert_eq!(
                recorded(),
                sequence(&[&["SelfManagedIoSuspend"], OUT_OF_D0])
            );
            machine.resume().expect("awake");
            machine.shut_down();
        },
    );
}
