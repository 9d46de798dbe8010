//! The real driver on devices that fail, and in machines short of something.
//!
//! `DMACARD_SYS` names the image; `cargo xtask test` builds it and sets the variable.

mod support;

use std::process::ExitCode;
use std::time::Duration;

use dmatest::machine_device::MachineDevice;
use dmatest::{Device, Direction, query_statistics};
use harness::Suite;
use machine::failure::{self, Point};
use machine::user::{Overlapped, Token, Win32Error};
use machine::{Machine, fail_allocation};

use support::{Requests, SYSTEMS, System, open, round_trip};

/// A test, to be run in each system.
type Test = (&'static str, fn(System));

const EVERYWHERE: [Test; 8] = [
    (
        "unwanted_interrupts_do_no_harm",
        unwanted_interrupts_do_no_harm,
    ),
    (
        "gone_before_the_driver_hears_of_it",
        gone_before_the_driver_hears_of_it,
    ),
    ("two_devices_on_one_line", two_devices_on_one_line),
    ("no_object_when_added", no_object_when_added),
    ("no_memory_for_a_transaction", no_memory_for_a_transaction),
    (
        "no_map_registers_for_a_transfer",
        no_map_registers_for_a_transfer,
    ),
    ("no_memory_while_working", no_memory_while_working),
    (
        "a_device_that_cannot_be_programmed",
        a_device_that_cannot_be_programmed,
    ),
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

/// Each of the framework's objects in turn cannot be created: the device does not start, nothing is left behind, and the
/// next start, with memory, is as good as any.
fn no_object_when_added(system: System) {
    system.run_machine(|machine| {
        let (mut objects, mut done_without) = (0, 0);
        loop {
            failure::fail(Point::Object, objects + 1, 1);
            let started = machine.start();
            if failure::disarm() == 0 {
                started.expect("started");
                break;
            }
            match started {
                Err(refused) => assert!(refused.to_string().contains("0xc000009a"), "{refused}"),
                Ok(()) => {
                    done_without += 1;
                    machine.remove().expect("removed");
                }
            }
            objects += 1;
        }
        assert!(
            done_without <= 1,
            "the registry key of its parameters, and what else?"
        );
        assert!(objects >= 5, "only {objects} objects");
        let device = open(machine);
        round_trip(&device, 1, 3000, 9);
    });
}

/// Starts a read of 3000 bytes: three transfers.
fn start_read(device: &MachineDevice) -> Overlapped {
    let buffer = device.buffer(3000).expect("memory");
    device.start(Direction::Read, 0, buffer, 0..3000)
}

const NO_RESOURCES: Win32Error = Win32Error(dmatest::Win32Error::NO_SYSTEM_RESOURCES.0);

/// Initialize or Execute fails: the request fails with that status, those after it are carried out.
fn no_memory_for_a_transaction(system: System) {
    system.run(|_, device| {
        for point in [Point::Initialize, Point::Channel] {
            failure::fail(point, 2, 1);
            let requests = [(); 3].map(|()| start_read(device));
            let results = requests.map(|request| request.wait().result);
            assert_eq!(
                results,
                [Ok(3000), Err(NO_RESOURCES), Ok(3000)],
                "{point:?}"
            );
            assert_eq!(failure::disarm(), 1);
        }
    });
}

/// A later transfer of a request cannot be mapped: DmaCompleted says so, and the request ends there.
fn no_map_registers_for_a_transfer(system: System) {
    system.run(|_, device| {
        let before = query_statistics(device).expect("GET_STATISTICS");
        failure::fail(Point::Mapping, 2, 1);
        assert_eq!(start_read(device).wait().result, Err(NO_RESOURCES));
        assert_eq!(failure::disarm(), 1);
        let after = query_statistics(device).expect("GET_STATISTICS");
        assert_eq!(after.transfers - before.transfers, 1);
        assert_eq!(after.failed - before.failed, 1);
        round_trip(device, 0, 3000, 1);
    });
}

/// Once it works, the driver creates and allocates nothing: it works on when there is no memory.
fn no_memory_while_working(system: System) {
    system.run(|machine, device| {
        failure::fail(Point::Object, 1, u64::MAX);
        fail_allocation(Some(1));
        for round in 0..3 {
            round_trip(device, round, 3000, 3);
        }
        machine.suspend().expect("asleep");
        machine.resume().expect("awake");
        round_trip(device, 5, 3000, 3);
        fail_allocation(None);
        assert_eq!(failure::disarm(), 0, "something was to be created");
    });
}

/// The engine says that it is busy when the second transfer is to be programmed: the request fails, the next does not.
fn a_device_that_cannot_be_programmed(system: System) {
    system.run(|machine, device| {
        // It is asked before and after each transfer.
        arm(machine, "corrupt=0x98|1@3");
        start_read(device).wait().result.expect_err("busy");
        assert_eq!(machine.faults().total(), 1);
        round_trip(device, 0, 3000, 1);
    });
}
