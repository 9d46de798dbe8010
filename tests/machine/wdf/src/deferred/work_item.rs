//! WDFWORKITEM (`fxworkitem.cpp`, `fxworkitemapi.cpp`).

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use machine_nt::exports::{
    IoAllocateWorkItem, IoFreeWorkItem, IoQueueWorkItem, KeGetCurrentThread,
};
use machine_nt::ke::stack::machine_code;

use super::{attributes, callback_lock, parent_of};
use crate::flat::*;
use crate::globals::DriverGlobals;
use crate::lock::{CallbackLock, Event, Ptr, Record, serialized};
use crate::object::attributes::Rules;
use crate::object::{self, Header, Held, Kind, Object, Parent, Typed, handle};
use crate::{trace, verifier};

/// How long a wait is before the framework says so: 60 s in units of 100 ns.
const WAIT_REPORT: i64 = 600_000_000;

#[derive(Default)]
struct State {
    enqueued: bool,
    running: u32,
    running_down: bool,
}

/// A work item of the driver.
pub(crate) struct WorkItem {
    header: Header,
    item: Ptr<c_void>,
    callback: unsafe extern "win64" fn(WDFWORKITEM),
    lock: Option<Arc<CallbackLock>>,
    state: Record<State>,
    done: Event,
    thread: AtomicPtr<_KTHREAD>,
}

impl Object for WorkItem {
    fn header(&self) -> &Header {
        &self.header
    }

    fn dispose(&self) {
        self.state.with(|state| state.running_down = true);
        if !self.is_own_thread() {
            self.wait();
        }
    }
}

impl Typed for WorkItem {
    const KIND: Kind = Kind::WorkItem;
}

impl Drop for WorkItem {
    fn drop(&mut self) {
        // SAFETY: allocated in `create`; whoever runs holds a reference, so the item is idle.
        unsafe { IoFreeWorkItem(self.item.0.cast()) };
    }
}

impl WorkItem {
    fn is_own_thread(&self) -> bool {
        // SAFETY: callable at any IRQL.
        let thread = unsafe { KeGetCurrentThread() };
        self.thread.load(Ordering::SeqCst) == thread
    }

    fn wait(&self) {
        while !self.done.wait(Some(WAIT_REPORT)) {
            let text = format!(
                "a thread is waiting for WDFWORKITEM {:#x}",
                self.header.handle()
            );
            trace::warning(self.header.globals(), &text);
        }
    }

    fn enqueue(self: &Arc<Self>) {
        let refused = self.state.with(|state| {
            let refused = state.running_down && !state.enqueued;
            let start = !state.enqueued && !state.running_down;
            state.enqueued |= start;
            if start { None } else { Some(refused) }
        });
        match refused {
            None => {
                self.done.clear();
                let context = Box::into_raw(Box::new(Held::new(self)));
                let item = self.item.0.cast();
                // SAFETY: the item is not queued; the context is the routine's to free.
                unsafe { IoQueueWorkItem(item, Some(routine), DelayedWorkQueue, context.cast()) };
            }
            Some(true) => verifier::break_point(self.header.globals()),
            Some(false) => {}
        }
    }

    fn run(&self) {
        // SAFETY: callable at any IRQL.
        let thread = unsafe { KeGetCurrentThread() };
        self.thread.store(thread, Ordering::SeqCst);
        self.state.with(|state| {
            state.enqueued = false;
            state.running += 1;
        });
        let (callback, value) = (self.callback, self.header.handle() as WDFWORKITEM);
        // SAFETY: the driver registered the callback.
        serialized(self.lock.as_deref(), || unsafe { callback(value) });
        let idle = self.state.with(|state| {
            state.running -= 1;
            state.running == 0 && !state.enqueued
        });
        if idle {
            self.done.set();
        }
        self.thread.store(std::ptr::null_mut(), Ordering::SeqCst);
    }
}

unsafe extern "win64" fn routine(_object: PDEVICE_OBJECT, context: PVOID) {
    let _inside = machine_code();
    // SAFETY: made by `enqueue` for this run.
    let item = unsafe { Box::from_raw(context.cast::<Held<WorkItem>>()) };
    item.run();
}

fn create(
    globals: &'static DriverGlobals,
    config: &WDF_WORKITEM_CONFIG,
    given: PWDF_OBJECT_ATTRIBUTES,
) -> Result<usize, NTSTATUS> {
    // SAFETY: null or the driver's structure.
    let (attributes, parent) = unsafe { attributes(globals, given, Rules::PARENT_REQUIRED) }?;
    if config.Size as usize != size_of::<WDF_WORKITEM_CONFIG>() {
        return Err(STATUS_INFO_LENGTH_MISMATCH);
    }
    let callback = config.EvtWorkItemFunc.ok_or(STATUS_INVALID_PARAMETER)?;
    let device = object::search_for_device(&parent).ok_or(STATUS_INVALID_DEVICE_REQUEST)?;
    let lock = callback_lock(&parent, config.AutomaticSerialization != 0, true)?;
    // SAFETY: the device's object, which outlives what is below the device.
    let item = unsafe { IoAllocateWorkItem(device.function_object()) };
    if item.is_null() {
        return Err(STATUS_INSUFFICIENT_RESOURCES);
    }
    let item = Arc::new(WorkItem {
        header: Header::new(Kind::WorkItem, globals),
        item: Ptr(item.cast()),
        callback,
        lock,
        state: Record::default(),
        done: Event::new(),
        thread: AtomicPtr::default(),
    });
    item.done.set();
    item.header.mark_passive_callbacks();
    object::commit(&item, Some(&attributes), Parent::Object(parent))
}

/// Creates a work item. IRQL <= `DISPATCH_LEVEL`.
///
/// Errors: those of the attributes (a parent is required), `STATUS_INFO_LENGTH_MISMATCH`, `STATUS_INVALID_PARAMETER` (no
/// callback), `STATUS_INVALID_DEVICE_REQUEST` (no device above), `STATUS_WDF_INCOMPATIBLE_EXECUTION_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfWorkItemCreate(
    globals: PWDF_DRIVER_GLOBALS,
    config: PWDF_WORKITEM_CONFIG,
    given: PWDF_OBJECT_ATTRIBUTES,
    place: *mut WDFWORKITEM,
) -> NTSTATUS {
    let globals = DriverGlobals::from_ddi(globals);
    verifier::not_null(globals, config, "Config");
    verifier::not_null(globals, place, "WorkItem");
    // SAFETY: checked not to be null.
    match create(globals, unsafe { &*config }, given) {
        Ok(value) => {
            // SAFETY: checked not to be null.
            unsafe { place.write(value as WDFWORKITEM) };
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

/// Queues a work item unless it is queued. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfWorkItemEnqueue(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFWORKITEM,
) {
    handle::get::<WorkItem>(DriverGlobals::from_ddi(globals), value as usize).enqueue();
}

/// The parent. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfWorkItemGetParentObject(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFWORKITEM,
) -> WDFOBJECT {
    parent_of(&*handle::get::<WorkItem>(
        DriverGlobals::from_ddi(globals),
        value as usize,
    ))
}

/// Waits until a work item is neither queued nor running. `PASSIVE_LEVEL`, not from its own callback.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfWorkItemFlush(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFWORKITEM,
) {
    let globals = DriverGlobals::from_ddi(globals);
    let item: Arc<WorkItem> = handle::get(globals, value as usize);
    if verifier::check_irql(globals, PASSIVE_LEVEL).is_err() {
        return;
    }
    if item.is_own_thread() {
        return verifier::break_point(globals);
    }
    item.wait();
}
