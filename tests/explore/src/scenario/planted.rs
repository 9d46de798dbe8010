//! A driver for edu with a race between its DPC and its cancel routine, and the same driver without.
//!
//! Edu cannot abort a transfer, so a cancelled request is completed once the device has finished. The sound driver counts
//! who has come to the end, DPC or cancel routine: the second one completes. The racy driver has a flag instead that says
//! whether the device is at work. Between the DPC's clearing it and its unmarking of the request, the cancel routine finds
//! the device at rest and completes the request, and so does the DPC.

#![allow(
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "a driver in C is nothing but this; the machine is what watches it"
)]

#[path = "../../../machine/tests/support/edu.rs"]
#[allow(dead_code, reason = "the tests of mistakes use all of it")]
mod edu;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use machine::ddi;
use machine::nt_sys::*;
use machine::user::Thread;

use super::lane::CANCELLED;
use super::{Driver, Scenario, Setting};
use edu::Steps;

pub(super) const RACE: Scenario = Scenario {
    name: "planted-race",
    about: "a test driver whose DPC and cancel routine may both complete a request",
    driver: Driver::Test(|| {
        edu::driver(Steps {
            begin: begin_racy,
            finished: finished_racy,
            ..Steps::default()
        })
    }),
    configure: |_| {},
    run: request_and_cancel,
};

pub(super) const SOUND: Scenario = Scenario {
    name: "planted-sound",
    about: "the same driver with one owner of the request",
    driver: Driver::Test(|| {
        edu::driver(Steps {
            begin: begin_sound,
            finished: finished_sound,
            ..Steps::default()
        })
    }),
    configure: |_| {},
    run: request_and_cancel,
};

/// Two requests one after the other, either of which may be cancelled by another thread.
fn request_and_cancel(setting: &Setting<'_>) {
    let handle = setting.open_interface(&edu::INTERFACE);
    let mut lane = setting.profile.lanes(2).remove(0);
    let mut dice = setting.dice();
    for _ in 0..2 {
        let pending = lane.start(&handle, &mut dice);
        let (file, mut canceller) = (handle.file.clone(), setting.dice());
        let thread = Thread::spawn("canceller", move || {
            canceller.pause();
            // It may be over.
            let _ = file.cancel_all();
        });
        lane.settle(pending, CANCELLED);
        thread.join();
    }
}

/// Marks the request cancelable and gives it to the device.
unsafe fn begin(
    request: WDFREQUEST,
    direction: WDF_DMA_DIRECTION,
    cancel: PFN_WDF_REQUEST_CANCEL,
) -> NTSTATUS {
    let status = ddi!(WdfRequestMarkCancelableEx(request, cancel));
    if !nt_success(status) {
        return status;
    }
    let status = edu::begin(request, direction);
    assert!(nt_success(status), "nothing keeps the device from starting");
    status
}

/// Reports the end of a transfer; the request and its bytes, if nothing is left to transfer.
unsafe fn end_transfer(transaction: WDFDMATRANSACTION) -> Option<(WDFREQUEST, usize)> {
    let mut status = STATUS_SUCCESS;
    if ddi!(WdfDmaTransactionDmaCompleted(transaction, &mut status)) == 0 {
        return None;
    }
    let moved = ddi!(WdfDmaTransactionGetBytesTransferred(transaction));
    let request = ddi!(WdfDmaTransactionGetRequest(transaction));
    ddi!(WdfDmaTransactionRelease(transaction));
    Some((request, moved))
}

unsafe fn complete(request: WDFREQUEST, status: NTSTATUS, moved: usize) {
    ddi!(WdfRequestCompleteWithInformation(
        request,
        status,
        moved as ULONG_PTR
    ));
}

/// Of the sound driver: how many have come to the end of the request.
static AT_END: AtomicU32 = AtomicU32::new(0);

unsafe fn begin_sound(request: WDFREQUEST, direction: WDF_DMA_DIRECTION) -> NTSTATUS {
    AT_END.store(0, SeqCst);
    begin(request, direction, Some(cancel_sound))
}

unsafe extern "win64" fn cancel_sound(request: WDFREQUEST) {
    if AT_END.fetch_add(1, SeqCst) == 1 {
        complete(request, STATUS_CANCELLED, 0);
    }
}

unsafe fn finished_sound(transaction: WDFDMATRANSACTION) {
    let Some((request, moved)) = end_transfer(transaction) else {
        return;
    };
    if ddi!(WdfRequestUnmarkCancelable(request)) != STATUS_CANCELLED {
        complete(request, STATUS_SUCCESS, moved);
    } else if AT_END.fetch_add(1, SeqCst) == 1 {
        complete(request, STATUS_CANCELLED, 0);
    }
}

/// Of the racy driver: the device is at work.
static AT_WORK: AtomicBool = AtomicBool::new(false);
/// Of the racy driver: the request is to be completed as cancelled when the device has finished.
static UNWANTED: AtomicBool = AtomicBool::new(false);

unsafe fn begin_racy(request: WDFREQUEST, direction: WDF_DMA_DIRECTION) -> NTSTATUS {
    UNWANTED.store(false, SeqCst);
    AT_WORK.store(true, SeqCst);
    begin(request, direction, Some(cancel_racy))
}

unsafe extern "win64" fn cancel_racy(request: WDFREQUEST) {
    if AT_WORK.load(SeqCst) {
        UNWANTED.store(true, SeqCst);
    } else {
        complete(request, STATUS_CANCELLED, 0);
    }
}

unsafe fn finished_racy(transaction: WDFDMATRANSACTION) {
    let Some((request, moved)) = end_transfer(transaction) else {
        return;
    };
    AT_WORK.store(false, SeqCst);
    if UNWANTED.load(SeqCst) {
        complete(request, STATUS_CANCELLED, 0);
    } else {
        // The mistake: what this returns says whether the cancel routine has the request.
        ddi!(WdfRequestUnmarkCancelable(request));
        complete(request, STATUS_SUCCESS, moved);
    }
}
