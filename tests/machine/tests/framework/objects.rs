//! What the framework checks of any call: handles, pointers, attributes; the life of objects; entries it does not have.

use std::ptr;

use harness::{Suite, bug_check, machine_stop};
use machine::ddi;
use machine::nt_sys::*;

use crate::recorder::{self, Plan, device, queue, record, recorded};

const WDF_VIOLATION: u32 = 0x10D;
/// First parameters of [`WDF_VIOLATION`].
const NULL_POINTER: u64 = 4;
const INVALID_HANDLE: u64 = 5;

pub fn tests(suite: Suite) -> Suite {
    let handles: [(&str, unsafe fn()); 2] = [
        ("a_handle_of_zero_stops", handle_of_zero),
        ("a_handle_of_another_type_stops", handle_of_another_type),
    ];
    let pointers: [(&str, unsafe fn()); 3] = [
        ("a_missing_configuration_stops", missing_configuration),
        ("a_missing_place_for_the_handle_stops", missing_place),
        ("a_missing_buffer_pointer_stops", missing_resource_pointer),
    ];
    let suite = handles.into_iter().fold(suite, |suite, (name, mistake)| {
        let stop = bug_check(WDF_VIOLATION).p1(INVALID_HANDLE);
        suite.stops(name, stop, move || with_device(mistake))
    });
    let suite = pointers.into_iter().fold(suite, |suite, (name, mistake)| {
        let stop = bug_check(WDF_VIOLATION).p1(NULL_POINTER).p2(0);
        suite.stops(name, stop, move || with_device(mistake))
    });
    suite
        .passes("attributes_are_checked", || {
            with_device(attributes_are_checked)
        })
        .passes("an_interrupt_takes_no_parent", || {
            with_device(an_interrupt_takes_no_parent)
        })
        .passes("a_work_item_needs_a_parent", || {
            with_device(a_work_item_needs_a_parent)
        })
        .passes("children_are_cleaned_up_before_their_parent", || {
            with_device(children_are_cleaned_up_before_their_parent)
        })
        .passes("a_reference_keeps_an_object_after_its_cleanup", || {
            with_device(a_reference_keeps_an_object_after_its_cleanup)
        })
        .stops(
            "an_entry_that_is_not_offered_stops_by_name",
            machine_stop("WdfWmiProviderCreate"),
            || with_device(not_offered),
        )
}

/// Runs `check` with the device started.
fn with_device(check: unsafe fn()) {
    recorder::opened(Plan::default(), move |_, _| unsafe { check() });
}

fn attributes() -> WDF_OBJECT_ATTRIBUTES {
    WDF_OBJECT_ATTRIBUTES {
        Size: size_of::<WDF_OBJECT_ATTRIBUTES>() as ULONG,
        ExecutionLevel: _WDF_EXECUTION_LEVEL::WdfExecutionLevelInheritFromParent,
        SynchronizationScope: _WDF_SYNCHRONIZATION_SCOPE::WdfSynchronizationScopeInheritFromParent,
        ..Default::default()
    }
}

unsafe fn handle_of_zero() {
    ddi!(WdfDeviceWdmGetDeviceObject(ptr::null_mut()));
}

unsafe fn handle_of_another_type() {
    ddi!(WdfDeviceWdmGetDeviceObject(queue().cast()));
}

unsafe fn missing_configuration() {
    let mut made = ptr::null_mut();
    ddi!(WdfIoQueueCreate(
        device(),
        ptr::null_mut(),
        ptr::null_mut(),
        &mut made
    ));
}

unsafe fn missing_place() {
    ddi!(WdfSpinLockCreate(ptr::null_mut(), ptr::null_mut()));
}

unsafe fn missing_resource_pointer() {
    ddi!(WdfIoQueueRetrieveNextRequest(queue(), ptr::null_mut()));
}

