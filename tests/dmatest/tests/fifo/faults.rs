//! The device and the controller fail, and are reset.

use std::time::Duration;

use dmatest::machine_device::MachineDevice;
use dmatest::{Device, query_info};
use machine::{Device as Board, FifoFault as Fault, Machine, Way};

use crate::support::{System, loop_round_trip as round_trip, result};
use crate::{ABORTED, IO_DEVICE, Test, faults, in_order, limit_50, read, reset, write};

pub const EVERYWHERE: &[Test] = &tests! {
    an_error_of_the_controller_ends_a_read
    an_error_of_the_controller_ends_a_write
    what_the_device_says_too_early_is_not_believed
    a_transfer_that_stops_slowly_is_stopped_once
    a_reset_ends_what_is_under_way_and_empties_the_device
    what_waits_in_the_queue_is_carried_out_after_a_reset
};

pub const DUPLEX: &[Test] = &tests! {
    an_error_after_some_transfers_ends_the_request
    what_is_moved_before_the_controller_stops_counts
};

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

/// The device interrupts when the controller has moved the first bytes: the buffer is still in use.
fn what_the_device_says_too_early_is_not_believed(system: System) {
    // With one channel the read comes when the write has ended: so much fits into the FIFOs.
    let length = match system.board {
        Board::FifoSimplex => 256,
        _ => 0x2000,
    };
    system.run(move |machine, device| {
        for way in [Way::Transmit, Way::Receive] {
            faults(machine).arm(Fault::EarlyDone(way));
        }
        round_trip(device, length, 20);
        assert_eq!(faults(machine).struck().len(), 2);
        round_trip(device, 256, 0);
        assert_eq!(in_order(device).completed, 4);
    });
}

/// The controller is told by the cancellation, and is still at it when the time limit comes.
fn a_transfer_that_stops_slowly_is_stopped_once(system: System) {
    const SLOWLY: Duration = Duration::from_millis(20);
    system.configured(limit_50).run(|machine, device| {
        let request = read(device, 64);
        faults(machine).arm(Fault::SlowStop(SLOWLY.as_nanos() as u64));
        machine.sleep(Duration::from_millis(40));
        let before = device.now();
        request.cancel().expect("under way");
        assert_eq!(result(request), ABORTED);
        assert!(device.now() - before >= SLOWLY, "the buffer was in use");
        assert_eq!(faults(machine).struck().len(), 1);
        let counted = in_order(device);
        assert_eq!((counted.cancelled, counted.timeouts), (1, 0));
        round_trip(device, 256, 0);
    });
}

/// All of it, so that the request has succeeded.
fn what_is_moved_before_the_controller_stops_counts(system: System) {
    system.run(|machine, device| {
        let (write, read) = (write(device, 2048), read(device, 2048));
        machine.sleep(Duration::from_micros(5));
        faults(machine).arm(Fault::SlowStop(1_000_000));
        write.cancel().expect("under way");
        assert_eq!(result(write), Ok(2048));
        assert_eq!(result(read), Ok(2048));
        assert_eq!(faults(machine).struck().len(), 1);
        assert_eq!(in_order(device).completed, 2);
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
