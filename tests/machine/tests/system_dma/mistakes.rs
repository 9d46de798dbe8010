//! Mistakes of drivers for system DMA, and how the machine stops. The numbers are those of docs/testing.md.

use std::ptr;

use abi::fifo::{BUS_ERROR_AFTER, CONTROL, Control};
use harness::{Suite, bug_check, machine_stop};
use machine::ddi;
use machine::nt_sys::*;

use crate::bench::{self, PAGE, Report, TO_DEVICE};
use crate::fifo::{self, SYSTEM_DUPLEX, begin, events, filled, has_ended, prepare, wait_until};

pub fn add(suite: Suite) -> Suite {
    suite
        .stops(
            "m21_a_callback_thought_to_be_forgotten",
            bug_check(0x10D).p1(8).p3(5),
            m21,
        )
        .stops(
            "m22_a_transaction_created_before_the_configuration",
            bug_check(0x1E).p1(0xffff_ffff_c000_0005),
            || m22(None),
        )
        .stops(
            "m22_a_transaction_created_before_the_read_direction",
            bug_check(0x1E).p1(0xffff_ffff_c000_0005),
            || m22(Some(true)),
        )
        .stops(
            "the_driver_frees_the_channel_itself",
            bug_check(0xE6).p1(0x04),
            frees_channel,
        )
        .stops(
            "an_error_taken_for_success",
            machine_stop("4096 bytes are flushed, and channel 4 had moved 256"),
            ignores_error,
        )
        .stops(
            "completed_while_the_channel_is_running",
            bug_check(0xE6).p1(0x23).p4(4),
            completes_early,
        )
        .stops(
            "deleted_while_the_channel_is_running",
            bug_check(0x10D).p1(8).p3(4),
            deletes_early,
        )
}

fn transmit() {
    fifo::set(
        CONTROL.offset(),
        (Control::TX_ENABLE | Control::TX_DMA).bits(),
    );
}

/// M21: the second time the driver reports the transfer itself, and believes that Release has forgotten its callback.
fn m21() {
    fifo::run(|fifo| {
        let write = bench::transaction(fifo.duplex(PAGE));
        let out = filled(PAGE);
        transmit();
        begin(write, &out, PAGE, true);
        wait_until(|| has_ended(write));
        bench::release(write);
        events();
        prepare(write, &out, PAGE, true);
        assert_eq!(bench::execute(write), STATUS_SUCCESS);
        wait_until(|| has_ended(write));
        fifo::report(write, Report::Full);
    });
}

fn m22(configured: Option<bool>) {
    fifo::run(move |fifo| {
        let enabler = fifo.bare_enabler(SYSTEM_DUPLEX, PAGE);
        if let Some(write) = configured {
            assert_eq!(fifo.configure(enabler, write), STATUS_SUCCESS);
        }
        let transaction = bench::transaction(enabler);
        for write in [false, true] {
            fifo.configure(enabler, write);
        }
        prepare(transaction, &filled(PAGE), PAGE, true);
    });
}

/// The routines of the adapter of the transmitting direction.
fn operations(enabler: WDFDMAENABLER) -> (PDMA_ADAPTER, &'static DMA_OPERATIONS) {
    let adapter = unsafe { ddi!(WdfDmaEnablerWdmGetDmaAdapter(enabler, TO_DEVICE)) };
    (adapter, unsafe { &*(*adapter).DmaOperations })
}

fn at_dispatch(work: impl FnOnce()) {
    let irql = unsafe { machine_nt::exports::KfRaiseIrql(DISPATCH_LEVEL as KIRQL) };
    work();
    unsafe { machine_nt::exports::KeLowerIrql(irql) };
}

/// R102: the framework has freed it when the transaction ended.
fn frees_channel() {
    fifo::run(|fifo| {
        let enabler = fifo.duplex(PAGE);
        let write = bench::transaction(enabler);
        transmit();
        let out = filled(PAGE);
        begin(write, &out, PAGE, true);
        wait_until(|| has_ended(write));
        bench::release(write);
        let (adapter, operations) = operations(enabler);
        at_dispatch(|| unsafe { operations.FreeAdapterChannel.unwrap()(adapter) });
    });
}

unsafe extern "win64" fn never_looks(
    transaction: WDFDMATRANSACTION,
    _device: WDFDEVICE,
    _context: WDFCONTEXT,
    _direction: WDF_DMA_DIRECTION,
    _status: DMA_COMPLETION_STATUS::Type,
) {
    fifo::report(transaction, Report::Full);
}

fn ignores_error() {
    fifo::run(|fifo| {
        let write = bench::transaction(fifo.duplex(PAGE));
        let out = filled(PAGE);
        fifo::set(BUS_ERROR_AFTER.offset(), 256);
        transmit();
        prepare(write, &out, PAGE, true);
        unsafe {
            ddi!(WdfDmaTransactionSetTransferCompleteCallback(
                write,
                Some(never_looks),
                ptr::null_mut()
            ))
        };
        assert_eq!(bench::execute(write), STATUS_SUCCESS);
        wait_until(|| has_ended(write));
    });
}

fn completes_early() {
    fifo::run(|fifo| {
        let write = bench::transaction(fifo.duplex(PAGE));
        let out = filled(PAGE);
        prepare(write, &out, PAGE, true);
        assert_eq!(bench::execute(write), STATUS_SUCCESS);
        fifo::report(write, Report::Final(0));
    });
}

fn deletes_early() {
    fifo::run(|fifo| {
        let write = bench::transaction(fifo.duplex(PAGE));
        let out = filled(PAGE);
        prepare(write, &out, PAGE, true);
        assert_eq!(bench::execute(write), STATUS_SUCCESS);
        bench::delete(write);
    });
}
