//! `WdfIoQueue*` (`fxioqueueapi.cpp`).

use std::sync::Arc;

use crate::flat::*;

use super::control::notification;
use super::{PowerState, Queue, create};
use crate::device::Device;
use crate::globals::DriverGlobals;
use crate::io::file::FileObject;
use crate::io::request::Request;
use crate::io::request::api::fill;
use crate::object::attributes::Rules;
use crate::object::{self, Attributes, Object, Parent, handle};
use crate::wdm::status_of;
use crate::{trace, verifier};

fn queue(globals: PWDF_DRIVER_GLOBALS, value: WDFQUEUE) -> Arc<Queue> {
    handle::get(DriverGlobals::from_ddi(globals), value as usize)
}

/// Creates a queue; parent: the device, or what the attributes name below it. IRQL <= `DISPATCH_LEVEL`.
///
/// Errors: those of the attributes; `STATUS_INFO_LENGTH_MISMATCH`, `STATUS_INVALID_PARAMETER_4` (no place for the handle of a queue that is not
/// the default), `STATUS_INVALID_DEVICE_STATE` (a default queue after EvtDriverDeviceAdd), `STATUS_UNSUCCESSFUL` (a second default queue),
/// `STATUS_WDF_NO_CALLBACK`, `STATUS_INVALID_PARAMETER`, `STATUS_INVALID_DEVICE_REQUEST` (a parent that is not below the device).
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfIoQueueCreate(
    globals: PWDF_DRIVER_GLOBALS,
    device: WDFDEVICE,
    config: PWDF_IO_QUEUE_CONFIG,
    attributes: PWDF_OBJECT_ATTRIBUTES,
    place: *mut WDFQUEUE,
) -> NTSTATUS {
    let globals = DriverGlobals::from_ddi(globals);
    let device: Arc<Device> = handle::get(globals, device as usize);
    verifier::not_null(globals, config, "Config");
    // SAFETY: null or the driver's structure.
    let attributes = match unsafe { Attributes::check(globals, attributes, Rules::CALLBACKS) } {
        Ok(attributes) => attributes,
        Err(status) => return status,
    };
    // SAFETY: checked not to be null; the driver's structure.
    let config = match unsafe { create::normalize(config) } {
        Ok(config) => config,
        Err(status) => {
            trace::error(globals, "WDF_IO_QUEUE_CONFIG has a wrong size");
            return status;
        }
    };
    match make(&device, &config, attributes.as_ref(), place.is_null()) {
        Ok(queue) => {
            if !place.is_null() {
                // SAFETY: the driver's variable.
                unsafe { place.write(queue.handle()) };
            }
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

fn make(
    device: &Arc<Device>,
    config: &WDF_IO_QUEUE_CONFIG,
    attributes: Option<&Attributes>,
    nameless: bool,
) -> Result<Arc<Queue>, NTSTATUS> {
    let default = config.DefaultQueue != 0;
    if !default && nameless {
        return Err(STATUS_INVALID_PARAMETER_4);
    }
    if default && !device.pnp.is_initial() {
        return Err(STATUS_INVALID_DEVICE_STATE);
    }
    let parent = match attributes.and_then(Attributes::parent_handle) {
        None => Parent::Object(device.clone()),
        Some(parent) => {
            let parent = handle::any(device.globals(), parent);
            let above = object::search_for_device(&parent);
            if !above.is_some_and(|above| Arc::ptr_eq(&above, device)) {
                return Err(STATUS_INVALID_DEVICE_REQUEST);
            }
            Parent::Object(parent)
        }
    };
    let queue = super::create(device, config, attributes, parent, device.io.is_powered())?;
    if default && let Err(status) = device.io.set_default(&queue) {
        object::delete_failed(queue);
        return Err(status);
    }
    Ok(queue)
}

/// The queue's state and how many requests it and the driver have. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfIoQueueGetState(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFQUEUE,
    queued: PULONG,
    owned: PULONG,
) -> WDF_IO_QUEUE_STATE {
    let queue = queue(globals, value);
    let state = queue.lock();
    let (waiting, driver) = (state.pending.len(), state.driver_count);
    let flags = [
        (state.accepting, WdfIoQueueAcceptRequests),
        (state.dispatching_allowed, WdfIoQueueDispatchRequests),
        (waiting == 0, WdfIoQueueNoRequests),
        (driver == 0, WdfIoQueueDriverNoRequests),
        (
            queue.power_managed && state.power != PowerState::On,
            WdfIoQueuePnpHeld,
        ),
    ];
    drop(state);
    for (place, count) in [(queued, waiting), (owned, driver)] {
        if !place.is_null() {
            // SAFETY: the driver's variable.
            unsafe { place.write(count as ULONG) };
        }
    }
    flags
        .into_iter()
        .filter(|(set, _)| *set)
        .fold(0, |all, (_, flag)| all | flag)
}

/// The device of a queue. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfIoQueueGetDevice(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFQUEUE,
) -> WDFDEVICE {
    queue(globals, value).device().handle()
}

/// Accepts and delivers again. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfIoQueueStart(globals: PWDF_DRIVER_GLOBALS, value: WDFQUEUE) {
    queue(globals, value).start();
}

