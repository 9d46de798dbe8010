//! What the real driver does in which order: seen in the machine's trace of its calls and of the calls to it.
//!
//! `DMACARD_SYS` names the image; `cargo xtask test` builds it and sets the variable.

mod support;

use std::cell::Cell;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use dmatest::machine_device::MachineDevice;
use dmatest::{Device, Direction, query_statistics};
use harness::Suite;
use machine::user::{Thread, Win32Error, relinquish};
use machine::{PolicyKind, trace};

use support::{SYSTEMS, System, happened, open, round_trip};

/// A test, to be run in each system.
type Test = (&'static str, fn(System));

const EVERYWHERE: [Test; 3] = [
    (
        "one_enabler_is_made_before_any_transaction",
        one_enabler_is_made_before_any_transaction,
    ),
    (
        "the_alignment_is_required_before_the_enabler_is_made",
        the_alignment_is_required_before_the_enabler_is_made,
    ),
    (
        "power_callbacks_come_in_order_and_do_their_part",
        power_callbacks_come_in_order_and_do_their_part,
    ),
];

/// What needs schedules, and so a device in this process.
const TWIN: Test = (
    "cancelled_before_it_is_marked_it_is_not_executed",
    cancelled_before_it_is_marked_it_is_not_executed,
);

fn main() -> ExitCode {
    let plain = SYSTEMS.into_iter().take(4);
    let everywhere = plain.flat_map(|system| {
        EVERYWHERE.map(|(name, test)| (format!("{}::{name}", system.name), system, test))
    });
    let twins = SYSTEMS[2..4]
        .iter()
        .map(|system| (format!("{}::{}", system.name, TWIN.0), *system, TWIN.1));
    everywhere
        .chain(twins)
        .fold(
            Suite::new().limit(Duration::from_secs(120)),
            |suite, (name, system, test)| suite.passes(name, move || test(system)),
        )
        .main()
}

/// What `test` finds of the calls that the driver makes when its device is added, which is the first thing it does.
fn when_added(system: System, wanted: fn(&str) -> bool, test: fn(&[&str])) {
    system.run_machine(move |machine| {
        trace::reset();
        machine.start().expect("started");
        test(&happened(wanted));
        round_trip(&open(machine), 0, 3000, 1);
        trace::reset();
        machine.rebalance().expect("started again");
        assert_eq!(happened(wanted), [""; 0], "once for the device's life");
    });
}

fn one_enabler_is_made_before_any_transaction(system: System) {
    let wanted = |what: &str| {
        [
            "WdfDeviceCreate",
            "WdfDmaEnablerCreate",
            "WdfDmaTransactionCreate",
        ]
        .contains(&what)
    };
    when_added(system, wanted, |calls| {
        assert_eq!(
            calls,
            [
                "WdfDeviceCreate",
                "WdfDmaEnablerCreate",
                "WdfDmaTransactionCreate"
            ]
        );
    });
}

/// The enabler samples what is set then.
fn the_alignment_is_required_before_the_enabler_is_made(system: System) {
    let wanted =
        |what: &str| ["WdfDeviceSetAlignmentRequirement", "WdfDmaEnablerCreate"].contains(&what);
    when_added(system, wanted, |calls| {
        assert_eq!(
            calls,
            ["WdfDeviceSetAlignmentRequirement", "WdfDmaEnablerCreate"]
        );
    });
}

/// What the driver does in its power callbacks. Of a transfer's own accesses there are none meanwhile.
const UP: [&str; 6] = [
    "EvtDeviceD0Entry",
    "register read",
    "EvtDmaEnablerFill",
    "register read",
    "EvtDmaEnablerEnable",
    "EvtDmaEnablerSelfManagedIoStart",
];
const DOWN: [&str; 8] = [
    "EvtDmaEnablerSelfManagedIoStop",
    "WdfTimerStop",
    "EvtDmaEnablerDisable",
    "configuration write",
    "EvtDmaEnablerFlush",
    "register read",
    "EvtDeviceD0Exit",
    "register read",
];

/// The callbacks that have been called, and between them what the driver did in them: several reads of registers are as
/// good as one.
fn steps() -> Vec<&'static str> {
    const WHAT: [&str; 5] = [
        "WdfTimerStop",
        "register read",
        "configuration write",
        "EvtDeviceD0Entry",
        "EvtDeviceD0Exit",
    ];
    let mut steps = happened(|what| what.starts_with("EvtDmaEnabler") || WHAT.contains(&what));
    steps.dedup();
    steps
}

/// The engine is found idle before the device gets on the bus, the timer is stopped before it leaves, and nothing is left
/// pending after that. The bus has a device on it already when it starts, but not when it wakes up.
fn power_callbacks_come_in_order_and_do_their_part(system: System) {
    system.run_machine(|machine| {
        trace::reset();
        machine.start().expect("started");
        assert_eq!(steps(), [&["register read"], &UP[..]].concat());
        machine.suspend().expect("asleep");
        assert_eq!(steps(), DOWN);
        machine.resume().expect("awake");
        let (before, after) = UP.split_at(5);
        assert_eq!(steps(), [before, &["configuration write"], after].concat());
        machine.rebalance().expect("rebalanced");
        assert_eq!(steps(), [&DOWN[..], &UP].concat());
    });
}

/// Another thread cancels the request as soon as the driver has it. Under some schedules that comes before the driver makes
/// it cancelable: then nothing is done for it.
fn cancelled_before_it_is_marked_it_is_not_executed(system: System) {
    system.run(|machine, _| {
        let device = Rc::new(open(machine));
        let found = (1..200).find(|&seed| {
            machine.set_schedule(PolicyKind::Random, seed, None);
            cancelled_in_the_driver(&device)
        });
        assert!(found.is_some(), "the schedules never get there");
        machine.set_schedule(PolicyKind::RoundRobin, 1, None);
        round_trip(&device, 7, 3000, 5);
    });
}

/// Whether the request was cancelled after the driver had got it and before it was made cancelable.
fn cancelled_in_the_driver(device: &Rc<MachineDevice>) -> bool {
    let before = query_statistics(&**device).expect("GET_STATISTICS");
    trace::reset();
    let begun = Rc::new(Cell::new(false));
    let canceller = {
        let (device, begun) = (device.clone(), begun.clone());
        Thread::spawn("canceller", move || {
            let has = |what| trace::events().iter().any(|event| event.what == what);
            while !begun.get() && !has("WdfRequestGetParameters") {
                relinquish();
            }
            // It may have ended already.
            let _ = device.file().cancel_all();
        })
    };
    let buffer = device.buffer(3000).expect("memory");
    let request = device.start(Direction::Read, 0, buffer, 0..3000);
    begun.set(true);
    canceller.join();
    let result = request.wait().result;
    assert!(
        [Ok(3000), Err(Win32Error::OPERATION_ABORTED)].contains(&result),
        "{result:?}"
    );
    let calls = trace::events();
    let called = |what| calls.iter().any(|event| event.what == what);
    let after = query_statistics(&**device).expect("GET_STATISTICS");
    let found =
        called("WdfRequestMarkCancelableEx") && !called("WdfDmaTransactionInitializeUsingRequest");
    if found {
        assert_eq!(result, Err(Win32Error::OPERATION_ABORTED));
        assert_eq!(after.requests, before.requests + 1);
        assert_eq!(after.cancelled, before.cancelled + 1);
        assert_eq!(after.transfers, before.transfers);
    }
    found
}
