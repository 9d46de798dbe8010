//! Reservations: map registers that a transaction keeps, and what misuse of them leads to.

use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use harness::{Suite, bug_check};
use machine::ddi;
use machine::nt_sys::*;

use crate::bench::{
    self, Buffer, DONE, FROM_DEVICE, LIST64, MORE, PACKET64, PAGE, Report, TO_DEVICE,
    enabler_config, version3,
};
use crate::waiting::{REGISTERS, SPAN, finish, scarce, two};

pub fn add(suite: Suite) -> Suite {
    suite
        .passes("arguments_of_reservations_are_checked", arguments)
        .passes("reserved_map_registers_outlive_transactions", reserved)
        .passes("reserved_map_registers_limit_a_transfer", few_reserved)
        .passes("a_waiting_reservation_can_be_cancelled", reservation)
        .passes(
            "who_waits_gets_what_is_freed_before_freeing_returns",
            served_while_freed,
        )
        .passes("resources_freed_twice_are_freed_once", freed_twice)
        .passes("a_deleted_transaction_gives_back_what_it_reserved", deleted)
        .stops(
            "a_reservation_over_another_stops",
            bug_check(0x10D).p1(8).p3(RELEASED),
            reserved_twice,
        )
        .stops(
            "a_withdrawn_reservation_is_of_no_more_use",
            bug_check(0x10D).p1(8).p3(RELEASED),
            withdrawn,
        )
        .stops(
            "more_map_registers_than_the_adapter_has_stop_the_verifier",
            bug_check(0xE6).p1(0xC).p2(u64::from(REGISTERS) + 1).p3(2),
            too_many,
        )
        .stops(
            "reserving_above_dispatch_level_stops",
            bug_check(0xE6).p1(0x13),
            || {
                above_dispatch_level(false, |transaction| {
                    let _ = reserve(transaction, TO_DEVICE, 1);
                })
            },
        )
        .stops(
            "freeing_above_dispatch_level_stops",
            bug_check(0xC4).p1(0x30),
            || above_dispatch_level(true, free),
        )
}

/// The state Released, as a bug check names it.
const RELEASED: u64 = 7;

/// Calls of EvtReserveDma.
static RESERVED: AtomicUsize = AtomicUsize::new(0);

unsafe extern "win64" fn count(_transaction: WDFDMATRANSACTION, _context: PVOID) {
    assert_eq!(
        machine_nt::exports::KeGetCurrentIrql(),
        DISPATCH_LEVEL as KIRQL
    );
    RESERVED.fetch_add(1, Relaxed);
}

fn reserve(
    transaction: WDFDMATRANSACTION,
    direction: WDF_DMA_DIRECTION,
    registers: u32,
) -> NTSTATUS {
    unsafe {
        ddi!(WdfDmaTransactionAllocateResources(
            transaction,
            direction,
            registers,
            Some(count),
            ptr::null_mut()
        ))
    }
}

fn free(transaction: WDFDMATRANSACTION) {
    unsafe { ddi!(WdfDmaTransactionFreeResources(transaction)) };
}

fn arguments() {
    bench::run(|device| {
        for (config, direction, status) in [
            (
                version3(LIST64, PAGE),
                TO_DEVICE,
                STATUS_INVALID_DEVICE_REQUEST,
            ),
            (
                enabler_config(PACKET64, PAGE),
                TO_DEVICE,
                STATUS_INVALID_DEVICE_REQUEST,
            ),
            (version3(PACKET64, PAGE), 2, STATUS_INVALID_PARAMETER),
            (version3(PACKET64, PAGE), FROM_DEVICE, STATUS_SUCCESS),
        ] {
            let transaction = bench::transaction(bench::enabler(device, config));
            assert_eq!(reserve(transaction, direction, 1), status);
            if nt_success(status) {
                free(transaction);
            }
        }
        assert_eq!(RESERVED.load(Relaxed), 1);
    });
}

fn reserved() {
    scarce(|device| {
        let enabler = bench::enabler(device, version3(PACKET64, 3 * PAGE));
        let (owner, other) = (bench::transaction(enabler), bench::transaction(enabler));
        let buffer = Buffer::chain(&[SPAN]);
        // As many as the buffer needs, which are all there are.
        assert_eq!(bench::initialize(owner, &buffer, 3 * PAGE), STATUS_SUCCESS);
        assert_eq!(reserve(owner, TO_DEVICE, 0), STATUS_SUCCESS);
        assert_eq!(RESERVED.load(Relaxed), 1);
        bench::begin(other, &buffer, 3 * PAGE);
        for _ in 0..2 {
            bench::begin(owner, &buffer, 3 * PAGE);
            assert_eq!(bench::lengths(), [3 * PAGE]);
            finish(owner);
        }
        assert!(bench::lengths().is_empty());
        free(owner);
        // What waited has them now.
        assert_eq!(bench::lengths(), [3 * PAGE]);
        finish(other);
    });
}

