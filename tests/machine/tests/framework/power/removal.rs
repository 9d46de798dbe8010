//! The device is pulled out, in each state of its life, with and without the framework's verifier.

use std::cell::{Cell, RefCell};

use harness::Suite;
use machine::Machine;
use machine::fault::{Fault, FaultKind, Shim};
use machine::nt_sys::*;

use super::{INTO_D0, OUT_OF_D0, sequence, two_enablers};
use crate::recorder::{self, Opened, Plan, complete_oldest, fail, recorded};

/// What follows once a device that is gone has no power.
const GONE: &[&str] = &[
    "ReleaseHardware",
    "SelfManagedIoFlush",
    "SelfManagedIoCleanup",
];
/// What a device that has power goes through when it is pulled out.
const PULLED_OUT: &[&[&str]] = &[
    &["SurpriseRemoval", "SelfManagedIoSuspend"],
    OUT_OF_D0,
    GONE,
];

type Test = fn(&Machine);

const MOMENTS: [(&str, Test); 9] = [
    ("pulled_out_while_it_is_prepared", |machine| {
        while_starting(machine, "PrepareHardware");
    }),
    ("pulled_out_while_it_enters_d0", |machine| {
        while_starting(machine, "D0Entry");
    }),
    ("pulled_out_between_its_enablers", |machine| {
        while_starting(machine, "Start 0");
    }),
    ("pulled_out_and_its_start_fails", start_fails),
    ("pulled_out_while_idle", while_idle),
    ("pulled_out_while_asleep", while_asleep),
    ("pulled_out_while_it_falls_asleep", while_falling_asleep),
    ("pulled_out_while_stopped", while_stopped),
    (
        "pulled_out_while_stopped_it_does_not_start_again",
        restart_fails,
    ),
];

pub(super) fn tests(suite: Suite) -> Suite {
    [true, false].into_iter().fold(suite, |suite, verifier| {
        let full = move |name: &str| {
            let other = if verifier { "" } else { "_without_verifier" };
            format!("{name}{other}")
        };
        MOMENTS
            .into_iter()
            .fold(suite, |suite, (name, test)| {
                suite.passes(full(name), move || in_machine(verifier, test))
            })
            .passes(full("pulled_out_with_a_request_under_way"), move || {
                with_a_request(verifier);
            })
    })
}

thread_local! {
    static SHIM: RefCell<Option<Shim>> = const { RefCell::new(None) };
    /// The callback during which the device is pulled out.
    static MOMENT: Cell<&'static str> = const { Cell::new("") };
}

/// Pulls the device out if this is the callback.
unsafe fn pull_out_at(callback: &str) {
    if MOMENT.get() == callback {
        MOMENT.set("");
        SHIM.with_borrow(|shim| {
            let shim = shim.as_ref().expect("set before the start");
            shim.arm(Fault::now(FaultKind::Unplug)).expect("armed");
        });
    }
}

/// Runs `test` in a machine whose device has not been started; nothing of it is left afterwards.
fn in_machine(verifier: bool, test: Test) {
    let plan = Plan {
        before: pull_out_at,
        ..two_enablers()
    };
    recorder::machine(
        plan,
        move |config| config.framework_verifier = verifier,
        move |machine| {
            SHIM.set(Some(machine.faults().clone()));
            test(machine);
            assert!(!machine.faults().is_up());
            machine.shut_down();
            assert_eq!(recorded(), [""; 0], "nothing is called afterwards");
        },
    );
}

/// Starts the device; what it called is not recorded.
fn start(machine: &Machine) {
    machine.start().expect("the device starts");
    recorded();
}

/// The start goes on: a driver that does not look at its device does not notice. Then it hears of the removal.
fn while_starting(machine: &Machine, moment: &'static str) {
    MOMENT.set(moment);
    machine.start().expect("the device starts");
    machine.settle();
    let started = [&["PrepareHardware"], INTO_D0, &["SelfManagedIoInit"]];
    let expected = sequence(&[&started[..], PULLED_OUT].concat());
    assert_eq!(recorded(), expected);
}

