//! Calls in a wrong order or with a wrong belief about what they have done: M3, M4, M5, M9.

use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use harness::{Suite, bug_check, machine_stop};
use machine::ddi;
use machine::inf::{RegistryData, RegistryValue};
use machine::nt_sys::*;
use machine_nt::exports::{KeAcquireSpinLockRaiseToDpc, KeReleaseSpinLock};

use crate::support::edu::{self, Steps, TRANSFER};
use crate::{INVALID_HANDLE, RECURSIVE_LOCK, WDF_VIOLATION};

const SPIN_LOCK_ALREADY_OWNED: u32 = 0x0F;

/// A DDI of version 3, called between Initialize and Execute; what it answers.
type NeedsVersion3 = unsafe fn() -> NTSTATUS;

const NEEDING_VERSION_3: [(&str, NeedsVersion3); 4] = [
    ("cancel", cancel),
    ("reserved_resources", reserve),
    ("immediate_execution", immediately),
    ("single_transfer", single),
];

pub fn tests(suite: Suite) -> Suite {
    let suite = suite
        .passes("m3_sound_where_nothing_is_touched", || {
            completed_inside_execute(Steps {
                begin: |request, direction| unsafe {
                    edu::begin_with(Some(cannot_program), request, direction)
                },
                ..Steps::default()
            });
        })
        .stops(
            "m3_request_touched_after_execute",
            bug_check(WDF_VIOLATION).p1(INVALID_HANDLE),
            m3_request_touched_after_execute,
        )
        .stops(
            "m3_transaction_touched_after_more_to_do",
            machine_stop("misuse: WdfDmaTransactionGetBytesTransferred after Release"),
            m3_transaction_touched_after_more_to_do,
        )
        .stops(
            "m4_framework_lock_held_across_execute",
            bug_check(WDF_VIOLATION).p1(RECURSIVE_LOCK),
            m4_framework_lock_held_across_execute,
        )
        .stops(
            "m4_kernel_lock_held_across_completion",
            bug_check(SPIN_LOCK_ALREADY_OWNED),
            m4_kernel_lock_held_across_completion,
        )
        .stops(
            "m5_length_read_after_release",
            machine_stop("misuse: WdfDmaTransactionGetBytesTransferred after Release"),
            || length_read_after_release(true),
        )
        .passes("m5_without_the_frameworks_verifier", || {
            length_read_after_release(false)
        });
    NEEDING_VERSION_3
        .into_iter()
        .fold(suite, |suite, (name, call)| {
            suite
                .stops(
                    format!("m9_{name}_without_version_3"),
                    machine_stop("breakpoint"),
                    move || relies_on_version_3(call, true),
                )
                .passes(format!("m9_{name}_without_a_debugger"), move || {
                    relies_on_version_3(call, false);
                })
        })
}

/// A device that cannot be programmed: the transfer is ended where it should have begun, and with it the request.
unsafe extern "win64" fn cannot_program(
    transaction: WDFDMATRANSACTION,
    _device: WDFDEVICE,
    _context: WDFCONTEXT,
    _direction: WDF_DMA_DIRECTION,
    _list: PSCATTER_GATHER_LIST,
) -> BOOLEAN {
    let mut status = STATUS_SUCCESS;
    ddi!(WdfDmaTransactionDmaCompletedFinal(
        transaction,
        0,
        &mut status
    ));
    edu::complete(transaction, STATUS_IO_DEVICE_ERROR);
    0
}

fn completed_inside_execute(steps: Steps) {
    edu::run(steps, |device| {
        assert_eq!(device.write(0, 100).status, STATUS_IO_DEVICE_ERROR);
    });
}

/// M3: Execute has succeeded, so the request is made cancelable; it was completed before Execute returned.
fn m3_request_touched_after_execute() {
    unsafe extern "win64" fn cancel(_request: WDFREQUEST) {}
    let begin = |request, direction| unsafe {
        let status = edu::begin_with(Some(cannot_program), request, direction);
        ddi!(WdfRequestMarkCancelableEx(request, Some(cancel)));
        status
    };
    completed_inside_execute(Steps {
        begin,
        ..Steps::default()
    });
}

