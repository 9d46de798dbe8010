//! Which call is allowed in which state of a transaction: every pair.

use std::ptr;

use harness::{Suite, bug_check};
use machine::ddi;
use machine::nt_sys::*;

use crate::bench::{self, Buffer, PAGE, Report, TO_DEVICE};

/// A state a driver can bring a transaction to; the number is the third parameter of bug check 0x10D/8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Created = 1,
    Reserved,
    Initialized,
    Transfer,
    Completed,
    Failed,
    Released,
}
use State::*;

const STATES: [State; 7] = [
    Created,
    Reserved,
    Initialized,
    Transfer,
    Completed,
    Failed,
    Released,
];

/// A call, and the states it is allowed in.
struct Call {
    name: &'static str,
    allowed: &'static [State],
    call: fn(WDFDMATRANSACTION, &Buffer),
    /// The state afterwards; none if it stays.
    to: Option<State>,
}

const LENGTH: usize = 100;

const CALLS: &[Call] = &[
    Call {
        name: "initialize",
        allowed: &[Created, Reserved, Released],
        call: |transaction, buffer| {
            assert_eq!(
                bench::initialize(transaction, buffer, LENGTH),
                STATUS_SUCCESS
            );
        },
        to: Some(Initialized),
    },
    Call {
        name: "execute",
        allowed: &[Initialized],
        call: |transaction, _| assert_eq!(bench::execute(transaction), STATUS_SUCCESS),
        to: Some(Transfer),
    },
    Call {
        name: "dma_completed",
        allowed: &[Transfer],
        call: |transaction, _| {
            assert_eq!(bench::report(transaction, Report::Full), bench::DONE);
        },
        to: Some(Completed),
    },
    Call {
        name: "dma_completed_with_length",
        allowed: &[Transfer],
        call: |transaction, _| {
            assert_eq!(
                bench::report(transaction, Report::Length(LENGTH)),
                bench::DONE
            );
        },
        to: Some(Completed),
    },
    Call {
        name: "dma_completed_final",
        allowed: &[Transfer],
        call: |transaction, _| {
            assert_eq!(bench::report(transaction, Report::Final(1)), bench::DONE);
        },
        to: Some(Completed),
    },
    Call {
        name: "release",
        allowed: &[Created, Reserved, Initialized, Completed, Failed, Released],
        call: |transaction, _| bench::release(transaction),
        to: Some(Released),
    },
    Call {
        name: "delete",
        allowed: &[Created, Reserved, Initialized, Completed, Failed, Released],
        call: |transaction, _| bench::delete(transaction),
        to: None,
    },
    Call {
        name: "allocate_resources",
        allowed: &[Created, Initialized, Released],
        call: |transaction, _| assert_eq!(reserve(transaction, 1), STATUS_SUCCESS),
        to: Some(Reserved),
    },
    Call {
        name: "allocate_resources_for_the_buffer",
        allowed: &[Initialized],
        call: |transaction, _| assert_eq!(reserve(transaction, 0), STATUS_SUCCESS),
        to: Some(Reserved),
    },
    Call {
        name: "free_resources",
        allowed: &[Reserved, Initialized, Completed, Failed, Released],
        call: |transaction, _| unsafe { ddi!(WdfDmaTransactionFreeResources(transaction)) },
        to: Some(Released),
    },
    Call {
        name: "get_transfer_info",
        allowed: &[Initialized],
        call: |transaction, _| unsafe {
            ddi!(WdfDmaTransactionGetTransferInfo(
                transaction,
                ptr::null_mut(),
                ptr::null_mut()
            ));
        },
        to: None,
    },
];

/// Adds a test for each pair that is refused, and one for all that are not.
pub fn add(mut suite: Suite) -> Suite {
    for call in CALLS {
        for state in STATES {
            if call.allowed.contains(&state) {
                continue;
            }
            let name = format!("{}_is_refused_when_{}", call.name, lower(state));
            let expected = bug_check(0x10D).p1(8).p2_after(HANDLE).p3(state as u64);
            suite = suite.stops(name, expected, move || {
                with(move |device| {
                    let buffer = Buffer::at(0, PAGE);
                    let transaction = reach(device, state, &buffer);
                    println!("{HANDLE}{transaction:p}");
                    (call.call)(transaction, &buffer);
                });
            });
        }
    }
    for state in [Created, Released] {
        let name = format!("cancel_is_refused_when_{}", lower(state));
        let expected = bug_check(0x10D).p1(8).p2_after(HANDLE).p3(state as u64);
        suite = suite.stops(name, expected, move || cancel(state));
    }
    suite = suite.stops(
        "cancel_after_the_end_follows_a_null_pointer",
        bug_check(0x1E).p1(0xffff_ffff_c000_0005),
        || cancel(Completed),
    );
    suite
        .passes(
            "cancel_of_what_already_has_its_map_registers_is_too_late",
            cancel_of_what_already_has_its_map_registers_is_too_late,
        )
        .passes(
            "every_other_call_is_allowed_in_every_other_state",
            every_other_call_is_allowed_in_every_other_state,
        )
        .stops(
            "release_in_transfer_without_the_verifier_frees_map_registers_in_use",
            bug_check(0xE6).p1(0x10),
            || release_in_transfer(bench::PACKET64),
        )
        .passes(
            "release_in_transfer_without_the_verifier_puts_the_list",
            || release_in_transfer(bench::LIST64),
        )
}

