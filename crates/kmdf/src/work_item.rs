//! Work that is done later, at PASSIVE_LEVEL.

use wdk_sys::{WDF_WORKITEM_CONFIG, WDFWORKITEM};

use crate::context;
use crate::device::{self, Device, DeviceEvents};
use crate::versioned::size;
use crate::{NtStatus, Result, ddi};

/// What a device does when its work item's turn has come.
pub trait WorkEvents: DeviceEvents {
    /// `EvtWorkItem`. PASSIVE_LEVEL. One call may stand for several times that it was [queued](WorkItem::queue).
    fn work(&self);
}

/// A work item of a device. The framework deletes it with its device.
#[derive(Debug)]
pub struct WorkItem {
    raw: WDFWORKITEM,
}

// SAFETY: the handle belongs to no thread.
unsafe impl Send for WorkItem {}

// SAFETY: the functions called through a shared handle may be called by several threads at once.
unsafe impl Sync for WorkItem {}

impl WorkItem {
    /// Makes a work item. PASSIVE_LEVEL.
    ///
    /// # Errors
    ///
    /// What `WdfWorkItemCreate` returns.
    pub fn create<T: WorkEvents>(device: &Device<T>) -> Result<Self> {
        let mut config = WDF_WORKITEM_CONFIG {
            Size: size::<WDF_WORKITEM_CONFIG>(),
            EvtWorkItemFunc: Some(work::<T>),
            ..WDF_WORKITEM_CONFIG::default()
        };
        let mut attributes = context::plain_attributes();
        attributes.ParentObject = device.raw().cast();
        let mut item = core::ptr::null_mut();
        // SAFETY: the structures are valid, and all live across the call.
        let status =
            unsafe { ddi::WdfWorkItemCreate(&raw mut config, &raw mut attributes, &raw mut item) };
        NtStatus::from_code(status).ok()?;
        Ok(Self { raw: item })
    }

    /// Has the work done soon. IRQL <= DISPATCH_LEVEL.
    pub fn queue(&self) {
        // SAFETY: the work item is valid.
        unsafe { ddi::WdfWorkItemEnqueue(self.raw) };
    }

    /// Waits until what was queued has been done. PASSIVE_LEVEL; not in the work itself.
    pub fn flush(&self) {
        // SAFETY: the work item is valid.
        unsafe { ddi::WdfWorkItemFlush(self.raw) };
    }
}

unsafe extern "C" fn work<T: WorkEvents>(item: WDFWORKITEM) {
    // SAFETY: the work item is valid during its callback.
    let device = unsafe { ddi::WdfWorkItemGetParentObject(item) };
    // SAFETY: the device outlives its work item.
    if let Some(context) = unsafe { device::context::<T>(device.cast()) } {
        context.work();
    }
}