/// M3: FALSE means that the next transfer was programmed, and here that it has ended as well.
fn m3_transaction_touched_after_more_to_do() {
    unsafe extern "win64" fn once(
        transaction: WDFDMATRANSACTION,
        device: WDFDEVICE,
        context: WDFCONTEXT,
        direction: WDF_DMA_DIRECTION,
        list: PSCATTER_GATHER_LIST,
    ) -> BOOLEAN {
        if ddi!(WdfDmaTransactionGetBytesTransferred(transaction)) == 0 {
            edu::program(transaction, device, context, direction, list)
        } else {
            cannot_program(transaction, device, context, direction, list)
        }
    }
    let steps = Steps {
        begin: |request, direction| unsafe { edu::begin_with(Some(once), request, direction) },
        finished: |transaction| unsafe {
            let mut status = STATUS_SUCCESS;
            if ddi!(WdfDmaTransactionDmaCompleted(transaction, &mut status)) == 0 {
                ddi!(WdfDmaTransactionGetBytesTransferred(transaction));
            }
        },
        ..Steps::default()
    };
    edu::run(steps, |device| drop(device.write(0, 2 * TRANSFER)));
}

/// M4: EvtProgramDma is called before Execute returns, on the same thread.
fn m4_framework_lock_held_across_execute() {
    static LOCK: AtomicPtr<WDFSPINLOCK__> = AtomicPtr::new(ptr::null_mut());
    unsafe extern "win64" fn program(
        transaction: WDFDMATRANSACTION,
        device: WDFDEVICE,
        context: WDFCONTEXT,
        direction: WDF_DMA_DIRECTION,
        list: PSCATTER_GATHER_LIST,
    ) -> BOOLEAN {
        ddi!(WdfSpinLockAcquire(LOCK.load(Relaxed)));
        let programmed = edu::program(transaction, device, context, direction, list);
        ddi!(WdfSpinLockRelease(LOCK.load(Relaxed)));
        programmed
    }
    let steps = Steps {
        added: |_| unsafe {
            let mut lock = ptr::null_mut();
            assert!(nt_success(ddi!(WdfSpinLockCreate(
                ptr::null_mut(),
                &mut lock
            ))));
            LOCK.store(lock, Relaxed);
        },
        begin: |request, direction| unsafe {
            ddi!(WdfSpinLockAcquire(LOCK.load(Relaxed)));
            let status = edu::begin_with(Some(program), request, direction);
            ddi!(WdfSpinLockRelease(LOCK.load(Relaxed)));
            status
        },
        ..Steps::default()
    };
    edu::run(steps, |device| drop(device.write(0, 100)));
}

/// M4: the second transfer is programmed inside DmaCompleted, under the lock that programming takes.
fn m4_kernel_lock_held_across_completion() {
    struct Lock(UnsafeCell<KSPIN_LOCK>);
    unsafe impl Sync for Lock {}
    static LOCK: Lock = Lock(UnsafeCell::new(0));
    unsafe extern "win64" fn program(
        transaction: WDFDMATRANSACTION,
        device: WDFDEVICE,
        context: WDFCONTEXT,
        direction: WDF_DMA_DIRECTION,
        list: PSCATTER_GATHER_LIST,
    ) -> BOOLEAN {
        let irql = KeAcquireSpinLockRaiseToDpc(LOCK.0.get());
        let programmed = edu::program(transaction, device, context, direction, list);
        KeReleaseSpinLock(LOCK.0.get(), irql);
        programmed
    }
    let steps = Steps {
        begin: |request, direction| unsafe { edu::begin_with(Some(program), request, direction) },
        finished: |transaction| unsafe {
            let irql = KeAcquireSpinLockRaiseToDpc(LOCK.0.get());
            edu::finished(transaction);
            KeReleaseSpinLock(LOCK.0.get(), irql);
        },
        ..Steps::default()
    };
    edu::run(steps, |device| drop(device.write(0, 2 * TRANSFER)));
}

