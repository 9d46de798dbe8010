//! Stopped and started, put to sleep and woken up, ten times in a row with I/O between: each time is like the first.

use harness::Suite;
use machine::Machine;
use machine::nt_sys::*;

use super::{INTO_D0, OUT_OF_D0, sequence, two_enablers};
use crate::recorder::{self, Opened, complete_oldest, held, recorded};

const ROUNDS: usize = 10;

type Test = fn(&Machine, &Opened);

const TESTS: [(&str, Test); 4] = [
    ("rebalanced_ten_times", |machine, device| {
        for _ in 0..ROUNDS {
            serve(device);
            rebalance(machine);
            assert_eq!(recorded(), sequence(REBALANCED));
        }
        serve(device);
    }),
    ("asleep_ten_times", |machine, device| {
        for _ in 0..ROUNDS {
            serve(device);
            sleep_and_wake(machine);
            assert_eq!(recorded(), sequence(SLEPT));
        }
        serve(device);
    }),
    ("asleep_and_rebalanced_in_turn", |machine, device| {
        for _ in 0..ROUNDS {
            sleep_and_wake(machine);
            rebalance(machine);
            serve(device);
        }
    }),
    (
        "rebalanced_ten_times_with_a_request_in_the_drivers_hands",
        kept_all_along,
    ),
];

const REBALANCED: &[&[&str]] = &[
    &["QueryStop", "SelfManagedIoSuspend"],
    OUT_OF_D0,
    &["ReleaseHardware", "PrepareHardware"],
    INTO_D0,
    &["SelfManagedIoRestart"],
];
const SLEPT: &[&[&str]] = &[
    &["SelfManagedIoSuspend"],
    OUT_OF_D0,
    INTO_D0,
    &["SelfManagedIoRestart"],
];

pub(super) fn tests(suite: Suite) -> Suite {
    [("", true), ("_without_verifier", false)].into_iter().fold(
        suite,
        |suite, (other, verifier)| {
            TESTS.into_iter().fold(suite, |suite, (name, test)| {
                suite.passes(format!("{name}{other}"), move || {
                    let configure =
                        move |config: &mut machine::Config| config.framework_verifier = verifier;
                    recorder::opened_in(two_enablers(), configure, test);
                })
            })
        },
    )
}

fn rebalance(machine: &Machine) {
    machine.rebalance().expect("started again");
}

fn sleep_and_wake(machine: &Machine) {
    machine.suspend().expect("asleep");
    machine.resume().expect("awake");
}

/// Two reads, of which one waits for the other; then nothing is recorded.
fn serve(device: &Opened) {
    let reads = [device.read(8), device.read(9)];
    for read in reads {
        assert!(!read.has_ended());
        complete_oldest(STATUS_SUCCESS);
        assert_eq!(read.wait().status, STATUS_SUCCESS);
    }
    let calls = recorded();
    assert!(
        calls.ends_with(&["read 8".to_owned(), "read 9".to_owned()]),
        "{calls:?}"
    );
}

/// The driver keeps one request through all of it; the one that waits behind it is delivered when it has ended.
fn kept_all_along(machine: &Machine, device: &Opened) {
    let (first, second) = (device.read(8), device.read(9));
    assert_eq!(recorded(), ["read 8"]);
    for _ in 0..ROUNDS {
        rebalance(machine);
        let calls = recorded();
        let count = |name: &str| calls.iter().filter(|call| *call == name).count();
        assert_eq!(
            (count("IoStop 0x1"), count("IoResume")),
            (1, 1),
            "{calls:?}"
        );
        assert_eq!(count("read 9"), 0, "{calls:?}");
    }
    complete_oldest(STATUS_SUCCESS);
    assert_eq!(first.wait().status, STATUS_SUCCESS);
    assert_eq!(held(), 1);
    complete_oldest(STATUS_SUCCESS);
    assert_eq!(second.wait().status, STATUS_SUCCESS);
}
