//! File objects: one for each time that the device was opened.

use wdk_sys::{
    _WDF_FILEOBJECT_CLASS, _WDF_TRI_STATE, WDF_FILEOBJECT_CONFIG, WDFDEVICE, WDFFILEOBJECT,
};

use crate::ddi;
use crate::device::{self, DeviceEvents};
use crate::versioned::size;

/// What a device does when it is closed. PASSIVE_LEVEL, in any power state.
pub trait FileEvents: DeviceEvents {
    /// `EvtFileCleanup`: the last handle of the file has been closed. Its requests may be under way; afterwards the
    /// framework cancels those that wait in a queue, and until then it goes on to hand them out.
    fn cleanup(&self, file: FileKey);

    /// `EvtFileClose`: all requests of the file have ended, and there will be no more.
    fn close(&self, file: FileKey);
}

/// Which file: what can be compared, and nothing else. Another file may have the key once this one is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileKey {
    raw: WDFFILEOBJECT,
}

// SAFETY: nothing is reached by it.
unsafe impl Send for FileKey {}

impl FileKey {
    pub(crate) const fn of(raw: WDFFILEOBJECT) -> Self {
        Self { raw }
    }
}

/// What `WdfDeviceInitSetFileObjectConfig` is given.
pub(crate) fn config<T: FileEvents>() -> WDF_FILEOBJECT_CONFIG {
    WDF_FILEOBJECT_CONFIG {
        Size: size::<WDF_FILEOBJECT_CONFIG>(),
        EvtFileCleanup: Some(cleanup::<T>),
        EvtFileClose: Some(close::<T>),
        AutoForwardCleanupClose: _WDF_TRI_STATE::WdfUseDefault,
        FileObjectClass: _WDF_FILEOBJECT_CLASS::WdfFileObjectWdfCanUseFsContext,
        ..WDF_FILEOBJECT_CONFIG::default()
    }
}

/// Hands a file to the context of its device.
///
/// # Safety
///
/// Called in a callback for the file.
unsafe fn hand_over<T: FileEvents>(file: WDFFILEOBJECT, callback: impl FnOnce(&T, FileKey)) {
    wdk::paged_code!();
    // SAFETY: the file is valid during the callback.
    let device: WDFDEVICE = unsafe { ddi::WdfFileObjectGetDevice(file) };
    // SAFETY: the device outlives its files.
    if let Some(context) = unsafe { device::context::<T>(device) } {
        callback(context, FileKey::of(file));
    }
}

unsafe extern "C" fn cleanup<T: FileEvents>(file: WDFFILEOBJECT) {
    // SAFETY: this is the callback.
    unsafe { hand_over(file, T::cleanup) };
}

unsafe extern "C" fn close<T: FileEvents>(file: WDFFILEOBJECT) {
    // SAFETY: this is the callback.
    unsafe { hand_over(file, T::close) };
}
