//! WDFWAITLOCK (`fxwaitlock.hpp`): a lock to be waited for, at `PASSIVE_LEVEL`.

use std::cell::UnsafeCell;
use std::sync::Arc;

use machine_nt::exports::{
    KeEnterCriticalRegion, KeInitializeEvent, KeLeaveCriticalRegion, KeSetEvent,
    KeWaitForSingleObject,
};

use crate::flat::*;
use crate::globals::DriverGlobals;
use crate::object::attributes::Rules;
use crate::object::{self, Attributes, Header, Kind, Object, Parent, Typed, handle};
use crate::verifier;

/// A wait lock: a synchronization event that is set while nobody has it.
pub(crate) struct WaitLock {
    header: Header,
    event: Box<UnsafeCell<KEVENT>>,
}

// SAFETY: a kernel event is made to be shared.
unsafe impl Send for WaitLock {}
// SAFETY: as above.
unsafe impl Sync for WaitLock {}

impl Object for WaitLock {
    fn header(&self) -> &Header {
        &self.header
    }
}

impl Typed for WaitLock {
    const KIND: Kind = Kind::WaitLock;
}

/// Creates a wait lock. IRQL <= `DISPATCH_LEVEL`. Errors: those of the attributes, `STATUS_INSUFFICIENT_RESOURCES`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfWaitLockCreate(
    globals: PWDF_DRIVER_GLOBALS,
    attributes: PWDF_OBJECT_ATTRIBUTES,
    place: *mut WDFWAITLOCK,
) -> NTSTATUS {
    let globals = DriverGlobals::from_ddi(globals);
    verifier::not_null(globals, place, "Lock");
    // SAFETY: null or the driver's structure.
    let attributes = match unsafe { Attributes::check(globals, attributes, Rules::PLAIN) } {
        Ok(attributes) => attributes,
        Err(status) => return status,
    };
    // SAFETY: all-zero bytes are a valid value of this plain structure, initialised on the next line.
    let event = Box::new(UnsafeCell::new(unsafe { std::mem::zeroed() }));
    // SAFETY: the event stays at this address as long as the lock lives.
    unsafe { KeInitializeEvent(event.get(), SynchronizationEvent, TRUE as BOOLEAN) };
    let lock = Arc::new(WaitLock {
        header: Header::new(Kind::WaitLock, globals),
        event,
    });
    match object::commit(&lock, attributes.as_ref(), Parent::Driver) {
        Ok(value) => {
            // SAFETY: checked not to be null.
            unsafe { place.write(value as WDFWAITLOCK) };
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

/// Waits for the lock, at most `timeout`. `PASSIVE_LEVEL`, or <= `DISPATCH_LEVEL` with a timeout of zero. `STATUS_TIMEOUT` if it was not had.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfWaitLockAcquire(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFWAITLOCK,
    timeout: PLONGLONG,
) -> NTSTATUS {
    let lock = handle::get::<WaitLock>(DriverGlobals::from_ddi(globals), value as usize);
    // SAFETY: null or the driver's variable.
    let waits = unsafe { timeout.as_ref() }.is_none_or(|timeout| *timeout != 0);
    if waits && let Err(status) = verifier::check_irql(lock.header.globals(), PASSIVE_LEVEL) {
        return status;
    }
    // SAFETY: callable at or below APC_LEVEL; left below or by the release.
    unsafe { KeEnterCriticalRegion() };
    // SAFETY: the event is initialized; the timeout is null or the driver's.
    let status = unsafe {
        KeWaitForSingleObject(
            lock.event.get().cast(),
            Executive,
            KernelMode as _,
            FALSE as BOOLEAN,
            timeout.cast(),
        )
    };
    if status == STATUS_TIMEOUT {
        // SAFETY: entered above.
        unsafe { KeLeaveCriticalRegion() };
    }
    status
}

/// Gives the lock back.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfWaitLockRelease(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFWAITLOCK,
) {
    let lock = handle::get::<WaitLock>(DriverGlobals::from_ddi(globals), value as usize);
    // SAFETY: initialised at creation.
    unsafe { KeSetEvent(lock.event.get(), 0, FALSE as BOOLEAN) };
    // SAFETY: entered by the acquisition.
    unsafe { KeLeaveCriticalRegion() };
}