macro_rules! asynchronous {
    ($($(#[$doc:meta])* $name:ident($method:ident, $cancel:literal);)*) => {
        $(
            $(#[$doc])*
            ///
            /// IRQL <= `DISPATCH_LEVEL`. A second call before the first is finished is ignored, with a verifier break.
            ///
            /// # Safety
            /// As the KMDF documentation says of the DDI.
            pub(crate) unsafe extern "win64" fn $name(
                globals: PWDF_DRIVER_GLOBALS,
                value: WDFQUEUE,
                done: PFN_WDF_IO_QUEUE_STATE,
                context: WDFCONTEXT,
            ) {
                let queue = queue(globals, value);
                if queue.$method($cancel, notification(done, context)).is_err() {
                    verifier::break_point(queue.globals());
                }
            }
        )*
    };
}

asynchronous! {
    /// Stops delivering; tells when the driver has nothing left.
    WdfIoQueueStop(stop, false);
    /// Stops delivering and cancels what waits; tells when the driver has nothing left.
    WdfIoQueueStopAndPurge(stop, true);
    /// Accepts nothing more and delivers what waits; tells when nothing is left.
    WdfIoQueueDrain(purge_with, false);
    /// Accepts nothing more and cancels what waits; tells when nothing is left.
    WdfIoQueuePurge(purge_with, true);
}

macro_rules! synchronous {
    ($($(#[$doc:meta])* $name:ident($method:ident, $cancel:literal, $what:literal);)*) => {
        $(
            $(#[$doc])*
            ///
            /// `PASSIVE_LEVEL`, not from a callback of the queue: it would wait for itself.
            ///
            /// # Safety
            /// As the KMDF documentation says of the DDI.
            pub(crate) unsafe extern "win64" fn $name(globals: PWDF_DRIVER_GLOBALS, value: WDFQUEUE) {
                let queue = queue(globals, value);
                if verifier::check_irql(queue.globals(), PASSIVE_LEVEL as u32).is_err() {
                    return;
                }
                if queue.synchronously($what, |queue, done| queue.$method($cancel, done)).is_err() {
                    verifier::break_point(queue.globals());
                }
            }
        )*
    };
}

synchronous! {
    /// Stops delivering and waits until the driver has nothing left.
    WdfIoQueueStopSynchronously(stop, false, "the queue to stop");
    /// Stops delivering, cancels what waits, and waits until the driver has nothing left.
    WdfIoQueueStopAndPurgeSynchronously(stop, true, "the queue to stop and purge");
    /// Accepts nothing more, delivers what waits, and waits until nothing is left.
    WdfIoQueueDrainSynchronously(purge_with, false, "the queue to drain");
    /// Accepts nothing more, cancels what waits, and waits until nothing is left.
    WdfIoQueuePurgeSynchronously(purge_with, true, "the queue to purge");
}

fn place_request(result: Result<Arc<Request>, NTSTATUS>, place: *mut WDFREQUEST) -> NTSTATUS {
    match result {
        Ok(request) => {
            // SAFETY: the DDI checked that the place is not null.
            unsafe { place.write(request.handle()) };
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

/// The next request. IRQL <= `DISPATCH_LEVEL`. Errors: those of [`Queue::retrieve`].
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfIoQueueRetrieveNextRequest(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFQUEUE,
    place: *mut WDFREQUEST,
) -> NTSTATUS {
    let queue = queue(globals, value);
    verifier::not_null(queue.globals(), place, "OutRequest");
    // SAFETY: checked not to be null.
    unsafe { place.write(std::ptr::null_mut()) };
    place_request(queue.retrieve(None), place)
}

/// The next request of a file. IRQL <= `DISPATCH_LEVEL`. Errors: those of [`Queue::retrieve`].
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfIoQueueRetrieveRequestByFileObject(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFQUEUE,
    file: WDFFILEOBJECT,
    place: *mut WDFREQUEST,
) -> NTSTATUS {
    let queue = queue(globals, value);
    let file: Arc<FileObject> = handle::get(queue.globals(), file as usize);
    verifier::not_null(queue.globals(), place, "OutRequest");
    // SAFETY: checked not to be null.
    unsafe { place.write(std::ptr::null_mut()) };
    place_request(queue.retrieve(Some(file.wdm())), place)
}

/// Looks for a request without taking it; it is returned with a reference. IRQL <= `DISPATCH_LEVEL`. Errors: those of [`Queue::find`].
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfIoQueueFindRequest(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFQUEUE,
    after: WDFREQUEST,
    file: WDFFILEOBJECT,
    parameters: PWDF_REQUEST_PARAMETERS,
    place: *mut WDFREQUEST,
) -> NTSTATUS {
    let queue = queue(globals, value);
    let globals = queue.globals();
    verifier::not_null(globals, place, "OutRequest");
    // SAFETY: checked not to be null.
    unsafe { place.write(std::ptr::null_mut()) };
    let after = (!after.is_null()).then(|| handle::get::<Request>(globals, after as usize));
    let file = (!file.is_null()).then(|| handle::get::<FileObject>(globals, file as usize).wdm());
    let found = queue.find(after.as_ref(), file);
    if let Ok(request) = &found {
        // SAFETY: null or the driver's structure.
        if let Some(parameters) = unsafe { parameters.as_mut() } {
            fill(request, parameters);
        }
        request.header().add_ref();
    }
    place_request(found, place)
}

/// Takes a request found before. IRQL <= `DISPATCH_LEVEL`. Errors: those of [`Queue::retrieve_found`].
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfIoQueueRetrieveFoundRequest(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFQUEUE,
    found: WDFREQUEST,
    place: *mut WDFREQUEST,
) -> NTSTATUS {
    let queue = queue(globals, value);
    verifier::not_null(queue.globals(), place, "OutRequest");
    let found: Arc<Request> = handle::get(queue.globals(), found as usize);
    // SAFETY: checked not to be null.
    unsafe { place.write(std::ptr::null_mut()) };
    place_request(queue.retrieve_found(&found), place)
}

/// Asks to be told when an empty manual queue gets a request; NULL takes that back. IRQL <= `DISPATCH_LEVEL`.
///
/// Errors: `STATUS_INVALID_DEVICE_REQUEST` (not manual, asked twice, taken back without or while delivering), `STATUS_DELETE_PENDING`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfIoQueueReadyNotify(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFQUEUE,
    ready: PFN_WDF_IO_QUEUE_STATE,
    context: WDFCONTEXT,
) -> NTSTATUS {
    let queue = queue(globals, value);
    let result = queue.set_ready(ready, context);
    if result.is_err() {
        verifier::break_point(queue.globals());
    }
    status_of(result)
}

impl Queue {
    fn set_ready(
        &self,
        ready: PFN_WDF_IO_QUEUE_STATE,
        context: WDFCONTEXT,
    ) -> Result<(), NTSTATUS> {
        if !self.is_manual() {
            return Err(STATUS_INVALID_DEVICE_REQUEST);
        }
        let mut state = self.lock();
        if state.deleted {
            return Err(STATUS_DELETE_PENDING);
        }
        let refused = match ready {
            Some(_) => state.ready.is_some(),
            None => state.ready.is_none() || state.dispatching_allowed,
        };
        if refused {
            return Err(STATUS_INVALID_DEVICE_REQUEST);
        }
        state.ready = notification(ready, context);
        self.dispatch_events(state, None);
        Ok(())
    }
}
