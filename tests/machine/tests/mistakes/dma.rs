//! Transactions used wrongly: M1, M2, M7, M8, M14, M15, M25.

use std::ptr;

use harness::{Suite, bug_check, machine_stop};
use machine::Device;
use machine::ddi;
use machine::nt_sys::*;

use crate::support::edu::{self, Steps, TRANSFER};
use crate::{
    ACCESS_VIOLATION, DMA_STATE, DMA_VIOLATION, IOMMU_FAULT, REQUEST_BUSY, UNHANDLED, WDF_VIOLATION,
};

/// First parameters of DRIVER_VERIFIER_DMA_VIOLATION.
const FREED_WHILE_MAPPED: u64 = 0x10;
const ZERO_LENGTH: u64 = 0x21;
/// States of a transaction, third parameter of [`DMA_STATE`].
const CREATED: u64 = 1;
const INITIALIZED: u64 = 3;
const TRANSFER_STATE: u64 = 4;

pub fn tests(suite: Suite) -> Suite {
    suite
        .passes("the_sound_driver_works", the_sound_driver_works)
        .stops(
            "m1_request_completed_before_the_transaction",
            bug_check(WDF_VIOLATION).p1(REQUEST_BUSY).p3(1),
            m1_request_completed_before_the_transaction,
        )
        .stops(
            "m2_more_to_do_taken_for_an_error",
            bug_check(WDF_VIOLATION).p1(DMA_STATE).p3(TRANSFER_STATE),
            m2_more_to_do_taken_for_an_error,
        )
        .stops(
            "m2_without_the_frameworks_verifier",
            bug_check(DMA_VIOLATION).p1(FREED_WHILE_MAPPED),
            m2_without_the_frameworks_verifier,
        )
        .stops(
            "m7_maximum_length_before_initialize",
            bug_check(UNHANDLED).p1(ACCESS_VIOLATION),
            m7_maximum_length_before_initialize,
        )
        .stops(
            "m7_maximum_length_of_zero",
            bug_check(DMA_VIOLATION).p1(ZERO_LENGTH),
            m7_maximum_length_of_zero,
        )
        .stops(
            "m8_execute_without_initialize",
            bug_check(WDF_VIOLATION).p1(DMA_STATE).p3(CREATED),
            m8_execute_without_initialize,
        )
        .stops(
            "m8_initialize_twice",
            bug_check(WDF_VIOLATION).p1(DMA_STATE).p3(INITIALIZED),
            m8_initialize_twice,
        )
        .stops(
            "m14_address_cut_short",
            bug_check(DMA_VIOLATION).p1(IOMMU_FAULT),
            m14_address_cut_short,
        )
        .stops(
            "m14_profile_wider_than_the_device",
            bug_check(DMA_VIOLATION).p1(IOMMU_FAULT),
            m14_profile_wider_than_the_device,
        )
        .stops(
            "m15_physical_address_given_to_the_device",
            bug_check(DMA_VIOLATION).p1(IOMMU_FAULT),
            m15_physical_address_given_to_the_device,
        )
        .stops(
            "m25_beyond_the_window_of_the_twin",
            machine_stop("edu"),
            || m25_beyond_the_window(Device::EduTwin),
        )
        .stops(
            "m25_beyond_the_window_of_qemu",
            machine_stop("qemu"),
            || m25_beyond_the_window(Device::Edu),
        )
        .passes(
            "m25_zero_length_reaches_the_framework",
            m25_zero_length_reaches_the_framework,
        )
}

fn the_sound_driver_works() {
    edu::run(Steps::default(), |device| {
        assert_eq!(device.write(3, 3000).result, Ok(3000));
        let read = device.read(3, 3000);
        assert_eq!(read.result, Ok(3000));
        assert!(read.buffer.iter().zip(edu::pattern()).all(|(a, b)| *a == b));
    });
}

/// M1: the device has finished its transfer, so the request is completed, although the transaction still holds it.
fn m1_request_completed_before_the_transaction() {
    let finished = |transaction| unsafe {
        let request = ddi!(WdfDmaTransactionGetRequest(transaction));
        ddi!(WdfRequestComplete(request, STATUS_SUCCESS));
    };
    let steps = Steps {
        finished,
        ..Steps::default()
    };
    edu::run(steps, |device| drop(device.write(0, 100)));
}

/// M2: FALSE means that the next transfer has been programmed; this driver gives up and releases the transaction.
fn m2_more_to_do_taken_for_an_error() {
    edu::run(more_to_do_taken_for_an_error(), |device| {
        drop(device.write(0, 2 * TRANSFER));
    });
}

