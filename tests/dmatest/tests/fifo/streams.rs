//! Streams: what is played comes back, whose they are, and how they end.

use std::io::Cursor;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use abi::ioctl::{STREAM_EXCHANGE, STREAM_POSITION, STREAM_START, STREAM_STOP};
use abi::stream::{self, StreamState};
use dmatest::Device;
use dmatest::machine_device::MachineDevice;
use dmatest::pattern::Pattern;
use dmatest::stream::Song;
use machine::user::{Thread, Win32Error};
use machine::{FifoFault as Fault, PolicyKind, Way};

use crate::support::{System, loop_round_trip as round_trip, open, result, statistics};
use crate::{ABORTED, IO_DEVICE, TIMED_OUT, Test, faults, in_order, limit_50, read, reset, write};

pub const DUPLEX: &[Test] = &tests! {
    a_stream_comes_back_as_it_was_played
    a_stream_that_nobody_serves_counts_what_is_missed
    a_stream_ends_with_the_power
    requests_wait_until_a_stream_is_stopped
    a_stream_that_is_pulled_out_ends
    wrong_stream_requests_are_refused
    a_reset_ends_a_stream
    an_error_of_the_controller_ends_a_stream
    a_stream_ends_with_its_handle
    a_stream_outlives_other_handles
    a_stream_ends_with_its_process
    a_stream_whose_handle_is_closed_asleep_is_not_missed
    a_stream_that_is_about_to_start_ends_with_its_process
    a_wait_for_a_period_is_cancelled
    however_a_stream_ends_it_is_over
};

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

/// Stopped, closed, failed and waited for at the same time, in many orders; requests wait for its channels.
fn however_a_stream_ends_it_is_over(system: System) {
    system.configured(limit_50).run(|machine, device| {
        let third = Rc::new(device.reopen().expect("opened"));
        for seed in 1..=20 {
            machine.set_schedule(PolicyKind::Random, seed, None);
            let other = Rc::new(open(machine));
            start_stream(&other);
            let waits = [write(device, 64), read(device, 64)];
            let way = [Way::Transmit, Way::Receive][seed as usize % 2];
            faults(machine).arm(Fault::BusError(way, seed as u32 * 64));
            machine.sleep(PERIOD / 16 * (seed as u32 % 16));
            let exchange = in_thread(&other, STREAM_EXCHANGE, vec![0; stream::PERIOD]);
            let stop = in_thread(&third, STREAM_STOP, Vec::new());
            other.process().exit();
            exchange.join();
            assert_eq!(stop.join(), None);
            faults(machine).disarm();
            for ended in waits.map(result) {
                // The error may be theirs.
                assert!([Ok(64), IO_DEVICE, TIMED_OUT].contains(&ended), "{ended:?}");
            }
            reset(device);
            nothing_is_streamed(device);
        }
        machine.set_schedule(PolicyKind::RoundRobin, 1, None);
        let struck = faults(machine).struck().len();
        assert!((3..20).contains(&struck), "{struck}");
    });
}