/// A driver that notices fails the start, and does not hear of the removal as well.
fn start_fails(machine: &Machine) {
    MOMENT.set("D0Entry");
    fail("D0Entry");
    assert!(machine.start().is_err());
    machine.settle();
    assert_eq!(
        recorded(),
        ["PrepareHardware", "D0Entry", "ReleaseHardware"]
    );
}

fn while_idle(machine: &Machine) {
    start(machine);
    machine.surprise_remove().expect("pulled out");
    assert_eq!(recorded(), sequence(PULLED_OUT));
}

/// It has left D0 already, and does not enter it again.
fn while_asleep(machine: &Machine) {
    start(machine);
    machine.suspend().expect("asleep");
    recorded();
    machine.surprise_remove().expect("pulled out");
    assert_eq!(recorded(), sequence(&[&["SurpriseRemoval"], GONE]));
    machine.resume().expect("awake, but for this device");
}

/// The way down is gone to its end first.
fn while_falling_asleep(machine: &Machine) {
    start(machine);
    MOMENT.set("Disable 0");
    machine.suspend().expect("asleep");
    machine.settle();
    let asleep: &[&[&str]] = &[&["SelfManagedIoSuspend"], OUT_OF_D0];
    let gone: &[&[&str]] = &[&["SurpriseRemoval"], GONE];
    assert_eq!(recorded(), sequence(&[asleep, gone].concat()));
    machine.resume().expect("awake, but for this device");
}

/// Stopped for other resources, it is started with them all the same; then it hears of the removal.
fn while_stopped(machine: &Machine) {
    start(machine);
    MOMENT.set("ReleaseHardware");
    machine.rebalance().expect("started again");
    machine.settle();
    let rebalanced: &[&[&str]] = &[
        &["QueryStop", "SelfManagedIoSuspend"],
        OUT_OF_D0,
        &["ReleaseHardware", "PrepareHardware"],
        INTO_D0,
        &["SelfManagedIoRestart"],
    ];
    assert_eq!(recorded(), sequence(&[rebalanced, PULLED_OUT].concat()));
}

/// A driver that notices does not start again, and goes without having heard of the removal.
fn restart_fails(machine: &Machine) {
    start(machine);
    MOMENT.set("ReleaseHardware");
    fail("PrepareHardware");
    assert!(machine.rebalance().is_err());
    machine.settle();
    let expected = sequence(&[
        &["QueryStop", "SelfManagedIoSuspend"],
        OUT_OF_D0,
        &["ReleaseHardware", "PrepareHardware"],
        GONE,
    ]);
    assert_eq!(recorded(), expected);
}

/// The request in the driver's hands is asked for while the device loses its power; the removal ends when the last handle
/// is closed.
fn with_a_request(verifier: bool) {
    let plan = Plan {
        stop: |_, _| complete_oldest(STATUS_NO_SUCH_DEVICE),
        ..two_enablers()
    };
    recorder::machine(
        plan,
        move |config| config.framework_verifier = verifier,
        |machine| {
            start(machine);
            let device = Opened::new(machine);
            let (first, second) = (device.read(8), device.read(9));
            machine.surprise_remove().expect("pulled out");
            assert_eq!(first.wait().status, STATUS_NO_SUCH_DEVICE);
            assert_eq!(second.wait().status, STATUS_CANCELLED, "not delivered");
            let late = device.read(10);
            assert!(late.wait().status < 0, "nobody takes it");
            drop(device);
            machine.finish_removals();
            let expected = sequence(&[
                &[
                    "read 8",
                    "SurpriseRemoval",
                    "SelfManagedIoSuspend",
                    "IoStop 0x1",
                ],
                OUT_OF_D0,
                GONE,
            ]);
            assert_eq!(recorded(), expected);
            machine.shut_down();
        },
    );
}
