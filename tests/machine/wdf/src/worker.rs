//! Work the framework does at `PASSIVE_LEVEL` on a system thread (`FxSystemWorkItem`, `FxDisposeList`).

use std::collections::VecDeque;
use std::ffi::c_void;

use crate::flat::*;
use machine_nt::exports::{IoAllocateWorkItem, IoFreeWorkItem, IoQueueWorkItem};
use machine_nt::ke::stack::machine_code;

use crate::lock::{Event, Ptr, Record};

type Work = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    work: VecDeque<Work>,
    busy: bool,
}

/// A work item that runs any number of pieces of work in the order they were given.
pub(crate) struct Worker {
    item: Ptr<c_void>,
    state: Record<State>,
    idle: Event,
}

impl Worker {
    /// A worker in the name of a device or driver object. `None` without memory.
    pub(crate) fn new(object: *mut c_void) -> Option<Self> {
        // SAFETY: a device or driver object of the driver, which outlives the worker.
        let item = unsafe { IoAllocateWorkItem(object.cast()) };
        if item.is_null() {
            return None;
        }
        let idle = Event::new();
        idle.set();
        Some(Self {
            item: Ptr(item.cast()),
            state: Record::default(),
            idle,
        })
    }

    /// Has `work` done on a system thread. IRQL <= `DISPATCH_LEVEL`. The worker must live until it is done.
    pub(crate) fn run(&self, work: impl FnOnce() + Send + 'static) {
        let start = self.state.with(|state| {
            state.work.push_back(Box::new(work));
            !std::mem::replace(&mut state.busy, true)
        });
        if start {
            self.idle.clear();
            let context = std::ptr::from_ref(self).cast_mut().cast::<c_void>();
            // SAFETY: the item is not queued (it was idle), and `self` stays until the work is done.
            unsafe {
                IoQueueWorkItem(
                    self.item.0.cast(),
                    Some(work_item),
                    DelayedWorkQueue,
                    context.cast(),
                )
            };
        }
    }

    /// Waits until nothing is left to do. `PASSIVE_LEVEL`, not from the work itself.
    pub(crate) fn wait_until_idle(&self) {
        while self.state.with(|state| state.busy) {
            self.idle.wait(None);
        }
    }

    fn drain(&self) {
        loop {
            let next = self.state.with(|state| {
                let next = state.work.pop_front();
                state.busy = next.is_some();
                next
            });
            match next {
                Some(work) => work(),
                None => break,
            }
        }
        self.idle.set();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // SAFETY: allocated in `new`; a worker is dropped only when it is idle.
        unsafe { IoFreeWorkItem(self.item.0.cast()) };
    }
}

unsafe extern "win64" fn work_item(_object: PDEVICE_OBJECT, context: PVOID) {
    let _inside = machine_code();
    // SAFETY: the worker that queued the item; it stays until the work is done.
    let worker = unsafe { &*context.cast::<Worker>() };
    worker.drain();
}