/// M2 again: without its verifier the framework goes on and frees resources under the hardware; the HAL's notices.
fn m2_without_the_frameworks_verifier() {
    edu::configured(
        more_to_do_taken_for_an_error(),
        |config| config.framework_verifier = false,
        |device| drop(device.write(0, 2 * TRANSFER)),
    );
}

fn more_to_do_taken_for_an_error() -> Steps {
    let finished = |transaction| unsafe {
        let mut status = STATUS_SUCCESS;
        if ddi!(WdfDmaTransactionDmaCompleted(transaction, &mut status)) == 0 {
            edu::complete(transaction, status);
        }
    };
    Steps {
        finished,
        ..Steps::default()
    }
}

/// M7: before Initialize the framework has no adapter to compare with, and follows a null pointer.
fn m7_maximum_length_before_initialize() {
    let added = |transaction| unsafe { ddi!(WdfDmaTransactionSetMaximumLength(transaction, 512)) };
    let steps = Steps {
        added,
        ..Steps::default()
    };
    edu::run(steps, |_| {});
}

/// M7: a limit of 0 is accepted and makes transfers of no bytes.
fn m7_maximum_length_of_zero() {
    let begin = |request, direction| unsafe {
        ddi!(WdfDmaTransactionInitializeUsingRequest(
            edu::transaction(),
            request,
            Some(edu::program),
            direction,
        ));
        ddi!(WdfDmaTransactionSetMaximumLength(edu::transaction(), 0));
        ddi!(WdfDmaTransactionExecute(
            edu::transaction(),
            ptr::null_mut()
        ))
    };
    let steps = Steps {
        begin,
        ..Steps::default()
    };
    edu::run(steps, |device| drop(device.write(0, 100)));
}

/// M8: nothing was initialised.
fn m8_execute_without_initialize() {
    let begin = |_, _| unsafe {
        ddi!(WdfDmaTransactionExecute(
            edu::transaction(),
            ptr::null_mut()
        ))
    };
    let steps = Steps {
        begin,
        ..Steps::default()
    };
    edu::run(steps, |device| drop(device.write(0, 100)));
}

/// M8: a transaction is initialised again without being released.
fn m8_initialize_twice() {
    let begin = |request, direction| unsafe {
        for _ in 0..2 {
            ddi!(WdfDmaTransactionInitializeUsingRequest(
                edu::transaction(),
                request,
                Some(edu::program),
                direction,
            ));
        }
        STATUS_SUCCESS
    };
    let steps = Steps {
        begin,
        ..Steps::default()
    };
    edu::run(steps, |device| drop(device.write(0, 100)));
}

/// M14: the upper part of a logical address is lost on the way to the register.
fn m14_address_cut_short() {
    let steps = Steps {
        address: |_, element| edu::logical(element) & 0xff_ffff,
        ..Steps::default()
    };
    edu::run(steps, |device| drop(device.write(0, 100)));
}

/// M14: a 64-bit profile for a device that drives 28 bits, so the device drops what it cannot drive.
fn m14_profile_wider_than_the_device() {
    let enable = |config: &mut WDF_DMA_ENABLER_CONFIG| {
        config.Profile = _WDF_DMA_PROFILE::WdfDmaProfilePacket64;
        config.MaximumLength = TRANSFER;
        config.WdmDmaVersionOverride = 3;
    };
    let steps = Steps {
        enable,
        ..Steps::default()
    };
    edu::run(steps, |device| drop(device.write(0, 100)));
}

/// M15: where the buffer lies in memory is not where the device finds it.
fn m15_physical_address_given_to_the_device() {
    let address = |transaction, _: &SCATTER_GATHER_ELEMENT| unsafe {
        let request = ddi!(WdfDmaTransactionGetRequest(transaction));
        let mut mdl: PMDL = ptr::null_mut();
        ddi!(WdfRequestRetrieveInputWdmMdl(request, &mut mdl));
        let pages = mdl.add(1).cast::<u64>();
        pages.read() * PAGE_SIZE as u64 + u64::from((*mdl).ByteOffset)
    };
    let steps = Steps {
        address,
        ..Steps::default()
    };
    edu::run(steps, |device| drop(device.write(0, 100)));
}

/// M25: a request of no bytes has no MDL, and the framework's own answer reaches the caller.
fn m25_zero_length_reaches_the_framework() {
    edu::run(Steps::default(), |device| {
        assert_eq!(device.read(0, 0).status, STATUS_BUFFER_TOO_SMALL);
        assert_eq!(device.write(0, 0).status, STATUS_BUFFER_TOO_SMALL);
    });
}

/// M25: the device does not check where a transfer ends, and QEMU's, up to 9.1, aborts QEMU.
fn m25_beyond_the_window(device: Device) {
    edu::configured(
        Steps::default(),
        move |config| config.device = device,
        |device| drop(device.write(4000, 200)),
    );
}
