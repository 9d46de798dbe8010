//! WDFDEVICE (`fxdevice.cpp`, `fxdevicekm.cpp`): the device object, its place in the stack and the packages that serve its IRPs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::flat::*;
use machine_nt::exports::{IoDeleteDevice, IoDetachDevice};

use crate::driver::Driver;
use crate::globals::DriverGlobals;
use crate::io::file::FilePackage;
use crate::io::package::IoPackage;
use crate::lock::{CallbackLock, Ptr, Record};
use crate::object::{Attributes, Header, Kind, Object, Typed};
use crate::pnp::Pnp;
use crate::worker::Worker;

mod api;
mod create;
mod dispatch;
mod init;
mod interface;
mod property;

pub(crate) use api::*;
pub(crate) use create::{WdfDeviceCreate, delete_failed_add};
pub(crate) use dispatch::dispatch;
pub(crate) use init::{DeviceInit, api as init_api};
pub(crate) use interface::{
    Interfaces, WdfDeviceCreateDeviceInterface, WdfDeviceCreateSymbolicLink,
    WdfDeviceRetrieveDeviceInterfaceString, WdfDeviceSetDeviceInterfaceState,
    WdfDeviceSetDeviceInterfaceStateEx,
};
pub(crate) use property::*;

/// What a device was created with and keeps.
pub(crate) struct Settings {
    /// How reads and writes bring their buffers.
    pub(crate) io_type: WDF_DEVICE_IO_TYPE,
    /// A filter forwards what it has no queue for.
    pub(crate) filter: bool,
    /// Only one handle at a time.
    pub(crate) exclusive: bool,
    /// Attributes of the requests that arrive.
    pub(crate) request_attributes: Option<Attributes>,
    /// Sees requests in their caller's context.
    pub(crate) in_caller_context: PFN_WDF_IO_IN_CALLER_CONTEXT,
    /// Creates, cleanups and closes are passed down.
    pub(crate) auto_forward_cleanup_close: bool,
}

/// A device.
pub(crate) struct Device {
    header: Header,
    driver: Arc<Driver>,
    settings: Settings,
    level: WDF_EXECUTION_LEVEL,
    scope: WDF_SYNCHRONIZATION_SCOPE,
    callback_lock: Option<Arc<CallbackLock>>,
    objects: OnceLock<Objects>,
    name: Record<Option<Vec<u16>>>,
    symbolic_link: Record<Option<Vec<u16>>>,
    interfaces: Interfaces,
    /// Queues and the dispatching of I/O requests.
    pub(crate) io: IoPackage,
    /// Creates, cleanups and closes.
    pub(crate) files: FilePackage,
    /// Plug and Play and power.
    pub(crate) pnp: Pnp,
    packet_transaction: AtomicBool,
    worker: OnceLock<Worker>,
}

/// The device's place in its stack.
#[derive(Clone, Copy)]
struct Objects {
    function: Ptr<DEVICE_OBJECT>,
    attached: Ptr<DEVICE_OBJECT>,
    physical: Ptr<DEVICE_OBJECT>,
}

impl Object for Device {
    fn header(&self) -> &Header {
        &self.header
    }

    fn dispose(&self) {
        // Handled by removal: see `pnp::remove` and `create::delete_failed_add`.
    }

    fn dump(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "device object {:p}, attached to {:p}, physical {:p}",
            self.function_object(),
            self.attached_object(),
            self.physical_object()
        )];
        lines.extend(self.pnp.dump());
        lines
    }
}

impl Typed for Device {
    const KIND: Kind = Kind::Device;
}

impl Device {
    /// The driver.
    pub(crate) fn driver(&self) -> &Arc<Driver> {
        &self.driver
    }

