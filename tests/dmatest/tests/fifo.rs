//! The real driver in system mode: the FIFO peripheral, whose data a system DMA controller moves.
//!
//! `DMACARD_SYS` names the image; `cargo xtask test` builds it and sets the variable.

mod support;

use std::io::Cursor;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use abi::info::{DeviceInfo, DeviceKind, InterruptKind};
use abi::ioctl::{RESET, STREAM_EXCHANGE, STREAM_POSITION, STREAM_START, STREAM_STOP};
use abi::statistics::Statistics;
use abi::stream::{self, StreamState};
use dmatest::machine_device::MachineDevice;
use dmatest::pattern::Pattern;
use dmatest::stream::Song;
use dmatest::{Device, Direction, query_info, query_statistics};
use harness::Suite;
use machine::inf::{RegistryData, RegistryValue};
use machine::user::{Overlapped, Thread, Win32Error};
use machine::{Config, Device as Board, FifoFault as Fault, FifoFaults, Machine, Way};

use support::{FIFOS, System, UNWIRED, loop_round_trip as round_trip, open};

/// A test, to be run in each system.
type Test = (&'static str, fn(System));

macro_rules! tests {
    ($($test:ident)*) => { [$((stringify!($test), $test)),*] };
}

const EVERYWHERE: [Test; 17] = tests! {
    it_says_what_it_is
    what_is_written_is_read
    small_lengths_and_buffers_anywhere_in_a_page
    what_the_controller_cannot_move_is_refused
    a_read_that_waits_for_data_is_cancelled
    a_write_that_nobody_reads_is_cancelled
    cancelled_while_it_waits_the_driver_never_sees_it
    a_read_without_data_times_out_and_the_next_one_works
    stopped_and_started_again_and_again
    suspended_while_a_read_waits
    pulled_out_while_a_read_waits
    pulled_out_while_a_write_waits
    an_error_of_the_controller_ends_a_read
    an_error_of_the_controller_ends_a_write
    what_the_device_says_too_early_is_not_believed
    a_reset_ends_what_is_under_way_and_empties_the_device
    what_waits_in_the_queue_is_carried_out_after_a_reset
};

const DUPLEX: [Test; 17] = tests! {
    cancelled_at_any_time_it_ends_once
    many_fragments_in_both_directions_at_once
    a_stream_comes_back_as_it_was_played
    a_stream_that_nobody_serves_counts_what_is_missed
    a_stream_ends_with_the_power
    requests_wait_until_a_stream_is_stopped
    a_stream_that_is_pulled_out_ends
    wrong_stream_requests_are_refused
    an_error_after_some_transfers_ends_the_request
    a_reset_ends_a_stream
    an_error_of_the_controller_ends_a_stream
    a_stream_ends_with_its_handle
    a_stream_outlives_other_handles
    a_stream_ends_with_its_process
    a_stream_whose_handle_is_closed_asleep_is_not_missed
    a_stream_that_is_about_to_start_ends_with_its_process
    a_wait_for_a_period_is_cancelled
};

const SIMPLEX: [Test; 2] = tests! {
    cancelled_while_it_waits_for_the_channel
    suspended_while_it_waits_for_the_channel
};

fn main() -> ExitCode {
    FIFOS
        .into_iter()
        .flat_map(|system| {
            let special: &[Test] = match system.board {
                Board::FifoSimplex => &SIMPLEX,
                _ => &DUPLEX,
            };
            EVERYWHERE
                .iter()
                .chain(special)
                .map(move |&(name, test)| (format!("{}::{name}", system.name), system, test))
                .collect::<Vec<_>>()
        })
        .fold(
            Suite::new().limit(Duration::from_secs(120)),
            |suite, (name, system, test)| suite.passes(name, move || test(system)),
        )
        .passes(
            "system_mode_fails_to_start_without_a_controller",
            system_mode_fails_to_start_without_a_controller,
        )
        .main()
}

const ABORTED: Result<usize, Win32Error> = Err(Win32Error::OPERATION_ABORTED);
const IO_DEVICE: Result<usize, Win32Error> = Err(Win32Error(1117));
const REMOVED: Result<usize, Win32Error> = Err(Win32Error(dmatest::Win32Error::DEVICE_REMOVED.0));
const TIMED_OUT: Result<usize, Win32Error> = Err(Win32Error(121));

fn start(device: &MachineDevice, direction: Direction, length: usize) -> Overlapped {
    let mut buffer = device.buffer(length).expect("memory");
    Pattern::Random(length as u64).fill(0, &mut buffer);
    device.start(direction, 0, buffer, 0..length)
}

fn read(device: &MachineDevice, length: usize) -> Overlapped {
    start(device, Direction::Read, length)
}

fn write(device: &MachineDevice, length: usize) -> Overlapped {
    start(device, Direction::Write, length)
}

fn result(request: Overlapped) -> Result<usize, Win32Error> {
    request.wait().result
}

fn statistics(device: &MachineDevice) -> Statistics {
    query_statistics(device).expect("GET_STATISTICS")
}

/// Nothing is in flight: every request has been counted once.
fn in_order(device: &MachineDevice) -> Statistics {
    let counted = statistics(device);
    assert_eq!(
        counted.requests,
        counted.completed + counted.cancelled + counted.failed,
        "{counted:?}"
    );
    counted
}

fn it_says_what_it_is(system: System) {
    system.run(move |_, device| {
        let DeviceInfo {
            device_kind,
            interrupt_kind,
            memory_size,
            maximum_transfer,
            transfers_in_flight,
            hardware_identity,
            ..
        } = query_info(device).expect("GET_INFO");
        assert_eq!(device_kind, DeviceKind::Fifo as u32);
        let interrupt = match system.board {
            Board::FifoWithoutInterrupt => InterruptKind::None,
            _ => InterruptKind::Line,
        };
        assert_eq!(interrupt_kind, interrupt as u32);
        assert_eq!((memory_size, hardware_identity), (0, abi::fifo::IDENTITY));
        let directions = u32::from(system.board != Board::FifoSimplex) + 1;
        assert_eq!(transfers_in_flight, directions);
        assert!((0x1000..=0x1_0000).contains(&maximum_transfer));
    });
}

fn what_is_written_is_read(system: System) {
    system.run(move |_, device| {
        round_trip(device, 256, 0);
        let counted = in_order(device);
        assert_eq!((counted.bytes_read, counted.bytes_written), (256, 256));
        assert_eq!((counted.requests, counted.transfers), (2, 2));
        match system.board {
            Board::FifoWithoutInterrupt => assert_eq!(counted.interrupts, 0),
            _ => assert!(counted.interrupts > 0, "{counted:?}"),
        }
    });
}

fn small_lengths_and_buffers_anywhere_in_a_page(system: System) {
    system.run(|_, device| {
        for length in [4, 8, 12, 124, 128, 132, 252, 256] {
            for shift in [0, 4, 20, 4080, 4092] {
                round_trip(device, length, shift);
            }
        }
        assert_eq!(in_order(device).completed, 80);
    });
}

/// In both directions at once, in several transfers that each have many pages.
fn many_fragments_in_both_directions_at_once(system: System) {
    system.run(|_, device| {
        let largest = query_info(device).expect("GET_INFO").maximum_transfer as usize;
        round_trip(device, largest, 0);
        round_trip(device, 2 * largest + 4, 4088);
        let counted = in_order(device);
        assert_eq!(counted.completed, 4);
        assert!(counted.transfers >= 2 * (1 + 3), "{counted:?}");
        assert_eq!(counted.bytes_read, 3 * largest as u64 + 4);
    });
}

fn what_the_controller_cannot_move_is_refused(system: System) {
    system.run(|_, device| {
        let long = query_info(device).expect("GET_INFO").maximum_request as usize + 4;
        for direction in [Direction::Read, Direction::Write] {
            for length in [1, 2, 3, 5, 255, long] {
                let refused = result(start(device, direction, length));
                assert_eq!(refused, Err(Win32Error(1784)), "{direction} of {length}");
            }
            for shift in [1, 2, 3] {
                let buffer = device.buffer(shift + 64).expect("memory");
                let request = device.start(direction, 0, buffer, shift..shift + 64);
                assert_eq!(result(request), Err(Win32Error(87)));
            }
        }
        let counted = in_order(device);
        assert_eq!((counted.failed, counted.transfers), (18, 0));
        round_trip(device, 64, 0);
    });
}

fn a_read_that_waits_for_data_is_cancelled(system: System) {
    system.run(|machine, device| {
        for length in [4, 4096, 0x2_0000] {
            let request = read(device, length);
            machine.sleep(Duration::from_micros(50));
            request.cancel().expect("under way");
            assert_eq!(result(request), ABORTED);
        }
        assert_eq!(in_order(device).cancelled, 3);
        round_trip(device, 256, 0);
    });
}

fn a_write_that_nobody_reads_is_cancelled(system: System) {
    system.run(|machine, device| {
        let request = write(device, 0x2_0000);
        machine.sleep(Duration::from_millis(1));
        request.cancel().expect("under way");
        assert_eq!(result(request), ABORTED);
        assert_eq!(in_order(device).cancelled, 1);
        restart(machine);
        round_trip(device, 256, 0);
    });
}

fn cancelled_while_it_waits_the_driver_never_sees_it(system: System) {
    system.run(|_, device| {
        let (first, second) = (read(device, 64), read(device, 128));
        second.cancel().expect("under way");
        assert_eq!(result(second), ABORTED);
        first.cancel().expect("under way");
        assert_eq!(result(first), ABORTED);
        let counted = in_order(device);
        assert_eq!((counted.requests, counted.cancelled), (1, 1));
    });
}

/// Before, while and after it is mapped, programmed, moved and reported: it ends once, with one of the two outcomes.
fn cancelled_at_any_time_it_ends_once(system: System) {
    const LENGTH: usize = 2048;
    system.run(move |machine, device| {
        let mut cancelled = 0;
        for moment in 0..160 {
            let requests = [write(device, LENGTH), read(device, LENGTH)];
            machine.sleep(Duration::from_micros(moment));
            for request in &requests {
                // It may have ended already.
                let _ = request.cancel();
            }
            let mut whole = true;
            for ended in requests.map(result) {
                match ended {
                    Ok(moved) => assert_eq!(moved, LENGTH),
                    ABORTED => {
                        cancelled += 1;
                        whole = false;
                    }
                    other => panic!("{other:?}"),
                }
            }
            if !whole {
                restart(machine);
            }
        }
        assert!((5..300).contains(&cancelled), "{cancelled}");
        assert_eq!(in_order(device).cancelled, cancelled);
        round_trip(device, 256, 0);
    });
}

/// Empties the FIFOs, of which it is not known what a cancelled read has left in them: they lose power.
fn restart(machine: &machine::Machine) {
    machine.suspend().expect("sleeps");
    machine.resume().expect("wakes up");
}

fn a_read_without_data_times_out_and_the_next_one_works(system: System) {
    system.configured(limit_50).run(|_, device| {
        let before = device.now();
        assert_eq!(result(read(device, 4096)), TIMED_OUT);
        let took = device.now() - before;
        assert!(took >= Duration::from_millis(50), "{took:?}");
        assert!(took < Duration::from_millis(150), "{took:?}");
        let counted = in_order(device);
        assert_eq!((counted.timeouts, counted.failed), (1, 1));
        round_trip(device, 256, 0);
    });
}

/// What is played: of a length that is no multiple of a period.
fn song() -> Song<Cursor<Vec<u8>>> {
    let mut song = vec![0; 50_001];
    Pattern::Random(3).fill(0, &mut song);
    Song::new(Cursor::new(song), Path::new("song"))
}

const LINE_PERIOD: u32 = 20_000;
/// What a period of a stream takes.
const PERIOD: Duration = Duration::from_nanos(LINE_PERIOD as u64 * stream::PERIOD as u64 / 16);

fn start_stream(device: &MachineDevice) {
    let started = device.control(STREAM_START, &LINE_PERIOD.to_le_bytes(), &mut []);
    assert_eq!(started, Ok(0));
}

fn stop_stream(device: &MachineDevice) {
    assert_eq!(device.control(STREAM_STOP, &[], &mut []), Ok(0));
}

fn a_stream_comes_back_as_it_was_played(system: System) {
    system.run(|_, device| {
        for _ in 0..2 {
            let time = PERIOD * 20;
            let streamed = dmatest::stream::stream(device, &mut song(), time, LINE_PERIOD);
            let streamed = streamed.expect("it streams");
            assert!(streamed.verified(), "{streamed:?}");
            let periods = streamed.periods;
            assert!((19..=21).contains(&periods), "{periods}");
            round_trip(device, 256, 0);
        }
    });
}

fn a_stream_that_nobody_serves_counts_what_is_missed(system: System) {
    system.run(|machine, device| {
        start_stream(device);
        machine.sleep(PERIOD * 30);
        let mut answer = vec![0; StreamState::SIZE + stream::PERIOD];
        let exchanged = device.control(STREAM_EXCHANGE, &[0; stream::PERIOD], &mut answer);
        assert_eq!(exchanged, Ok(answer.len()));
        let state = StreamState::from_prefix(&answer).expect("a state");
        assert!((29..=31).contains(&state.received), "{state:?}");
        assert_eq!(state.period, state.received - (stream::PERIODS as u64 - 1));
        // And what is given now is too late.
        assert_eq!((state.missed, state.glitches), (state.period + 1, 0));
        stop_stream(device);
        round_trip(device, 256, 0);
    });
}

fn a_stream_ends_with_the_power(system: System) {
    system.run(|machine, device| {
        start_stream(device);
        machine.sleep(PERIOD);
        machine.suspend().expect("sleeps");
        machine.resume().expect("wakes up");
        assert!(dmatest::stream::position(device).is_err());
        round_trip(device, 256, 0);
        start_stream(device);
        machine.rebalance().expect("and starts again");
        assert!(dmatest::stream::position(device).is_err());
        round_trip(device, 256, 0);
    });
}

/// The channels are the stream's; a request that waits can be cancelled.
fn requests_wait_until_a_stream_is_stopped(system: System) {
    system.configured(limit_50).run(|machine, device| {
        start_stream(device);
        let (waits, cancelled) = (write(device, 64), read(device, 64));
        machine.sleep(PERIOD);
        assert_eq!(statistics(device).transfers, 0);
        cancelled.cancel().expect("under way");
        assert_eq!(result(cancelled), ABORTED);
        assert!(!waits.has_ended());
        stop_stream(device);
        assert_eq!(result(waits), Ok(64));
        assert_eq!(result(read(device, 64)), Ok(64));
        // A stream waits as well.
        let has = read(device, 64);
        machine.sleep(PERIOD);
        start_stream(device);
        assert_eq!(result(has), TIMED_OUT);
        stop_stream(device);
        round_trip(device, 64, 0);
        assert_eq!(in_order(device).requests, 6);
    });
}

fn a_stream_that_is_pulled_out_ends(system: System) {
    system.run_machine(|machine| {
        machine.start().expect("started");
        let device = open(machine);
        start_stream(&device);
        machine.sleep(PERIOD);
        machine.surprise_remove().expect("pulled out");
        assert!(dmatest::stream::position(&device).is_err());
    });
}

fn wrong_stream_requests_are_refused(system: System) {
    system.run(|_, device| {
        let mut answer = vec![0; StreamState::SIZE + stream::PERIOD];
        let period = [0; stream::PERIOD];
        assert!(dmatest::stream::position(device).is_err());
        assert!(
            device
                .control(STREAM_EXCHANGE, &period, &mut answer)
                .is_err()
        );
        assert!(device.control(STREAM_START, &[1, 0], &mut []).is_err());
        assert!(device.control(STREAM_START, &[0; 4], &mut []).is_err());
        start_stream(device);
        let again = device.control(STREAM_START, &LINE_PERIOD.to_le_bytes(), &mut []);
        assert!(again.is_err());
        assert!(
            device
                .control(STREAM_EXCHANGE, &period[1..], &mut answer)
                .is_err()
        );
        assert!(
            device
                .control(STREAM_EXCHANGE, &period, &mut answer[1..])
                .is_err()
        );
        stop_stream(device);
        stop_stream(device);
    });
}

/// As on a PC: nothing among the resources connects the device to a controller. The driver is unloaded with all checks, and
/// has left nothing.
fn system_mode_fails_to_start_without_a_controller() {
    UNWIRED.run_machine(|machine| {
        for _ in 0..2 {
            let error = machine.start().expect_err("it has no connection");
            // STATUS_DEVICE_CONFIGURATION_ERROR.
            let expected = format!("Pnp(Start({}))", 0xc000_0182_u32 as i32);
            assert_eq!(format!("{error:?}"), expected);
        }
    });
}

/// Sets the driver's time limit for transfers to 50 ms.
fn limit_50(config: &mut Config) {
    config.registry.push(RegistryValue {
        subkey: "Parameters".to_owned(),
        name: "TransferTimeout".to_owned(),
        data: RegistryData::Dword(50),
    });
}

/// The enabler is made anew at each start: the framework gives channels back only with it.
fn stopped_and_started_again_and_again(system: System) {
    system.run_machine(|machine| {
        machine.start().expect("started");
        for _ in 0..3 {
            let device = open(machine);
            round_trip(&device, 256, 0);
            machine.rebalance().expect("and starts again");
            round_trip(&device, 256, 0);
            machine.suspend().expect("sleeps");
            machine.resume().expect("wakes up");
            round_trip(&device, 256, 0);
        }
    });
}

/// It is not older than its time limit when the device sleeps.
fn suspended_while_a_read_waits(system: System) {
    system.configured(limit_50).run(|machine, device| {
        let request = read(device, 64);
        machine.suspend().expect("sleeps");
        assert_eq!(result(request), TIMED_OUT);
        machine.resume().expect("wakes up");
        round_trip(device, 256, 0);
    });
}

fn pulled_out_while_a_read_waits(system: System) {
    system.run_machine(|machine| {
        machine.start().expect("started");
        let device = open(machine);
        let request = read(&device, 64);
        machine.surprise_remove().expect("pulled out");
        let ended = result(request);
        assert!([ABORTED, REMOVED].contains(&ended), "{ended:?}");
    });
}

fn pulled_out_while_a_write_waits(system: System) {
    system.run_machine(|machine| {
        machine.start().expect("started");
        let device = open(machine);
        let (first, second) = (write(&device, 0x2_0000), write(&device, 64));
        machine.sleep(Duration::from_millis(1));
        machine.surprise_remove().expect("pulled out");
        // The controller has found out, or the driver.
        let ended = result(first);
        assert!([ABORTED, REMOVED, IO_DEVICE].contains(&ended), "{ended:?}");
        assert_eq!(result(second), ABORTED);
    });
}

/// A read has the channel, and a write waits for it.
fn cancelled_while_it_waits_for_the_channel(system: System) {
    system.run(|machine, device| {
        let has = read(device, 64);
        let waits = write(device, 64);
        machine.sleep(Duration::from_millis(1));
        assert_eq!(statistics(device).transfers, 1);
        waits.cancel().expect("under way");
        assert_eq!(result(waits), ABORTED);
        assert!(!has.has_ended());
        has.cancel().expect("under way");
        assert_eq!(result(has), ABORTED);
        assert_eq!(in_order(device).cancelled, 2);
        round_trip(device, 64, 0);
    });
}

/// It goes back to its queue, and is carried out after the sleep.
fn suspended_while_it_waits_for_the_channel(system: System) {
    system.configured(limit_50).run(|machine, device| {
        let has = write(device, 0x2_0000);
        let waits = read(device, 64);
        machine.sleep(Duration::from_millis(1));
        machine.suspend().expect("sleeps");
        assert_eq!(result(has), TIMED_OUT);
        assert!(!waits.has_ended());
        assert_eq!(statistics(device).requests, 1, "it has gone back");
        machine.resume().expect("wakes up");
        machine.sleep(Duration::from_millis(1));
        assert_eq!(statistics(device).transfers, 2, "it has the channel");
        waits.cancel().expect("under way");
        assert_eq!(result(waits), ABORTED);
        assert_eq!(in_order(device).requests, 2);
    });
}

fn faults(machine: &Machine) -> &FifoFaults {
    machine.fifo_faults().expect("the device is the FIFO")
}

fn reset(device: &MachineDevice) {
    assert_eq!(device.control(RESET, &[], &mut []), Ok(0));
}

/// The controller says DmaError: the request has failed, is counted once, and the next one works.
fn fails_with_an_error(machine: &Machine, device: &MachineDevice, fault: Fault) {
    faults(machine).arm(fault);
    let requests = [write(device, 256), read(device, 256)];
    let (failed, other) = match (fault, requests) {
        (Fault::BusError(Way::Transmit, _), [write, read]) => (write, read),
        (_, [write, read]) => (read, write),
    };
    assert_eq!(result(failed), IO_DEVICE);
    // What did not come, or go, is waited for by the other one.
    let _ = other.cancel();
    let ended = result(other);
    assert!([Ok(256), ABORTED].contains(&ended), "{ended:?}");
    assert_eq!(faults(machine).struck().len(), 1);
    reset(device);
    round_trip(device, 256, 0);
    let counted = in_order(device);
    assert_eq!((counted.failed, counted.hardware_errors), (1, 1));
    assert_eq!((counted.requests, counted.timeouts), (4, 0));
}

fn an_error_of_the_controller_ends_a_read(system: System) {
    system.run(|machine, device| {
        fails_with_an_error(machine, device, Fault::BusError(Way::Receive, 128));
    });
}

fn an_error_of_the_controller_ends_a_write(system: System) {
    system.run(|machine, device| {
        fails_with_an_error(machine, device, Fault::BusError(Way::Transmit, 128));
    });
}

/// In its second transfer; what the first has moved does not make it a success.
fn an_error_after_some_transfers_ends_the_request(system: System) {
    system.run(|machine, device| {
        let largest = query_info(device).expect("GET_INFO").maximum_transfer as usize;
        faults(machine).arm(Fault::BusError(Way::Transmit, largest as u32 + 64));
        let (write, read) = (write(device, 2 * largest), read(device, 2 * largest));
        assert_eq!(result(write), IO_DEVICE);
        read.cancel().expect("under way");
        assert_eq!(result(read), ABORTED);
        let counted = in_order(device);
        assert_eq!(counted.failed, 1);
        assert_eq!(counted.bytes_written, largest as u64, "the first transfer");
        reset(device);
        round_trip(device, 256, 0);
    });
}

/// The device interrupts before the controller has moved anything: the buffer is still in use.
fn what_the_device_says_too_early_is_not_believed(system: System) {
    system.run(|machine, device| {
        for way in [Way::Transmit, Way::Receive] {
            faults(machine).arm(Fault::EarlyDone(way));
        }
        round_trip(device, 256, 20);
        assert_eq!(faults(machine).struck().len(), 2);
        round_trip(device, 256, 0);
        assert_eq!(in_order(device).completed, 4);
    });
}

fn a_reset_ends_what_is_under_way_and_empties_the_device(system: System) {
    system.run(|machine, device| {
        let write = write(device, 0x2_0000);
        machine.sleep(Duration::from_millis(1));
        reset(device);
        assert_eq!(result(write), ABORTED);
        round_trip(device, 256, 0);
        let read = read(device, 64);
        machine.sleep(Duration::from_millis(1));
        let before = device.now();
        reset(device);
        assert!(device.now() - before < Duration::from_millis(20));
        assert_eq!(result(read), ABORTED);
        round_trip(device, 256, 0);
        let counted = in_order(device);
        assert_eq!((counted.cancelled, counted.timeouts), (2, 0));
    });
}

fn what_waits_in_the_queue_is_carried_out_after_a_reset(system: System) {
    system.run(move |machine, device| {
        let reads = [read(device, 64), read(device, 128)];
        machine.sleep(Duration::from_millis(1));
        reset(device);
        let [under_way, waits] = reads;
        assert_eq!(result(under_way), ABORTED);
        assert!(!waits.has_ended());
        // One channel is the read's, which waits for data; with two the data comes.
        if system.board == Board::FifoSimplex {
            waits.cancel().expect("under way");
            assert_eq!(result(waits), ABORTED);
        } else {
            assert_eq!(result(write(device, 128)), Ok(128));
            assert_eq!(result(waits), Ok(128));
        }
        reset(device);
        round_trip(device, 256, 0);
        in_order(device);
    });
}

fn a_reset_ends_a_stream(system: System) {
    system.run(|machine, device| {
        start_stream(device);
        let waits = write(device, 64);
        machine.sleep(PERIOD * 3);
        reset(device);
        assert!(dmatest::stream::position(device).is_err());
        assert_eq!(result(waits), ABORTED);
        round_trip(device, 256, 0);
        start_stream(device);
        stop_stream(device);
        assert_eq!(in_order(device).cancelled, 1);
    });
}

/// In either direction: both end, what waits for the channels gets them, and the next stream works.
fn an_error_of_the_controller_ends_a_stream(system: System) {
    system.run(|machine, device| {
        let mut answer = vec![0; StreamState::SIZE + stream::PERIOD];
        for (errors, way) in [(1, Way::Transmit), (2, Way::Receive)] {
            start_stream(device);
            let waits = [write(device, 64), read(device, 64)];
            machine.sleep(PERIOD * 3);
            faults(machine).arm(Fault::BusError(way, 100));
            machine.sleep(PERIOD);
            let [position, exchange] = [STREAM_POSITION, STREAM_EXCHANGE].map(|code| {
                let input = [0; stream::PERIOD];
                device.control(code, &input, &mut answer)
            });
            let failed = Err(dmatest::Win32Error(1117));
            assert_eq!((position, exchange), (failed, failed));
            for waits in waits {
                assert_eq!(result(waits), Ok(64));
            }
            assert_eq!(in_order(device).hardware_errors, errors);
            start_stream(device);
            machine.sleep(PERIOD * 3);
            dmatest::stream::position(device).expect("it goes on");
            stop_stream(device);
            round_trip(device, 256, 0);
        }
    });
}

/// No stream is played, and the channels are free.
fn nothing_is_streamed(device: &MachineDevice) {
    assert!(dmatest::stream::position(device).is_err());
    round_trip(device, 256, 0);
    in_order(device);
}

fn a_stream_ends_with_its_handle(system: System) {
    system.run(|machine, device| {
        let other = device.reopen().expect("opened");
        start_stream(&other);
        let duplicate = other.duplicate().expect("duplicated");
        drop(other);
        machine.sleep(PERIOD * 2);
        dmatest::stream::position(device).expect("one handle of the file is left");
        drop(duplicate);
        nothing_is_streamed(device);
        start_stream(device);
        stop_stream(device);
    });
}

fn a_stream_outlives_other_handles(system: System) {
    system.run(|machine, device| {
        let other = device.reopen().expect("opened");
        dmatest::stream::position(&other).expect_err("there is none");
        start_stream(device);
        drop(other);
        machine.sleep(PERIOD * 2);
        let streamed = dmatest::stream::position(device).expect("it goes on");
        assert!(streamed.received > 0, "{streamed:?}");
        // One that somebody else has stopped is not the first one's any more.
        let other = device.reopen().expect("opened");
        stop_stream(&other);
        start_stream(&other);
        device.process().exit();
    });
}

/// Waits in a thread of its own, as the handlers of stream requests wait in the thread that sends them.
fn in_thread(device: &Rc<MachineDevice>, code: u32, input: Vec<u8>) -> Thread<Option<u32>> {
    let device = device.clone();
    Thread::spawn("streaming", move || {
        let mut answer = vec![0; StreamState::SIZE + stream::PERIOD];
        let ended = device.control(code, &input, &mut answer);
        ended.err().map(|error| error.0)
    })
}

fn a_stream_ends_with_its_process(system: System) {
    system.run(|machine, device| {
        let other = Rc::new(open(machine));
        start_stream(&other);
        let waits = in_thread(&other, STREAM_EXCHANGE, vec![0; stream::PERIOD]);
        machine.sleep(Duration::from_micros(100));
        let before = device.now();
        other.process().exit();
        assert!(device.now() - before < PERIOD);
        assert_eq!(waits.join(), Some(Win32Error::OPERATION_ABORTED.0));
        nothing_is_streamed(device);
    });
}

/// The stream has ended with the power, and is not touched when its handle is closed.
fn a_stream_whose_handle_is_closed_asleep_is_not_missed(system: System) {
    system.run(|machine, device| {
        let other = device.reopen().expect("opened");
        start_stream(&other);
        machine.suspend().expect("sleeps");
        drop(other);
        machine.resume().expect("wakes up");
        nothing_is_streamed(device);
    });
}

/// It waits for the channel that a read has.
fn a_stream_that_is_about_to_start_ends_with_its_process(system: System) {
    system.run(|machine, device| {
        let has = read(device, 64);
        let other = Rc::new(open(machine));
        let waits = in_thread(&other, STREAM_START, LINE_PERIOD.to_le_bytes().to_vec());
        machine.sleep(PERIOD);
        let before = device.now();
        other.process().exit();
        assert_eq!(waits.join(), Some(Win32Error::OPERATION_ABORTED.0));
        assert!(device.now() - before < PERIOD);
        assert!(!has.has_ended(), "the device still asks for its data");
        assert_eq!(result(write(device, 64)), Ok(64));
        assert_eq!(result(has), Ok(64));
        nothing_is_streamed(device);
    });
}

fn a_wait_for_a_period_is_cancelled(system: System) {
    system.run_machine(|machine| {
        machine.start().expect("started");
        let device = Rc::new(open(machine));
        start_stream(&device);
        let waits = in_thread(&device, STREAM_EXCHANGE, vec![0; stream::PERIOD]);
        machine.sleep(Duration::from_micros(100));
        device.cancel_all().expect("under way");
        assert_eq!(waits.join(), Some(Win32Error::OPERATION_ABORTED.0));
        dmatest::stream::position(&*device).expect("it goes on");
        stop_stream(&device);
    });
}
