//! WDFFILEOBJECT, creates, cleanups and closes (`fxpkggeneral.cpp`, `fxfileobject.cpp`).

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::flat::*;
use machine_nt::ke::stack::{driver_call, machine_code};

use super::queue::Queue;
use super::request::{Owner, Request};
use crate::device::Device;
use crate::globals::DriverGlobals;
use crate::lock::{Ptr, Record};
use crate::object::{self, Attributes, Header, Kind, Object, Parent, Typed, handle};
use crate::wdm::{self, Irp};

/// A file: one open of the device.
pub(crate) struct FileObject {
    header: Header,
    device: Arc<Device>,
    wdm: Ptr<FILE_OBJECT>,
}

impl Object for FileObject {
    fn header(&self) -> &Header {
        &self.header
    }
}

impl Typed for FileObject {
    const KIND: Kind = Kind::FileObject;
}

impl FileObject {
    /// The I/O manager's file object.
    pub(crate) fn wdm(&self) -> PFILE_OBJECT {
        self.wdm.0
    }
}

/// The part of a device that serves creates, cleanups and closes.
pub(crate) struct FilePackage {
    config: Option<WDF_FILEOBJECT_CONFIG>,
    attributes: Option<Attributes>,
    files: Record<Vec<Arc<FileObject>>>,
    create_queue: Record<Option<Arc<Queue>>>,
    configured_queue: Record<Option<Arc<Queue>>>,
    open_handles: AtomicI32,
}

impl FilePackage {
    /// The package for what `WdfDeviceInitSetFileObjectConfig` said.
    pub(crate) fn new(config: Option<(WDF_FILEOBJECT_CONFIG, Option<Attributes>)>) -> Self {
        let (config, attributes) = config.map_or((None, None), |(config, attributes)| {
            (Some(config), attributes)
        });
        Self {
            config,
            attributes,
            files: Record::default(),
            create_queue: Record::default(),
            configured_queue: Record::default(),
            open_handles: AtomicI32::new(0),
        }
    }

