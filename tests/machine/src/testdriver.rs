//! Drivers written in Rust inside a test, which bind to the framework and call it as an image does.
//!
//! A faulty driver is then a few lines beside the expectation of how the machine stops. Its callbacks are
//! `unsafe extern "win64" fn`s with the types of `nt-sys`, as they would stand in C; [`ddi!`](crate::ddi) calls an entry
//! of the framework's function table by name:
//!
//! ```ignore
//! unsafe extern "win64" fn device_add(_: WDFDRIVER, mut init: PWDFDEVICE_INIT) -> NTSTATUS {
//!     let mut device = ptr::null_mut();
//!     ddi!(WdfDeviceCreate(&mut init, ptr::null_mut(), &mut device))
//! }
//! let driver = TestDriver { device_add: Some(device_add), ..TestDriver::default() };
//! ```
//!
//! One test driver per process, as there is one machine per process.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, OnceLock};

use nt_sys::*;

/// A driver that lives in the test itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct TestDriver {
    /// `EvtDriverDeviceAdd`.
    pub device_add: PFN_WDF_DRIVER_DEVICE_ADD,
    /// `EvtDriverUnload`.
    pub unload: PFN_WDF_DRIVER_UNLOAD,
}

/// The framework's function table, as WdfVersionBind hands it out.
static FUNCTIONS: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
/// The driver's globals, first argument of every function.
static GLOBALS: AtomicPtr<WDF_DRIVER_GLOBALS> = AtomicPtr::new(ptr::null_mut());
/// The driver that runs.
static DRIVER: OnceLock<TestDriver> = OnceLock::new();

impl TestDriver {
    /// Makes this the process's driver and returns its entry point, which binds to the framework as the stub linked into
    /// every KMDF image does, then creates the driver object.
    ///
    /// # Panics
    /// If the process has one already.
    pub(crate) fn install(
        self,
    ) -> unsafe extern "win64" fn(PDRIVER_OBJECT, PUNICODE_STRING) -> NTSTATUS {
        assert!(
            DRIVER.set(self).is_ok(),
            "this process has a test driver already"
        );
        driver_entry
    }
}

/// Entry `index` of the function table. Used by [`ddi!`](crate::ddi).
///
/// # Safety
/// `F` must be that entry's type, and the driver must have been entered.
#[doc(hidden)]
pub unsafe fn function<F: Copy>(index: i32) -> F {
    let table = FUNCTIONS.load(Ordering::Relaxed).cast::<F>();
    let entry = table.wrapping_add(index as usize);
    // SAFETY: the table has that many entries, all of the size of a function pointer; the type is the caller's promise.
    unsafe { entry.read() }
}

/// The driver's globals. Used by [`ddi!`](crate::ddi).
#[doc(hidden)]
pub fn globals() -> *mut WDF_DRIVER_GLOBALS {
    GLOBALS.load(Ordering::Relaxed)
}

/// Calls a function of the framework by its name, with all arguments but the driver's globals. An unsafe call.
#[macro_export]
macro_rules! ddi {
    ($name:ident($($argument:expr),* $(,)?)) => {
        $crate::pastey::paste! {
            ($crate::testdriver::function::<$crate::nt_sys::[<PFN_ $name:upper>]>(
                $crate::nt_sys::_WDFFUNCENUM::[<$name TableIndex>]
            )
            .expect(stringify!($name)))($crate::testdriver::globals() $(, $argument)*)
        }
    };
}

