//! Timers, DPCs and work items: when and at which IRQL they call the driver, how they are stopped, and that they end with
//! their parent.

use std::cell::Cell;
use std::ptr;

use harness::Suite;
use machine::ddi;
use machine::nt_sys::*;
use machine_nt::exports::{KeDelayExecutionThread, KeGetCurrentIrql, KeLowerIrql, KfRaiseIrql};
use machine_nt::sched;

use crate::recorder::{self, Plan, device, record, recorded};

const TRUE: BOOLEAN = 1;
const FALSE: BOOLEAN = 0;

pub fn tests(suite: Suite) -> Suite {
    let tests: [(&str, unsafe fn()); 17] = [
        (
            "a_timer_calls_back_once_at_dispatch_level",
            a_timer_calls_back_once,
        ),
        ("a_started_timer_can_be_set_anew", a_started_timer_is_set),
        ("timers_expire_when_they_are_due", timers_expire_in_order),
        (
            "a_periodic_timer_calls_back_until_it_is_stopped",
            a_periodic_timer_goes_on,
        ),
        ("a_timer_can_stop_itself", a_timer_can_stop_itself),
        (
            "a_timer_at_passive_level_calls_back_there_and_has_no_period",
            a_timer_at_passive_level,
        ),
        (
            "stopping_a_timer_can_wait_for_its_callback",
            stopping_a_timer_can_wait,
        ),
        (
            "a_timer_that_waits_for_itself_is_not_stopped",
            a_timer_that_waits_for_itself,
        ),
        ("a_timer_ends_with_its_parent", a_timer_ends_with_its_parent),
        ("a_timer_needs_a_parent", a_timer_needs_a_parent),
        (
            "a_dpc_runs_once_however_often_it_is_queued",
            a_dpc_runs_once,
        ),
        (
            "a_queued_dpc_can_be_cancelled",
            a_queued_dpc_can_be_cancelled,
        ),
        (
            "a_queued_dpc_runs_before_its_parent_is_gone",
            a_dpc_ends_with_its_parent,
        ),
        (
            "a_work_item_runs_once_however_often_it_is_queued",
            a_work_item_runs_once,
        ),
        (
            "a_work_item_can_queue_itself_and_a_flush_waits_for_all",
            a_work_item_can_queue_itself,
        ),
        (
            "a_work_item_that_flushes_itself_does_not_wait",
            a_work_item_that_flushes_itself,
        ),
        (
            "a_queued_work_item_runs_before_its_parent_is_gone",
            a_work_item_ends_with_its_parent,
        ),
    ];
    tests.into_iter().fold(suite, |suite, (name, test)| {
        suite.passes(name, move || {
            recorder::opened(Plan::default(), move |_, _| unsafe { test() });
        })
    })
}

thread_local! {
    /// Calls still to come in which a callback goes on by itself.
    static LEFT: Cell<u32> = const { Cell::new(0) };
}

/// Takes one of the calls that are left.
fn another() -> bool {
    let left = LEFT.get();
    LEFT.set(left.saturating_sub(1));
    left > 0
}

unsafe fn sleep_ms(ms: i64) {
    let mut interval = LARGE_INTEGER {
        QuadPart: -ms * 10_000,
    };
    KeDelayExecutionThread(0, 0, &mut interval);
}

/// Relative due time.
fn after_ms(ms: i64) -> LONGLONG {
    -ms * 10_000
}

/// Records a callback with its IRQL.
unsafe fn record_call(what: &str) {
    let irql = KeGetCurrentIrql();
    record(format!("{what} at {irql}"));
}

fn below(parent: impl Into<Option<WDFOBJECT>>) -> WDF_OBJECT_ATTRIBUTES {
    WDF_OBJECT_ATTRIBUTES {
        Size: size_of::<WDF_OBJECT_ATTRIBUTES>() as ULONG,
        ExecutionLevel: _WDF_EXECUTION_LEVEL::WdfExecutionLevelInheritFromParent,
        SynchronizationScope: _WDF_SYNCHRONIZATION_SCOPE::WdfSynchronizationScopeInheritFromParent,
        ParentObject: parent.into().unwrap_or(ptr::null_mut()),
        ..Default::default()
    }
}

/// An object of the driver's own, below the device.
unsafe fn parent() -> WDFOBJECT {
    let mut object = ptr::null_mut();
    let mut attributes = below(device().cast());
    let status = ddi!(WdfObjectCreate(&mut attributes, &mut object));
    assert_eq!(status, STATUS_SUCCESS);
    object
}

