//! The real driver when it has to stop: requests that are cancelled, devices that hang, resets, and all of it while power
//! comes and goes.
//!
//! `DMACARD_SYS` names the image; `cargo xtask test` builds it and sets the variable.

mod support;

use std::process::ExitCode;
use std::time::Duration;

use dmatest::machine_device::MachineDevice;
use dmatest::{Device, Direction};
use harness::Suite;
use machine::inf::{RegistryData, RegistryValue};
use machine::user::{Overlapped, Win32Error, now};
use machine::{Config, Device as Board, Interrupts, Machine};

use support::{SYSTEMS, System, in_order, open, reset, result, round_trip, statistics};

/// A test, to be run in each system.
type Test = (&'static str, fn(System));

macro_rules! tests {
    ($($test:ident)*) => { [$((stringify!($test), $test)),*] };
}

/// QEMU's edu runs by a clock of its own, and may be done with a transfer at any moment after it was told.
const EVERYWHERE: [Test; 21] = tests! {
    cancelled_between_its_transfers_it_ends_after_one
    cancelled_in_its_last_transfer_it_is_done
    cancelled_at_any_time_it_ends_once
    cancelled_while_it_waits_the_driver_never_sees_it
    cancelled_for_want_of_map_registers
    a_process_that_ends_leaves_the_device_in_order
    a_hung_transfer_times_out_and_the_next_one_works
    a_stuck_engine_fails_the_device
    limits_that_make_no_sense
    reset_of_an_idle_device
    reset_of_a_hung_device
    reset_of_a_stuck_device
    suspend_with_a_hung_device
    rebalance_with_a_hung_device
    pulled_out_with_a_hung_device
    pulled_out_while_waiting_for_map_registers
    suspend_while_waiting_for_map_registers
    interrupts_while_the_power_comes_and_goes
    an_engine_that_is_busy_at_the_start_is_not_used
    a_transfer_that_cannot_be_programmed_fails
    a_transfer_that_went_wrong_fails
};

/// What needs a device that takes its time in the machine's time: not QEMU, whose own clock runs ahead.
const TWINS: [Test; 2] = tests! {
    reset_ends_the_transfer_under_way
    a_slow_device_is_given_up_and_taken_back
};

fn main() -> ExitCode {
    SYSTEMS
        .into_iter()
        .flat_map(|system| {
            let slow = TWINS
                .into_iter()
                .filter(move |_| system.board == Board::EduTwin);
            let tests = EVERYWHERE.into_iter().chain(slow);
            tests.map(move |(name, test)| (format!("{}::{name}", system.name), system, test))
        })
        .fold(
            Suite::new().limit(Duration::from_secs(120)),
            |suite, (name, system, test)| suite.passes(name, move || test(system)),
        )
        .main()
}

/// What edu takes for a transfer.
const TRANSFER: Duration = Duration::from_millis(100);

const ABORTED: Result<usize, Win32Error> = Err(Win32Error::OPERATION_ABORTED);
const TIMED_OUT: Result<usize, Win32Error> = Err(Win32Error(121));
const IO_DEVICE: Result<usize, Win32Error> = Err(Win32Error(1117));

fn arm(machine: &Machine, plan: &str) {
    let plan = plan.parse().expect("a plan");
    machine.faults().arm_plan(&plan).expect("armed");
}

/// Sets the driver's time limit for transfers.
fn limit(config: &mut Config, milliseconds: u32) {
    config.registry.push(RegistryValue {
        subkey: "Parameters".to_owned(),
        name: "TransferTimeout".to_owned(),
        data: RegistryData::Dword(milliseconds),
    });
}

fn read(device: &MachineDevice, length: usize) -> Overlapped {
    let buffer = device.buffer(length).expect("memory");
    device.start(Direction::Read, 0, buffer, 0..length)
}

/// The transfer that the device has been told about is waited for, the next one not begun.
fn cancelled_between_its_transfers_it_ends_after_one(system: System) {
    system.run(move |_, device| {
        let request = read(device, 3000);
        let cancelled = request.cancel();
        let twin = system.board == Board::EduTwin;
        // QEMU's clock runs on: it may have finished any number of transfers by now.
        assert!(cancelled == Ok(()) || !twin);
        assert!(
            !twin || !request.has_ended(),
            "the device still writes to the buffer"
        );
        let result = result(request);
        let counted = statistics(device);
        if result == Ok(3000) && !twin {
            assert_eq!((counted.transfers, counted.cancelled), (3, 0));
            return;
        }
        assert_eq!(result, ABORTED);
        let expected = if twin { 1..2 } else { 1..3 };
        assert!(expected.contains(&counted.transfers), "{counted:?}");
        assert_eq!(counted.bytes_read, 1024 * counted.transfers);
        assert_eq!(in_order(device).cancelled, 1);
    });
}

/// What was moved completely is a success, even if nobody wants it any more.
fn cancelled_in_its_last_transfer_it_is_done(system: System) {
    system.run(move |_, device| {
        let request = read(device, 1000);
        let cancelled = request.cancel();
        assert!(cancelled == Ok(()) || system.board == Board::Edu);
        assert_eq!(result(request), Ok(1000));
        let counted = in_order(device);
        assert_eq!(counted.cancelled, 0);
    });
}

/// From before the first transfer to after the last.
fn cancelled_at_any_time_it_ends_once(system: System) {
    system.run(|machine, device| {
        const STEPS: u64 = 40;
        let mut ended = [0_u64; 2];
        for step in 0..=STEPS {
            let request = read(device, 3000);
            machine.sleep(Duration::from_micros(8_500 * step));
            // QEMU may be slow, but it gets there.
            while step == STEPS && !request.has_ended() {
                machine.sleep(TRANSFER);
            }
            // It may have ended already.
            let _ = request.cancel();
            match result(request) {
                Ok(3000) => ended[0] += 1,
                ABORTED => ended[1] += 1,
                other => panic!("{other:?}"),
            }
        }
        let [done, aborted] = ended;
        assert!(done > 0 && aborted > 0, "{ended:?}");
        let counted = in_order(device);
        assert!(counted.cancelled <= aborted);
        assert_eq!(counted.completed, done + 2);
    });
}

fn cancelled_while_it_waits_the_driver_never_sees_it(system: System) {
    system.run(|_, device| {
        // So far back in the queue that QEMU's clock does not get there meanwhile.
        let requests: Vec<_> = (0..10).map(|_| read(device, 1000)).collect();
        requests[8].cancel().expect("waiting");
        let results: Vec<_> = requests.into_iter().map(result).collect();
        let (cancelled, done): (Vec<_>, Vec<_>) =
            (0..10).zip(results).partition(|(index, _)| *index == 8);
        assert_eq!(cancelled, [(8, ABORTED)]);
        assert!(done.iter().all(|(_, result)| *result == Ok(1000)));
        let counted = in_order(device);
        assert_eq!((counted.requests, counted.cancelled), (9 + 2, 0));
    });
}

/// Another device has all map registers: the request waits for them and is withdrawn; the next one waits and gets them.
fn cancelled_for_want_of_map_registers(system: System) {
    system.run(|machine, device| {
        let others = machine.occupy_map_registers();
        let request = read(device, 3000);
        machine.sleep(TRANSFER);
        assert!(!request.has_ended());
        request.cancel().expect("waiting");
        assert!(request.has_ended(), "nothing holds it");
        assert_eq!(result(request), ABORTED);
        let counted = statistics(device);
        assert_eq!((counted.cancelled, counted.transfers), (1, 0));
        let next = read(device, 3000);
        machine.sleep(TRANSFER);
        assert!(!next.has_ended());
        drop(others);
        assert_eq!(result(next), Ok(3000));
        in_order(device);
    });
}

fn a_process_that_ends_leaves_the_device_in_order(system: System) {
    system.run(move |machine, device| {
        let other = open(machine);
        let requests: Vec<_> = (0..4).map(|_| read(&other, 3000)).collect();
        other.process().exit();
        let results: Vec<_> = requests.into_iter().map(result).collect();
        // QEMU may have been quick with the first.
        assert!(
            results[0] == ABORTED || system.board == Board::Edu,
            "{results:?}"
        );
        assert_eq!(results[3], ABORTED);
        drop(other);
        in_order(device);
    });
}

/// The engine stops when it is cut off from the bus: the request fails, and all that follow are carried out.
fn a_hung_transfer_times_out_and_the_next_one_works(system: System) {
    system.run(|machine, device| {
        arm(machine, "hang@2");
        let requests: Vec<_> = (0..3).map(|_| read(device, 3000)).collect();
        let results: Vec<_> = requests.into_iter().map(result).collect();
        assert_eq!(results, [TIMED_OUT, Ok(3000), Ok(3000)]);
        let counted = in_order(device);
        assert_eq!((counted.timeouts, counted.failed), (1, 1));
        assert_eq!(counted.hardware_errors, 0);
    });
}

/// With a limit that is too short for it, the device is cut off in the middle of work and goes on alone until it
/// notices; it is not told anything before.
fn a_slow_device_is_given_up_and_taken_back(system: System) {
    let system = system.configured(|config| limit(config, 30));
    system.run(|_, device| {
        for round in 1..4 {
            assert_eq!(result(read(device, 1000)), TIMED_OUT);
            let counted = statistics(device);
            assert_eq!((counted.transfers, counted.timeouts), (round, round));
            assert_eq!(counted.hardware_errors, 0, "the engine was idle");
            assert_eq!(counted.bytes_read, 0);
        }
    });
}

/// An engine that goes on although it is cut off must not come back to the bus: the device is removed.
fn a_stuck_engine_fails_the_device(system: System) {
    system.run_machine(|machine| {
        machine.start().expect("started");
        let device = open(machine);
        arm(machine, "stuck");
        let requests: Vec<_> = (0..3).map(|_| read(&device, 3000)).collect();
        let mut results = requests.into_iter().map(result);
        assert_eq!(results.next(), Some(TIMED_OUT));
        assert!(
            results.all(|result| result == IO_DEVICE || result == ABORTED),
            "the others end too"
        );
        machine.settle();
        assert!(read(&device, 100).wait().result.is_err());
        drop(device);
    });
}

/// Zero means the default, which is five seconds.
fn limits_that_make_no_sense(system: System) {
    let zero = system.configured(|config| limit(config, 0));
    zero.run(move |machine, device| {
        round_trip(device, 0, 3000, 0);
        arm(machine, "hang");
        let begun = now();
        assert_eq!(result(read(device, 100)), TIMED_OUT);
        let milliseconds = (now() - begun).as_millis();
        // With QEMU time is real, and the host may be slow, but never early.
        assert!(milliseconds >= 4990, "{milliseconds}");
        assert!(milliseconds < 5200 || system.board == Board::Edu);
    });
}

fn reset_of_an_idle_device(system: System) {
    system.run(|_, device| {
        assert_eq!(reset(device), Ok(0));
        in_order(device);
        assert_eq!(reset(device), Ok(0));
        in_order(device);
    });
}

/// The request in the engine ends at once, those that wait are carried out afterwards.
fn reset_ends_the_transfer_under_way(system: System) {
    system.run(|_, device| {
        let requests: Vec<_> = (0..3).map(|_| read(device, 3000)).collect();
        assert_eq!(reset(device), Ok(0));
        let results: Vec<_> = requests.into_iter().map(result).collect();
        assert_eq!(results, [ABORTED, Ok(3000), Ok(3000)]);
        let counted = in_order(device);
        assert_eq!((counted.cancelled, counted.timeouts), (1, 0));
    });
}

fn reset_of_a_hung_device(system: System) {
    system.run(|machine, device| {
        arm(machine, "hang");
        let requests: Vec<_> = (0..2).map(|_| read(device, 3000)).collect();
        machine.sleep(2 * TRANSFER);
        assert!(!requests[0].has_ended());
        assert_eq!(reset(device), Ok(0));
        let results: Vec<_> = requests.into_iter().map(result).collect();
        assert_eq!(results, [ABORTED, Ok(3000)]);
        in_order(device);
    });
}

fn reset_of_a_stuck_device(system: System) {
    system.run_machine(|machine| {
        machine.start().expect("started");
        let device = open(machine);
        arm(machine, "stuck");
        let request = read(&device, 3000);
        machine.sleep(2 * TRANSFER);
        assert!(reset(&device).is_err());
        assert_eq!(result(request), ABORTED);
        machine.settle();
        drop(device);
    });
}

/// The machine falls asleep all the same, and what did not hang is done after it has woken up.
fn suspend_with_a_hung_device(system: System) {
    system.run(|machine, device| {
        arm(machine, "hang");
        let requests: Vec<_> = (0..3).map(|_| read(device, 3000)).collect();
        machine.sleep(TRANSFER / 2);
        machine.suspend().expect("asleep");
        assert!(requests[0].has_ended());
        machine.resume().expect("awake");
        let results: Vec<_> = requests.into_iter().map(result).collect();
        assert_eq!(results, [TIMED_OUT, Ok(3000), Ok(3000)]);
        in_order(device);
    });
}

fn rebalance_with_a_hung_device(system: System) {
    system.run(|machine, device| {
        arm(machine, "hang");
        let requests: Vec<_> = (0..3).map(|_| read(device, 3000)).collect();
        machine.sleep(TRANSFER / 2);
        machine.rebalance().expect("rebalanced");
        let results: Vec<_> = requests.into_iter().map(result).collect();
        assert_eq!(results, [TIMED_OUT, Ok(3000), Ok(3000)]);
        in_order(device);
    });
}

/// A device that is gone is not waited for.
fn pulled_out_with_a_hung_device(system: System) {
    system.run_machine(|machine| {
        machine.start().expect("started");
        let device = open(machine);
        arm(machine, "hang");
        let requests: Vec<_> = (0..3).map(|_| read(&device, 3000)).collect();
        machine.sleep(TRANSFER / 2);
        machine.surprise_remove().expect("pulled out");
        let results: Vec<_> = requests.into_iter().map(result).collect();
        let removed = Err(Win32Error(dmatest::Win32Error::DEVICE_REMOVED.0));
        assert_eq!(results, [removed, ABORTED, ABORTED]);
        drop(device);
        machine.finish_removals();
    });
}

/// Pulled out while a request waits for map registers: it is withdrawn, and nothing waits for the other device.
fn pulled_out_while_waiting_for_map_registers(system: System) {
    system.run_machine(|machine| {
        machine.start().expect("started");
        let device = open(machine);
        let others = machine.occupy_map_registers();
        let requests: Vec<_> = (0..2).map(|_| read(&device, 3000)).collect();
        machine.sleep(TRANSFER);
        machine.surprise_remove().expect("pulled out");
        let results: Vec<_> = requests.into_iter().map(result).collect();
        assert_eq!(results, [ABORTED, ABORTED]);
        drop(others);
        drop(device);
        machine.finish_removals();
    });
}

/// The request that waits for map registers goes back to its queue, and comes again after the machine has woken up.
fn suspend_while_waiting_for_map_registers(system: System) {
    system.run(|machine, device| {
        let others = machine.occupy_map_registers();
        let requests: Vec<_> = (0..2).map(|_| read(device, 3000)).collect();
        machine.sleep(TRANSFER);
        machine.suspend().expect("asleep");
        assert!(requests.iter().all(|request| !request.has_ended()));
        drop(others);
        machine.resume().expect("awake");
        for request in requests {
            assert_eq!(result(request), Ok(3000));
        }
        assert_eq!(in_order(device).requests, 4);
    });
}

/// Interrupts that nobody asked for, at every register access of going to sleep and waking up.
fn interrupts_while_the_power_comes_and_goes(system: System) {
    system.run(move |machine, device| {
        for access in 1..16 {
            arm(machine, &format!("spurious@access:{access}"));
            machine.suspend().expect("asleep");
            machine.resume().expect("awake");
            machine.faults().disarm();
            round_trip(device, access, 1500, 3);
        }
        // Messages are DMA: the device sends none while it is off the bus.
        let lines = system.interrupts == Interrupts::Line;
        assert!(!lines || machine.faults().total() >= 5, "too few came");
        in_order(device);
    });
}

/// The engine runs although nobody told it anything: the device does not start, the half that did is undone, and the
/// next start works.
fn an_engine_that_is_busy_at_the_start_is_not_used(system: System) {
    system.run_machine(|machine| {
        arm(machine, "corrupt=0x98|1@1x*");
        let refused = machine.start().expect_err("busy").to_string();
        assert!(refused.contains("0xc000009e"), "{refused}");
        machine.faults().disarm();
        machine.start().expect("started");
        in_order(&open(machine));
    });
}

/// The engine is busy when it is to be told about the second transfer.
fn a_transfer_that_cannot_be_programmed_fails(system: System) {
    system.run(|machine, device| {
        arm(machine, "corrupt=0x98|1@3");
        let invalid_state = Err(Win32Error(22));
        assert_eq!(result(read(device, 3000)), invalid_state);
        assert_eq!(machine.faults().armed(), 0);
        let counted = in_order(device);
        assert_eq!((counted.failed, counted.hardware_errors), (1, 1));
    });
}

/// The engine says that it has stopped, but not with the command that it was given.
fn a_transfer_that_went_wrong_fails(system: System) {
    system.run(|machine, device| {
        arm(machine, "corrupt=0x98^2@2");
        assert_eq!(result(read(device, 3000)), IO_DEVICE);
        let counted = in_order(device);
        assert_eq!((counted.failed, counted.hardware_errors), (1, 1));
        assert_eq!(counted.timeouts, 0);
    });
}
