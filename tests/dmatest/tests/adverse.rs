//! The real driver on devices that fail, and in machines short of something.
//!
//! `DMACARD_SYS` names the image; `cargo xtask test` builds it and sets the variable.

mod support;

use std::process::ExitCode;
use std::time::Duration;

use dmatest::machine_device::MachineDevice;
use dmatest::query_statistics;
use harness::Suite;
use machine::Machine;
use machine::user::Token;

use support::{Requests, SYSTEMS, System, open, round_trip};

/// A test, to be run in each system.
type Test = (&'static str, fn(System));

const EVERYWHERE: [Test; 3] = [
    (
        "unwanted_interrupts_do_no_harm",
        unwanted_interrupts_do_no_harm,
    ),
    (
        "gone_before_the_driver_hears_of_it",
        gone_before_the_driver_hears_of_it,
    ),
    ("two_devices_on_one_line", two_devices_on_one_line),
];

fn main() -> ExitCode {
    SYSTEMS
        .into_iter()
        .flat_map(|system| {
            EVERYWHERE.map(|(name, test)| (format!("{}::{name}", system.name), system, test))
        })
        .fold(
            Suite::new().limit(Duration::from_secs(120)),
            |suite, (name, system, test)| suite.passes(name, move || test(system)),
        )
        .main()
}

fn arm(machine: &Machine, plan: &str) {
    let plan = plan.parse().expect("a plan");
    machine.faults().arm_plan(&plan).expect("armed");
}

/// Interrupts that come twice, late, or although the device did not ask for any: everything still works.
fn unwanted_interrupts_do_no_harm(system: System) {
    system.run(|machine, device| {
        arm(
            machine,
            "duplicate=30us@2x5,delay=400us@9x3,spurious@command:4x6",
        );
        for round in 0..6 {
            round_trip(device, round, 3000, 3);
        }
        assert_eq!(machine.faults().armed(), 0);
        assert_eq!(machine.faults().total(), 5 + 3 + 6);
    });
}

/// The device is pulled out in the middle of a transfer, and the bus says so afterwards: every request ends, and the
/// driver goes once the handle is closed.
fn gone_before_the_driver_hears_of_it(system: System) {
    system.run_machine(|machine| {
        machine.start().expect("started");
        let device = open(machine);
        arm(machine, "unplug@command:2");
        let requests = Requests::start(&device);
        requests.wait_removed();
        machine.settle();
        assert!(!machine.faults().is_up());
        drop(device);
    });
}

/// Two devices share the interrupt line; each one's driver takes its own interrupts and leaves the other's alone. By
/// messages they share nothing, and the same holds.
fn two_devices_on_one_line(system: System) {
    let system = system.configured(|config| config.neighbour = true);
    system.run_machine(|machine| {
        machine.start().expect("started");
        let [first, second] = [0, 1].map(|index| {
            MachineDevice::open_nth(machine, Token::Administrator, index).expect("opened")
        });
        round_trip(&first, 0, 3000, 1);
        let before = query_statistics(&first).expect("GET_STATISTICS");
        round_trip(&second, 0, 3000, 2);
        let after = query_statistics(&first).expect("GET_STATISTICS");
        assert_eq!(after.interrupts, before.interrupts, "of the other device");
        let requests = [&first, &second].map(Requests::start);
        requests.into_iter().for_each(Requests::wait_done);
        round_trip(&first, 7, 2000, 3);
        machine.rebalance().expect("rebalanced");
        round_trip(&first, 9, 2000, 4);
        round_trip(&second, 9, 2000, 4);
    });
}