/// The statuses of attributes that a spin lock, which takes a parent and nothing else, is refused.
unsafe fn attributes_are_checked() {
    type Change = fn(&mut WDF_OBJECT_ATTRIBUTES);
    let changes: [(Change, NTSTATUS); 8] = [
        (|_| {}, STATUS_SUCCESS),
        (|all| all.ParentObject = device().cast(), STATUS_SUCCESS),
        (|all| all.Size -= 1, STATUS_INFO_LENGTH_MISMATCH),
        (
            |all| all.ExecutionLevel = _WDF_EXECUTION_LEVEL::WdfExecutionLevelPassive,
            STATUS_WDF_EXECUTION_LEVEL_INVALID,
        ),
        (
            |all| all.ExecutionLevel = _WDF_EXECUTION_LEVEL::WdfExecutionLevelInvalid,
            STATUS_WDF_OBJECT_ATTRIBUTES_INVALID,
        ),
        (
            |all| {
                all.SynchronizationScope =
                    _WDF_SYNCHRONIZATION_SCOPE::WdfSynchronizationScopeDevice;
            },
            STATUS_WDF_SYNCHRONIZATION_SCOPE_INVALID,
        ),
        (
            |all| {
                all.SynchronizationScope =
                    _WDF_SYNCHRONIZATION_SCOPE::WdfSynchronizationScopeInvalid;
            },
            STATUS_WDF_OBJECT_ATTRIBUTES_INVALID,
        ),
        (
            |all| all.ContextSizeOverride = 16,
            STATUS_WDF_OBJECT_ATTRIBUTES_INVALID,
        ),
    ];
    for (index, (change, expected)) in changes.into_iter().enumerate() {
        let mut attributes = attributes();
        change(&mut attributes);
        let mut lock = ptr::null_mut();
        let status = ddi!(WdfSpinLockCreate(&mut attributes, &mut lock));
        assert_eq!(status, expected, "row {index}: {status:#010x}");
        if nt_success(status) {
            ddi!(WdfObjectDelete(lock.cast()));
        }
    }
}

unsafe fn an_interrupt_takes_no_parent() {
    let mut config = WDF_INTERRUPT_CONFIG {
        Size: size_of::<WDF_INTERRUPT_CONFIG>() as ULONG,
        ..Default::default()
    };
    let mut attributes = attributes();
    attributes.ParentObject = device().cast();
    let mut interrupt = ptr::null_mut();
    let status = ddi!(WdfInterruptCreate(
        device(),
        &mut config,
        &mut attributes,
        &mut interrupt
    ));
    assert_eq!(status, STATUS_WDF_PARENT_ASSIGNMENT_NOT_ALLOWED);
}

unsafe extern "win64" fn work(_item: WDFWORKITEM) {}

unsafe fn a_work_item_needs_a_parent() {
    let mut config = WDF_WORKITEM_CONFIG {
        Size: size_of::<WDF_WORKITEM_CONFIG>() as ULONG,
        EvtWorkItemFunc: Some(work),
        ..Default::default()
    };
    let mut item = ptr::null_mut();
    let status = ddi!(WdfWorkItemCreate(&mut config, &mut attributes(), &mut item));
    assert_eq!(status, STATUS_WDF_PARENT_NOT_SPECIFIED);
}

unsafe extern "win64" fn parent_cleanup(_object: WDFOBJECT) {
    record("cleanup of the parent");
}

unsafe extern "win64" fn child_cleanup(_object: WDFOBJECT) {
    record("cleanup of the child");
}

unsafe extern "win64" fn destroy(_object: WDFOBJECT) {
    record("destroy");
}

unsafe fn create(mut attributes: WDF_OBJECT_ATTRIBUTES) -> WDFOBJECT {
    let mut object = ptr::null_mut();
    let status = ddi!(WdfObjectCreate(&mut attributes, &mut object));
    assert_eq!(status, STATUS_SUCCESS);
    object
}

unsafe fn children_are_cleaned_up_before_their_parent() {
    let parent = create(WDF_OBJECT_ATTRIBUTES {
        EvtCleanupCallback: Some(parent_cleanup),
        ..attributes()
    });
    create(WDF_OBJECT_ATTRIBUTES {
        EvtCleanupCallback: Some(child_cleanup),
        ParentObject: parent,
        ..attributes()
    });
    ddi!(WdfObjectDelete(parent));
    assert_eq!(
        recorded(),
        ["cleanup of the child", "cleanup of the parent"]
    );
}

unsafe fn a_reference_keeps_an_object_after_its_cleanup() {
    let object = create(WDF_OBJECT_ATTRIBUTES {
        EvtCleanupCallback: Some(parent_cleanup),
        EvtDestroyCallback: Some(destroy),
        ..attributes()
    });
    ddi!(WdfObjectReferenceActual(
        object,
        ptr::null_mut(),
        0,
        c"".as_ptr()
    ));
    ddi!(WdfObjectDelete(object));
    assert_eq!(recorded(), ["cleanup of the parent"]);
    ddi!(WdfObjectDereferenceActual(
        object,
        ptr::null_mut(),
        0,
        c"".as_ptr()
    ));
    assert_eq!(recorded(), ["destroy"]);
}

unsafe fn not_offered() {
    let entry = _WDFFUNCENUM::WdfWmiProviderCreateTableIndex;
    let function: Option<unsafe extern "win64" fn()> = machine::testdriver::function(entry);
    function.expect("every entry of the table is there")();
}