    /// The driver's globals.
    pub(crate) fn globals(&self) -> &'static DriverGlobals {
        self.header.globals()
    }

    /// The WDFDEVICE.
    pub(crate) fn handle(&self) -> WDFDEVICE {
        self.header.handle() as WDFDEVICE
    }

    /// What it was created with.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Execution level and synchronization scope its queues inherit.
    pub(crate) fn constraints(&self) -> (WDF_EXECUTION_LEVEL, WDF_SYNCHRONIZATION_SCOPE) {
        (self.level, self.scope)
    }

    /// The lock of synchronization scope "device". None without such a scope.
    pub(crate) fn callback_lock(&self) -> Option<Arc<CallbackLock>> {
        self.callback_lock.clone()
    }

    fn place(&self) -> Option<&Objects> {
        self.objects.get()
    }

    /// The device object the driver created.
    pub(crate) fn function_object(&self) -> PDEVICE_OBJECT {
        self.place()
            .map_or(std::ptr::null_mut(), |objects| objects.function.0)
    }

    /// The device object below it.
    pub(crate) fn attached_object(&self) -> PDEVICE_OBJECT {
        self.place()
            .map_or(std::ptr::null_mut(), |objects| objects.attached.0)
    }

    /// The bus driver's device object.
    pub(crate) fn physical_object(&self) -> PDEVICE_OBJECT {
        self.place()
            .map_or(std::ptr::null_mut(), |objects| objects.physical.0)
    }

    /// `DEVICE_OBJECT.Flags`.
    pub(crate) fn object_flags(&self) -> u32 {
        // SAFETY: the device object lives until the device is removed.
        unsafe { (*self.function_object()).Flags }
    }

    /// The interfaces and their state.
    pub(crate) fn interfaces(&self) -> &Interfaces {
        &self.interfaces
    }

    /// Whether power requests come at `PASSIVE_LEVEL` (`DO_POWER_PAGABLE`).
    pub(crate) fn is_power_pageable(&self) -> bool {
        self.object_flags() & DO_POWER_PAGABLE != 0
    }

    /// Opens the device to callers: its EvtDriverDeviceAdd succeeded.
    pub(crate) fn finish_initializing(&self) {
        let device = self.function_object();
        // SAFETY: the device object lives until the device is removed.
        unsafe { (*device).Flags &= !(DO_DEVICE_INITIALIZING as ULONG) };
    }

    /// Takes the one packet transaction a version 2 device may have in flight. False if it is taken.
    pub(crate) fn acquire_packet_transaction(&self) -> bool {
        !self.packet_transaction.swap(true, Ordering::SeqCst)
    }

    /// Gives [`Device::acquire_packet_transaction`] back.
    pub(crate) fn release_packet_transaction(&self) {
        self.packet_transaction.store(false, Ordering::SeqCst);
    }

    /// Where the device's own passive work runs.
    pub(crate) fn worker(&self) -> &Worker {
        self.worker.get_or_init(|| {
            Worker::new(self.function_object().cast())
                .expect("the framework has no memory for a device's work item")
        })
    }

    /// The device a device object belongs to.
    ///
    /// # Safety
    /// `object` is a device object that the framework created and that was not deleted.
    pub(crate) unsafe fn from_object(object: PDEVICE_OBJECT) -> Arc<Self> {
        // SAFETY: the caller's promise; the framework put its extension there.
        let extension = unsafe { (*object).DeviceExtension }.cast::<create::Extension>();
        // SAFETY: as above.
        let device = unsafe { (*extension).device };
        // SAFETY: the extension holds one strong count until the device object is deleted.
        unsafe { Arc::increment_strong_count(device) };
        // SAFETY: the count just taken.
        unsafe { Arc::from_raw(device) }
    }

    /// Takes the device out of its stack and deletes its device object (`FxDevice::DeleteObject`, `Destroy`).
    pub(crate) fn detach_and_delete(&self) {
        self.interfaces.delete_symbolic_link(self);
        let Some(objects) = self.place() else { return };
        if !objects.attached.0.is_null() {
            // SAFETY: attached in `create`.
            unsafe { IoDetachDevice(objects.attached.0) };
        }
        // SAFETY: the framework's device object, no longer in any stack.
        let extension =
            unsafe { (*objects.function.0).DeviceExtension }.cast::<create::Extension>();
        // SAFETY: the framework's extension, filled by `create`.
        let counted = unsafe { (*extension).device };
        // SAFETY: the extension's strong count, given back once.
        drop(unsafe { Arc::from_raw(counted) });
        // SAFETY: created by `IoCreateDevice` and not deleted yet.
        unsafe { IoDeleteDevice(objects.function.0) };
    }
}
