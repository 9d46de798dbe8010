//! The order in which the framework calls a driver on the way up and down, whole, and what it calls when one of them fails.

mod failures;
mod order;
mod removal;
mod requests;
mod rounds;

use harness::Suite;
use machine::Machine;

use crate::recorder::{self, Plan, recorded};

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

pub fn tests(suite: Suite) -> Suite {
    [
        order::tests,
        failures::tests,
        removal::tests,
        rounds::tests,
        requests::tests,
    ]
    .into_iter()
    .fold(suite, |suite, tests| tests(suite))
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
