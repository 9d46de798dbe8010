//! Transactions that wait for map registers: cancelling, immediate execution.

use harness::Suite;
use machine::ddi;
use machine::nt_sys::*;

use crate::bench::{
    self, Buffer, DONE, LIST64, MORE, PACKET64, PAGE, Report, enabler_config, version3,
};

/// Map registers of the machine, and a buffer that needs them all.
pub const REGISTERS: u32 = 4;
pub const SPAN: (usize, usize) = (1, 3 * PAGE);

pub fn add(suite: Suite) -> Suite {
    suite
        .passes("a_transaction_waits_for_map_registers", waits)
        .passes("a_waiting_transaction_can_be_cancelled", cancelled)
        .passes("a_deferred_grant_can_be_cancelled", deferred)
        .passes(
            "immediate_execution_does_not_wait_for_map_registers",
            immediate,
        )
        .passes(
            "immediate_execution_may_fail_between_two_transfers",
            immediate_between,
        )
        .passes("version_2_ignores_what_is_for_version_3", version_2)
        .passes(
            "version_2_does_not_cancel_what_waits",
            version_2_does_not_cancel_what_waits,
        )
}

pub fn scarce(test: impl FnOnce(WDFDEVICE) + Send + 'static) {
    bench::configured(
        Box::new(|config| config.hal.map_registers = REGISTERS),
        test,
    );
}

/// Two transactions of an enabler, each with a buffer that needs all map registers; the first one has them.
pub fn two(device: WDFDEVICE, profile: WDF_DMA_PROFILE) -> [(WDFDMATRANSACTION, Buffer); 2] {
    two_of(device, version3(profile, 3 * PAGE))
}

fn two_of(device: WDFDEVICE, config: WDF_DMA_ENABLER_CONFIG) -> [(WDFDMATRANSACTION, Buffer); 2] {
    let enabler = bench::enabler(device, config);
    let two = [(); 2].map(|()| (bench::transaction(enabler), Buffer::chain(&[SPAN])));
    bench::begin(two[0].0, &two[0].1, 3 * PAGE);
    assert_eq!(bench::lengths(), [3 * PAGE]);
    two
}

pub fn finish(transaction: WDFDMATRANSACTION) {
    assert_eq!(bench::report(transaction, Report::Full), DONE);
    bench::release(transaction);
}

fn waits() {
    scarce(|device| {
        for profile in [PACKET64, LIST64] {
            let [(first, _), (second, buffer)] = &two(device, profile);
            bench::begin(*second, buffer, 3 * PAGE);
            assert!(bench::lengths().is_empty());
            finish(*first);
            assert_eq!(bench::lengths(), [3 * PAGE]);
            // It has them now.
            assert!(!bench::cancel(*second));
            finish(*second);
        }
    });
}

fn cancelled() {
    scarce(|device| {
        for profile in [PACKET64, LIST64] {
            let [(first, _), (second, buffer)] = &two(device, profile);
            bench::begin(*second, buffer, 3 * PAGE);
            assert!(bench::cancel(*second));
            bench::release(*second);
            finish(*first);
            assert!(bench::lengths().is_empty());
            // What was cancelled can be used again.
            bench::begin(*second, buffer, 3 * PAGE);
            assert_eq!(bench::lengths(), [3 * PAGE]);
            finish(*second);
        }
    });
}

/// A millisecond, in which other threads and DPCs run.
fn wait() {
    let mut interval = LARGE_INTEGER { QuadPart: -10_000 };
    let status = unsafe {
        machine_nt::exports::KeDelayExecutionThread(
            _MODE::KernelMode as KPROCESSOR_MODE,
            0,
            &mut interval,
        )
    };
    assert_eq!(status, STATUS_SUCCESS);
}

fn deferred() {
    bench::configured(
        Box::new(|config| config.hal.defer_grants = true),
        |device| {
            for profile in [PACKET64, LIST64] {
                let enabler = bench::enabler(device, version3(profile, PAGE));
                let transaction = bench::transaction(enabler);
                let buffer = Buffer::at(0, PAGE);
                // Execute has succeeded, and EvtProgramDma was not called.
                let irql = unsafe { machine_nt::exports::KfRaiseIrql(DISPATCH_LEVEL as KIRQL) };
                bench::begin(transaction, &buffer, 100);
                assert!(bench::lengths().is_empty());
                assert!(bench::cancel(transaction));
                unsafe { machine_nt::exports::KeLowerIrql(irql) };
                wait();
                assert!(bench::lengths().is_empty());
                bench::release(transaction);

                bench::begin(transaction, &buffer, 100);
                wait();
                assert_eq!(bench::lengths(), [100]);
                assert!(!bench::cancel(transaction));
                finish(transaction);
            }
        },
    );
}