/// M5: Release forgets how much was moved. Without the verifier the caller is told that nothing was.
fn length_read_after_release(verifier: bool) {
    let finished = |transaction| unsafe {
        let mut status = STATUS_SUCCESS;
        if ddi!(WdfDmaTransactionDmaCompleted(transaction, &mut status)) != 0 {
            let request = ddi!(WdfDmaTransactionGetRequest(transaction));
            ddi!(WdfDmaTransactionRelease(transaction));
            let moved = ddi!(WdfDmaTransactionGetBytesTransferred(transaction));
            ddi!(WdfRequestCompleteWithInformation(
                request,
                status,
                moved as ULONG_PTR
            ));
        }
    };
    let steps = Steps {
        finished,
        ..Steps::default()
    };
    edu::configured(
        steps,
        move |config| config.framework_verifier = verifier,
        |device| assert_eq!(device.write(0, 100).result, Ok(0)),
    );
}

/// M9: an enabler of version 2, which is the default on x64. With a debugger wanted, the framework breaks into it;
/// otherwise the call does nothing or is refused, and the driver, if it does not look, believes that it has worked.
fn relies_on_version_3(call: NeedsVersion3, debugger: bool) {
    static CALL: std::sync::OnceLock<NeedsVersion3> = std::sync::OnceLock::new();
    CALL.set(call).expect("one call to a process");
    let steps = Steps {
        enable: |config| {
            config.Profile = _WDF_DMA_PROFILE::WdfDmaProfilePacket;
            config.MaximumLength = TRANSFER;
        },
        begin: |request, direction| unsafe {
            let status = ddi!(WdfDmaTransactionInitializeUsingRequest(
                edu::transaction(),
                request,
                Some(edu::program),
                direction,
            ));
            assert_eq!(status, STATUS_SUCCESS);
            let status = CALL.get().expect("set")();
            ddi!(WdfDmaTransactionRelease(edu::transaction()));
            status
        },
        ..Steps::default()
    };
    let configure = move |config: &mut machine::Config| {
        if debugger {
            config.registry.push(RegistryValue {
                subkey: r"Parameters\Wdf".to_owned(),
                name: "DbgBreakOnError".to_owned(),
                data: RegistryData::Dword(1),
            });
        }
    };
    edu::configured(steps, configure, |device| {
        assert_eq!(device.write(0, 100).status, STATUS_INVALID_DEVICE_REQUEST);
    });
}

unsafe fn cancel() -> NTSTATUS {
    assert_eq!(ddi!(WdfDmaTransactionCancel(edu::transaction())), 0);
    STATUS_INVALID_DEVICE_REQUEST
}

unsafe fn reserve() -> NTSTATUS {
    unsafe extern "win64" fn reserved(_transaction: WDFDMATRANSACTION, _context: PVOID) {
        panic!("nothing was reserved");
    }
    ddi!(WdfDmaTransactionAllocateResources(
        edu::transaction(),
        _WDF_DMA_DIRECTION::WdfDmaDirectionReadFromDevice,
        1,
        Some(reserved),
        ptr::null_mut(),
    ))
}

unsafe fn immediately() -> NTSTATUS {
    ddi!(WdfDmaTransactionSetImmediateExecution(
        edu::transaction(),
        1
    ));
    STATUS_INVALID_DEVICE_REQUEST
}

unsafe fn single() -> NTSTATUS {
    ddi!(WdfDmaTransactionRelease(edu::transaction()));
    ddi!(WdfDmaTransactionSetSingleTransferRequirement(
        edu::transaction(),
        1
    ));
    STATUS_INVALID_DEVICE_REQUEST
}
