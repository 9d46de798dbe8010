//! Stop and start again: the enabler is made in EvtDevicePrepareHardware and deleted in EvtDeviceReleaseHardware (R71).

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

use harness::Suite;
use machine::nt_sys::*;
use machine::{Device, MachineError};
use machine_hal::pnp::PnpError;
use machine_nt::counters;

use crate::bench::{self, PAGE};
use crate::fifo::{self, Fifo, Hooks, SYSTEM_DUPLEX};

pub fn add(suite: Suite) -> Suite {
    suite
        .passes("a_device_is_stopped_and_started_again_and_again", recreated)
        .passes("a_device_that_is_pulled_out_answers_no_more", pulled_out)
        .passes(
            "an_enabler_that_is_left_behind_keeps_its_adapters",
            left_behind,
        )
        .passes("m23_an_enabler_is_kept_over_a_stop", kept)
}

static ENABLER: AtomicPtr<WDFDMAENABLER__> = AtomicPtr::new(ptr::null_mut());
static PREPARED: AtomicUsize = AtomicUsize::new(0);

fn create(fifo: &Fifo) -> NTSTATUS {
    assert_eq!(fifo.connections.len(), 2);
    let enabler = fifo.duplex(PAGE);
    ENABLER.store(enabler, Relaxed);
    bench::transaction(enabler);
    PREPARED.fetch_add(1, Relaxed);
    STATUS_SUCCESS
}

fn delete() {
    bench::delete(ENABLER.swap(ptr::null_mut(), Relaxed));
}

fn recreated() {
    let hooks = Hooks {
        prepare: Some(create),
        release: Some(delete),
        ..Hooks::default()
    };
    fifo::on_machine(
        Device::Fifo,
        hooks,
        |_| {},
        |machine| {
            machine.start().expect("the device starts");
            for _ in 0..3 {
                machine.rebalance().expect("and starts again");
            }
            machine.suspend().expect("sleeps");
            machine.resume().expect("wakes up");
            assert_eq!(PREPARED.load(Relaxed), 4);
            assert_eq!(adapters(), 2);
            machine.shut_down();
        },
    );
}

static GONE: AtomicUsize = AtomicUsize::new(0);

fn delete_what_is_gone() {
    let register = fifo::get(abi::fifo::IDENTIFICATION.offset());
    GONE.store(register as usize, Relaxed);
    delete();
}

fn pulled_out() {
    let hooks = Hooks {
        prepare: Some(create),
        release: Some(delete_what_is_gone),
        ..Hooks::default()
    };
    fifo::on_machine(
        Device::Fifo,
        hooks,
        |_| {
            let register = fifo::get(abi::fifo::IDENTIFICATION.offset());
            assert_eq!(register, abi::fifo::IDENTITY);
        },
        |machine| {
            machine.start().expect("the device starts");
            machine.surprise_remove().expect("it is pulled out");
            assert_eq!(GONE.load(Relaxed), u32::MAX as usize);
            machine.shut_down();
        },
    );
}

/// Adapters that were not given back.
fn adapters() -> u64 {
    let counters = counters::counters();
    counters.dma_adapters.get() - counters.dma_adapters_put.get()
}

/// Nothing says so before the device is removed, when the framework deletes them all.
fn left_behind() {
    let hooks = Hooks {
        prepare: Some(create),
        ..Hooks::default()
    };
    fifo::on_machine(
        Device::Fifo,
        hooks,
        |_| {},
        |machine| {
            machine.start().expect("the device starts");
            for stops in 1..4 {
                machine.rebalance().expect("and starts again");
                assert_eq!(adapters(), 2 * (stops + 1));
            }
            machine.remove().expect("removed");
            assert_eq!(adapters(), 0);
        },
    );
}

/// M23: the adapters are never released, so the directions are configured already.
fn configure_again(fifo: &Fifo) -> NTSTATUS {
    if ENABLER.load(Relaxed).is_null() {
        ENABLER.store(fifo.bare_enabler(SYSTEM_DUPLEX, PAGE), Relaxed);
    }
    match fifo.configure(ENABLER.load(Relaxed), false) {
        STATUS_SUCCESS => fifo.configure(ENABLER.load(Relaxed), true),
        status => status,
    }
}

fn kept() {
    let hooks = Hooks {
        prepare: Some(configure_again),
        ..Hooks::default()
    };
    fifo::on_machine(
        Device::Fifo,
        hooks,
        |_| {},
        |machine| {
            machine.start().expect("the device starts");
            match machine.rebalance() {
                Err(MachineError::Pnp(PnpError::Start(STATUS_INVALID_PARAMETER))) => {}
                other => panic!("the second start ends with {other:?}"),
            }
            machine.shut_down();
        },
    );
}
