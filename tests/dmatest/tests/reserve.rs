//! The real driver with map registers that it has reserved, and with requests that do not wait for any.
//!
//! `DMACARD_SYS` names the image; `cargo xtask test` builds it and sets the variable.

mod support;

use std::process::ExitCode;
use std::time::Duration;

use abi::mode::{DmaMode, ModeChange};
use dmatest::machine_device::MachineDevice;
use dmatest::pattern::Pattern;
use dmatest::{Device, Direction, Win32Error, query_mode, set_mode};
use harness::Suite;
use machine::Device as Board;
use machine::failure::{self, Point};
use machine::trace;
use machine::user::{Overlapped, Thread, now};

use support::modes::{BOTH, DEFAULT, IMMEDIATE, RESERVED, free, limit_150, mode, most, set, to};
use support::{
    CARDS, SYSTEMS, System, happened, in_order, open, result, round_trip, statistics, verify_all,
};

/// A test, to be run in each system.
type Test = (&'static str, fn(System));

macro_rules! tests {
    ($($test:ident)*) => { [$((stringify!($test), $test)),*] };
}

const EDU: [Test; 20] = tests! {
    the_mode_is_what_was_set
    what_cannot_be_reserved_is_refused
    reserved_requests_wait_for_no_map_registers
    fewer_map_registers_make_more_transfers
    a_reservation_waits_for_map_registers
    a_reservation_that_waits_too_long_is_withdrawn
    an_immediate_reservation_does_not_wait
    a_reservation_that_fails_leaves_nothing_behind
    immediate_requests_end_without_map_registers
    requests_under_way_end_before_the_mode_changes
    a_device_that_stays_busy_keeps_its_mode
    sleep_keeps_the_mode
    a_stop_gives_the_map_registers_back
    pulled_out_with_map_registers_reserved
    reserved_again_and_again
    modes_change_while_requests_come_and_go
    asleep_while_a_reservation_waits
    pulled_out_while_a_reservation_waits
    a_reservation_has_a_transaction_of_its_own
    every_promise_holds_in_every_mode
};

fn main() -> ExitCode {
    SYSTEMS
        .into_iter()
        .flat_map(|system| {
            EDU.map(|(name, test)| (format!("{}::{name}", system.name), system, test))
        })
        .fold(
            Suite::new().limit(Duration::from_secs(120)),
            |suite, (name, system, test)| suite.passes(name, move || test(system)),
        )
        .passes("granted_late::a_reservation_is_granted_later", || {
            every_promise_holds_in_every_mode(
                SYSTEMS[2].configured(|config| config.hal.defer_grants = true),
            );
        })
        .passes("few_map_registers::a_reservation_takes_them_all", || {
            every_promise_holds_in_every_mode(
                SYSTEMS[2].configured(|config| config.hal.map_registers = 2),
            );
        })
        .passes("a_card_with_lists_reserves_nothing", || {
            a_card_with_lists_reserves_nothing(CARDS[0]);
        })
        .main()
}

/// What edu takes for a transfer.
const TRANSFER: Duration = Duration::from_millis(100);

/// Map registers of a transfer of 1024 bytes, wherever it begins.
const MOST: u32 = 2;

const DONE: Result<usize, machine::user::Win32Error> = Ok(3000);

fn read(device: &MachineDevice) -> Overlapped {
    let buffer = device.buffer(3000).expect("memory");
    device.start(Direction::Read, 0, buffer, 0..3000)
}

fn the_mode_is_what_was_set(system: System) {
    system.run(|machine, device| {
        let all = free(machine);
        assert_eq!(mode(device), (DmaMode::empty(), 0));
        assert_eq!(most(device), MOST);
        for (change, reserved) in [
            (RESERVED, MOST),
            (IMMEDIATE, 0),
            (to(DmaMode::RESERVED, 1), 1),
            (BOTH, MOST),
            (to(DmaMode::RESERVED, MOST), MOST),
            (DEFAULT, 0),
        ] {
            set(device, change);
            let expected = DmaMode::from_bits_retain(change.mode);
            assert_eq!(mode(device), (expected, reserved));
            assert_eq!(free(machine), all - reserved);
            round_trip(device, 3, 3000, 100);
        }
        assert_eq!(in_order(device).failed, 0);
    });
}

/// Neither does it reach the framework, which would stop the system for some of it, nor does it change anything.
fn what_cannot_be_reserved_is_refused(system: System) {
    system.run(|machine, device| {
        let all = free(machine);
        set(device, to(DmaMode::RESERVED, 1));
        for change in [
            to(DmaMode::RESERVED, MOST + 1),
            to(DmaMode::RESERVED, u32::MAX),
            to(DmaMode::from_bits_retain(4), 0),
            to(DmaMode::IMMEDIATE, 1),
            to(DmaMode::empty(), 1),
        ] {
            let refused = set_mode(device, change);
            assert_eq!(refused, Err(Win32Error::INVALID_PARAMETER), "{change:?}");
        }
        let short = device.control(abi::ioctl::SET_DMA_MODE, &[1, 0, 0, 0], &mut []);
        assert_eq!(short, Err(Win32Error::INSUFFICIENT_BUFFER));
        assert_eq!(mode(device), (DmaMode::RESERVED, 1));
        assert_eq!(free(machine), all - 1);
        round_trip(device, 0, 3000, 9);
    });
}

/// Others have all that there are: who has reserved some goes on, who has not waits.
fn reserved_requests_wait_for_no_map_registers(system: System) {
    system.run(|machine, device| {
        for change in [RESERVED, to(DmaMode::RESERVED, 1), BOTH] {
            set(device, change);
            let others = machine.occupy_map_registers();
            for shift in [0, 1, 2000] {
                round_trip(device, 5, 3000, shift);
            }
            set(device, DEFAULT);
            // What was given back is not taken by anybody.
            let rest = machine.occupy_map_registers();
            assert!(rest.count() > 0);
            let waits = read(device);
            machine.sleep(2 * TRANSFER);
            assert!(!waits.has_ended());
            drop((others, rest));
            assert_eq!(result(waits), DONE);
        }
        assert_eq!(in_order(device).failed, 0);
    });
}

/// A transfer ends where the last page ends for which there is a map register.
fn fewer_map_registers_make_more_transfers(system: System) {
    system.run(|_, device| {
        let transfers = |change: ModeChange, shift: usize| {
            set(device, change);
            let before = statistics(device).transfers;
            let mut buffer = device.buffer(shift + 3000).expect("memory");
            Pattern::Random(7).fill(0, &mut buffer);
            let request = device.start(Direction::Write, 0, buffer, shift..shift + 3000);
            assert_eq!(result(request), DONE);
            statistics(device).transfers - before
        };
        for shift in [0, 1000, 3000, 4000] {
            assert_eq!(transfers(DEFAULT, shift), 3);
            assert_eq!(transfers(RESERVED, shift), 3);
            let crosses = shift + 3000 > 4096 && (4096 - shift) % 1024 != 0;
            // What remains after the 1024s may need one more.
            let expected = if crosses {
                ((4096 - shift).div_ceil(1024) + (shift + 3000 - 4096).div_ceil(1024)) as u64
            } else {
                3
            };
            assert_eq!(
                transfers(to(DmaMode::RESERVED, 1), shift),
                expected,
                "{shift}"
            );
        }
        assert_eq!(transfers(to(DmaMode::RESERVED, 1), 4000), 4);
        for shift in [0, 1, 4095, 3073] {
            round_trip(device, 0, 4095, shift);
        }
    });
}

/// Without anything to do meanwhile: requests that come wait, and are carried out in the new mode.
fn a_reservation_waits_for_map_registers(system: System) {
    system.run(|machine, device| {
        let others = machine.occupy_map_registers();
        let setter = device.reopen().expect("opened");
        let setter = Thread::spawn("setter", move || set_mode(&setter, RESERVED));
        machine.sleep(TRANSFER);
        let request = read(device);
        machine.sleep(TRANSFER);
        assert_eq!(mode(device).1, 0);
        assert!(!request.has_ended());
        assert_eq!(statistics(device).requests, 0, "it waits in its queue");
        drop(others);
        assert_eq!(setter.join(), Ok(()));
        assert_eq!(mode(device), (DmaMode::RESERVED, MOST));
        assert_eq!(result(request), DONE);
        in_order(device);
    });
}

/// It is withdrawn, and its transaction deleted; what follows does not notice.
fn a_reservation_that_waits_too_long_is_withdrawn(system: System) {
    system.configured(limit_150).run(|machine, device| {
        let all = free(machine);
        set(device, to(DmaMode::RESERVED, 1));
        let others = machine.occupy_map_registers();
        let before = now();
        // What it had is not enough, and nobody else has any.
        let outcome = set_mode(device, to(DmaMode::RESERVED, MOST));
        assert_eq!(outcome, Err(Win32Error::SEM_TIMEOUT));
        let took = now() - before;
        assert!((150..200).contains(&took.as_millis()), "{took:?}");
        assert_eq!(mode(device), (DmaMode::empty(), 0));
        drop(others);
        assert_eq!(
            free(machine),
            all,
            "what was withdrawn is granted to nobody"
        );
        round_trip(device, 1, 3000, 1);
        set(device, RESERVED);
        round_trip(device, 1, 3000, 1);
    });
}

fn an_immediate_reservation_does_not_wait(system: System) {
    system.run(|machine, device| {
        let others = machine.occupy_map_registers();
        let before = now();
        assert_eq!(set_mode(device, BOTH), Err(Win32Error::NO_SYSTEM_RESOURCES));
        assert!((now() - before).as_millis() < 10);
        assert_eq!(mode(device), (DmaMode::empty(), 0));
        drop(others);
        set(device, BOTH);
        let others = machine.occupy_map_registers();
        round_trip(device, 1, 3000, 1);
        drop(others);
        in_order(device);
    });
}

/// Neither the transaction nor the map registers can be had.
fn a_reservation_that_fails_leaves_nothing_behind(system: System) {
    system.run(|machine, device| {
        let all = free(machine);
        for point in [Point::Object, Point::Channel] {
            set(device, to(DmaMode::RESERVED, 1));
            failure::fail(point, 1, 1);
            let outcome = set_mode(device, RESERVED);
            assert_eq!(outcome, Err(Win32Error::NO_SYSTEM_RESOURCES), "{point:?}");
            assert_eq!(failure::disarm(), 1);
            assert_eq!(mode(device), (DmaMode::empty(), 0));
            assert_eq!(free(machine), all);
            round_trip(device, 1, 3000, 1);
        }
        set(device, RESERVED);
        round_trip(device, 1, 3000, 1);
    });
}

/// At once, and counted; the next one is carried out if there are some.
fn immediate_requests_end_without_map_registers(system: System) {
    system.run(|machine, device| {
        set(device, IMMEDIATE);
        round_trip(device, 1, 3000, 1);
        // The deferred call that has completed it hands out the next request, on another processor.
        machine.sleep(Duration::from_millis(1));
        let others = machine.occupy_map_registers();
        for _ in 0..3 {
            let request = read(device);
            assert!(request.has_ended());
            let refused = machine::user::Win32Error(Win32Error::NO_SYSTEM_RESOURCES.0);
            assert_eq!(result(request), Err(refused));
        }
        drop(others);
        let counted = in_order(device);
        assert_eq!((counted.failed, counted.without_resources), (3, 3));
        set(device, DEFAULT);
        let others = machine.occupy_map_registers();
        let waits = read(device);
        machine.sleep(TRANSFER);
        assert!(!waits.has_ended());
        drop(others);
        assert_eq!(result(waits), DONE);
    });
}

/// None of them fails, and none is carried out twice.
fn requests_under_way_end_before_the_mode_changes(system: System) {
    system.run(|_, device| {
        for change in [RESERVED, IMMEDIATE, DEFAULT, to(DmaMode::RESERVED, 1)] {
            let before = statistics(device);
            let requests: Vec<_> = (0..5).map(|_| read(device)).collect();
            set(device, change);
            for request in requests {
                assert_eq!(result(request), DONE);
            }
            let after = statistics(device);
            assert_eq!(after.completed - before.completed, 5);
            in_order(device);
        }
    });
}

/// A request that waits for map registers is not disturbed.
fn a_device_that_stays_busy_keeps_its_mode(system: System) {
    system.configured(limit_150).run(|machine, device| {
        let all = free(machine);
        let others = machine.occupy_map_registers();
        let waits = read(device);
        machine.sleep(TRANSFER);
        for change in [RESERVED, IMMEDIATE, BOTH] {
            assert_eq!(set_mode(device, change), Err(Win32Error::BUSY));
            assert_eq!(mode(device), (DmaMode::empty(), 0));
        }
        assert!(!waits.has_ended());
        drop(others);
        assert_eq!(result(waits), DONE);
        assert_eq!(free(machine), all);
        set(device, RESERVED);
        in_order(device);
    });
}

/// Map registers are memory, not the device's.
fn sleep_keeps_the_mode(system: System) {
    system.run(|machine, device| {
        for change in [RESERVED, BOTH, IMMEDIATE] {
            set(device, change);
            let before = mode(device);
            let requests: Vec<_> = (0..2).map(|_| read(device)).collect();
            machine.suspend().expect("asleep");
            machine.resume().expect("awake");
            assert_eq!(mode(device), before);
            for request in requests {
                assert_eq!(result(request), DONE);
            }
            let others = machine.occupy_map_registers();
            if before.1 > 0 {
                round_trip(device, 1, 3000, 1);
            } else {
                assert!(read(device).wait().result.is_err());
            }
            drop(others);
        }
    });
}

fn a_stop_gives_the_map_registers_back(system: System) {
    system.run(|machine, device| {
        let all = free(machine);
        for change in [RESERVED, IMMEDIATE, BOTH] {
            set(device, change);
            let request = read(device);
            machine.rebalance().expect("stopped and started");
            assert_eq!(mode(device), (DmaMode::empty(), 0));
            assert_eq!(free(machine), all);
            assert_eq!(result(request), DONE);
            round_trip(device, 1, 3000, 1);
        }
    });
}

/// With a request under way, and with a reservation.
fn pulled_out_with_map_registers_reserved(system: System) {
    system.run_machine(move |machine| {
        machine.start().expect("started");
        let all = free(machine);
        let device = open(machine);
        set(&device, RESERVED);
        let requests: Vec<_> = (0..2).map(|_| read(&device)).collect();
        machine.surprise_remove().expect("pulled out");
        for request in requests {
            let ended = result(request);
            assert!(ended.is_err() || system.board == Board::Edu);
        }
        assert_eq!(free(machine), all, "the handle is still open");
        drop(device);
        machine.finish_removals();
    });
}

/// Each time with a transaction of its own, of which but one is left.
fn reserved_again_and_again(system: System) {
    system.run(|machine, device| {
        let all = free(machine);
        for round in 0..40 {
            set(device, to(DmaMode::RESERVED, 1 + round % 2));
            assert_eq!(free(machine), all - 1 - round % 2);
        }
        round_trip(device, 1, 3000, 1);
        set(device, DEFAULT);
        set(device, DEFAULT);
        assert_eq!(free(machine), all);
        round_trip(device, 1, 3000, 1);
    });
}

/// Requests are cancelled, too; whatever happens when, each ends once, and what is moved is right.
fn modes_change_while_requests_come_and_go(system: System) {
    system.run(move |machine, device| {
        let all = free(machine);
        let setter = device.reopen().expect("opened");
        let setter = Thread::spawn("setter", move || {
            for round in 0..30 {
                let change = [RESERVED, to(DmaMode::RESERVED, 1), IMMEDIATE, BOTH, DEFAULT];
                set(&setter, change[round % 5]);
            }
        });
        let mut cancelled = 0;
        for round in 0..20_u32 {
            round_trip(device, 1, 2000, round as usize * 300 % 4096);
            let requests = [read(device), read(device)];
            machine.sleep(TRANSFER / 10 * (round % 7));
            for request in &requests {
                // It may have ended already.
                let _ = request.cancel();
            }
            for request in requests {
                match result(request) {
                    Ok(3000) => {}
                    Err(error) => {
                        assert_eq!(error, machine::user::Win32Error::OPERATION_ABORTED);
                        cancelled += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        setter.join();
        // QEMU's clock runs on: it may be done with all of them.
        assert!(cancelled > 5 || system.board == Board::Edu, "{cancelled}");
        assert_eq!(mode(device), (DmaMode::empty(), 0));
        assert_eq!(free(machine), all);
        assert_eq!(in_order(device).failed, 0);
    });
}

/// The machine waits until it has been withdrawn.
fn asleep_while_a_reservation_waits(system: System) {
    system.configured(limit_150).run(|machine, device| {
        let others = machine.occupy_map_registers();
        let setter = device.reopen().expect("opened");
        let setter = Thread::spawn("setter", move || set_mode(&setter, RESERVED));
        machine.sleep(TRANSFER / 2);
        machine.suspend().expect("asleep");
        assert_eq!(setter.join(), Err(Win32Error::SEM_TIMEOUT));
        drop(others);
        machine.resume().expect("awake");
        assert_eq!(mode(device), (DmaMode::empty(), 0));
        round_trip(device, 1, 3000, 1);
    });
}

fn pulled_out_while_a_reservation_waits(system: System) {
    system.configured(limit_150).run_machine(|machine| {
        machine.start().expect("started");
        let all = free(machine);
        let others = machine.occupy_map_registers();
        let device = open(machine);
        let setter = device.reopen().expect("opened");
        let setter = Thread::spawn("setter", move || set_mode(&setter, RESERVED));
        machine.sleep(TRANSFER / 2);
        machine.surprise_remove().expect("pulled out");
        assert_eq!(setter.join(), Err(Win32Error::SEM_TIMEOUT));
        drop((others, device));
        assert_eq!(free(machine), all);
        machine.finish_removals();
    });
}

/// Of the two there are then, one is deleted: the one before, or the one whose reservation failed.
fn a_reservation_has_a_transaction_of_its_own(system: System) {
    const CREATE: &str = "WdfDmaTransactionCreate";
    const ALLOCATE: &str = "WdfDmaTransactionAllocateResources";
    const FREE: &str = "WdfDmaTransactionFreeResources";
    const CANCEL: &str = "WdfDmaTransactionCancel";
    const DELETE: &str = "WdfObjectDelete";
    system.configured(limit_150).run(|machine, device| {
        let calls = |change: ModeChange| {
            trace::reset();
            let outcome = set_mode(device, change);
            let calls = happened(|what| [CREATE, ALLOCATE, FREE, CANCEL, DELETE].contains(&what));
            (outcome, calls)
        };
        let fresh = vec![CREATE, ALLOCATE, DELETE];
        let again = vec![FREE, CREATE, ALLOCATE, DELETE];
        assert_eq!(calls(RESERVED), (Ok(()), fresh));
        assert_eq!(calls(to(DmaMode::RESERVED, 1)), (Ok(()), again.clone()));
        let others = machine.occupy_map_registers();
        let withdrawn = vec![FREE, CREATE, ALLOCATE, CANCEL, DELETE];
        assert_eq!(calls(RESERVED), (Err(Win32Error::SEM_TIMEOUT), withdrawn));
        drop(others);
        set(device, RESERVED);
        failure::fail(Point::Channel, 1, 1);
        let none = Err(Win32Error::NO_SYSTEM_RESOURCES);
        assert_eq!(calls(RESERVED), (none, again));
        failure::disarm();
        set(device, RESERVED);
        assert_eq!(calls(IMMEDIATE), (Ok(()), vec![FREE]));
        assert_eq!(calls(DEFAULT), (Ok(()), vec![]));
        round_trip(device, 1, 3000, 1);
    });
}

fn every_promise_holds_in_every_mode(system: System) {
    system.run(|_, device| {
        for change in [RESERVED, to(DmaMode::RESERVED, 1), IMMEDIATE, BOTH] {
            set(device, change);
            verify_all(device);
        }
    });
}

/// The framework reserves for packets and for system mode only.
fn a_card_with_lists_reserves_nothing(system: System) {
    system.run(|_, device| {
        for change in [DEFAULT, RESERVED, IMMEDIATE, BOTH] {
            let refused = set_mode(device, change);
            assert_eq!(refused, Err(Win32Error::INVALID_FUNCTION));
        }
        assert!(query_mode(device).is_err());
        round_trip(device, 0, 3000, 1);
    });
}