unsafe fn try_timer(
    callback: unsafe extern "win64" fn(WDFTIMER),
    period: ULONG,
    mut attributes: WDF_OBJECT_ATTRIBUTES,
) -> Result<WDFTIMER, NTSTATUS> {
    let mut config = WDF_TIMER_CONFIG {
        Size: size_of::<WDF_TIMER_CONFIG>() as ULONG,
        EvtTimerFunc: Some(callback),
        Period: period,
        AutomaticSerialization: TRUE,
        ..Default::default()
    };
    let mut timer = ptr::null_mut();
    let status = ddi!(WdfTimerCreate(&mut config, &mut attributes, &mut timer));
    if nt_success(status) {
        Ok(timer)
    } else {
        Err(status)
    }
}

unsafe fn timer(callback: unsafe extern "win64" fn(WDFTIMER), period: ULONG) -> WDFTIMER {
    try_timer(callback, period, below(device().cast())).expect("a timer")
}

unsafe fn passive_timer(
    callback: unsafe extern "win64" fn(WDFTIMER),
    period: ULONG,
) -> Result<WDFTIMER, NTSTATUS> {
    let mut attributes = below(device().cast());
    attributes.ExecutionLevel = _WDF_EXECUTION_LEVEL::WdfExecutionLevelPassive;
    try_timer(callback, period, attributes)
}

unsafe extern "win64" fn expired(_timer: WDFTIMER) {
    record_call("timer");
}

/// It goes off when it is due, give or take what the callbacks themselves take.
unsafe fn a_timer_calls_back_once() {
    unsafe extern "win64" fn expired_at(_timer: WDFTIMER) {
        record_call(&format!("{} ms", sched::now() / 1_000_000 - START.get()));
    }
    thread_local! {
        static START: Cell<u64> = const { Cell::new(0) };
    }
    let timer = timer(expired_at, 0);
    START.set(sched::now() / 1_000_000);
    assert_eq!(ddi!(WdfTimerStart(timer, after_ms(10))), FALSE);
    sleep_ms(5);
    assert!(recorded().is_empty());
    sleep_ms(50);
    assert_eq!(recorded(), ["10 ms at 2"]);
    assert_eq!(ddi!(WdfTimerStop(timer, FALSE)), FALSE);
    assert_eq!(ddi!(WdfTimerGetParentObject(timer)), device().cast());
}

unsafe fn a_started_timer_is_set() {
    let timer = timer(expired, 0);
    assert_eq!(ddi!(WdfTimerStart(timer, after_ms(10))), FALSE);
    assert_eq!(ddi!(WdfTimerStart(timer, after_ms(40))), TRUE);
    sleep_ms(30);
    assert!(recorded().is_empty(), "the first due time is forgotten");
    sleep_ms(30);
    assert_eq!(recorded(), ["timer at 2"]);
    assert_eq!(ddi!(WdfTimerStart(timer, after_ms(10))), FALSE);
    assert_eq!(ddi!(WdfTimerStop(timer, FALSE)), TRUE);
    sleep_ms(30);
    assert!(recorded().is_empty(), "it was stopped in time");
}

unsafe fn timers_expire_in_order() {
    unsafe extern "win64" fn second(_timer: WDFTIMER) {
        record("second");
    }
    unsafe extern "win64" fn first(_timer: WDFTIMER) {
        record("first");
    }
    let (later, sooner) = (timer(second, 0), timer(first, 0));
    ddi!(WdfTimerStart(later, after_ms(20)));
    ddi!(WdfTimerStart(sooner, after_ms(10)));
    sleep_ms(40);
    assert_eq!(recorded(), ["first", "second"]);
}

unsafe fn a_periodic_timer_goes_on() {
    let timer = timer(expired, 10);
    assert_eq!(ddi!(WdfTimerStart(timer, after_ms(30))), FALSE);
    // At 30, 40 and 50 ms.
    sleep_ms(55);
    assert_eq!(recorded(), ["timer at 2"; 3]);
    assert_eq!(ddi!(WdfTimerStop(timer, TRUE)), TRUE);
    sleep_ms(30);
    assert!(recorded().is_empty());
    assert_eq!(ddi!(WdfTimerStop(timer, TRUE)), FALSE);
}

