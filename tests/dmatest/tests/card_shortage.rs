//! The real driver and the ring card when memory, map registers or the framework's resources are short.
//!
//! `DMACARD_SYS` names the image; `cargo xtask test` builds it and sets the variable.

mod support;

use std::process::ExitCode;
use std::time::Duration;

use dmatest::machine_device::MachineDevice;
use dmatest::{Device, Direction, query_info};
use harness::Suite;
use machine::failure::{self, Point};
use machine::user::{Overlapped, Win32Error};
use machine::{CardFault as Fault, Machine, fail_allocation};

use support::{CARDS, System, in_order, reset, result, round_trip, statistics};

fn main() -> ExitCode {
    let [messages, line, ..] = CARDS;
    [messages, line]
        .into_iter()
        .flat_map(|system| TESTS.map(|(name, test)| (system, name, test)))
        .fold(
            Suite::new().limit(Duration::from_secs(120)),
            |suite, (system, name, test)| {
                suite.passes(format!("{}::{name}", system.name), move || test(system))
            },
        )
        .main()
}

macro_rules! tests {
    ($($test:ident)*) => { [$((stringify!($test), $test as fn(System))),*] };
}

/// A test, to be run in each system.
type Test = (&'static str, fn(System));

const TESTS: [Test; 5] = tests! {
    transfers_are_as_long_as_the_system_grants
    a_page_at_a_time
    nothing_is_created_or_allocated_at_work
    without_memory_the_card_recovers_too
    a_request_that_the_framework_refuses_costs_no_other
};

/// Bytes of the requests: several pages.
const LENGTH: usize = 20_000;

const NO_RESOURCES: Result<usize, Win32Error> =
    Err(Win32Error(dmatest::Win32Error::NO_SYSTEM_RESOURCES.0));

fn begin(device: &MachineDevice, direction: Direction) -> Overlapped {
    let buffer = device.buffer(LENGTH).expect("memory");
    device.start(direction, 0, buffer, 0..LENGTH)
}

/// Requests of these lengths have so many transfers, and move their data.
fn splits(device: &MachineDevice, granted: usize, cases: &[(usize, u64)]) {
    assert_eq!(
        query_info(device).expect("GET_INFO").maximum_transfer as usize,
        granted
    );
    for (length, expected) in cases {
        let before = statistics(device).transfers;
        round_trip(device, 3, *length, 5);
        let transfers = statistics(device).transfers - before;
        assert_eq!(transfers, 2 * expected, "{length} bytes");
    }
    assert_eq!(in_order(device).failed, 0);
}

/// The driver asks for a mebibyte and is granted less.
fn transfers_are_as_long_as_the_system_grants(system: System) {
    system
        .configured(|config| config.hal.map_register_grant = Some(17))
        .run(|_, device| {
            let granted = 65_536;
            splits(
                device,
                granted,
                &[(granted, 1), (granted + 1, 2), (1 << 20, 16), (100_000, 2)],
            );
        });
}

/// The fewest map registers that make sense.
fn a_page_at_a_time(system: System) {
    system
        .configured(|config| config.hal.map_register_grant = Some(2))
        .run(|_, device| splits(device, 4096, &[(1, 1), (4096, 1), (4097, 2), (200_000, 49)]));
}

/// Nothing can be created or allocated from here on.
fn take_all_memory() {
    failure::fail(Point::Object, 1, u64::MAX);
    fail_allocation(Some(1));
}

/// What was made for the driver during `work`, which may fail to get anything.
fn without_memory(work: impl FnOnce()) {
    let made = || machine::counters().driver_allocations.get();
    let before = made();
    take_all_memory();
    work();
    fail_allocation(None);
    assert_eq!(failure::disarm(), 0, "something was to be created");
    assert_eq!(made(), before, "something was allocated");
}

/// As many requests as there are slots, and more, in both directions.
fn many(device: &MachineDevice) {
    let ways = [Direction::Write, Direction::Read];
    let requests: Vec<_> = (0..100)
        .map(|index| begin(device, ways[index % 2]))
        .collect();
    for request in requests {
        assert_eq!(result(request), Ok(LENGTH));
    }
}

fn nothing_is_created_or_allocated_at_work(system: System) {
    system.run(|machine, device| {
        without_memory(|| {
            many(device);
            round_trip(device, 1, 3_000_000, 7);
            machine.suspend().expect("asleep");
            machine.resume().expect("awake");
            many(device);
        });
        in_order(device);
    });
}

fn faults(machine: &Machine) -> &machine::CardFaults {
    machine.card_faults().expect("the device is the card")
}

fn without_memory_the_card_recovers_too(system: System) {
    system.run(|machine, device| {
        use abi::card::Direction::{FromCard, ToCard};

        without_memory(|| {
            // A transfer that is aborted, a channel that is started again, a card that is reset.
            for fault in [
                Fault::Hang(ToCard),
                Fault::Stick(FromCard),
                Fault::Tag(ToCard, 1),
            ] {
                faults(machine).arm(fault);
                let requests = [Direction::Write, Direction::Read].map(|way| begin(device, way));
                let results = requests.map(result);
                assert!(results.iter().any(Result::is_err), "{fault:?}");
                many(device);
            }
            assert_eq!(reset(device), Ok(0));
            many(device);
        });
        in_order(device);
    });
}

/// Initialize or Execute fails for one of many: it fails with that status, and its slot serves another.
fn a_request_that_the_framework_refuses_costs_no_other(system: System) {
    system.run(|_, device| {
        for point in [Point::Initialize, Point::List] {
            failure::fail(point, 3, 40);
            let requests: Vec<_> = (0..100).map(|_| begin(device, Direction::Write)).collect();
            let results: Vec<_> = requests.into_iter().map(result).collect();
            assert_eq!(failure::disarm(), 40, "{point:?}");
            let refused = results.iter().filter(|ended| **ended == NO_RESOURCES);
            let done = results.iter().filter(|ended| **ended == Ok(LENGTH));
            assert_eq!((refused.count(), done.count()), (40, 60), "{results:?}");
            many(device);
        }
        in_order(device);
    });
}
