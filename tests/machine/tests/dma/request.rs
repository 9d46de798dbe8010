//! Transactions of requests: which requests have a buffer for which direction, and when a request may be completed.

use std::sync::Mutex;

use harness::{Suite, bug_check};
use machine::ddi;
use machine::nt_sys::*;
use machine::user::{File, Process};

use crate::bench::{
    self, DONE, FROM_DEVICE, LIST64, PACKET64, PAGE, Report, TO_DEVICE, enabler_config, program,
    version3,
};
use _WDF_DEVICE_IO_TYPE::{WdfDeviceIoBuffered, WdfDeviceIoDirect, WdfDeviceIoNeither};

/// What the last request was refused for, from the device and to it.
static FOUND: Mutex<[NTSTATUS; 2]> = Mutex::new([0; 2]);

const INVALID: NTSTATUS = STATUS_INVALID_DEVICE_REQUEST;
const SMALL: NTSTATUS = STATUS_BUFFER_TOO_SMALL;
const OK: NTSTATUS = STATUS_SUCCESS;

/// A request of user mode; the numbers are bytes, of input and output for a control request.
#[derive(Clone, Copy, Debug)]
enum Request {
    Read(usize),
    Write(usize),
    /// By its method.
    Control(u32, usize, usize),
}
use Request::{Control, Read, Write};

/// A request, and what InitializeUsingRequest says of it from the device and to it.
type Row = (Request, [NTSTATUS; 2]);

const DIRECT: &[Row] = &[
    (Read(100), [OK, INVALID]),
    (Write(100), [INVALID, OK]),
    // No MDL, which is noticed before the length.
    (Read(0), [SMALL, INVALID]),
    (Write(0), [INVALID, SMALL]),
    (Control(METHOD_IN_DIRECT, 8, 100), [INVALID, OK]),
    (Control(METHOD_OUT_DIRECT, 8, 100), [OK, INVALID]),
    (Control(METHOD_IN_DIRECT, 8, 0), [INVALID, SMALL]),
    (Control(METHOD_OUT_DIRECT, 8, 0), [SMALL, INVALID]),
    (Control(METHOD_NEITHER, 100, 100), [INVALID, INVALID]),
    // The MDL covers the input, in either direction.
    (Control(METHOD_BUFFERED, 100, 100), [OK, OK]),
    (Control(METHOD_BUFFERED, 0, 100), [SMALL, SMALL]),
    (Control(METHOD_BUFFERED, 100, 0), [INVALID, OK]),
    // Pages that the MDL does not have.
    (Control(METHOD_BUFFERED, 100, 3 * PAGE), [SMALL, OK]),
];

const BUFFERED: &[Row] = &[(Read(100), [OK, INVALID]), (Write(100), [INVALID, OK])];

const NEITHER: &[Row] = &[
    (Read(100), [INVALID, INVALID]),
    (Write(100), [INVALID, INVALID]),
];

pub fn add(suite: Suite) -> Suite {
    suite
        .passes("requests_of_direct_io_go_one_way", || {
            rows(WdfDeviceIoDirect, DIRECT);
        })
        .passes("requests_of_buffered_io_go_one_way", || {
            rows(WdfDeviceIoBuffered, BUFFERED);
        })
        .passes("requests_of_neither_io_have_no_buffer", || {
            rows(WdfDeviceIoNeither, NEITHER);
        })
        .passes("a_request_goes_with_its_transaction", association)
        .passes(
            "a_request_may_be_completed_once_its_transaction_has_ended",
            || served(complete_before_release, |result| assert_eq!(result, OK)),
        )
        .stops(
            "a_request_completed_while_its_transaction_executes",
            bug_check(0x10D).p1(3),
            || served(complete_while_executing, |_| {}),
        )
        .passes("statuses_of_the_framework_are_rewritten", rewritten)
}

/// A control code of the method; `function` is free for the test.
fn code(function: u32, method: u32) -> u32 {
    0x22 << 16 | (0x800 + function) << 2 | method
}

fn send(process: &Process, file: &File, request: Request) -> NTSTATUS {
    let buffer = |length: usize| process.buffer(length.max(1)).expect("memory");
    let request = match request {
        Read(length) => file.read(0, buffer(length), 0..length),
        Write(length) => file.write(0, buffer(length), 0..length),
        Control(method, input, output) => file.control(
            code(0, method),
            buffer(input + output),
            0..input,
            input..input + output,
        ),
    };
    request.wait().status
}

fn initialize(
    transaction: WDFDMATRANSACTION,
    request: WDFREQUEST,
    direction: WDF_DMA_DIRECTION,
) -> NTSTATUS {
    unsafe {
        ddi!(WdfDmaTransactionInitializeUsingRequest(
            transaction,
            request,
            Some(program),
            direction
        ))
    }
}

