//! Work items, run by system worker threads.

use crate::bugcheck::{self, Stop, code, stop_machine};
use crate::counters;
use crate::entry::{borrow, enter_with, routine, verifier};
use crate::ex::pool::{self, Pool};
use crate::ke::stack::driver_call;
use crate::ob;
use crate::sched::{self, DISPATCH_LEVEL, Kind, PASSIVE_LEVEL, with};
use nt_sys::{
    PDEVICE_OBJECT, PIO_WORKITEM, PIO_WORKITEM_ROUTINE, PIO_WORKITEM_ROUTINE_EX, WORK_QUEUE_TYPE,
};
use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, PoisonError};

const TAG: u32 = u32::from_le_bytes(*b"IoWi");
/// Worker threads at most: more items than that wait for one to finish, as in Windows.
const WORKERS: usize = 4;

/// IO_WORKITEM, whose layout drivers do not know.
#[repr(C)]
struct Item {
    device: PDEVICE_OBJECT,
    queued: bool,
}

#[derive(Clone, Copy)]
enum Routine {
    Plain(PIO_WORKITEM_ROUTINE),
    Extended(PIO_WORKITEM_ROUTINE_EX),
}

struct Work {
    item: usize,
    device: usize,
    routine: Routine,
    context: usize,
}

struct Workers {
    queue: std::collections::VecDeque<Work>,
    running: usize,
}

static STATE: Mutex<Workers> = Mutex::new(Workers {
    queue: std::collections::VecDeque::new(),
    running: 0,
});

fn state() -> MutexGuard<'static, Workers> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// IoAllocateWorkItem. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// `device` is a device object.
pub unsafe extern "win64" fn IoAllocateWorkItem(device: PDEVICE_OBJECT) -> PIO_WORKITEM {
    let _inside = enter_with("IoAllocateWorkItem", DISPATCH_LEVEL, device.addr());
    let Some(block) = pool::allocate(Pool::NonPaged, size_of::<Item>(), TAG) else {
        return std::ptr::null_mut();
    };
    let item = Item {
        device,
        queued: false,
    };
    // SAFETY: a fresh block of this size.
    unsafe { block.cast::<Item>().write(item) };
    block.cast()
}

/// IoFreeWorkItem. IRQL <= DISPATCH_LEVEL. One that is still queued is 0xC4, 0x16.
///
/// # Safety
/// `item` is from [`IoAllocateWorkItem`].
pub unsafe extern "win64" fn IoFreeWorkItem(item: PIO_WORKITEM) {
    let _inside = enter_with("IoFreeWorkItem", DISPATCH_LEVEL, item.addr());
    // SAFETY: by the caller's promise.
    if unsafe { borrow(item.cast::<Item>(), "IoFreeWorkItem") }.queued {
        let explanation = format!("work item {item:p} is freed while it is queued");
        verifier([0x16, 0, item.addr() as u64, 0], explanation);
    }
    // SAFETY: by the caller's promise.
    unsafe { pool::free(item.cast()) };
}

/// IoQueueWorkItem. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// `item` is from [`IoAllocateWorkItem`]; the routine may be called with `context`.
pub unsafe extern "win64" fn IoQueueWorkItem(
    item: PIO_WORKITEM,
    worker: PIO_WORKITEM_ROUTINE,
    _queue: WORK_QUEUE_TYPE,
    context: *mut c_void,
) {
    let _inside = enter_with("IoQueueWorkItem", DISPATCH_LEVEL, item.addr());
    // SAFETY: by the caller's promise.
    unsafe { queue(item, Routine::Plain(worker), context) };
}

/// IoQueueWorkItemEx. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// As [`IoQueueWorkItem`].
pub unsafe extern "win64" fn IoQueueWorkItemEx(
    item: PIO_WORKITEM,
    worker: PIO_WORKITEM_ROUTINE_EX,
    _queue: WORK_QUEUE_TYPE,
    context: *mut c_void,
) {
    let _inside = enter_with("IoQueueWorkItemEx", DISPATCH_LEVEL, item.addr());
    // SAFETY: by the caller's promise.
    unsafe { queue(item, Routine::Extended(worker), context) };
}

/// Queues an item; the device object is referenced until the routine has run.
///
/// # Safety
/// As [`IoQueueWorkItem`].
unsafe fn queue(item: PIO_WORKITEM, routine: Routine, context: *mut c_void) {
    // SAFETY: by the caller's promise.
    let object = unsafe { borrow(item.cast::<Item>(), "IoQueueWorkItem") };
    if std::mem::replace(&mut object.queued, true) {
        stop_machine(
            Stop::Internal,
            format!("work item {item:p} is queued, but it is queued already"),
        );
    }
    let device = object.device;
    // SAFETY: the device of a work item is a device object.
    unsafe { ob::reference(device.cast()) };
    let mut state = state();
    state.queue.push_back(Work {
        item: item.expose_provenance(),
        device: device.expose_provenance(),
        routine,
        context: context.expose_provenance(),
    });
    if state.running < WORKERS {
        state.running += 1;
        drop(state);
        sched::spawn("system worker", Kind::System, work_off);
    }
}

/// The body of a worker thread: runs what is queued, then ends.
fn work_off() {
    loop {
        let mut state = state();
        let Some(work) = state.queue.pop_front() else {
            state.running -= 1;
            return;
        };
        drop(state);
        run(&work);
    }
}

fn run(work: &Work) {
    let item: PIO_WORKITEM = std::ptr::with_exposed_provenance_mut(work.item);
    let device: PDEVICE_OBJECT = std::ptr::with_exposed_provenance_mut(work.device);
    let context: *mut c_void = std::ptr::with_exposed_provenance_mut(work.context);
    // SAFETY: an item that is queued is not freed.
    unsafe { borrow(item.cast::<Item>(), "IopProcessWorkItem") }.queued = false;
    counters().work_items.increment();
    crate::trace::record("work item", work.item as u64);
    let address = match work.routine {
        Routine::Plain(worker) => {
            let worker = routine(worker, "IoQueueWorkItem");
            driver_call(|| {
                // SAFETY: by the promise of whoever queued the item.
                unsafe { worker(device, context) }
            });
            worker as usize
        }
        Routine::Extended(worker) => {
            let worker = routine(worker, "IoQueueWorkItemEx");
            driver_call(|| {
                // SAFETY: as above.
                unsafe { worker(device.cast(), context, item) }
            });
            worker as usize
        }
    };
    let (irql, regions) = (sched::irql(), with(|k| k.current_thread().critical_regions));
    if irql != PASSIVE_LEVEL || regions != 0 {
        let parameters = [
            address as u64,
            irql.into(),
            work.item as u64,
            work.item as u64,
        ];
        let explanation =
            format!("a work item returned at IRQL {irql}, in {regions} critical regions");
        bugcheck::stop(
            code::WORKER_THREAD_RETURNED_AT_BAD_IRQL,
            parameters,
            explanation,
        );
    }
    // SAFETY: the reference taken when the item was queued.
    unsafe { ob::dereference(device.cast()) };
}
