//! A device that sleeps, fails or goes, and a driver that fails itself: M18, M19, M26.

use std::time::Duration;

use harness::{Suite, bug_check};
use machine::nt_sys::*;
use machine::{Config, ddi};

use crate::support::edu::{self, ACKNOWLEDGE, DONE, STATUS, Steps};

const POWER_STATE_FAILURE: u32 = 0x9F;
/// Its first parameter: a driver has kept a power request for too long.
const BLOCKED: u64 = 3;
const DPC_WATCHDOG_VIOLATION: u32 = 0x133;
const SINGLE_DPC: u64 = 0;
/// What wdk-panic makes of a panic: "RPNC".
const RUST_PANIC: u32 = u32::from_be_bytes(*b"RPNC");

pub fn tests(suite: Suite) -> Suite {
    suite
        .stops(
            "m18_no_io_stop_and_a_device_that_hangs",
            bug_check(POWER_STATE_FAILURE).p1(BLOCKED),
            || asleep_while_the_device_hangs(None),
        )
        .passes("m18_sound_with_io_stop", || {
            asleep_while_the_device_hangs(Some(io_stop));
        })
        .stops(
            "m19_all_ones_are_taken_for_work",
            bug_check(DPC_WATCHDOG_VIOLATION).p1(SINGLE_DPC),
            || gone_before_the_dpc(drains),
        )
        .passes("m19_sound_where_all_ones_mean_gone", || {
            gone_before_the_dpc(drains_while_there);
        })
        .stops(
            "m26_a_callback_panics",
            bug_check(RUST_PANIC).says("index out of bounds"),
            m26_a_callback_panics,
        )
}

/// Gives the transfer up. A real driver first stops the device; this one hangs and moves nothing any more.
unsafe extern "win64" fn io_stop(_queue: WDFQUEUE, _request: WDFREQUEST, _flags: ULONG) {
    let transaction = edu::transaction();
    let mut status = STATUS_SUCCESS;
    ddi!(WdfDmaTransactionDmaCompletedFinal(
        transaction,
        0,
        &mut status
    ));
    edu::complete(transaction, STATUS_IO_TIMEOUT);
}

/// M18: the framework waits for the request that the driver has, and Windows for the framework.
fn asleep_while_the_device_hangs(io_stop: PFN_WDF_IO_QUEUE_IO_STOP) {
    let steps = Steps {
        io_stop,
        ..Steps::default()
    };
    let configure = |config: &mut Config| config.faults = "hang".parse().expect("a plan");
    edu::configured(steps, configure, |device| {
        let request = device.start_write(0, 100);
        device.machine.sleep(Duration::from_millis(200));
        device.machine.suspend().expect("asleep");
        device.machine.resume().expect("awake");
        assert_eq!(request.wait().status, STATUS_IO_TIMEOUT);
        assert_eq!(device.write(0, 100).result, Ok(100));
    });
}

/// Serves the device until it has nothing more.
unsafe fn drains() {
    loop {
        let status = edu::register(STATUS);
        if status == 0 {
            break;
        }
        edu::set_register(ACKNOWLEDGE, status);
    }
    edu::finished(edu::transaction());
}

/// The same, but asks whether there is a device.
unsafe fn drains_while_there() {
    if edu::register(STATUS) == u32::MAX {
        let transaction = edu::transaction();
        let mut status = STATUS_SUCCESS;
        ddi!(WdfDmaTransactionDmaCompletedFinal(
            transaction,
            0,
            &mut status
        ));
        return edu::complete(transaction, STATUS_DEVICE_REMOVED);
    }
    drains();
}

/// M19: the link goes down between the service routine and the DPC.
fn gone_before_the_dpc(dpc: unsafe fn()) {
    let steps = Steps {
        dpc,
        interrupt: |interrupt| unsafe {
            let status = edu::register(STATUS);
            edu::set_register(ACKNOWLEDGE, status);
            ddi!(WdfInterruptQueueDpcForIsr(interrupt));
            status & DONE != 0
        },
        ..Steps::default()
    };
    let configure = |config: &mut Config| {
        // Four registers to program, two in the service routine.
        config.faults = "ones@access:7".parse().expect("a plan");
        config.watchdog.dpc = Duration::from_millis(200);
    };
    edu::configured(steps, configure, |device| {
        assert_eq!(device.write(0, 100).status, STATUS_DEVICE_REMOVED);
        assert_eq!(device.machine.faults().total(), 1);
    });
}

/// M26: a panic cannot leave the callback; it is a bug check, with the place in the source.
fn m26_a_callback_panics() {
    let steps = Steps {
        finished: |_| {
            let causes = [DONE];
            let index = std::hint::black_box(causes.len());
            std::hint::black_box(causes[index]);
        },
        ..Steps::default()
    };
    edu::run(steps, |device| drop(device.write(0, 100)));
}
