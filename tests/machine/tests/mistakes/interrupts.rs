//! Interrupts served wrongly: M11, M12, M13.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use harness::{Suite, machine_stop};
use machine::nt_sys::*;
use machine::{Config, Interrupts, ddi};
use machine_nt::exports::KeStallExecutionProcessor;

use crate::support::edu::{self, ACKNOWLEDGE, DONE, RAISE, STATUS, Steps, neighbour};

/// A cause of interrupts that is not a transfer's end.
const OTHER: u32 = 1;

/// What the service routine has found, for the DPC.
static CAUSE: AtomicU32 = AtomicU32::new(0);

pub fn tests(suite: Suite) -> Suite {
    suite
        .stops(
            "m11_the_last_interrupt_is_taken_for_the_only_one",
            machine_stop("deadlock"),
            || two_interrupts_for_one_dpc(|status| CAUSE.store(status, SeqCst)),
        )
        .passes("m11_sound_where_causes_are_collected", || {
            two_interrupts_for_one_dpc(|status| {
                CAUSE.fetch_or(status, SeqCst);
            });
        })
        .stops(
            "m12_a_neighbours_interrupt_is_claimed",
            machine_stop("interrupt storm"),
            || on_a_shared_line(claims_everything),
        )
        .passes("m12_sound_where_only_its_own_are_claimed", || {
            on_a_shared_line(edu::interrupt);
        })
        .stops(
            "m13_the_dpc_forgets_what_came_meanwhile",
            machine_stop("deadlock"),
            || an_interrupt_during_the_dpc(read_and_forget),
        )
        .passes("m13_sound_where_causes_are_exchanged", || {
            an_interrupt_during_the_dpc(|| CAUSE.swap(0, SeqCst));
        })
}

/// The service routine of a driver that leaves the causes to the DPC.
unsafe fn acknowledge(interrupt: WDFINTERRUPT, keep: fn(u32)) -> bool {
    let status = edu::register(STATUS);
    if status == 0 {
        return false;
    }
    edu::set_register(ACKNOWLEDGE, status);
    keep(status);
    ddi!(WdfInterruptQueueDpcForIsr(interrupt));
    true
}

/// M11: on one processor, the transfer ends and another interrupt follows before the DPC has run.
fn two_interrupts_for_one_dpc(keep: fn(u32)) {
    static KEEP: std::sync::OnceLock<fn(u32)> = std::sync::OnceLock::new();
    KEEP.set(keep).expect("one to a process");
    unsafe extern "win64" fn program(
        transaction: WDFDMATRANSACTION,
        device: WDFDEVICE,
        context: WDFCONTEXT,
        direction: WDF_DMA_DIRECTION,
        list: PSCATTER_GATHER_LIST,
    ) -> BOOLEAN {
        edu::program(transaction, device, context, direction, list);
        // At DISPATCH_LEVEL: interrupts come in, DPCs do not.
        KeStallExecutionProcessor(150_000);
        edu::set_register(RAISE, OTHER);
        1
    }
    let steps = Steps {
        begin: |request, direction| unsafe { edu::begin_with(Some(program), request, direction) },
        interrupt: |interrupt| unsafe { acknowledge(interrupt, *KEEP.get().expect("set")) },
        dpc: || unsafe {
            if CAUSE.swap(0, SeqCst) & DONE != 0 {
                edu::finished(edu::transaction());
            }
        },
        ..Steps::default()
    };
    let configure = |config: &mut Config| config.processors = 1;
    edu::configured(steps, configure, |device| {
        assert_eq!(device.write(0, 100).result, Ok(100));
    });
}

/// M13: reads the causes and clears them, without the lock under which the service routine adds to them.
unsafe fn read_and_forget() -> u32 {
    let cause = CAUSE.load(SeqCst);
    // Long enough for the transfer to end.
    KeStallExecutionProcessor(150_000);
    CAUSE.store(0, SeqCst);
    cause
}

fn an_interrupt_during_the_dpc(take: unsafe fn() -> u32) {
    static TAKE: std::sync::OnceLock<unsafe fn() -> u32> = std::sync::OnceLock::new();
    TAKE.set(take).expect("one to a process");
    unsafe extern "win64" fn program(
        transaction: WDFDMATRANSACTION,
        device: WDFDEVICE,
        context: WDFCONTEXT,
        direction: WDF_DMA_DIRECTION,
        list: PSCATTER_GATHER_LIST,
    ) -> BOOLEAN {
        let programmed = edu::program(transaction, device, context, direction, list);
        edu::set_register(RAISE, OTHER);
        programmed
    }
    let steps = Steps {
        begin: |request, direction| unsafe { edu::begin_with(Some(program), request, direction) },
        interrupt: |interrupt| unsafe {
            acknowledge(interrupt, |status| {
                CAUSE.fetch_or(status, SeqCst);
            })
        },
        dpc: || unsafe {
            if TAKE.get().expect("set")() & DONE != 0 {
                edu::finished(edu::transaction());
            }
        },
        ..Steps::default()
    };
    edu::run(steps, |device| {
        assert_eq!(device.write(0, 100).result, Ok(100));
    });
}

/// M12: says of every interrupt that it was its own.
unsafe fn claims_everything(interrupt: WDFINTERRUPT) -> bool {
    edu::interrupt(interrupt);
    true
}

fn on_a_shared_line(interrupt: unsafe fn(WDFINTERRUPT) -> bool) {
    let steps = Steps {
        interrupt,
        ..Steps::default()
    };
    let configure = |config: &mut Config| {
        config.neighbour = true;
        config.interrupts = Interrupts::Line;
    };
    edu::configured(steps, configure, |device| {
        assert_eq!(device.write(0, 100).result, Ok(100));
        neighbour::raise();
        device.machine.sleep(Duration::from_millis(1));
        assert_eq!(neighbour::served(), 1);
        assert_eq!(device.write(0, 100).result, Ok(100));
    });
}