/// What precedes the handle in a test's output.
const HANDLE: &str = "the transaction is ";

fn lower(state: State) -> String {
    format!("{state:?}").to_lowercase()
}

/// The HAL answers as it does without its verifier: a state is reached by asking for more than it has.
fn with(test: impl FnOnce(WDFDEVICE) + Send + 'static) {
    bench::configured(Box::new(|config| config.hal.verifier = false), test);
}

fn enabler(device: WDFDEVICE) -> WDFDMAENABLER {
    bench::enabler(device, bench::version3(bench::PACKET64, PAGE))
}

/// Brings a new transaction to a state.
fn reach(device: WDFDEVICE, state: State, buffer: &Buffer) -> WDFDMATRANSACTION {
    let transaction = bench::transaction(enabler(device));
    match state {
        Created => {}
        Reserved => assert_eq!(reserve(transaction, 1), STATUS_SUCCESS),
        Failed => assert_eq!(
            reserve(transaction, 1_000_000),
            STATUS_INSUFFICIENT_RESOURCES
        ),
        Initialized | Released => {
            assert_eq!(
                bench::initialize(transaction, buffer, LENGTH),
                STATUS_SUCCESS
            );
        }
        Transfer | Completed => bench::begin(transaction, buffer, LENGTH),
    }
    match state {
        Completed => assert_eq!(bench::report(transaction, Report::Full), bench::DONE),
        Released => bench::release(transaction),
        _ => {}
    }
    transaction
}

/// Brings a transaction from a state to its end.
fn end(transaction: WDFDMATRANSACTION, state: State) {
    if state == Transfer {
        assert_eq!(bench::report(transaction, Report::Full), bench::DONE);
    }
    if state != Created {
        unsafe { ddi!(WdfDmaTransactionFreeResources(transaction)) };
    }
    bench::delete(transaction);
}

fn reserve(transaction: WDFDMATRANSACTION, registers: u32) -> NTSTATUS {
    unsafe {
        ddi!(WdfDmaTransactionAllocateResources(
            transaction,
            TO_DEVICE,
            registers,
            Some(reserved),
            ptr::null_mut()
        ))
    }
}

unsafe extern "win64" fn reserved(_transaction: WDFDMATRANSACTION, _context: PVOID) {}

fn cancel(state: State) {
    with(move |device| {
        let buffer = Buffer::at(0, PAGE);
        let transaction = reach(device, state, &buffer);
        println!("{HANDLE}{transaction:p}");
        bench::cancel(transaction);
    });
}

fn every_other_call_is_allowed_in_every_other_state() {
    with(|device| {
        for call in CALLS {
            for &state in call.allowed {
                let buffer = Buffer::at(0, PAGE);
                let transaction = reach(device, state, &buffer);
                eprintln!("{} when {}", call.name, lower(state));
                (call.call)(transaction, &buffer);
                if call.name != "delete" {
                    end(transaction, call.to.unwrap_or(state));
                }
            }
        }
    });
}

fn cancel_of_what_already_has_its_map_registers_is_too_late() {
    with(|device| {
        for state in [Reserved, Transfer] {
            let buffer = Buffer::at(0, PAGE);
            let transaction = reach(device, state, &buffer);
            assert!(!bench::cancel(transaction), "{state:?}");
            // FALSE leaves the state as it is.
            end(transaction, state);
        }
    });
}

/// Without the framework's verifier a release takes the resources from under the hardware; of map registers the HAL notices.
fn release_in_transfer(profile: WDF_DMA_PROFILE) {
    bench::configured(
        Box::new(|config| config.framework_verifier = false),
        move |device| {
            let buffer = Buffer::at(0, PAGE);
            let enabler = bench::enabler(device, bench::version3(profile, PAGE));
            let transaction = bench::transaction(enabler);
            for _ in 0..2 {
                bench::begin(transaction, &buffer, LENGTH);
                bench::release(transaction);
            }
        },
    );
}