/// A transfer ends with the last page there is a map register for.
fn few_reserved() {
    bench::run(|device| {
        let enabler = bench::enabler(device, version3(PACKET64, 4 * PAGE));
        let transaction = bench::transaction(enabler);
        let buffer = Buffer::at(PAGE - 100, 4 * PAGE);
        assert_eq!(reserve(transaction, TO_DEVICE, 2), STATUS_SUCCESS);
        bench::begin(transaction, &buffer, 4 * PAGE);
        assert_eq!(bench::report(transaction, Report::Full), MORE);
        assert_eq!(bench::report(transaction, Report::Full), MORE);
        assert_eq!(bench::report(transaction, Report::Full), DONE);
        assert_eq!(bench::lengths(), [PAGE + 100, 2 * PAGE, PAGE - 100]);
        free(transaction);
    });
}

fn reservation() {
    scarce(|device| {
        let [(first, _), (second, _)] = &two(device, PACKET64);
        assert_eq!(reserve(*second, TO_DEVICE, REGISTERS), STATUS_SUCCESS);
        assert_eq!(RESERVED.load(Relaxed), 0);
        assert!(bench::cancel(*second));
        // It cannot reserve again: only deleting is left.
        bench::delete(*second);
        finish(*first);
        assert_eq!(RESERVED.load(Relaxed), 0);
    });
}

/// One waits for a reservation, the other with a transaction.
fn served_while_freed() {
    scarce(|device| {
        let enabler = bench::enabler(device, version3(PACKET64, 3 * PAGE));
        let [first, second, third] = [(); 3].map(|()| bench::transaction(enabler));
        assert_eq!(reserve(first, TO_DEVICE, REGISTERS), STATUS_SUCCESS);
        assert_eq!(reserve(second, TO_DEVICE, REGISTERS), STATUS_SUCCESS);
        let buffer = Buffer::chain(&[SPAN]);
        bench::begin(third, &buffer, 3 * PAGE);
        assert_eq!(RESERVED.load(Relaxed), 1);
        free(first);
        assert_eq!(RESERVED.load(Relaxed), 2);
        assert!(bench::lengths().is_empty());
        free(second);
        assert_eq!(bench::lengths(), [3 * PAGE]);
        finish(third);
    });
}

fn freed_twice() {
    scarce(|device| {
        let [(first, _), (second, buffer)] = &two(device, PACKET64);
        finish(*first);
        assert_eq!(reserve(*first, TO_DEVICE, REGISTERS), STATUS_SUCCESS);
        free(*first);
        // Not what somebody else has meanwhile.
        bench::begin(*second, buffer, 3 * PAGE);
        assert_eq!(bench::lengths(), [3 * PAGE]);
        free(*first);
        finish(*second);
        assert_eq!(reserve(*first, TO_DEVICE, REGISTERS), STATUS_SUCCESS);
        free(*first);
    });
}

/// By itself, and with its enabler.
fn deleted() {
    scarce(|device| {
        let [(first, _), (second, buffer)] = &two(device, PACKET64);
        finish(*first);
        assert_eq!(reserve(*first, TO_DEVICE, REGISTERS), STATUS_SUCCESS);
        bench::begin(*second, buffer, 3 * PAGE);
        assert!(bench::lengths().is_empty());
        bench::delete(*first);
        assert_eq!(bench::lengths(), [3 * PAGE]);
        finish(*second);

        let enabler = bench::enabler(device, version3(PACKET64, 3 * PAGE));
        let third = bench::transaction(enabler);
        assert_eq!(reserve(third, TO_DEVICE, REGISTERS), STATUS_SUCCESS);
        bench::begin(*second, buffer, 3 * PAGE);
        assert!(bench::lengths().is_empty());
        bench::delete(enabler);
        assert_eq!(bench::lengths(), [3 * PAGE]);
        finish(*second);
    });
}

fn reserved_twice() {
    scarce(|device| {
        let [(first, _), _] = &two(device, PACKET64);
        finish(*first);
        for _ in 0..2 {
            assert_eq!(reserve(*first, TO_DEVICE, 1), STATUS_SUCCESS);
            let buffer = Buffer::at(0, PAGE);
            bench::begin(*first, &buffer, PAGE);
            finish(*first);
        }
    });
}

/// Freeing is allowed and does nothing; the framework still takes the map registers for reserved.
fn withdrawn() {
    scarce(|device| {
        let [(first, _), (second, _)] = &two(device, PACKET64);
        assert_eq!(reserve(*second, TO_DEVICE, REGISTERS), STATUS_SUCCESS);
        assert!(bench::cancel(*second));
        free(*second);
        bench::release(*second);
        finish(*first);
        let _ = reserve(*second, TO_DEVICE, REGISTERS);
    });
}

fn too_many() {
    bench::run(|device| {
        let enabler = bench::enabler(device, version3(PACKET64, PAGE));
        let _ = reserve(bench::transaction(enabler), TO_DEVICE, REGISTERS + 1);
    });
}

fn above_dispatch_level(before: bool, call: fn(WDFDMATRANSACTION)) {
    scarce(move |device| {
        let [(first, _), _] = &two(device, PACKET64);
        finish(*first);
        if before {
            assert_eq!(reserve(*first, TO_DEVICE, 1), STATUS_SUCCESS);
        }
        let irql = unsafe { machine_nt::exports::KfRaiseIrql(DISPATCH_LEVEL as KIRQL + 1) };
        call(*first);
        unsafe { machine_nt::exports::KeLowerIrql(irql) };
    });
}
