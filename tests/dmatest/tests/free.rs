//! The real driver in a machine that runs freely: a device on a thread of its own, in real time. None of these is timed.
//!
//! `DMACARD_SYS` names the image; `cargo xtask test` builds it and sets the variable.

mod support;

use std::collections::VecDeque;
use std::process::ExitCode;
use std::time::Duration;

use dmatest::machine_device::MachineDevice;
use dmatest::pattern::Pattern;
use dmatest::{Device, Direction};
use harness::Suite;
use machine::user::{Overlapped, Win32Error};

use support::{FREE, Requests, System, WINDOW, open, round_trip};

/// A test, to be run in each system.
type Test = (&'static str, fn(System));

const EVERYWHERE: [Test; 5] = [
    ("no_wake_up_is_lost", no_wake_up_is_lost),
    ("several_processors", several_processors),
    ("pulled_out_at_full_speed", pulled_out_at_full_speed),
    ("time_is_real", time_is_real),
    (
        "the_drivers_own_calls_are_counted",
        the_drivers_own_calls_are_counted,
    ),
];

fn main() -> ExitCode {
    FREE.into_iter()
        .flat_map(|system| {
            EVERYWHERE.map(|(name, test)| (format!("{}::{name}", system.name), system, test))
        })
        .fold(
            Suite::new().limit(Duration::from_secs(120)),
            |suite, (name, system, test)| suite.passes(name, move || test(system)),
        )
        .main()
}

/// Requests that are kept under way in the stress.
const DEPTH: usize = 8;
/// Bytes of each.
const LENGTH: usize = 480;

/// Thousands of requests, several at once, one after the other and after pauses in which every thread goes to sleep: an
/// interrupt or a doorbell that gets lost leaves the program waiting for ever. What is read is what was written.
fn no_wake_up_is_lost(system: System) {
    system.run(|machine, device| {
        for round in 0..400 {
            in_parallel(device, round);
            for index in 0..4 {
                round_trip(device, (round + index) % 1000, 1 + index as usize * 700, 5);
            }
            if round % 50 == 0 {
                machine.sleep(Duration::from_millis(3));
            }
        }
    });
}

/// Writes all slices of the window at once, then reads them.
fn in_parallel(device: &MachineDevice, round: u64) {
    let slice = |index: usize| (index * LENGTH) as u64;
    let pattern = Pattern::Random(round);
    let written: VecDeque<Overlapped> = (0..DEPTH)
        .map(|index| {
            let mut buffer = device.buffer(LENGTH).expect("memory");
            pattern.fill(slice(index), &mut buffer);
            device.start(Direction::Write, slice(index), buffer, 0..LENGTH)
        })
        .collect();
    for request in written {
        assert_eq!(request.wait().result, Ok(LENGTH));
    }
    let read: Vec<Overlapped> = (0..DEPTH)
        .map(|index| {
            let buffer = device.buffer(LENGTH).expect("memory");
            device.start(Direction::Read, slice(index), buffer, 0..LENGTH)
        })
        .collect();
    for (index, request) in read.into_iter().enumerate() {
        let done = request.wait();
        assert_eq!(done.result, Ok(LENGTH));
        let mut expected = vec![0; LENGTH];
        pattern.fill(slice(index), &mut expected);
        assert!(
            done.buffer[..LENGTH] == expected[..],
            "slice {index} of round {round}"
        );
    }
}

/// An interrupt may come to a processor that has nothing else to do, while another is busy.
fn several_processors(system: System) {
    system
        .configured(|config| config.processors = 4)
        .run(|_, device| {
            for round in 0..100 {
                in_parallel(device, round);
            }
            round_trip(device, 0, WINDOW as usize, 0);
        });
}

/// Pulled out, every request ends: each one before some moment was carried out, no later one was.
fn pulled_out_at_full_speed(system: System) {
    system.run_machine(|machine| {
        machine.start().expect("started");
        let device = open(machine);
        let requests = Requests::start(&device);
        machine.surprise_remove().expect("pulled out");
        let results = requests.results();
        let failed: Vec<_> = results
            .iter()
            .skip_while(|result| **result == Ok(3000))
            .collect();
        let gone = [
            Win32Error(dmatest::Win32Error::DEVICE_REMOVED.0),
            Win32Error::OPERATION_ABORTED,
        ];
        let gone =
            |result: &&Result<usize, Win32Error>| result.is_err_and(|error| gone.contains(&error));
        assert!(failed.iter().all(gone), "{results:?}");
        drop(device);
        machine.finish_removals();
    });
}

/// A sleep takes the time of the host.
fn time_is_real(system: System) {
    system.run_machine(|machine| {
        let start = std::time::Instant::now();
        machine.sleep(Duration::from_millis(30));
        assert!(start.elapsed() >= Duration::from_millis(30));
    });
}

/// What the driver makes at its start is counted, and what the machine makes for requests is not the driver's.
fn the_drivers_own_calls_are_counted(system: System) {
    system.run_machine(|machine| {
        let counters = machine::counters();
        assert_eq!(
            (
                counters.framework_calls.get(),
                counters.driver_allocations.get()
            ),
            (0, 0)
        );
        machine.start().expect("started");
        // At the least the device, its queue, its interrupt, the enabler and a transaction.
        assert!(counters.driver_allocations.get() >= 5);
        let device = open(machine);
        let counts = || {
            [
                counters.framework_calls.get(),
                counters.pool_allocations.get(),
                counters.driver_allocations.get(),
            ]
        };
        let before = counts();
        (0..50).for_each(|round| in_parallel(&device, round));
        let after = counts();
        assert!(after[0] - before[0] >= 50 * 2 * DEPTH as u64);
        assert!(after[1] > before[1]);
        assert_eq!(after[2], before[2]);
    });
}