fn complete(request: WDFREQUEST, status: NTSTATUS) {
    unsafe { ddi!(WdfRequestComplete(request, status)) };
}

fn both_directions(transaction: WDFDMATRANSACTION, request: WDFREQUEST) {
    // A value that is no direction is refused whatever the request is.
    for direction in [-1, 2] {
        let status = initialize(transaction, request, direction);
        assert_eq!(status, STATUS_INVALID_PARAMETER);
    }
    let found = [FROM_DEVICE, TO_DEVICE].map(|direction| {
        let status = initialize(transaction, request, direction);
        if nt_success(status) {
            bench::release(transaction);
        }
        status
    });
    *FOUND.lock().expect("not poisoned") = found;
    complete(request, STATUS_SUCCESS);
}

fn rows(io_type: WDF_DEVICE_IO_TYPE, rows: &'static [Row]) {
    let config = version3(LIST64, 1 << 20);
    bench::served(io_type, config, both_directions, move |process, file| {
        for &(request, expected) in rows {
            assert_eq!(send(process, file, request), STATUS_SUCCESS);
            let found = *FOUND.lock().expect("not poisoned");
            assert_eq!(found, expected, "{request:?}");
        }
    });
}

/// Serves one read of 100 bytes, and looks at its status.
fn served(handler: fn(WDFDMATRANSACTION, WDFREQUEST), check: fn(NTSTATUS)) {
    let config = enabler_config(PACKET64, PAGE);
    bench::served(WdfDeviceIoDirect, config, handler, move |process, file| {
        check(send(process, file, Read(100)));
    });
}

fn association() {
    served(
        |transaction, request| {
            let associated = || unsafe { ddi!(WdfDmaTransactionGetRequest(transaction)) };
            assert!(associated().is_null());
            assert_eq!(initialize(transaction, request, TO_DEVICE), INVALID);
            assert!(associated().is_null());
            assert_eq!(initialize(transaction, request, FROM_DEVICE), OK);
            assert_eq!(associated(), request);
            assert_eq!(bench::execute(transaction), OK);
            assert_eq!(associated(), request);
            assert_eq!(bench::report(transaction, Report::Full), DONE);
            // It stays until the transaction is released.
            assert_eq!(associated(), request);
            bench::release(transaction);
            assert!(associated().is_null());
            complete(request, OK);
        },
        |status| assert_eq!(status, OK),
    );
}

fn complete_before_release(transaction: WDFDMATRANSACTION, request: WDFREQUEST) {
    assert_eq!(initialize(transaction, request, FROM_DEVICE), OK);
    assert_eq!(bench::execute(transaction), OK);
    assert_eq!(bench::report(transaction, Report::Full), DONE);
    complete(request, OK);
    bench::release(transaction);
}

fn complete_while_executing(transaction: WDFDMATRANSACTION, request: WDFREQUEST) {
    assert_eq!(initialize(transaction, request, FROM_DEVICE), OK);
    assert_eq!(bench::execute(transaction), OK);
    complete(request, OK);
}

/// What a driver completes with, and what user mode sees: nothing of the framework's own facility.
const REWRITTEN: &[(NTSTATUS, NTSTATUS)] = &[
    (STATUS_WDF_BUSY, STATUS_DEVICE_BUSY),
    (STATUS_WDF_PAUSED, STATUS_DEVICE_BUSY),
    (STATUS_WDF_TOO_FRAGMENTED, INVALID),
    (STATUS_WDF_TOO_MANY_TRANSFERS, INVALID),
    (
        STATUS_WDF_NOT_ENOUGH_MAP_REGISTERS,
        STATUS_INSUFFICIENT_RESOURCES,
    ),
    (STATUS_WDF_INTERNAL_ERROR, STATUS_INTERNAL_ERROR),
    (STATUS_WDF_NO_CALLBACK, INVALID),
    (STATUS_DEVICE_NOT_READY, STATUS_DEVICE_NOT_READY),
];

fn rewritten() {
    let handler = |_, request| {
        let mut parameters = WDF_REQUEST_PARAMETERS {
            Size: size_of::<WDF_REQUEST_PARAMETERS>() as USHORT,
            ..Default::default()
        };
        unsafe { ddi!(WdfRequestGetParameters(request, &mut parameters)) };
        let code = unsafe { parameters.Parameters.DeviceIoControl.IoControlCode };
        let row = (code >> 2 & 0x7FF) as usize;
        complete(request, REWRITTEN[row].0);
    };
    let config = enabler_config(PACKET64, PAGE);
    bench::served(WdfDeviceIoDirect, config, handler, |process, file| {
        for (row, &(_, seen)) in REWRITTEN.iter().enumerate() {
            let buffer = process.buffer(1).expect("memory");
            let request = file.control(code(row as u32, METHOD_BUFFERED), buffer, 0..1, 0..0);
            assert_eq!(request.wait().status, seen, "row {row}");
        }
    });
}
