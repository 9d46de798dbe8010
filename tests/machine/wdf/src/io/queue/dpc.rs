//! The DPC that dispatches a queue's events for a thread that may not do it itself (it holds the callback lock).

use std::cell::UnsafeCell;
use std::sync::Arc;

use crate::flat::*;
use machine_nt::exports::{KeFlushQueuedDpcs, KeGetCurrentIrql, KeInitializeDpc, KeInsertQueueDpc};
use machine_nt::ke::stack::machine_code;

use super::Queue;

/// A DPC at an address that never changes.
pub(super) struct DispatchDpc(Box<UnsafeCell<KDPC>>);

// SAFETY: the kernel serialises access to the DPC object.
unsafe impl Send for DispatchDpc {}
// SAFETY: as above.
unsafe impl Sync for DispatchDpc {}

impl DispatchDpc {
    /// A DPC bound to nothing yet.
    pub(super) fn new() -> Self {
        // SAFETY: all-zero bytes are a valid value of this plain structure, initialised by `bind`.
        Self(Box::new(UnsafeCell::new(unsafe { std::mem::zeroed() })))
    }

    /// Binds the DPC to its queue, which owns it.
    pub(super) fn bind(&self, queue: &Arc<Queue>) {
        // SAFETY: the queue outlives its DPC: disposal waits for it.
        unsafe {
            KeInitializeDpc(
                self.0.get(),
                Some(deferred),
                Arc::as_ptr(queue).cast_mut().cast(),
            )
        };
    }

    /// Queues the DPC.
    pub(super) fn insert(&self) {
        // SAFETY: initialised by `bind`.
        unsafe { KeInsertQueueDpc(self.0.get(), std::ptr::null_mut(), std::ptr::null_mut()) };
    }

    /// Waits until the DPC is not running. `PASSIVE_LEVEL`.
    pub(super) fn flush(&self) {
        // SAFETY: disposal happens at PASSIVE_LEVEL or with the DPC never queued.
        if unsafe { KeGetCurrentIrql() } == PASSIVE_LEVEL as KIRQL {
            // SAFETY: at PASSIVE_LEVEL.
            unsafe { KeFlushQueuedDpcs() };
        }
    }
}

unsafe extern "win64" fn deferred(_dpc: PKDPC, queue: PVOID, _argument1: PVOID, _argument2: PVOID) {
    let _inside = machine_code();
    // SAFETY: bound to a queue that outlives the DPC.
    let queue = unsafe { &*queue.cast::<Queue>() };
    queue.dispatch_deferred();
}
