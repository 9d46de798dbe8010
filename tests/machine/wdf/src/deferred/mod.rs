//! What a driver has done later: DPCs, timers, work items.

use std::sync::Arc;

use crate::flat::*;
use crate::globals::DriverGlobals;
use crate::io::queue::Queue;
use crate::lock::CallbackLock;
use crate::object::attributes::Rules;
use crate::object::{self, Attributes, Kind, Object, handle};
use crate::verifier;

pub(crate) mod dpc;
pub(crate) mod timer;
pub(crate) mod work_item;

/// The attributes of an object that must have a parent, and that parent.
///
/// # Errors
/// Those of the attributes, `STATUS_WDF_PARENT_NOT_SPECIFIED` among them.
///
/// # Safety
/// `attributes` is null or points to the driver's structure.
unsafe fn attributes(
    globals: &'static DriverGlobals,
    attributes: PWDF_OBJECT_ATTRIBUTES,
    rules: Rules,
) -> Result<(Attributes, Arc<dyn Object>), NTSTATUS> {
    // SAFETY: the caller's promise.
    let checked = unsafe { Attributes::check(globals, attributes, rules) }?;
    let attributes = checked.ok_or(STATUS_WDF_PARENT_NOT_SPECIFIED)?;
    let parent = attributes
        .parent_handle()
        .ok_or(STATUS_WDF_PARENT_NOT_SPECIFIED)?;
    Ok((attributes, handle::any(globals, parent)))
}

/// The lock under which a callback runs with automatic serialization (`_GetEffectiveLock`): the one of the nearest queue
/// or device. None without serialization, and where those callbacks are not serialised either.
///
/// # Errors
/// `STATUS_INVALID_DEVICE_REQUEST` without a device above, `STATUS_WDF_INCOMPATIBLE_EXECUTION_LEVEL` if the lock is for
/// another execution level than the callback's.
fn callback_lock(
    parent: &Arc<dyn Object>,
    automatic: bool,
    passive: bool,
) -> Result<Option<Arc<CallbackLock>>, NTSTATUS> {
    let device = object::search_for_device(parent).ok_or(STATUS_INVALID_DEVICE_REQUEST)?;
    if !automatic {
        return Ok(None);
    }
    let globals = device.globals();
    let (lock, lock_passive) = match nearest_queue(parent) {
        Some(queue) => (queue.callback_lock(), queue.is_passive()),
        None => {
            let passive = device.constraints().0 == WdfExecutionLevelPassive;
            (device.callback_lock(), passive)
        }
    };
    if lock.is_some() && lock_passive != passive {
        verifier::break_point(globals);
        return Err(STATUS_WDF_INCOMPATIBLE_EXECUTION_LEVEL);
    }
    Ok(lock)
}

fn nearest_queue(object: &Arc<dyn Object>) -> Option<Arc<Queue>> {
    let mut current = Some(object.clone());
    while let Some(object) = current {
        let header = object.header();
        match header.kind() {
            Kind::Queue => return Some(handle::get(header.globals(), header.handle())),
            Kind::Device => return None,
            _ => current = header.parent(),
        }
    }
    None
}

/// The handle of an object's parent; NULL when there is none any more.
fn parent_of(object: &dyn Object) -> WDFOBJECT {
    let parent = object.header().parent();
    parent.map_or(0, |parent| parent.header().handle()) as WDFOBJECT
}
