//! `WDFDEVICE_INIT` and the functions that fill it (`fxdeviceinit.cpp`, `fxdeviceinitapi.cpp`).

use std::sync::Arc;

use crate::flat::*;

use super::Device;
use crate::driver::Driver;
use crate::globals::DriverGlobals;
use crate::lock::Ptr;
use crate::object::Attributes;

pub(crate) mod api;

/// What a driver says about a device before it is created.
pub(crate) struct DeviceInit {
    pub(super) driver: Arc<Driver>,
    pub(super) physical: Ptr<DEVICE_OBJECT>,
    pub(super) io_type: WDF_DEVICE_IO_TYPE,
    pub(super) device_type: u32,
    pub(super) characteristics: u32,
    pub(super) exclusive: bool,
    pub(super) filter: bool,
    pub(super) power_pageable: bool,
    pub(super) power_inrush: bool,
    pub(super) power_policy_owner: WDF_TRI_STATE,
    pub(super) name: Option<Vec<u16>>,
    pub(super) security: Option<Vec<u16>>,
    pub(super) request_attributes: Option<Attributes>,
    pub(super) pnp_callbacks: Option<WDF_PNPPOWER_EVENT_CALLBACKS>,
    pub(super) file_config: Option<(WDF_FILEOBJECT_CONFIG, Option<Attributes>)>,
    pub(super) in_caller_context: PFN_WDF_IO_IN_CALLER_CONTEXT,
    created: Option<Arc<Device>>,
}

impl DeviceInit {
    /// The structure for a function or filter device over `physical`, with the defaults of `WDFDEVICE_INIT`.
    pub(crate) fn for_function(driver: Arc<Driver>, physical: PDEVICE_OBJECT) -> Self {
        Self {
            driver,
            physical: Ptr(physical),
            io_type: WdfDeviceIoBuffered,
            device_type: FILE_DEVICE_UNKNOWN,
            characteristics: FILE_DEVICE_SECURE_OPEN,
            exclusive: false,
            filter: false,
            power_pageable: true,
            power_inrush: false,
            power_policy_owner: WdfUseDefault,
            name: None,
            security: None,
            request_attributes: None,
            pnp_callbacks: None,
            file_config: None,
            in_caller_context: None,
            created: None,
        }
    }

    /// What the driver gets as its pointer. The structure must not move while the driver has it.
    pub(crate) fn as_ddi(&mut self) -> PWDFDEVICE_INIT {
        std::ptr::from_mut(self).cast()
    }

    /// The structure behind a driver's pointer.
    ///
    /// # Safety
    /// `init` came from [`DeviceInit::as_ddi`] and the call it was made for has not returned.
    pub(crate) unsafe fn from_ddi<'a>(init: PWDFDEVICE_INIT) -> &'a mut Self {
        // SAFETY: the caller's promise.
        unsafe { &mut *init.cast::<Self>() }
    }

    /// The device made from it, if any.
    pub(crate) fn created(&self) -> Option<Arc<Device>> {
        self.created.clone()
    }

    /// Remembers the device made from it.
    pub(super) fn set_created(&mut self, device: &Arc<Device>) {
        self.created = Some(device.clone());
    }

    /// Whether the device is to be a filter.
    pub(crate) fn is_filter(&self) -> bool {
        self.filter
    }

    /// The globals of the driver it belongs to.
    pub(crate) fn globals(&self) -> &'static DriverGlobals {
        self.driver.globals()
    }
}
