//! Who ends a request, and when the memory is the system's again: M10, M20.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering::SeqCst};
use std::time::Duration;

use harness::{Suite, bug_check};
use machine::ddi;
use machine::nt_sys::*;
use machine_nt::exports::KeStallExecutionProcessor;

use crate::support::edu::{self, Steps};
use crate::{DMA_STATE, DMA_VIOLATION, IOMMU_FAULT, REQUEST_BUSY, WDF_VIOLATION};

/// State of a transaction that has ended and was not released, third parameter of [`DMA_STATE`].
const COMPLETED: u64 = 5;

/// In units of 100 ns, before now: a transfer takes 100 ms.
const DURING_THE_TRANSFER: i64 = -100_000;
const RIGHT_AFTER_THE_TRANSFER: i64 = -1_000_300;

pub fn tests(suite: Suite) -> Suite {
    suite
        .stops(
            "m10_timeout_against_the_dpc",
            bug_check(WDF_VIOLATION).p1(DMA_STATE).p3(COMPLETED),
            || timed_out(dpc_without_an_owner, both_end_it, RIGHT_AFTER_THE_TRANSFER),
        )
        .passes("m10_sound_with_one_owner", || {
            timed_out(dpc_that_owns, owner_ends_it, RIGHT_AFTER_THE_TRANSFER);
        })
        .stops(
            "m10_cancel_against_the_transfer",
            bug_check(WDF_VIOLATION).p1(REQUEST_BUSY),
            m10_cancel_against_the_transfer,
        )
        .stops(
            "m20_timeout_without_stopping_the_device",
            bug_check(DMA_VIOLATION).p1(IOMMU_FAULT),
            || timed_out(edu::finished, both_end_it, DURING_THE_TRANSFER),
        )
}

static TIMER: AtomicPtr<WDFTIMER__> = AtomicPtr::new(ptr::null_mut());
static OWNED: AtomicBool = AtomicBool::new(false);

/// Ends the transfer with what was moved: nothing.
unsafe fn give_up() {
    let mut status = STATUS_SUCCESS;
    ddi!(WdfDmaTransactionDmaCompletedFinal(
        edu::transaction(),
        0,
        &mut status
    ));
    edu::complete(edu::transaction(), STATUS_IO_TIMEOUT);
}

unsafe extern "win64" fn both_end_it(_timer: WDFTIMER) {
    if !ddi!(WdfDmaTransactionGetRequest(edu::transaction())).is_null() {
        give_up();
    }
}

unsafe extern "win64" fn owner_ends_it(_timer: WDFTIMER) {
    if !OWNED.swap(true, SeqCst) {
        give_up();
    }
}

/// Takes its time between the end of the transaction and that of the request.
unsafe fn dpc_without_an_owner(transaction: WDFDMATRANSACTION) {
    let mut status = STATUS_SUCCESS;
    if ddi!(WdfDmaTransactionDmaCompleted(transaction, &mut status)) != 0 {
        KeStallExecutionProcessor(100);
        edu::complete(transaction, status);
    }
}

unsafe fn dpc_that_owns(transaction: WDFDMATRANSACTION) {
    if !OWNED.swap(true, SeqCst) {
        dpc_without_an_owner(transaction);
    }
}

/// A request with a time limit, which is over at `due`.
fn timed_out(
    finished: unsafe fn(WDFDMATRANSACTION),
    expired: unsafe extern "win64" fn(WDFTIMER),
    due: i64,
) {
    static EXPIRED: std::sync::OnceLock<(unsafe extern "win64" fn(WDFTIMER), i64)> =
        std::sync::OnceLock::new();
    EXPIRED.set((expired, due)).expect("one to a process");
    let steps = Steps {
        added: |transaction| unsafe {
            let (expired, _) = EXPIRED.get().expect("set");
            let mut config = WDF_TIMER_CONFIG {
                Size: size_of::<WDF_TIMER_CONFIG>() as ULONG,
                EvtTimerFunc: Some(*expired),
                ..Default::default()
            };
            let device = ddi!(WdfDmaTransactionGetDevice(transaction));
            let mut attributes = WDF_OBJECT_ATTRIBUTES {
                Size: size_of::<WDF_OBJECT_ATTRIBUTES>() as ULONG,
                ParentObject: device.cast(),
                ExecutionLevel: _WDF_EXECUTION_LEVEL::WdfExecutionLevelInheritFromParent,
                SynchronizationScope:
                    _WDF_SYNCHRONIZATION_SCOPE::WdfSynchronizationScopeInheritFromParent,
                ..Default::default()
            };
            let mut timer = ptr::null_mut();
            let status = ddi!(WdfTimerCreate(&mut config, &mut attributes, &mut timer));
            assert_eq!(status, STATUS_SUCCESS);
            TIMER.store(timer, SeqCst);
        },
        begin: |request, direction| unsafe {
            let (_, due) = EXPIRED.get().expect("set");
            ddi!(WdfTimerStart(TIMER.load(SeqCst), *due));
            edu::begin(request, direction)
        },
        finished,
        ..Steps::default()
    };
    edu::run(steps, |device| {
        let ended = device.write(0, 100).status;
        assert!([STATUS_SUCCESS, STATUS_IO_TIMEOUT].contains(&ended));
        device.machine.sleep(Duration::from_millis(200));
    });
}

/// M10: whoever cancels completes the request, while the transaction holds it.
fn m10_cancel_against_the_transfer() {
    unsafe extern "win64" fn cancel(request: WDFREQUEST) {
        ddi!(WdfRequestComplete(request, STATUS_CANCELLED));
    }
    let begin = |request, direction| unsafe {
        let status = ddi!(WdfRequestMarkCancelableEx(request, Some(cancel)));
        assert_eq!(status, STATUS_SUCCESS);
        edu::begin(request, direction)
    };
    let steps = Steps {
        begin,
        ..Steps::default()
    };
    edu::run(steps, |device| {
        let request = device.start_write(0, 100);
        let _ = request.cancel();
        drop(request.wait());
    });
}
