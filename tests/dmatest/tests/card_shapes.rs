//! The real driver and the ring card when requests are split another way than the system's grant has it: into shorter
//! transfers, or not at all.
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

use support::{CARDS, System, in_order, parameter, result, round_trip, statistics};

fn main() -> ExitCode {
    let [messages, ..] = CARDS;
    TESTS
        .into_iter()
        .fold(Suite::new(), |suite, (name, test)| {
            suite.passes(name, move || test(messages))
        })
        .main()
}

/// A test.
type Test = (&'static str, fn(System));

macro_rules! tests {
    ($($test:ident)*) => { [$((stringify!($test), $test)),*] };
}

const TESTS: [Test; 6] = tests! {
    requests_are_split_where_the_registry_says
    a_limit_beyond_the_grant_changes_nothing
    a_request_is_one_transfer_or_refused
    a_single_transfer_that_is_given_up_ends_once
    a_single_transfer_needs_its_map_registers
    a_single_transfer_that_fails_costs_no_other
};

/// The longest transfer.
const LONGEST: usize = 1 << 20;

/// What a program sees of STATUS_WDF_TOO_MANY_TRANSFERS: an invalid request.
const TOO_LONG: Result<usize, Win32Error> = Err(Win32Error(1));

/// And of STATUS_WDF_NOT_ENOUGH_MAP_REGISTERS.
const NO_RESOURCES: Result<usize, Win32Error> =
    Err(Win32Error(dmatest::Win32Error::NO_SYSTEM_RESOURCES.0));

fn start(device: &MachineDevice, length: usize) -> Overlapped {
    let buffer = device.buffer(length).expect("memory");
    device.start(Direction::Write, 0, buffer, 0..length)
}

fn maximum_transfer(device: &MachineDevice) -> usize {
    query_info(device).expect("GET_INFO").maximum_transfer as usize
}

/// More requests than there are slots, so that each slot has several: what Initialize and Release forget is set again.
fn requests_are_split_where_the_registry_says(system: System) {
    system
        .configured(|config| parameter(config, "TransferLength", 10_000))
        .run(|_, device| {
            assert_eq!(maximum_transfer(device), 10_000);
            let before = statistics(device).transfers;
            let requests: Vec<_> = (0..100).map(|_| start(device, 30_001)).collect();
            for request in requests {
                assert_eq!(result(request), Ok(30_001));
            }
            assert_eq!(statistics(device).transfers - before, 400);
            round_trip(device, 3, 123_457, 7);
            assert_eq!(in_order(device).failed, 0);
        });
}

fn a_limit_beyond_the_grant_changes_nothing(system: System) {
    system
        .configured(|config| {
            config.hal.map_register_grant = Some(17);
            parameter(config, "TransferLength", 100_000);
        })
        .run(|_, device| {
            assert_eq!(maximum_transfer(device), 65_536);
            let before = statistics(device).transfers;
            assert_eq!(result(start(device, 100_000)), Ok(100_000));
            assert_eq!(statistics(device).transfers - before, 2);
            in_order(device);
        });
}

fn whole(system: System) -> System {
    system.configured(|config| parameter(config, "SingleTransfers", 1))
}

/// Round after round in every slot: Release forgets that it is to be one.
fn a_request_is_one_transfer_or_refused(system: System) {
    whole(system).run(|_, device| {
        round_trip(device, 5, LONGEST, 4095);
        for _ in 0..3 {
            let before = statistics(device).transfers;
            let requests: Vec<_> = (0..40)
                .map(|index| start(device, LONGEST + index % 2))
                .collect();
            for (index, request) in requests.into_iter().enumerate() {
                let expected = [Ok(LONGEST), TOO_LONG][index % 2];
                assert_eq!(result(request), expected);
            }
            assert_eq!(statistics(device).transfers - before, 20);
        }
        in_order(device);
    });
}

/// The framework calls a single transfer that comes up short too long; it has been cancelled all the same.
fn a_single_transfer_that_is_given_up_ends_once(system: System) {
    whole(system).run(|machine, device| {
        let before = statistics(device).bytes_written;
        let request = start(device, LONGEST);
        machine.sleep(Duration::from_micros(150));
        request.cancel().expect("a mebibyte takes twice as long");
        assert_eq!(result(request), Err(Win32Error::OPERATION_ABORTED));
        let moved = statistics(device).bytes_written - before;
        assert!((1..LONGEST as u64).contains(&moved), "{moved} bytes");
        let counted = in_order(device);
        assert_eq!((counted.cancelled, counted.failed), (1, 0));
    });
}

fn a_single_transfer_needs_its_map_registers(system: System) {
    system
        .configured(|config| {
            parameter(config, "SingleTransfers", 1);
            config.hal.map_register_grant = Some(17);
        })
        .run(|_, device| {
            assert_eq!(result(start(device, 65_536)), Ok(65_536));
            assert_eq!(result(start(device, 200_000)), NO_RESOURCES);
            in_order(device);
        });
}

fn a_single_transfer_that_fails_costs_no_other(system: System) {
    whole(system).run(|_, device| {
        for point in [Point::Initialize, Point::List] {
            failure::fail(point, 2, 1);
            let results = [(); 3].map(|()| start(device, LONGEST)).map(result);
            assert_eq!(failure::disarm(), 1);
            assert_eq!(results, [Ok(LONGEST), NO_RESOURCES, Ok(LONGEST)]);
        }
        in_order(device);
    });
}
