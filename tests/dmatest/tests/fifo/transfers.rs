//! Reads and writes: what is moved, what is refused, cancelling, time limits, power.

use std::time::Duration;

use abi::info::{DeviceInfo, DeviceKind, InterruptKind};
use dmatest::{Device, Direction, query_info};
use machine::user::Win32Error;
use machine::{Device as Board, counters, trace};

use crate::support::{System, UNWIRED, loop_round_trip as round_trip, open, result, statistics};
use crate::{
    ABORTED, IO_DEVICE, REMOVED, TIMED_OUT, Test, in_order, limit_50, read, restart, start, write,
};

pub const EVERYWHERE: &[Test] = &tests! {
    it_says_what_it_is
    what_is_written_is_read
    small_lengths_and_buffers_anywhere_in_a_page
    what_the_controller_cannot_move_is_refused
    a_read_that_waits_for_data_is_cancelled
    a_write_that_nobody_reads_is_cancelled
    cancelled_while_it_waits_the_driver_never_sees_it
    a_read_without_data_times_out_and_the_next_one_works
    stopped_and_started_again_and_again
    adapters_are_given_back_at_every_stop
    suspended_while_a_read_waits
    pulled_out_while_a_read_waits
    pulled_out_while_a_write_waits
};

/// What the trace of the instrumented image is too long for.
pub const TRACED: &[Test] = &tests! {
    each_direction_is_configured_reading_first_before_any_transaction
};

pub const DUPLEX: &[Test] = &tests! {
    cancelled_at_any_time_it_ends_once
    many_fragments_in_both_directions_at_once
};

pub const SIMPLEX: &[Test] = &tests! {
    cancelled_while_it_waits_for_the_channel
    suspended_while_it_waits_for_the_channel
};

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

/// As on a PC: nothing among the resources connects the device to a controller. The driver is unloaded with all checks, and
/// has left nothing.
pub fn system_mode_fails_to_start_without_a_controller() {
    UNWIRED.run_machine(|machine| {
        for _ in 0..2 {
            let error = machine.start().expect_err("it has no connection");
            // STATUS_DEVICE_CONFIGURATION_ERROR.
            let expected = format!("Pnp(Start({}))", 0xc000_0182_u32 as i32);
            assert_eq!(format!("{error:?}"), expected);
        }
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

/// The framework's documentation asks for it, and its source decides by the reading direction what a transaction needs.
fn each_direction_is_configured_reading_first_before_any_transaction(system: System) {
    const WANTED: [&str; 4] = [
        "WdfDmaEnablerCreate",
        "reading is configured",
        "writing is configured",
        "WdfDmaTransactionCreate",
    ];
    system.run_machine(move |machine| {
        trace::reset();
        machine.start().expect("started");
        for _ in 0..2 {
            let recorded = trace::summary().expect("kept since the last reset").events;
            let events = trace::events();
            assert_eq!(events.len() as u64, recorded, "too much has happened");
            let calls: Vec<_> = events
                .into_iter()
                .map(|event| event.what)
                .filter(|what| WANTED.contains(what))
                .collect();
            let [create, reading, writing, transaction] = WANTED;
            // Each direction has a transaction of its own; the enabler of streams does not come without them.
            match system.board {
                Board::FifoSimplex => {
                    assert_eq!(calls, [create, reading, transaction, transaction]);
                }
                _ => {
                    let enabler = [create, reading, writing];
                    let transactions = [transaction; 4];
                    assert_eq!(calls, [&enabler[..], &enabler, &transactions].concat());
                }
            }
            trace::reset();
            machine.rebalance().expect("and starts again");
        }
    });
}

/// The framework deletes an enabler with its device, if nobody does before: so it is counted while that is there.
fn adapters_are_given_back_at_every_stop(system: System) {
    let live = || {
        let counters = counters();
        counters.dma_adapters.get() - counters.dma_adapters_put.get()
    };
    system.run_machine(move |machine| {
        machine.start().expect("started");
        let started = live();
        assert!(started > 0);
        for _ in 0..3 {
            machine.rebalance().expect("and starts again");
            assert_eq!(live(), started);
        }
        machine.remove().expect("removed");
        assert_eq!(live(), 0);
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
