//! The driver object.

use wdk_sys::{
    KEY_READ, NTSTATUS, PCUNICODE_STRING, PDRIVER_OBJECT, PWDFDEVICE_INIT, WDF_DRIVER_CONFIG,
    WDFDRIVER,
};

use crate::device::DeviceInit;
use crate::unicode::WideStr;
use crate::versioned::size;
use crate::{NtStatus, Result, ddi};

/// What a driver does when the system finds a device for it.
pub trait DriverEvents {
    /// `EvtDriverDeviceAdd`: makes a device object for a device that has been found. PASSIVE_LEVEL.
    ///
    /// # Errors
    ///
    /// Any; the device is then not started, and what has been made of it is undone.
    fn device_add(driver: Driver, init: DeviceInit) -> Result<()>;
}

/// The driver object. It lives as long as the driver is loaded.
#[derive(Debug, Clone, Copy)]
pub struct Driver {
    raw: WDFDRIVER,
}

impl Driver {
    /// A number that the registry has for the driver, in the `Parameters` key of its service. PASSIVE_LEVEL.
    ///
    /// # Errors
    ///
    /// `STATUS_OBJECT_NAME_NOT_FOUND` if there is none, `STATUS_OBJECT_TYPE_MISMATCH` if it is no number, and what else
    /// the registry's functions return.
    pub fn parameter(self, name: WideStr) -> Result<u32> {
        let mut key = core::ptr::null_mut();
        // SAFETY: the driver is valid, attributes are optional, and the key lives across the call.
        let status = unsafe {
            ddi::WdfDriverOpenParametersRegistryKey(
                self.raw,
                KEY_READ,
                core::ptr::null_mut(),
                &raw mut key,
            )
        };
        NtStatus::from_code(status).ok()?;
        let name = name.counted();
        let mut value = 0;
        // SAFETY: the key is open, and the others live across the call.
        let status = unsafe { ddi::WdfRegistryQueryULong(key, &raw const name, &raw mut value) };
        // SAFETY: opened above, and not used any more.
        unsafe { ddi::WdfRegistryClose(key) };
        NtStatus::from_code(status).ok().map(|()| value)
    }
}

/// Registers the driver with the framework; to be called from the driver's entry point, with its arguments.
///
/// # Errors
///
/// `STATUS_NOT_SUPPORTED` if the framework that was loaded is older than the functions used, otherwise what
/// `WdfDriverCreate` returns.
///
/// # Safety
///
/// Called once, in the driver's entry point, with the arguments the system gave it.
pub unsafe fn register<E: DriverEvents>(
    driver: PDRIVER_OBJECT,
    registry_path: PCUNICODE_STRING,
) -> Result<()> {
    if !ddi::complete() {
        return Err(NtStatus::NOT_SUPPORTED);
    }
    let mut config = WDF_DRIVER_CONFIG {
        Size: size::<WDF_DRIVER_CONFIG>(),
        EvtDriverDeviceAdd: Some(device_add::<E>),
        ..WDF_DRIVER_CONFIG::default()
    };
    // SAFETY: the first two are the system's, the configuration lives across the call, and the rest may be null.
    let status = unsafe {
        ddi::WdfDriverCreate(
            driver,
            registry_path,
            core::ptr::null_mut(),
            &raw mut config,
            core::ptr::null_mut(),
        )
    };
    NtStatus::from_code(status).ok()
}

/// `EvtDriverDeviceAdd`.
unsafe extern "C" fn device_add<E: DriverEvents>(
    driver: WDFDRIVER,
    init: PWDFDEVICE_INIT,
) -> NTSTATUS {
    // SAFETY: the framework gives a structure that is this callback's until a device is created from it.
    let init = unsafe { DeviceInit::from_raw(init) };
    NtStatus::from(E::device_add(Driver { raw: driver }, init)).code()
}
