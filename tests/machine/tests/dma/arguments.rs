//! What every DDI checks before anything else: handles and pointers; and the arguments of WdfDmaTransactionInitialize.

use std::ptr;

use harness::{Suite, bug_check};
use machine::ddi;
use machine::nt_sys::*;

use crate::bench::{
    self, Buffer, FROM_DEVICE, PACKET64, PAGE, Report, TO_DEVICE, enabler_config, program, version3,
};

/// A DDI called with a handle that may be anything.
type WithHandle = (&'static str, unsafe fn(PVOID));

/// The DDIs of enablers, transactions and common buffers, by the handle they take first.
const WITH_HANDLES: &[WithHandle] = &[
    ("enabler_create", |handle| unsafe {
        let mut enabler = ptr::null_mut();
        let mut config = enabler_config(PACKET64, PAGE);
        ddi!(WdfDmaEnablerCreate(
            handle.cast(),
            &mut config,
            ptr::null_mut(),
            &mut enabler
        ));
    }),
    ("enabler_get_maximum_length", |handle| unsafe {
        ddi!(WdfDmaEnablerGetMaximumLength(handle.cast()));
    }),
    ("enabler_get_fragment_length", |handle| unsafe {
        ddi!(WdfDmaEnablerGetFragmentLength(handle.cast(), TO_DEVICE));
    }),
    ("enabler_get_elements", |handle| unsafe {
        ddi!(WdfDmaEnablerGetMaximumScatterGatherElements(handle.cast()));
    }),
    ("enabler_set_elements", |handle| unsafe {
        ddi!(WdfDmaEnablerSetMaximumScatterGatherElements(
            handle.cast(),
            1
        ));
    }),
    ("enabler_get_adapter", |handle| unsafe {
        ddi!(WdfDmaEnablerWdmGetDmaAdapter(handle.cast(), TO_DEVICE));
    }),
    ("common_buffer_create", |handle| unsafe {
        let mut buffer = ptr::null_mut();
        ddi!(WdfCommonBufferCreate(
            handle.cast(),
            1,
            ptr::null_mut(),
            &mut buffer
        ));
    }),
    ("common_buffer_get_address", |handle| unsafe {
        ddi!(WdfCommonBufferGetAlignedVirtualAddress(handle.cast()));
    }),
    ("common_buffer_get_logical", |handle| unsafe {
        ddi!(WdfCommonBufferGetAlignedLogicalAddress(handle.cast()));
    }),
    ("common_buffer_get_length", |handle| unsafe {
        ddi!(WdfCommonBufferGetLength(handle.cast()));
    }),
    ("transaction_create", |handle| unsafe {
        let mut transaction = ptr::null_mut();
        ddi!(WdfDmaTransactionCreate(
            handle.cast(),
            ptr::null_mut(),
            &mut transaction
        ));
    }),
    ("transaction_initialize", |handle| {
        let buffer = Buffer::at(0, PAGE);
        bench::initialize(handle.cast(), &buffer, 1);
    }),
    ("transaction_initialize_using_request", |handle| unsafe {
        ddi!(WdfDmaTransactionInitializeUsingRequest(
            handle.cast(),
            ptr::null_mut(),
            Some(program),
            TO_DEVICE
        ));
    }),
    ("transaction_execute", |handle| {
        bench::execute(handle.cast());
    }),
    ("transaction_release", |handle| {
        bench::release(handle.cast());
    }),
    ("transaction_dma_completed", |handle| {
        bench::report(handle.cast(), Report::Full);
    }),
    ("transaction_dma_completed_with_length", |handle| {
        bench::report(handle.cast(), Report::Length(1));
    }),
    ("transaction_dma_completed_final", |handle| {
        bench::report(handle.cast(), Report::Final(1));
    }),
    ("transaction_get_bytes_transferred", |handle| {
        bench::transferred(handle.cast());
    }),
    ("transaction_get_current_length", |handle| {
        bench::current(handle.cast());
    }),
    ("transaction_set_maximum_length", |handle| unsafe {
        ddi!(WdfDmaTransactionSetMaximumLength(handle.cast(), 1));
    }),
    ("transaction_set_single_transfer", |handle| unsafe {
        ddi!(WdfDmaTransactionSetSingleTransferRequirement(
            handle.cast(),
            1
        ));
    }),
    ("transaction_set_immediate_execution", |handle| unsafe {
        ddi!(WdfDmaTransactionSetImmediateExecution(handle.cast(), 1));
    }),
    ("transaction_get_request", |handle| unsafe {
        ddi!(WdfDmaTransactionGetRequest(handle.cast()));
    }),
    ("transaction_get_device", |handle| unsafe {
        ddi!(WdfDmaTransactionGetDevice(handle.cast()));
    }),
    ("transaction_get_transfer_info", |handle| unsafe {
        ddi!(WdfDmaTransactionGetTransferInfo(
            handle.cast(),
            ptr::null_mut(),
            ptr::null_mut()
        ));
    }),
    ("transaction_get_transfer_context", |handle| unsafe {
        ddi!(WdfDmaTransactionWdmGetTransferContext(handle.cast()));
    }),
    ("transaction_allocate_resources", |handle| unsafe {
        ddi!(WdfDmaTransactionAllocateResources(
            handle.cast(),
            TO_DEVICE,
            1,
            Some(reserved),
            ptr::null_mut()
        ));
    }),
    ("transaction_free_resources", |handle| unsafe {
        ddi!(WdfDmaTransactionFreeResources(handle.cast()));
    }),
    ("transaction_cancel", |handle| {
        bench::cancel(handle.cast());
    }),
];

unsafe extern "win64" fn reserved(_transaction: WDFDMATRANSACTION, _context: PVOID) {}

/// A DDI called with a required pointer that is null.
type WithNull = (&'static str, unsafe fn(WDFDEVICE));

const WITH_NULLS: &[WithNull] = &[
    ("handle_of_enabler_create", |device| unsafe {
        let mut config = enabler_config(PACKET64, PAGE);
        ddi!(WdfDmaEnablerCreate(
            device,
            &mut config,
            ptr::null_mut(),
            ptr::null_mut()
        ));
    }),
    ("config_of_enabler_create", |device| unsafe {
        let mut enabler = ptr::null_mut();
        ddi!(WdfDmaEnablerCreate(
            device,
            ptr::null_mut(),
            ptr::null_mut(),
            &mut enabler
        ));
    }),
    ("handle_of_common_buffer_create", |device| unsafe {
        ddi!(WdfCommonBufferCreate(
            enabler(device),
            1,
            ptr::null_mut(),
            ptr::null_mut()
        ));
    }),
    (
        "config_of_common_buffer_create_with_config",
        |device| unsafe {
            let mut buffer = ptr::null_mut();
            ddi!(WdfCommonBufferCreateWithConfig(
                enabler(device),
                1,
                ptr::null_mut(),
                ptr::null_mut(),
                &mut buffer
            ));
        },
    ),
    ("handle_of_transaction_create", |device| unsafe {
        ddi!(WdfDmaTransactionCreate(
            enabler(device),
            ptr::null_mut(),
            ptr::null_mut()
        ));
    }),
    ("callback_of_initialize", |device| unsafe {
        let buffer = Buffer::at(0, PAGE);
        ddi!(WdfDmaTransactionInitialize(
            transaction(device),
            None,
            TO_DEVICE,
            buffer.mdl(),
            buffer.address(),
            1
        ));
    }),
    ("mdl_of_initialize", |device| unsafe {
        ddi!(WdfDmaTransactionInitialize(
            transaction(device),
            Some(program),
            TO_DEVICE,
            ptr::null_mut(),
            ptr::null_mut(),
            1
        ));
    }),
    // Before the request's handle is looked at.
    ("callback_of_initialize_using_request", |device| unsafe {
        ddi!(WdfDmaTransactionInitializeUsingRequest(
            transaction(device),
            ptr::null_mut(),
            None,
            TO_DEVICE
        ));
    }),
    ("callback_of_allocate_resources", |device| unsafe {
        ddi!(WdfDmaTransactionAllocateResources(
            transaction(device),
            TO_DEVICE,
            1,
            None,
            ptr::null_mut()
        ));
    }),
    ("status_of_dma_completed", |device| unsafe {
        ddi!(WdfDmaTransactionDmaCompleted(
            transaction(device),
            ptr::null_mut()
        ));
    }),
    ("status_of_dma_completed_with_length", |device| unsafe {
        ddi!(WdfDmaTransactionDmaCompletedWithLength(
            transaction(device),
            1,
            ptr::null_mut()
        ));
    }),
    ("status_of_dma_completed_final", |device| unsafe {
        ddi!(WdfDmaTransactionDmaCompletedFinal(
            transaction(device),
            1,
            ptr::null_mut()
        ));
    }),
];

fn enabler(device: WDFDEVICE) -> WDFDMAENABLER {
    bench::enabler(device, version3(PACKET64, PAGE))
}

fn transaction(device: WDFDEVICE) -> WDFDMATRANSACTION {
    bench::transaction(enabler(device))
}

/// What precedes the handle in a test's output.
const HANDLE: &str = "the handle is ";

pub fn add(mut suite: Suite) -> Suite {
    for &(name, call) in WITH_HANDLES {
        suite = suite
            .stops(
                format!("{name}_refuses_a_null_handle"),
                bug_check(0x10D).p1(5).p2(0),
                move || bench::run(move |_| unsafe { call(ptr::null_mut()) }),
            )
            .stops(
                format!("{name}_refuses_a_handle_of_another_type"),
                bug_check(0x10D).p1(5).p2_after(HANDLE),
                move || {
                    bench::run(move |device| unsafe {
                        let driver = ddi!(WdfDeviceGetDriver(device));
                        println!("{HANDLE}{driver:p}");
                        call(driver.cast());
                    });
                },
            );
    }
    for &(name, call) in WITH_NULLS {
        suite = suite.stops(
            format!("a_null_{name}_stops"),
            bug_check(0x10D).p1(4).p2(0),
            move || bench::run(move |device| unsafe { call(device) }),
        );
    }
    suite
        .stops(
            "a_null_mdl_of_initialize_using_offset_is_an_access_violation",
            bug_check(0x1E).p1(0xffff_ffff_c000_0005),
            || {
                bench::run(|device| {
                    offset(transaction(device), ptr::null_mut(), 0, 1);
                });
            },
        )
        .stops(
            "a_deleted_transaction_is_no_handle",
            bug_check(0x10D).p1(5).p2_after(HANDLE),
            || {
                bench::run(|device| {
                    let transaction = transaction(device);
                    println!("{HANDLE}{transaction:p}");
                    bench::delete(transaction);
                    bench::transferred(transaction);
                });
            },
        )
        .passes("arguments_of_initialize_are_checked", initialize)
        .passes("an_offset_lies_in_the_first_mdl", offsets)
}

/// Each is refused without touching the transaction.
fn initialize() {
    bench::run(|device| {
        let transaction = transaction(device);
        let buffer = Buffer::chain(&[(16, 100), (0, 100)]);
        let with = |direction, address: isize, length| unsafe {
            ddi!(WdfDmaTransactionInitialize(
                transaction,
                Some(program),
                direction,
                buffer.mdl(),
                buffer.address().wrapping_byte_offset(address),
                length
            ))
        };
        for (direction, address, length) in [
            (TO_DEVICE, 0, 0),
            (-1, 0, 100),
            (2, 0, 100),
            (TO_DEVICE, -1, 100),
            // The address must lie in the first MDL of a chain.
            (TO_DEVICE, 100, 10),
        ] {
            assert_eq!(with(direction, address, length), STATUS_INVALID_PARAMETER);
        }
        for (direction, address, length) in [(TO_DEVICE, 0, 200), (FROM_DEVICE, 99, 101)] {
            assert_eq!(with(direction, address, length), STATUS_SUCCESS);
            bench::release(transaction);
        }
    });
}

fn offset(transaction: WDFDMATRANSACTION, mdl: PMDL, offset: usize, length: usize) -> NTSTATUS {
    unsafe {
        ddi!(WdfDmaTransactionInitializeUsingOffset(
            transaction,
            Some(program),
            TO_DEVICE,
            mdl,
            offset,
            length
        ))
    }
}

fn offsets() {
    bench::run(|device| {
        let transaction = transaction(device);
        let buffer = Buffer::chain(&[(16, 100), (0, 100)]);
        for (at, length, status) in [
            (0, 200, STATUS_SUCCESS),
            (99, 101, STATUS_SUCCESS),
            (100, 100, STATUS_INVALID_PARAMETER),
            (0, 0, STATUS_INVALID_PARAMETER),
        ] {
            assert_eq!(offset(transaction, buffer.mdl(), at, length), status);
            if nt_success(status) {
                bench::release(transaction);
            }
        }
    });
}
