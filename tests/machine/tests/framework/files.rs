//! File objects: creates, cleanups and closes.

use std::cell::Cell;
use std::ptr;

use harness::Suite;
use machine::Machine;
use machine::ddi;
use machine::nt_sys::*;
use machine::user::Win32Error;

use crate::recorder::{self, Opened, Plan, complete_oldest, queue, record, recorded};

pub fn tests(suite: Suite) -> Suite {
    suite
        .passes(
            "a_file_is_created_cleaned_up_and_closed",
            a_file_is_created_cleaned_up_and_closed,
        )
        .passes(
            "each_file_has_an_object_of_its_own",
            each_file_has_an_object_of_its_own,
        )
        .passes(
            "what_waits_in_a_queue_is_cancelled_after_the_cleanup_callback",
            what_waits_in_a_queue_is_cancelled_after_the_cleanup_callback,
        )
        .passes(
            "a_file_is_closed_when_its_last_request_has_ended",
            a_file_is_closed_when_its_last_request_has_ended,
        )
        .passes(
            "a_create_that_is_refused_leaves_no_file",
            a_create_that_is_refused_leaves_no_file,
        )
        .passes(
            "without_file_objects_the_callbacks_get_none",
            without_file_objects_the_callbacks_get_none,
        )
}

thread_local! {
    static CREATED: Cell<WDFFILEOBJECT> = const { Cell::new(ptr::null_mut()) };
    /// What creates end with.
    static ANSWER: Cell<NTSTATUS> = const { Cell::new(STATUS_SUCCESS) };
}

unsafe extern "win64" fn create(device: WDFDEVICE, request: WDFREQUEST, file: WDFFILEOBJECT) {
    assert_eq!(ddi!(WdfRequestGetFileObject(request)), file);
    assert_eq!(ddi!(WdfFileObjectGetDevice(file)), device);
    CREATED.set(file);
    record("create");
    ddi!(WdfRequestComplete(request, ANSWER.get()));
}

/// Records a callback, and how many requests wait in the queue.
unsafe fn called(name: &str) {
    let mut waiting = 0;
    let none = ptr::null_mut();
    ddi!(WdfIoQueueGetState(queue(), &mut waiting, none));
    assert_eq!(
        u32::from(machine_nt::exports::KeGetCurrentIrql()),
        PASSIVE_LEVEL
    );
    record(format!("{name}, {waiting} waiting"));
}

unsafe extern "win64" fn cleanup(file: WDFFILEOBJECT) {
    assert_eq!(file, CREATED.get());
    called("cleanup");
}

unsafe extern "win64" fn close(file: WDFFILEOBJECT) {
    assert_eq!(file, CREATED.get());
    called("close");
}

unsafe extern "win64" fn destroyed(_file: WDFOBJECT) {
    record("destroyed");
}

unsafe fn set_files(init: PWDFDEVICE_INIT, class: _WDF_FILEOBJECT_CLASS::Type, creates: bool) {
    let mut config = WDF_FILEOBJECT_CONFIG {
        Size: size_of::<WDF_FILEOBJECT_CONFIG>() as ULONG,
        EvtFileCleanup: Some(cleanup),
        EvtFileClose: Some(close),
        AutoForwardCleanupClose: _WDF_TRI_STATE::WdfUseDefault,
        FileObjectClass: class,
        ..Default::default()
    };
    if creates {
        config.EvtDeviceFileCreate = Some(create);
    }
    let mut attributes = WDF_OBJECT_ATTRIBUTES {
        Size: size_of::<WDF_OBJECT_ATTRIBUTES>() as ULONG,
        EvtDestroyCallback: Some(destroyed),
        ExecutionLevel: _WDF_EXECUTION_LEVEL::WdfExecutionLevelInheritFromParent,
        SynchronizationScope: _WDF_SYNCHRONIZATION_SCOPE::WdfSynchronizationScopeInheritFromParent,
        ..Default::default()
    };
    ddi!(WdfDeviceInitSetFileObjectConfig(
        init,
        &mut config,
        &mut attributes
    ));
}

fn with_files(test: impl FnOnce(&Machine) + 'static) {
    let plan = Plan {
        init: |init| unsafe {
            set_files(
                init,
                _WDF_FILEOBJECT_CLASS::WdfFileObjectWdfCanUseFsContext,
                true,
            );
        },
        ..Plan::default()
    };
    recorder::machine(
        plan,
        |_| {},
        |machine| {
            machine.start().expect("the device starts");
            recorded();
            test(machine);
            machine.shut_down();
        },
    );
}

fn a_file_is_created_cleaned_up_and_closed() {
    with_files(|machine| {
        let device = Opened::new(machine);
        assert_eq!(recorded(), ["create"]);
        drop(device);
        assert_eq!(
            recorded(),
            ["cleanup, 0 waiting", "close, 0 waiting", "destroyed"]
        );
    });
}

fn each_file_has_an_object_of_its_own() {
    with_files(|machine| {
        let first = Opened::new(machine);
        let object = CREATED.get();
        let second = Opened::new(machine);
        assert_ne!(CREATED.get(), object);
        drop(second);
        CREATED.set(object);
        recorded();
        let read = first.read(8);
        let request = recorder::take_held();
        assert_eq!(unsafe { ddi!(WdfRequestGetFileObject(request)) }, object);
        unsafe { ddi!(WdfRequestComplete(request, STATUS_SUCCESS)) };
        assert!(read.has_ended());
    });
}

/// The first read is the driver's, the others wait: the callback still finds them, and one of another file stays.
fn what_waits_in_a_queue_is_cancelled_after_the_cleanup_callback() {
    with_files(|machine| {
        let other = Opened::new(machine);
        let others = CREATED.get();
        let device = Opened::new(machine);
        let (first, second, third) = (device.read(1), device.read(2), other.read(3));
        recorded();
        drop(device);
        assert_eq!(recorded(), ["cleanup, 2 waiting"]);
        assert_eq!(second.wait().result, Err(Win32Error::OPERATION_ABORTED));
        assert!(!first.has_ended() && !third.has_ended());
        complete_oldest(STATUS_SUCCESS);
        assert_eq!(first.wait().result, Ok(0));
        assert_eq!(recorded(), ["read 3", "close, 0 waiting", "destroyed"]);
        complete_oldest(STATUS_SUCCESS);
        CREATED.set(others);
    });
}

fn a_file_is_closed_when_its_last_request_has_ended() {
    with_files(|machine| {
        let device = Opened::new(machine);
        let read = device.read(1);
        recorded();
        drop(device);
        assert_eq!(recorded(), ["cleanup, 0 waiting"]);
        complete_oldest(STATUS_SUCCESS);
        assert_eq!(read.wait().result, Ok(0));
        assert_eq!(recorded(), ["close, 0 waiting", "destroyed"]);
    });
}

fn a_create_that_is_refused_leaves_no_file() {
    with_files(|machine| {
        ANSWER.set(STATUS_ACCESS_DENIED);
        assert_eq!(
            Opened::try_new(machine).err(),
            Some(Win32Error::ACCESS_DENIED)
        );
        assert_eq!(recorded(), ["create", "destroyed"]);
    });
}

fn without_file_objects_the_callbacks_get_none() {
    let plan = Plan {
        init: |init| unsafe {
            set_files(init, _WDF_FILEOBJECT_CLASS::WdfFileObjectNotRequired, false);
        },
        ..Plan::default()
    };
    recorder::opened(plan, |machine, _| {
        drop(Opened::new(machine));
        assert_eq!(recorded(), ["cleanup, 0 waiting", "close, 0 waiting"]);
    });
}