unsafe fn a_timer_can_stop_itself() {
    unsafe extern "win64" fn three_times(timer: WDFTIMER) {
        record_call("timer");
        if !another() {
            assert_eq!(ddi!(WdfTimerStop(timer, FALSE)), TRUE);
        }
    }
    LEFT.set(2);
    let timer = timer(three_times, 10);
    ddi!(WdfTimerStart(timer, after_ms(10)));
    sleep_ms(100);
    assert_eq!(recorded(), ["timer at 2"; 3]);
}

unsafe fn a_timer_at_passive_level() {
    assert_eq!(passive_timer(expired, 10), Err(STATUS_NOT_SUPPORTED));
    let timer = passive_timer(expired, 0).expect("a timer");
    for _ in 0..2 {
        assert_eq!(ddi!(WdfTimerStart(timer, after_ms(10))), FALSE);
        sleep_ms(30);
        assert_eq!(recorded(), ["timer at 0"]);
    }
}

/// Takes 20 ms.
unsafe extern "win64" fn slow(_timer: WDFTIMER) {
    record("begins");
    sleep_ms(20);
    record("ends");
}

unsafe fn stopping_a_timer_can_wait() {
    let timer = passive_timer(slow, 0).expect("a timer");
    ddi!(WdfTimerStart(timer, after_ms(10)));
    sleep_ms(15);
    assert_eq!(recorded(), ["begins"]);
    // Too late to stop it, and without waiting that is all there is to say.
    assert_eq!(ddi!(WdfTimerStop(timer, FALSE)), FALSE);
    assert!(recorded().is_empty());
    assert_eq!(ddi!(WdfTimerStop(timer, TRUE)), FALSE);
    assert_eq!(recorded(), ["ends"]);
    // Stopped in time there is nothing to wait for.
    ddi!(WdfTimerStart(timer, after_ms(10)));
    assert_eq!(ddi!(WdfTimerStop(timer, TRUE)), TRUE);
    sleep_ms(30);
    assert!(recorded().is_empty());
}

unsafe fn a_timer_that_waits_for_itself() {
    unsafe extern "win64" fn waits(timer: WDFTIMER) {
        let stopped = ddi!(WdfTimerStop(timer, TRUE));
        record(format!("stopped {stopped}"));
    }
    let timer = passive_timer(waits, 0).expect("a timer");
    ddi!(WdfTimerStart(timer, after_ms(10)));
    sleep_ms(30);
    assert_eq!(recorded(), ["stopped 0"]);
}

unsafe fn a_timer_ends_with_its_parent() {
    let parent = parent();
    let periodic = try_timer(expired, 10, below(parent)).expect("a timer");
    let mut attributes = below(parent);
    attributes.ExecutionLevel = _WDF_EXECUTION_LEVEL::WdfExecutionLevelPassive;
    let passive = try_timer(slow, 0, attributes).expect("a timer");
    ddi!(WdfTimerStart(periodic, after_ms(100)));
    ddi!(WdfTimerStart(passive, after_ms(10)));
    sleep_ms(15);
    assert_eq!(recorded(), ["begins"]);
    ddi!(WdfObjectDelete(parent));
    assert_eq!(
        recorded(),
        ["ends"],
        "the callback under way was waited for"
    );
    sleep_ms(200);
    assert!(recorded().is_empty());
}

unsafe fn a_timer_needs_a_parent() {
    let refused = try_timer(expired, 0, below(None));
    assert_eq!(refused, Err(STATUS_WDF_PARENT_NOT_SPECIFIED));
}

unsafe extern "win64" fn deferred(_dpc: WDFDPC) {
    record_call("dpc");
}

unsafe fn dpc(parent: WDFOBJECT) -> WDFDPC {
    let mut config = WDF_DPC_CONFIG {
        Size: size_of::<WDF_DPC_CONFIG>() as ULONG,
        EvtDpcFunc: Some(deferred),
        AutomaticSerialization: TRUE,
    };
    let (mut attributes, mut dpc) = (below(parent), ptr::null_mut());
    let status = ddi!(WdfDpcCreate(&mut config, &mut attributes, &mut dpc));
    assert_eq!(status, STATUS_SUCCESS);
    dpc
}

