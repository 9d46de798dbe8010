//! WDFDPC (`fxdpc.cpp`, `fxdpcapi.cpp`).

use std::cell::UnsafeCell;
use std::sync::Arc;

use machine_nt::exports::{KeFlushQueuedDpcs, KeInitializeDpc, KeInsertQueueDpc, KeRemoveQueueDpc};
use machine_nt::ke::stack::machine_code;

use super::{attributes, callback_lock, parent_of};
use crate::flat::*;
use crate::globals::DriverGlobals;
use crate::lock::{CallbackLock, serialized};
use crate::object::attributes::Rules;
use crate::object::{self, Header, Kind, Object, Parent, Typed, handle};
use crate::verifier;

/// A deferred procedure call of the driver.
pub(crate) struct Dpc {
    header: Header,
    dpc: UnsafeCell<KDPC>,
    callback: PFN_WDF_DPC,
    lock: Option<Arc<CallbackLock>>,
}

// SAFETY: the kernel serialises access to the DPC object.
unsafe impl Send for Dpc {}
// SAFETY: as above.
unsafe impl Sync for Dpc {}

impl Object for Dpc {
    fn header(&self) -> &Header {
        &self.header
    }

    fn dispose(&self) {
        // SAFETY: disposal is at PASSIVE_LEVEL.
        unsafe { KeFlushQueuedDpcs() };
    }
}

impl Typed for Dpc {
    const KIND: Kind = Kind::Dpc;
}

fn create(
    globals: &'static DriverGlobals,
    config: &WDF_DPC_CONFIG,
    given: PWDF_OBJECT_ATTRIBUTES,
) -> Result<usize, NTSTATUS> {
    // SAFETY: null or the driver's structure.
    let (attributes, parent) = unsafe { attributes(globals, given, Rules::PARENT_REQUIRED) }?;
    if config.Size as usize != size_of::<WDF_DPC_CONFIG>() {
        return Err(STATUS_INFO_LENGTH_MISMATCH);
    }
    let lock = callback_lock(&parent, config.AutomaticSerialization != 0, false)?;
    let dpc = Arc::new(Dpc {
        header: Header::new(Kind::Dpc, globals),
        // SAFETY: all-zero bytes are a valid value of this plain structure, initialised below.
        dpc: UnsafeCell::new(unsafe { std::mem::zeroed() }),
        callback: config.EvtDpcFunc,
        lock,
    });
    dpc.header.mark_passive_dispose();
    let context = Arc::as_ptr(&dpc).cast_mut().cast();
    // SAFETY: the object stays where it is and disposal waits for its DPC.
    unsafe { KeInitializeDpc(dpc.dpc.get(), Some(deferred), context) };
    object::commit(&dpc, Some(&attributes), Parent::Object(parent))
}

unsafe extern "win64" fn deferred(_dpc: PKDPC, context: PVOID, _first: PVOID, _second: PVOID) {
    let _inside = machine_code();
    // SAFETY: bound to an object that outlives its DPC.
    let dpc = unsafe { &*context.cast::<Dpc>() };
    let Some(callback) = dpc.callback else { return };
    // SAFETY: the driver registered the callback.
    serialized(dpc.lock.as_deref(), || unsafe {
        callback(dpc.header.handle() as WDFDPC)
    });
}

/// Creates a DPC. IRQL <= `DISPATCH_LEVEL`.
///
/// Errors: those of the attributes (a parent is required), `STATUS_INFO_LENGTH_MISMATCH`, `STATUS_INVALID_DEVICE_REQUEST`
/// (no device above), `STATUS_WDF_INCOMPATIBLE_EXECUTION_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDpcCreate(
    globals: PWDF_DRIVER_GLOBALS,
    config: PWDF_DPC_CONFIG,
    given: PWDF_OBJECT_ATTRIBUTES,
    place: *mut WDFDPC,
) -> NTSTATUS {
    let globals = DriverGlobals::from_ddi(globals);
    verifier::not_null(globals, config, "Config");
    verifier::not_null(globals, place, "Dpc");
    // SAFETY: checked not to be null.
    match create(globals, unsafe { &*config }, given) {
        Ok(value) => {
            // SAFETY: checked not to be null.
            unsafe { place.write(value as WDFDPC) };
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

/// Queues a DPC; false if it was queued already. Any IRQL.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDpcEnqueue(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDPC,
) -> BOOLEAN {
    let dpc: Arc<Dpc> = handle::get(DriverGlobals::from_ddi(globals), value as usize);
    // SAFETY: initialised by `create`.
    unsafe { KeInsertQueueDpc(dpc.dpc.get(), std::ptr::null_mut(), std::ptr::null_mut()) }
}

/// Takes a DPC out of its queue, or waits until it has run. Any IRQL; with `wait` `PASSIVE_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDpcCancel(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDPC,
    wait: BOOLEAN,
) -> BOOLEAN {
    let globals = DriverGlobals::from_ddi(globals);
    let dpc: Arc<Dpc> = handle::get(globals, value as usize);
    if wait != 0 && verifier::check_irql(globals, PASSIVE_LEVEL).is_err() {
        return FALSE as BOOLEAN;
    }
    // SAFETY: initialised by `create`.
    let removed = unsafe { KeRemoveQueueDpc(dpc.dpc.get()) };
    if wait != 0 && removed == 0 {
        // SAFETY: the driver waits at PASSIVE_LEVEL.
        unsafe { KeFlushQueuedDpcs() };
    }
    removed
}

/// The parent. Any IRQL.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDpcGetParentObject(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDPC,
) -> WDFOBJECT {
    parent_of(&*handle::get::<Dpc>(
        DriverGlobals::from_ddi(globals),
        value as usize,
    ))
}

/// The kernel's DPC. Any IRQL.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDpcWdmGetDpc(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDPC,
) -> PKDPC {
    handle::get::<Dpc>(DriverGlobals::from_ddi(globals), value as usize)
        .dpc
        .get()
}
