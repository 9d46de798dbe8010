//! The real driver when the ring card has to stop, hangs, lies or goes away.
//!
//! `DMACARD_SYS` names the image; `cargo xtask test` builds it and sets the variable.

mod support;

use std::process::ExitCode;
use std::time::Duration;

use abi::card::Direction::{FromCard, ToCard};
use dmatest::machine_device::MachineDevice;
use dmatest::{Device, Direction};
use harness::Suite;
use machine::user::{Overlapped, Win32Error};
use machine::{CardFault as Fault, CardFaults as Faults};
use machine::{Device as Board, Machine, Phase};

use support::{CARDS, System, in_order, open, reset, result, statistics};

/// A test, to be run in each system.
type Test = (&'static str, fn(System));

macro_rules! tests {
    ($($test:ident)*) => { [$((stringify!($test), $test)),*] };
}

/// With a sound card.
const EVERYWHERE: [Test; 5] = tests! {
    cancelled_at_any_time_it_ends_once
    cancelled_for_want_of_map_registers
    suspend_while_waiting_for_map_registers
    reset_of_an_idle_card
    pulled_out_with_requests_under_way
};

/// With a card that fails on command: one in this process.
const FAILING: [Test; 18] = tests! {
    a_hung_transfer_times_out_and_the_next_one_works
    a_channel_that_does_not_answer_aborts_is_started_again
    cancelled_while_the_card_hangs_it_is_aborted
    a_lost_interrupt_costs_time_only
    interrupts_too_many_do_no_harm
    a_lie_costs_the_card_a_reset
    a_lie_about_one_of_many_ends_them_all
    what_an_aborted_transfer_has_moved_is_counted
    an_aborted_transfer_that_has_moved_more_than_all_is_a_lie
    a_card_that_does_not_come_out_of_its_reset_is_reset_by_the_bus
    a_card_that_cannot_be_reset_fails
    a_card_that_no_reset_brings_back_fails
    a_card_that_is_in_a_reset_when_it_is_started
    a_channel_that_stops_with_an_error_is_noticed_at_once
    memory_that_cannot_be_read_is_an_error_of_the_request
    reset_ends_what_is_under_way
    suspend_with_a_hung_card
    pulled_out_while_the_card_hangs
};

fn main() -> ExitCode {
    let named = |system: System, (name, test): Test| {
        let name = format!("{}::{name}", system.name);
        (name, system, test)
    };
    CARDS
        .into_iter()
        .flat_map(|system| {
            let failing = match system.board {
                Board::Card => &FAILING[..],
                _ => &[],
            };
            let tests = EVERYWHERE.iter().chain(failing);
            tests.map(move |test| named(system, *test))
        })
        .fold(
            Suite::new().limit(Duration::from_secs(120)),
            |suite, (name, system, test)| suite.passes(name, move || test(system)),
        )
        .main()
}

const ABORTED: Result<usize, Win32Error> = Err(Win32Error::OPERATION_ABORTED);
const TIMED_OUT: Result<usize, Win32Error> = Err(Win32Error(121));
const IO_DEVICE: Result<usize, Win32Error> = Err(Win32Error(1117));
const REMOVED: Result<usize, Win32Error> = Err(Win32Error(dmatest::Win32Error::DEVICE_REMOVED.0));

/// Bytes of the requests: several pages.
const LENGTH: usize = 20_000;

fn faults(machine: &Machine) -> &Faults {
    machine.card_faults().expect("the device is the card")
}

fn begin(device: &MachineDevice, direction: Direction) -> Overlapped {
    let buffer = device.buffer(LENGTH).expect("memory");
    device.start(direction, 0, buffer, 0..LENGTH)
}

/// The abort is answered: one request is lost, those after it are carried out.
fn a_hung_transfer_times_out_and_the_next_one_works(system: System) {
    system.run(|machine, device| {
        for (channel, direction) in [(ToCard, Direction::Write), (FromCard, Direction::Read)] {
            faults(machine).arm(Fault::Hang(channel));
            let requests: Vec<_> = (0..4).map(|_| begin(device, direction)).collect();
            let results: Vec<_> = requests.into_iter().map(result).collect();
            assert_eq!(results, [TIMED_OUT, Ok(LENGTH), Ok(LENGTH), Ok(LENGTH)]);
        }
        assert_eq!(in_order(device).timeouts, 2);
    });
}

/// The abort is not: what the channel has in its ring is lost, the other channel loses nothing.
fn a_channel_that_does_not_answer_aborts_is_started_again(system: System) {
    system.run(|machine, device| {
        faults(machine).arm(Fault::Stick(FromCard));
        let reads: Vec<_> = (0..3).map(|_| begin(device, Direction::Read)).collect();
        let write = begin(device, Direction::Write);
        assert_eq!(result(write), Ok(LENGTH));
        let results: Vec<_> = reads.into_iter().map(result).collect();
        assert_eq!(results, [TIMED_OUT, IO_DEVICE, IO_DEVICE]);
        assert_eq!(in_order(device).timeouts, 1);
    });
}

fn cancelled_while_the_card_hangs_it_is_aborted(system: System) {
    system.run(|machine, device| {
        faults(machine).arm(Fault::Hang(ToCard));
        let first = begin(device, Direction::Write);
        let second = begin(device, Direction::Write);
        machine.sleep(Duration::from_millis(1));
        assert!(!first.has_ended(), "the card hangs");
        first.cancel().expect("under way");
        assert_eq!(result(first), ABORTED);
        assert_eq!(result(second), Ok(LENGTH));
        let counted = in_order(device);
        assert_eq!((counted.cancelled, counted.failed), (1, 0));
    });
}

/// Whenever the cancel comes, the request ends once: done, or cancelled.
fn cancelled_at_any_time_it_ends_once(system: System) {
    system.run(move |machine, device| {
        let mut seen = [false; 2];
        for microseconds in 0..60 {
            let requests = [Direction::Write, Direction::Read].map(|way| begin(device, way));
            machine.sleep(Duration::from_nanos(microseconds * 300));
            for request in &requests {
                // It may have ended already.
                let _ = request.cancel();
            }
            for request in requests {
                match result(request) {
                    Ok(length) => {
                        assert_eq!(length, LENGTH);
                        seen[0] = true;
                    }
                    aborted => {
                        assert_eq!(aborted, ABORTED);
                        seen[1] = true;
                    }
                }
            }
        }
        // How far a server gets meanwhile is its own affair.
        assert!(seen[0] || system.board != Board::Card, "none is done");
        in_order(device);
    });
}

fn cancelled_for_want_of_map_registers(system: System) {
    system.run(|machine, device| {
        let occupied = machine.occupy_map_registers();
        let requests: Vec<_> = (0..4).map(|_| begin(device, Direction::Write)).collect();
        machine.sleep(Duration::from_millis(10));
        for request in &requests {
            // Without map registers to wait for, it is done.
            let _ = request.cancel();
        }
        for request in requests {
            let ended = result(request);
            assert!([ABORTED, Ok(LENGTH)].contains(&ended), "{ended:?}");
        }
        drop(occupied);
        in_order(device);
    });
}

fn suspend_while_waiting_for_map_registers(system: System) {
    system.run(|machine, device| {
        let occupied = machine.occupy_map_registers();
        let requests: Vec<_> = (0..4).map(|_| begin(device, Direction::Read)).collect();
        machine.suspend().expect("asleep");
        drop(occupied);
        machine.resume().expect("awake");
        for request in requests {
            assert_eq!(result(request), Ok(LENGTH));
        }
        in_order(device);
    });
}

/// The timer finds the completion.
fn a_lost_interrupt_costs_time_only(system: System) {
    system.run(|machine, device| {
        faults(machine).arm(Fault::DropInterrupt);
        assert_eq!(result(begin(device, Direction::Write)), Ok(LENGTH));
        assert_eq!(faults(machine).struck(), [Fault::DropInterrupt]);
        assert_eq!(in_order(device).failed, 0);
    });
}

fn interrupts_too_many_do_no_harm(system: System) {
    system.run(|machine, device| {
        for _ in 0..5 {
            faults(machine).arm(Fault::DuplicateInterrupt);
            assert_eq!(result(begin(device, Direction::Read)), Ok(LENGTH));
        }
        assert_eq!(in_order(device).hardware_errors, 0);
    });
}

/// Every field of a completion, and completions too many and too few.
const LIES: [Fault; 11] = [
    Fault::Tag(ToCard, 1),
    Fault::Tag(ToCard, u32::MAX),
    Fault::Count(ToCard, 1),
    Fault::Count(ToCard, -1),
    Fault::Count(ToCard, i64::MAX),
    Fault::Outcome(ToCard, 0x7fff_ffff),
    Fault::Outcome(ToCard, 0x55),
    Fault::Consumer(ToCard, 1),
    Fault::Consumer(ToCard, -1),
    Fault::Consumer(ToCard, i32::MIN),
    Fault::DuplicateCompletion(ToCard),
];

/// What a lie is told about fails, unless the lie is one completion too many; then the card works again.
fn a_lie_costs_the_card_a_reset(system: System) {
    system.run(|machine, device| {
        for lie in LIES {
            faults(machine).arm(lie);
            let ended = result(begin(device, Direction::Write));
            if matches!(lie, Fault::DuplicateCompletion(_)) {
                assert_eq!(ended, Ok(LENGTH));
                machine.sleep(Duration::from_millis(500));
            } else {
                assert_eq!(ended, IO_DEVICE, "{lie:?}");
            }
            assert_eq!(faults(machine).struck().last(), Some(&lie));
            in_order(device);
        }
    });
}

/// A completion that is not written is noticed by the next one; and all that the card has at that time is lost.
fn a_lie_about_one_of_many_ends_them_all(system: System) {
    system.run(|machine, device| {
        for fault in [Fault::DropCompletion(FromCard), Fault::Tag(FromCard, 3)] {
            faults(machine).arm(fault);
            let requests: Vec<_> = (0..40).map(|_| begin(device, Direction::Read)).collect();
            let results: Vec<_> = requests.into_iter().map(result).collect();
            assert_eq!(results[0], IO_DEVICE);
            assert!(
                results
                    .iter()
                    .all(|ended| [IO_DEVICE, Ok(LENGTH)].contains(ended)),
                "{results:?}"
            );
            in_order(device);
        }
    });
}

/// It is given up half-way: the request ends without a byte, but the card's count is taken.
fn what_an_aborted_transfer_has_moved_is_counted(system: System) {
    const LENGTH: usize = 1 << 20;

    system.run(|machine, device| {
        let before = statistics(device).bytes_written;
        let buffer = device.buffer(LENGTH).expect("memory");
        let request = device.start(Direction::Write, 0, buffer, 0..LENGTH);
        machine.sleep(Duration::from_micros(150));
        request.cancel().expect("a mebibyte takes twice as long");
        assert_eq!(result(request), ABORTED);
        let moved = statistics(device).bytes_written - before;
        assert!((1..LENGTH as u64).contains(&moved), "{moved} bytes");
        in_order(device);
    });
}

/// The framework is not told of more bytes than the transfer has; the card is reset, at the cost of what else it had.
fn an_aborted_transfer_that_has_moved_more_than_all_is_a_lie(system: System) {
    system.run(|machine, device| {
        let before = statistics(device).bytes_written;
        faults(machine).arm(Fault::Hang(ToCard));
        faults(machine).arm(Fault::Count(ToCard, LENGTH as i64 + 1));
        let first = begin(device, Direction::Write);
        let second = begin(device, Direction::Write);
        machine.sleep(Duration::from_millis(1));
        first.cancel().expect("under way");
        assert_eq!((result(first), result(second)), (ABORTED, IO_DEVICE));
        assert_eq!(statistics(device).bytes_written, before);
        in_order(device);
    });
}

/// What it was at work on is lost; after the bus has reset it, it works, and so it does after the next.
fn a_card_that_does_not_come_out_of_its_reset_is_reset_by_the_bus(system: System) {
    system.run(|machine, device| {
        for _ in 0..2 {
            faults(machine).arm(Fault::EndlessReset);
            faults(machine).arm(Fault::Tag(ToCard, 1));
            let requests: Vec<_> = (0..4).map(|_| begin(device, Direction::Write)).collect();
            let results: Vec<_> = requests.into_iter().map(result).collect();
            assert_eq!(results[0], IO_DEVICE, "{results:?}");
            in_order(device);
        }
        faults(machine).arm(Fault::EndlessReset);
        assert_eq!(reset(device), Ok(0));
        in_order(device);
        machine.suspend().expect("asleep");
        faults(machine).arm(Fault::EndlessReset);
        machine.resume().expect("awake");
        in_order(device);
        machine.settle();
        assert_eq!(machine.phase(), Some(Phase::Started));
    });
}

/// It is put off the bus, and its driver reports it as failed.
fn a_card_that_cannot_be_reset_fails(system: System) {
    fails_for_want_of_a_reset(
        system.configured(|config| config.hal.device_reset = false),
        1,
    );
}

/// The same, if the bus's reset does not help.
fn a_card_that_no_reset_brings_back_fails(system: System) {
    fails_for_want_of_a_reset(system, 2);
}

fn fails_for_want_of_a_reset(system: System, endless: usize) {
    system.run_machine(move |machine| {
        machine.start().expect("started");
        let device = open(machine);
        for _ in 0..endless {
            faults(machine).arm(Fault::EndlessReset);
        }
        faults(machine).arm(Fault::Tag(ToCard, 1));
        let requests: Vec<_> = (0..4).map(|_| begin(&device, Direction::Write)).collect();
        for request in requests {
            let ended = result(request);
            assert!([IO_DEVICE, ABORTED].contains(&ended), "{ended:?}");
        }
        machine.settle();
        assert_eq!(machine.phase(), Some(Phase::SurpriseRemoved));
        drop(device);
        machine.finish_removals();
    });
}

/// Left in a reset by whoever had the card before.
fn a_card_that_is_in_a_reset_when_it_is_started(system: System) {
    system.run_machine(|machine| {
        faults(machine).arm(Fault::EndlessReset);
        machine.start().expect("started");
        in_order(&open(machine));
    });
}

/// It says so by its message for errors, or by the line: nothing waits for the timer.
fn a_channel_that_stops_with_an_error_is_noticed_at_once(system: System) {
    system.run(|machine, device| {
        for (channel, direction) in [(ToCard, Direction::Write), (FromCard, Direction::Read)] {
            faults(machine).arm(Fault::FetchError(channel));
            let request = begin(device, direction);
            // A reset takes up to 20 ms, and the timer comes after 300.
            machine.sleep(Duration::from_millis(50));
            assert!(request.has_ended(), "{channel:?}");
            assert_eq!(result(request), IO_DEVICE);
            in_order(device);
        }
    });
}

fn memory_that_cannot_be_read_is_an_error_of_the_request(system: System) {
    system.run(|machine, device| {
        faults(machine).arm(Fault::Outcome(FromCard, 4));
        let first = begin(device, Direction::Read);
        let second = begin(device, Direction::Read);
        // A status that is known, with a count that fits: it is believed.
        assert_eq!(result(first), IO_DEVICE);
        assert_eq!(result(second), Ok(LENGTH));
        assert_eq!(in_order(device).hardware_errors, 1);
    });
}

fn reset_of_an_idle_card(system: System) {
    system.run(|_, device| {
        for _ in 0..3 {
            assert_eq!(reset(device), Ok(0));
            in_order(device);
        }
    });
}

/// What the card is at work on is cancelled; what waits in the queues is carried out.
fn reset_ends_what_is_under_way(system: System) {
    system.run(|machine, device| {
        faults(machine).arm(Fault::Stick(ToCard));
        faults(machine).arm(Fault::Stick(FromCard));
        let ways = [Direction::Write, Direction::Read];
        let requests: Vec<_> = (0..80)
            .map(|index| begin(device, ways[index % 2]))
            .collect();
        machine.sleep(Duration::from_millis(1));
        assert_eq!(reset(device), Ok(0));
        let results: Vec<_> = requests.into_iter().map(result).collect();
        let cancelled = results.iter().filter(|ended| **ended == ABORTED).count();
        let done = results.iter().filter(|ended| **ended == Ok(LENGTH)).count();
        assert_eq!((cancelled, done), (64, 16), "{results:?}");
        in_order(device);
    });
}

/// The transition waits for the time limit, and the card works after it.
fn suspend_with_a_hung_card(system: System) {
    system.run(|machine, device| {
        faults(machine).arm(Fault::Stick(ToCard));
        let request = begin(device, Direction::Write);
        machine.sleep(Duration::from_millis(1));
        machine.suspend().expect("asleep");
        machine.resume().expect("awake");
        assert_eq!(result(request), TIMED_OUT);
        in_order(device);
    });
}

/// Every request ends, and the driver goes once the handle is closed.
fn pulled_out_with_requests_under_way(system: System) {
    system.run_machine(|machine| {
        machine.start().expect("started");
        let device = open(machine);
        let ways = [Direction::Write, Direction::Read];
        let requests: Vec<_> = (0..80)
            .map(|index| begin(&device, ways[index % 2]))
            .collect();
        machine.surprise_remove().expect("pulled out");
        for request in requests {
            let ended = result(request);
            assert!([Ok(LENGTH), REMOVED, ABORTED].contains(&ended), "{ended:?}");
        }
        drop(device);
        machine.finish_removals();
    });
}

fn pulled_out_while_the_card_hangs(system: System) {
    system.run_machine(|machine| {
        machine.start().expect("started");
        let device = open(machine);
        faults(machine).arm(Fault::Stick(ToCard));
        let first = begin(&device, Direction::Write);
        let second = begin(&device, Direction::Write);
        machine.sleep(Duration::from_millis(1));
        machine.surprise_remove().expect("pulled out");
        assert_eq!((result(first), result(second)), (REMOVED, REMOVED));
        drop(device);
        machine.finish_removals();
    });
}