    /// Makes the queue that EvtDeviceFileCreate's requests belong to (`PostCreateDeviceInitialize`).
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`.
    pub(crate) fn initialize(&self, device: &Arc<Device>) -> Result<(), NTSTATUS> {
        if self
            .config
            .is_none_or(|config| config.EvtDeviceFileCreate.is_none())
        {
            return Ok(());
        }
        // SAFETY: all-zero bytes are a valid value of this plain structure.
        let mut config: WDF_IO_QUEUE_CONFIG = unsafe { std::mem::zeroed() };
        config.DispatchType = WdfIoQueueDispatchManual;
        config.PowerManaged = WdfFalse;
        let queue =
            super::queue::create(device, &config, None, Parent::Object(device.clone()), false)?;
        self.create_queue.with(|place| *place = Some(queue));
        Ok(())
    }

    /// Sends creates to a queue of the driver's (`ConfigureForwarding`).
    ///
    /// # Errors
    /// `STATUS_INVALID_DEVICE_REQUEST` without EvtIoDefault, `STATUS_INVALID_PARAMETER` the second time.
    pub(crate) fn configure(&self, queue: &Arc<Queue>) -> Result<(), NTSTATUS> {
        if !queue.handles(IRP_MJ_CREATE) {
            return Err(STATUS_INVALID_DEVICE_REQUEST);
        }
        self.configured_queue.with(|place| match place {
            Some(_) => Err(STATUS_INVALID_PARAMETER),
            None => {
                *place = Some(queue.clone());
                Ok(())
            }
        })
    }

    /// The priority boost of requests completed without one.
    pub(crate) fn default_boost(&self) -> i8 {
        IO_NO_INCREMENT as i8
    }

    fn wants_objects(&self) -> bool {
        self.config
            .is_some_and(|config| config.FileObjectClass as u32 != WdfFileObjectNotRequired as u32)
    }

    /// The WDFFILEOBJECT of an open.
    pub(crate) fn find(&self, wdm: PFILE_OBJECT) -> Option<Arc<FileObject>> {
        self.files
            .with(|files| files.iter().find(|file| file.wdm.0 == wdm).cloned())
    }

    fn add_file(
        &self,
        device: &Arc<Device>,
        irp: Irp,
    ) -> Result<Option<Arc<FileObject>>, NTSTATUS> {
        let wdm = irp.file_object();
        if !self.wants_objects() {
            return Ok(None);
        }
        if wdm.is_null() {
            return Err(STATUS_INVALID_DEVICE_REQUEST);
        }
        let header = Header::new(Kind::FileObject, device.globals());
        let file = Arc::new(FileObject {
            header,
            device: device.clone(),
            wdm: Ptr(wdm),
        });
        object::commit(
            &file,
            self.attributes.as_ref(),
            Parent::Object(device.clone()),
        )?;
        file.header.mark_no_delete();
        self.files.with(|files| files.push(file.clone()));
        Ok(Some(file))
    }

    fn remove_file(&self, wdm: PFILE_OBJECT) {
        let file = self.files.with(|files| {
            let index = files.iter().position(|file| file.wdm.0 == wdm)?;
            Some(files.swap_remove(index))
        });
        if let Some(file) = file {
            object::delete(&file);
        }
    }

    /// `IRP_MJ_CREATE`.
    pub(crate) fn create(&self, device: &Arc<Device>, irp: Irp) -> NTSTATUS {
        let open = self.open_handles.fetch_add(1, Ordering::SeqCst) + 1;
        let result = if device.settings().exclusive && open > 1 {
            Err(STATUS_ACCESS_DENIED)
        } else {
            self.add_file(device, irp)
        };
        let file = match result {
            Ok(file) => file,
            Err(status) => return self.fail_create(irp, status),
        };
        let create = self.config.and_then(|config| config.EvtDeviceFileCreate);
        let configured = self.configured_queue.with(|queue| queue.clone());
        if create.is_none() && configured.is_none() {
            if device.settings().auto_forward_cleanup_close {
                irp.copy_stack_to_next();
                irp.set_completion(create_forwarded, Arc::as_ptr(device).cast_mut().cast());
                return irp.call(device.attached_object());
            }
            return irp.complete_with(STATUS_SUCCESS);
        }
        let request = match Request::for_package(
            device,
            device.settings().request_attributes.as_ref(),
            irp,
        ) {
            Ok(request) => request,
            Err(status) => {
                self.remove_file(irp.file_object());
                return self.fail_create(irp, status);
            }
        };
        if let Some(queue) = configured {
            return queue.queue_request(&request);
        }
        let queue = self.create_queue.with(|queue| queue.clone());
        let (Some(queue), Some(create)) = (queue, create) else {
            return irp.complete_with(STATUS_INTERNAL_ERROR);
        };
        let status = queue.queue_request(&request);
        if !wdm::success(status) {
            return status;
        }
        // Canceled in between: it is complete then.
        let Ok(request) = queue.retrieve(Some(irp.file_object())) else {
            return STATUS_PENDING;
        };
        request.set_owner(Owner::Queue);
        let file = file.map_or(std::ptr::null_mut(), |file| {
            file.header.handle() as WDFFILEOBJECT
        });
        // SAFETY: the driver registered the callback.
        driver_call(|| unsafe { create(device.handle(), request.handle(), file) });
        STATUS_PENDING
    }

    fn fail_create(&self, irp: Irp, status: NTSTATUS) -> NTSTATUS {
        self.open_handles.fetch_sub(1, Ordering::SeqCst);
        irp.complete_with(status)
    }

    /// A create completed: a failed one leaves no file behind.
    pub(crate) fn create_completed(&self, _device: &Device, irp: Irp) {
        if !wdm::success(irp.status()) {
            self.remove_file(irp.file_object());
            self.open_handles.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// The handle that the callbacks for a file get: null if there are no file objects.
    fn handle(&self, wdm: PFILE_OBJECT) -> WDFFILEOBJECT {
        self.find(wdm).map_or(std::ptr::null_mut(), |file| {
            file.header.handle() as WDFFILEOBJECT
        })
    }

    /// `IRP_MJ_CLEANUP`: the last handle of a file is closed. What the driver has is left to its callback; what waits in
    /// its queues is cancelled afterwards.
    pub(crate) fn cleanup(&self, device: &Arc<Device>, irp: Irp) -> NTSTATUS {
        if let Some(cleanup) = self.config.and_then(|config| config.EvtFileCleanup) {
            let file = self.handle(irp.file_object());
            // SAFETY: the driver registered the callback.
            driver_call(|| unsafe { cleanup(file) });
        }
        device.io.flush_file(irp.file_object());
        Self::finish(device, irp)
    }

    /// `IRP_MJ_CLOSE`: nothing refers to a file any more.
    pub(crate) fn close(&self, device: &Arc<Device>, irp: Irp) -> NTSTATUS {
        let wdm = irp.file_object();
        if let Some(close) = self.config.and_then(|config| config.EvtFileClose) {
            let file = self.handle(wdm);
            // SAFETY: the driver registered the callback.
            driver_call(|| unsafe { close(file) });
        }
        self.remove_file(wdm);
        let status = Self::finish(device, irp);
        self.open_handles.fetch_sub(1, Ordering::SeqCst);
        status
    }

    fn finish(device: &Arc<Device>, irp: Irp) -> NTSTATUS {
        if device.settings().auto_forward_cleanup_close {
            device.forward(irp)
        } else {
            irp.complete_with(STATUS_SUCCESS)
        }
    }
}

unsafe extern "win64" fn create_forwarded(
    _object: PDEVICE_OBJECT,
    irp: PIRP,
    device: PVOID,
) -> NTSTATUS {
    let _inside = machine_code();
    // SAFETY: the lower driver completed the create.
    let irp = unsafe { Irp::new(irp) };
    // SAFETY: the device has a create in flight and stays until it is complete.
    let device = unsafe { &*device.cast::<Device>() };
    device.files.create_completed(device, irp);
    if irp.pending_returned() {
        irp.mark_pending();
    }
    irp.status()
}

fn file(globals: PWDF_DRIVER_GLOBALS, value: WDFFILEOBJECT) -> Arc<FileObject> {
    handle::get(DriverGlobals::from_ddi(globals), value as usize)
}

/// The device that was opened. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfFileObjectGetDevice(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFFILEOBJECT,
) -> WDFDEVICE {
    file(globals, value).device.handle()
}

/// The I/O manager's file object. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfFileObjectWdmGetFileObject(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFFILEOBJECT,
) -> PFILE_OBJECT {
    file(globals, value).wdm()
}

/// The flags of the file object. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfFileObjectGetFlags(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFFILEOBJECT,
) -> ULONG {
    // SAFETY: the I/O manager's file object lives until its close completes.
    unsafe { (*file(globals, value).wdm()).Flags }
}

/// The name the device was opened by, below its own. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfFileObjectGetFileName(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFFILEOBJECT,
) -> PUNICODE_STRING {
    // SAFETY: the I/O manager's file object lives until its close completes.
    unsafe { &raw mut (*file(globals, value).wdm()).FileName }
}