/// What the stub of a KMDF driver does, then what its DriverEntry does.
unsafe extern "win64" fn driver_entry(
    driver_object: *mut DRIVER_OBJECT,
    registry_path: *mut UNICODE_STRING,
) -> NTSTATUS {
    let mut table: *mut c_void = ptr::null_mut();
    let mut globals: PWDF_COMPONENT_GLOBALS = ptr::null_mut();
    let mut info = bind_info(&mut table);
    let bind: VersionBind = loader_routine("WdfVersionBind");
    // SAFETY: the pointers are to locals and to what the I/O manager passed.
    let status = unsafe {
        bind(
            driver_object,
            registry_path,
            &raw mut info,
            &raw mut globals,
        )
    };
    if !nt_success(status) {
        return status;
    }
    FUNCTIONS.store(table, Ordering::Relaxed);
    GLOBALS.store(globals.cast(), Ordering::Relaxed);
    let driver = DRIVER.get().expect("installed before it is entered");
    let mut config = WDF_DRIVER_CONFIG {
        Size: size_of::<WDF_DRIVER_CONFIG>() as u32,
        EvtDriverDeviceAdd: driver.device_add,
        EvtDriverUnload: driver.unload,
        DriverInitFlags: 0,
        DriverPoolTag: 0,
    };
    // SAFETY: as above; the driver handle and the attributes are optional.
    let status = unsafe {
        ddi!(WdfDriverCreate(
            driver_object,
            registry_path,
            ptr::null_mut(),
            &raw mut config,
            ptr::null_mut(),
        ))
    };
    if !nt_success(status) {
        unbind();
        return status;
    }
    // SAFETY: the globals are the framework's and live as long as the driver.
    if unsafe { (*self::globals()).DisplaceDriverUnload } != 0 {
        // SAFETY: the I/O manager's object, which this driver may change while it is entered.
        let framework_unload = unsafe { &mut (*driver_object).DriverUnload }.replace(stub_unload);
        *FRAMEWORK_UNLOAD.lock().expect("not held across a panic") = framework_unload;
    }
    status
}

/// What the framework made the driver object's unload routine.
static FRAMEWORK_UNLOAD: Mutex<PDRIVER_UNLOAD> = Mutex::new(None);

/// Lets the framework unload the driver, then unbinds from it.
unsafe extern "win64" fn stub_unload(driver_object: *mut DRIVER_OBJECT) {
    let framework_unload = FRAMEWORK_UNLOAD
        .lock()
        .expect("not held across a panic")
        .take();
    if let Some(unload) = framework_unload {
        // SAFETY: the routine the framework put there, with the object it is for.
        unsafe { unload(driver_object) };
    }
    unbind();
}

fn unbind() {
    let mut table = ptr::null_mut();
    let mut info = bind_info(&mut table);
    let unbind: VersionUnbind = loader_routine("WdfVersionUnbind");
    // SAFETY: the globals are those of the bind; the path is not used.
    unsafe { unbind(ptr::null_mut(), &raw mut info, globals().cast()) };
}

/// "KmdfLibrary" in UTF-16, with its final zero. The loader does not write to it.
static COMPONENT: [u16; 12] = {
    let name = b"KmdfLibrary";
    let mut wide = [0; 12];
    let mut index = 0;
    while index < name.len() {
        wide[index] = name[index] as u16;
        index += 1;
    }
    wide
};

/// KMDF 1.33, its table to be found through `table`.
fn bind_info(table: &mut *mut c_void) -> WDF_BIND_INFO {
    WDF_BIND_INFO {
        Size: size_of::<WDF_BIND_INFO>() as u32,
        Component: COMPONENT.as_ptr().cast_mut(),
        Version: WDF_VERSION {
            Major: 1,
            Minor: 33,
            Build: 0,
        },
        FuncCount: WDF_FUNCTION_COUNT as u32,
        FuncTable: ptr::from_mut(table).cast(),
        Module: ptr::null_mut(),
    }
}

type VersionBind = unsafe extern "win64" fn(
    PDRIVER_OBJECT,
    PUNICODE_STRING,
    PWDF_BIND_INFO,
    *mut PWDF_COMPONENT_GLOBALS,
) -> NTSTATUS;
type VersionUnbind =
    unsafe extern "win64" fn(PUNICODE_STRING, PWDF_BIND_INFO, PWDF_COMPONENT_GLOBALS) -> NTSTATUS;

/// A routine of WDFLDR.SYS; `F` is the type that wdf/loader.h declares for it.
fn loader_routine<F: Copy>(name: &str) -> F {
    let (_, address) = machine_wdf::loader_exports()
        .into_iter()
        .find(|(export, _)| *export == name)
        .expect("WDFLDR.SYS exports it");
    // SAFETY: an address of a routine is a function pointer of its declared type.
    unsafe { std::mem::transmute_copy(&address) }
}