pub fn set_immediate(transaction: WDFDMATRANSACTION) {
    unsafe { ddi!(WdfDmaTransactionSetImmediateExecution(transaction, 1)) };
}

fn immediate() {
    scarce(|device| {
        for profile in [PACKET64, LIST64] {
            let [(first, _), (second, buffer)] = &two(device, profile);
            set_immediate(*second);
            assert_eq!(bench::initialize(*second, buffer, 3 * PAGE), STATUS_SUCCESS);
            assert_eq!(bench::execute(*second), STATUS_INSUFFICIENT_RESOURCES);
            bench::release(*second);
            // Release has taken the requirement back: it waits.
            bench::begin(*second, buffer, 3 * PAGE);
            assert!(bench::cancel(*second));
            bench::release(*second);
            finish(*first);
            // Nobody else has them.
            set_immediate(*second);
            bench::begin(*second, buffer, 3 * PAGE);
            assert_eq!(bench::lengths(), [3 * PAGE]);
            finish(*second);
        }
    });
}

/// Between two transfers of a list, what waits gets the map registers; a packet keeps them.
fn immediate_between() {
    scarce(|device| {
        let long = Buffer::at(1, 6 * PAGE);
        let [(holder, _), (waiting, buffer)] = &two(device, LIST64);
        finish(*holder);
        set_immediate(*holder);
        bench::begin(*holder, &long, 6 * PAGE);
        bench::begin(*waiting, buffer, 3 * PAGE);
        assert_eq!(
            bench::report(*holder, Report::Full),
            (true, STATUS_INSUFFICIENT_RESOURCES)
        );
        assert_eq!(bench::transferred(*holder), 3 * PAGE);
        bench::release(*holder);
        finish(*waiting);
        bench::lengths();

        let [(holder, _), (waiting, buffer)] = &two(device, PACKET64);
        finish(*holder);
        set_immediate(*holder);
        bench::begin(*holder, &long, 6 * PAGE);
        bench::begin(*waiting, buffer, 3 * PAGE);
        assert_eq!(bench::report(*holder, Report::Full), MORE);
        finish(*holder);
        finish(*waiting);
    });
}

fn version_2() {
    bench::run(|device| {
        let transaction =
            bench::transaction(bench::enabler(device, enabler_config(PACKET64, PAGE)));
        let buffer = Buffer::at(0, PAGE);
        // Neither stops, in a state that version 3 would stop for.
        assert!(!bench::cancel(transaction));
        unsafe { ddi!(WdfDmaTransactionFreeResources(transaction)) };
        set_immediate(transaction);
        assert_eq!(bench::initialize(transaction, &buffer, 100), STATUS_SUCCESS);
        let context = unsafe { ddi!(WdfDmaTransactionWdmGetTransferContext(transaction)) };
        assert!(context.is_null());
        bench::release(transaction);

        let transaction = bench::transaction(bench::enabler(device, version3(PACKET64, PAGE)));
        let context = || unsafe { ddi!(WdfDmaTransactionWdmGetTransferContext(transaction)) };
        assert!(context().is_null());
        assert_eq!(bench::initialize(transaction, &buffer, 100), STATUS_SUCCESS);
        assert!(!context().is_null());
        bench::release(transaction);
        assert!(context().is_null());
    });
}

/// What cannot be cancelled is carried out, whether anybody wants it or not.
fn version_2_does_not_cancel_what_waits() {
    scarce(|device| {
        let config = enabler_config(LIST64, 3 * PAGE);
        let [(first, _), (second, buffer)] = &two_of(device, config);
        bench::begin(*second, buffer, 3 * PAGE);
        assert!(bench::lengths().is_empty());
        assert!(!bench::cancel(*second));
        finish(*first);
        assert_eq!(bench::lengths(), [3 * PAGE]);
        finish(*second);
    });
}