unsafe fn a_dpc_runs_once() {
    let dpc = dpc(device().cast());
    let irql = KfRaiseIrql(DISPATCH_LEVEL as KIRQL);
    assert_eq!(ddi!(WdfDpcEnqueue(dpc)), TRUE);
    assert_eq!(ddi!(WdfDpcEnqueue(dpc)), FALSE);
    assert!(recorded().is_empty(), "not above DISPATCH_LEVEL's callers");
    KeLowerIrql(irql);
    assert_eq!(recorded(), ["dpc at 2"]);
    assert_eq!(ddi!(WdfDpcEnqueue(dpc)), TRUE, "it can be queued again");
    // Queued and run, or queued and taken out: afterwards it does not run.
    let cancelled = ddi!(WdfDpcCancel(dpc, TRUE));
    assert_eq!(recorded().len(), usize::from(cancelled == FALSE));
    assert_eq!(ddi!(WdfDpcGetParentObject(dpc)), device().cast());
}

unsafe fn a_queued_dpc_can_be_cancelled() {
    let dpc = dpc(device().cast());
    let irql = KfRaiseIrql(DISPATCH_LEVEL as KIRQL);
    assert_eq!(ddi!(WdfDpcCancel(dpc, FALSE)), FALSE);
    ddi!(WdfDpcEnqueue(dpc));
    assert_eq!(ddi!(WdfDpcCancel(dpc, FALSE)), TRUE);
    KeLowerIrql(irql);
    sleep_ms(1);
    assert!(recorded().is_empty());
}

unsafe fn a_dpc_ends_with_its_parent() {
    let parent = parent();
    let dpc = dpc(parent);
    ddi!(WdfDpcEnqueue(dpc));
    ddi!(WdfObjectDelete(parent));
    assert_eq!(recorded(), ["dpc at 2"]);
    sleep_ms(10);
    assert!(recorded().is_empty());
}

unsafe fn work_item(
    callback: unsafe extern "win64" fn(WDFWORKITEM),
    parent: WDFOBJECT,
) -> WDFWORKITEM {
    let mut config = WDF_WORKITEM_CONFIG {
        Size: size_of::<WDF_WORKITEM_CONFIG>() as ULONG,
        EvtWorkItemFunc: Some(callback),
        AutomaticSerialization: TRUE,
    };
    let (mut attributes, mut item) = (below(parent), ptr::null_mut());
    let status = ddi!(WdfWorkItemCreate(&mut config, &mut attributes, &mut item));
    assert_eq!(status, STATUS_SUCCESS);
    item
}

unsafe extern "win64" fn work(_item: WDFWORKITEM) {
    record_call("work");
}

unsafe fn a_work_item_runs_once() {
    let item = work_item(work, device().cast());
    // Nothing runs below DISPATCH_LEVEL on this processor, and where there is one only, nowhere.
    let irql = KfRaiseIrql(DISPATCH_LEVEL as KIRQL);
    ddi!(WdfWorkItemEnqueue(item));
    let before = recorded();
    ddi!(WdfWorkItemEnqueue(item));
    KeLowerIrql(irql);
    ddi!(WdfWorkItemFlush(item));
    assert_eq!((before, recorded()), (vec![], vec!["work at 0".to_owned()]));
    ddi!(WdfWorkItemFlush(item));
    assert!(recorded().is_empty(), "nothing to wait for");
    assert_eq!(ddi!(WdfWorkItemGetParentObject(item)), device().cast());
}

unsafe fn a_work_item_can_queue_itself() {
    unsafe extern "win64" fn again(item: WDFWORKITEM) {
        record_call("work");
        if another() {
            ddi!(WdfWorkItemEnqueue(item));
        }
        sleep_ms(5);
    }
    LEFT.set(2);
    let item = work_item(again, device().cast());
    ddi!(WdfWorkItemEnqueue(item));
    ddi!(WdfWorkItemFlush(item));
    assert_eq!(recorded(), ["work at 0"; 3]);
}

unsafe fn a_work_item_that_flushes_itself() {
    unsafe extern "win64" fn flushes(item: WDFWORKITEM) {
        ddi!(WdfWorkItemFlush(item));
        record("went on");
    }
    let item = work_item(flushes, device().cast());
    ddi!(WdfWorkItemEnqueue(item));
    ddi!(WdfWorkItemFlush(item));
    assert_eq!(recorded(), ["went on"]);
}

unsafe fn a_work_item_ends_with_its_parent() {
    unsafe extern "win64" fn takes_its_time(_item: WDFWORKITEM) {
        sleep_ms(20);
        record_call("work");
    }
    let parent = parent();
    let item = work_item(takes_its_time, parent);
    ddi!(WdfWorkItemEnqueue(item));
    ddi!(WdfObjectDelete(parent));
    assert_eq!(recorded(), ["work at 0"]);
}
