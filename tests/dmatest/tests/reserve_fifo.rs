//! The real driver in system mode with channels and map registers that it has reserved, and with requests that wait for
//! neither.
//!
//! `DMACARD_SYS` names the image; `cargo xtask test` builds it and sets the variable.

mod support;

use std::process::ExitCode;
use std::time::Duration;

use abi::ioctl::{RESET, STREAM_START, STREAM_STOP};
use abi::mode::DmaMode;
use dmatest::machine_device::MachineDevice;
use dmatest::{Device, Direction, Win32Error, query_info, set_mode};
use harness::Suite;
use machine::Device as Board;
use machine::failure::{self, Point};
use machine::trace;
use machine::user::{Overlapped, now};

use support::modes::{BOTH, DEFAULT, IMMEDIATE, RESERVED, free, limit_150, mode, most, set, to};
use support::{FIFOS, System, happened, loop_round_trip, open, result, statistics};

/// A test, to be run in each system.
type Test = (&'static str, fn(System));

macro_rules! tests {
    ($($test:ident)*) => { [$((stringify!($test), $test)),*] };
}

const DUPLEX: [Test; 12] = tests! {
    each_direction_has_its_own
    fewer_map_registers_make_more_transfers
    reserved_requests_wait_for_nothing
    requests_with_reserved_channels_are_cancelled
    a_reserved_read_without_data_times_out
    a_reservation_for_one_direction_only_is_none
    a_reservation_that_waits_too_long_is_withdrawn
    a_stream_and_a_reservation_exclude_each_other
    immediate_requests_do_not_wait_for_a_stream
    sleep_keeps_the_mode_and_a_stop_ends_it
    pulled_out_with_channels_reserved
    channels_are_given_back_before_the_enabler_goes
};

const SIMPLEX: [Test; 2] = tests! {
    a_channel_for_both_directions_is_not_reserved
    immediate_requests_do_not_wait_for_the_channel
};

fn main() -> ExitCode {
    FIFOS
        .into_iter()
        .flat_map(|system| {
            let tests: &[Test] = match system.board {
                Board::FifoSimplex => &SIMPLEX,
                _ => &DUPLEX,
            };
            tests
                .iter()
                .map(move |&(name, test)| (format!("{}::{name}", system.name), system, test))
        })
        .fold(
            Suite::new().limit(Duration::from_secs(120)),
            |suite, (name, system, test)| suite.passes(name, move || test(system)),
        )
        .passes("granted_late::each_direction_has_its_own", || {
            each_direction_has_its_own(
                FIFOS[0].configured(|config| config.hal.defer_grants = true),
            );
        })
        .main()
}

const ABORTED: Result<usize, machine::user::Win32Error> =
    Err(machine::user::Win32Error::OPERATION_ABORTED);
const NO_RESOURCES: Result<usize, machine::user::Win32Error> =
    Err(machine::user::Win32Error(Win32Error::NO_SYSTEM_RESOURCES.0));

fn start(device: &MachineDevice, direction: Direction, length: usize) -> Overlapped {
    let buffer = device.buffer(length).expect("memory");
    device.start(direction, 0, buffer, 0..length)
}

fn each_direction_has_its_own(system: System) {
    system.run(|machine, device| {
        let (all, most) = (free(machine), most(device));
        assert!(most > 1);
        for (change, reserved) in [
            (RESERVED, most),
            (to(DmaMode::RESERVED, 1), 1),
            (IMMEDIATE, 0),
            (BOTH, most),
            (DEFAULT, 0),
        ] {
            set(device, change);
            assert_eq!(
                mode(device),
                (DmaMode::from_bits_retain(change.mode), reserved)
            );
            assert_eq!(free(machine), all - 2 * reserved);
            for (length, shift) in [(4, 0), (256, 4092), (0x5000, 8), (0x2_0000, 4)] {
                loop_round_trip(device, length, shift);
            }
        }
        for refused in [to(DmaMode::RESERVED, most + 1), to(DmaMode::IMMEDIATE, 1)] {
            let outcome = set_mode(device, refused);
            assert_eq!(outcome, Err(Win32Error::INVALID_PARAMETER));
        }
        assert_eq!(statistics(device).failed, 0);
    });
}

/// A page each with one, as many as there are map registers with more; the last page of a buffer is one as well.
fn fewer_map_registers_make_more_transfers(system: System) {
    system.run(|_, device| {
        let most = most(device);
        let largest = query_info(device).expect("GET_INFO").maximum_transfer as usize;
        let transfers = |registers: u32, length: usize, shift: usize| {
            set(device, to(DmaMode::RESERVED, registers));
            let before = statistics(device).transfers;
            loop_round_trip(device, length, shift);
            statistics(device).transfers - before
        };
        assert_eq!(transfers(1, 8192, 0), 2 * 2);
        assert_eq!(transfers(1, 8192, 4), 2 * 3);
        assert_eq!(transfers(2, 8192, 4), 2 * 2);
        assert_eq!(transfers(3, 8192, 4), 2);
        assert_eq!(transfers(most, largest, 4), 2);
        assert_eq!(transfers(most - 1, largest, 4), 2 * 2);
    });
}

/// Others have all map registers that there are.
fn reserved_requests_wait_for_nothing(system: System) {
    system.run(|machine, device| {
        for change in [RESERVED, to(DmaMode::RESERVED, 2), BOTH] {
            set(device, change);
            let others = machine.occupy_map_registers();
            loop_round_trip(device, 0x3000, 4);
            loop_round_trip(device, 64, 4092);
            drop(others);
        }
        set(device, IMMEDIATE);
        let others = machine.occupy_map_registers();
        assert_eq!(result(start(device, Direction::Read, 64)), NO_RESOURCES);
        assert_eq!(result(start(device, Direction::Write, 64)), NO_RESOURCES);
        drop(others);
        loop_round_trip(device, 64, 0);
        assert_eq!(statistics(device).without_resources, 2);
    });
}

/// And the channel is still there.
fn requests_with_reserved_channels_are_cancelled(system: System) {
    system.run(|machine, device| {
        set(device, to(DmaMode::RESERVED, 2));
        for (direction, length) in [
            (Direction::Read, 4),
            (Direction::Read, 0x8000),
            (Direction::Write, 0x8000),
        ] {
            let request = start(device, direction, length);
            machine.sleep(Duration::from_micros(200));
            request.cancel().expect("under way");
            assert_eq!(result(request), ABORTED);
            device
                .control(RESET, &[], &mut [])
                .expect("empties the FIFOs");
            let others = machine.occupy_map_registers();
            loop_round_trip(device, 0x3000, 4);
            drop(others);
        }
        assert_eq!(statistics(device).cancelled, 3);
    });
}

fn a_reserved_read_without_data_times_out(system: System) {
    system.configured(limit_150).run(|_, device| {
        set(device, RESERVED);
        let timed_out = Err(machine::user::Win32Error(Win32Error::SEM_TIMEOUT.0));
        assert_eq!(result(start(device, Direction::Read, 64)), timed_out);
        loop_round_trip(device, 256, 0);
        // It waits for the data, for less than the limit: the mode changes when it has ended.
        let waits = start(device, Direction::Read, 64);
        set(device, DEFAULT);
        assert_eq!(result(waits), timed_out);
        loop_round_trip(device, 256, 0);
    });
}

/// What the first direction has got is given back when the second gets nothing.
fn a_reservation_for_one_direction_only_is_none(system: System) {
    system.run(|machine, device| {
        let all = free(machine);
        for point in [Point::Object, Point::Channel] {
            failure::fail(point, 2, 1);
            let outcome = set_mode(device, RESERVED);
            assert_eq!(outcome, Err(Win32Error::NO_SYSTEM_RESOURCES));
            assert_eq!(failure::disarm(), 1);
            assert_eq!(mode(device), (DmaMode::empty(), 0));
            assert_eq!(free(machine), all);
            loop_round_trip(device, 256, 0);
        }
        set(device, RESERVED);
        loop_round_trip(device, 256, 0);
    });
}

fn a_reservation_that_waits_too_long_is_withdrawn(system: System) {
    system.configured(limit_150).run(|machine, device| {
        let all = free(machine);
        let others = machine.occupy_map_registers();
        let before = now();
        assert_eq!(set_mode(device, RESERVED), Err(Win32Error::SEM_TIMEOUT));
        let took = now() - before;
        assert!((150..200).contains(&took.as_millis()), "{took:?}");
        assert_eq!(set_mode(device, BOTH), Err(Win32Error::NO_SYSTEM_RESOURCES));
        drop(others);
        assert_eq!(free(machine), all);
        assert_eq!(mode(device), (DmaMode::empty(), 0));
        loop_round_trip(device, 256, 0);
        set(device, RESERVED);
        loop_round_trip(device, 256, 0);
    });
}

const LINE_PERIOD: [u8; 4] = 20_000_u32.to_le_bytes();

/// A channel cannot be both's.
fn a_stream_and_a_reservation_exclude_each_other(system: System) {
    system.run(|_, device| {
        let stream = || device.control(STREAM_START, &LINE_PERIOD, &mut []);
        for change in [RESERVED, BOTH] {
            assert_eq!(stream(), Ok(0));
            assert_eq!(set_mode(device, change), Err(Win32Error::BAD_COMMAND));
            assert_eq!(device.control(STREAM_STOP, &[], &mut []), Ok(0));
            set(device, change);
            assert_eq!(stream(), Err(Win32Error::BAD_COMMAND));
            loop_round_trip(device, 256, 0);
            set(device, DEFAULT);
        }
        assert_eq!(stream(), Ok(0));
        assert_eq!(device.control(STREAM_STOP, &[], &mut []), Ok(0));
        loop_round_trip(device, 256, 0);
    });
}

fn immediate_requests_do_not_wait_for_a_stream(system: System) {
    system.run(|_, device| {
        set(device, IMMEDIATE);
        assert_eq!(device.control(STREAM_START, &LINE_PERIOD, &mut []), Ok(0));
        assert_eq!(result(start(device, Direction::Read, 64)), NO_RESOURCES);
        assert_eq!(result(start(device, Direction::Write, 64)), NO_RESOURCES);
        assert_eq!(device.control(STREAM_STOP, &[], &mut []), Ok(0));
        loop_round_trip(device, 64, 0);
        assert_eq!(statistics(device).without_resources, 2);
    });
}

fn sleep_keeps_the_mode_and_a_stop_ends_it(system: System) {
    system.run(|machine, device| {
        let all = free(machine);
        for change in [RESERVED, to(DmaMode::RESERVED, 2), IMMEDIATE] {
            set(device, change);
            let before = mode(device);
            machine.suspend().expect("asleep");
            machine.resume().expect("awake");
            assert_eq!(mode(device), before);
            loop_round_trip(device, 0x3000, 4);
            machine.rebalance().expect("stopped and started");
            assert_eq!(mode(device), (DmaMode::empty(), 0));
            assert_eq!(free(machine), all);
            loop_round_trip(device, 0x3000, 4);
        }
    });
}

fn pulled_out_with_channels_reserved(system: System) {
    system.run_machine(|machine| {
        machine.start().expect("started");
        let all = free(machine);
        let device = open(machine);
        set(&device, RESERVED);
        loop_round_trip(&device, 256, 0);
        let waits = start(&device, Direction::Read, 64);
        machine.sleep(Duration::from_millis(1));
        machine.surprise_remove().expect("pulled out");
        assert!(result(waits).is_err());
        assert_eq!(free(machine), all);
        drop(device);
        machine.finish_removals();
    });
}

fn channels_are_given_back_before_the_enabler_goes(system: System) {
    const FREE: &str = "WdfDmaTransactionFreeResources";
    const DELETE: &str = "WdfObjectDelete";
    system.run(|machine, device| {
        set(device, RESERVED);
        trace::reset();
        machine.rebalance().expect("stopped and started");
        let calls = happened(|what| [FREE, DELETE].contains(&what));
        assert_eq!(calls[..3], [FREE, FREE, DELETE]);
        assert!(!calls[3..].contains(&FREE), "{calls:?}");
    });
}

fn a_channel_for_both_directions_is_not_reserved(system: System) {
    system.run(|machine, device| {
        let all = free(machine);
        for change in [RESERVED, BOTH] {
            assert_eq!(set_mode(device, change), Err(Win32Error::NOT_SUPPORTED));
        }
        assert_eq!(mode(device), (DmaMode::empty(), 0));
        assert_eq!(free(machine), all);
        loop_round_trip(device, 256, 0);
    });
}

/// One after the other they are carried out.
fn immediate_requests_do_not_wait_for_the_channel(system: System) {
    system.run(|_, device| {
        set(device, IMMEDIATE);
        let has = start(device, Direction::Read, 64);
        assert_eq!(result(start(device, Direction::Write, 64)), NO_RESOURCES);
        has.cancel().expect("under way");
        assert_eq!(result(has), ABORTED);
        assert_eq!(result(start(device, Direction::Write, 64)), Ok(64));
        assert_eq!(result(start(device, Direction::Read, 64)), Ok(64));
    });
}
