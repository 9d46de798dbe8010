//! Driver objects.

use super::irp::IofCompleteRequest;
use super::packet::Packet;
use crate::bugcheck::{self, Stop, code, stop_machine};
use crate::entry::{borrow, enter_with};
use crate::ex::pool::{self, Pool};
use crate::ke::stack::driver_call;
use crate::ob;
use crate::registry;
use crate::sched::{APC_LEVEL, DISPATCH_LEVEL, PASSIVE_LEVEL, irql};
use nt_sys::{
    ACCESS_MASK, DRIVER_EXTENSION, DRIVER_OBJECT, DRIVER_REGKEY_TYPE, NTSTATUS, PDEVICE_OBJECT,
    PDRIVER_OBJECT, PHANDLE, PIRP, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_DEVICE_REQUEST,
    STATUS_INVALID_PARAMETER, STATUS_OBJECT_NAME_COLLISION, STATUS_SUCCESS, ULONG, UNICODE_STRING,
};
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, PoisonError};

const IO_TYPE_DRIVER: i16 = nt_sys::IO_TYPE_DRIVER as i16;
const TAG: u32 = u32::from_le_bytes(*b"Driv");

/// Extensions that drivers allocated, by driver object and identification.
static EXTENSIONS: Mutex<BTreeMap<(usize, usize), usize>> = Mutex::new(BTreeMap::new());

fn extensions() -> MutexGuard<'static, BTreeMap<(usize, usize), usize>> {
    EXTENSIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What lives as long as a driver object: DRIVER_EXTENSION first, then the strings.
#[repr(C)]
struct Companion {
    extension: DRIVER_EXTENSION,
    name: Vec<u16>,
    service: Vec<u16>,
}

/// A counted string over units that stay where they are.
fn counted(units: &mut Vec<u16>) -> UNICODE_STRING {
    units.push(0);
    let bytes = 2 * units.len();
    UNICODE_STRING {
        Length: (bytes - 2) as u16,
        MaximumLength: bytes as u16,
        Buffer: units.as_mut_ptr(),
    }
}

/// Creates the driver object of service `service` (its name in the registry), for an image at these addresses. Every
/// dispatch routine fails requests with STATUS_INVALID_DEVICE_REQUEST until the driver sets its own. The caller owns
/// the reference.
pub fn create(service: &str, image: std::ops::Range<usize>) -> PDRIVER_OBJECT {
    let driver: PDRIVER_OBJECT =
        ob::create(ob::Kind::Driver, size_of::<DRIVER_OBJECT>(), delete).cast();
    let mut companion = Box::new(Companion {
        extension: DRIVER_EXTENSION {
            DriverObject: driver,
            ..DRIVER_EXTENSION::default()
        },
        name: format!(r"\Driver\{service}").encode_utf16().collect(),
        service: service.encode_utf16().collect(),
    });
    companion.extension.ServiceKeyName = counted(&mut companion.service);
    let name = counted(&mut companion.name);
    // SAFETY: the zeroed body of a fresh object, which is a valid DRIVER_OBJECT.
    let object = unsafe { borrow(driver, "IopLoadDriver") };
    object.Type = IO_TYPE_DRIVER;
    object.Size = size_of::<DRIVER_OBJECT>() as i16;
    object.DriverStart = std::ptr::with_exposed_provenance_mut(image.start);
    object.DriverSize = image.len() as ULONG;
    object.DriverName = name;
    object.DriverExtension = Box::into_raw(companion).cast();
    object.MajorFunction = [Some(invalid_request); 28];
    driver
}

fn delete(object: *mut c_void) {
    let driver: PDRIVER_OBJECT = object.cast();
    let own: Vec<usize> = {
        let mut extensions = extensions();
        let (own, others) = std::mem::take(&mut *extensions)
            .into_iter()
            .partition(|((d, _), _)| *d == driver.addr());
        *extensions = others;
        let own: BTreeMap<(usize, usize), usize> = own;
        own.into_values().collect()
    };
    for extension in own {
        // SAFETY: allocated for this driver, which is gone.
        unsafe { pool::free(std::ptr::with_exposed_provenance_mut(extension)) };
    }
    // SAFETY: nobody refers to the driver object any more.
    let companion = unsafe { borrow(driver, "IopDeleteDriver") }.DriverExtension;
    // SAFETY: made with the driver object.
    drop(unsafe { Box::from_raw(companion.cast::<Companion>()) });
}

/// The dispatch routine of requests that a driver does not handle.
unsafe extern "win64" fn invalid_request(_device: PDEVICE_OBJECT, irp: PIRP) -> NTSTATUS {
    // SAFETY: called with an IRP at this driver.
    unsafe { Packet::checked(irp, 3, "IopInvalidDeviceRequest") }
        .set_status(STATUS_INVALID_DEVICE_REQUEST);
    // SAFETY: as above.
    unsafe { IofCompleteRequest(irp, 0) };
    STATUS_INVALID_DEVICE_REQUEST
}

/// Calls a driver's DriverEntry on the current thread. IRQL = PASSIVE_LEVEL, which it must keep.
///
/// # Safety
/// `entry` is the entry point of the image of `driver`; `registry_path` is valid.
pub unsafe fn initialize(
    driver: PDRIVER_OBJECT,
    entry: unsafe extern "win64" fn(PDRIVER_OBJECT, *mut UNICODE_STRING) -> NTSTATUS,
    registry_path: *mut UNICODE_STRING,
) -> NTSTATUS {
    let before = irql();
    let status = driver_call(|| {
        // SAFETY: by the caller's promise.
        unsafe { entry(driver, registry_path) }
    });
    check_irql(before, "DriverEntry");
    status
}

fn check_irql(before: u8, routine: &str) {
    let after = irql();
    if after != before {
        let explanation = format!("{routine} was called at IRQL {before} and returned at {after}");
        bugcheck::stop(
            code::IRQL_UNEXPECTED_VALUE,
            [after.into(), before.into(), 0, 0],
            explanation,
        );
    }
}

/// Unloads a driver without devices: calls its DriverUnload, gives up the reference of [`create`] and checks what it
/// leaves behind: pool is bug check 0xC4, 0x62. Whether the driver can be unloaded. IRQL = PASSIVE_LEVEL.
///
/// # Safety
/// `driver` is from [`create`].
pub unsafe fn unload(driver: PDRIVER_OBJECT) -> bool {
    // SAFETY: by the caller's promise.
    let object = unsafe { borrow(driver, "IopUnloadDriver") };
    let Some(routine) = object
        .DriverUnload
        .filter(|_| object.DeviceObject.is_null())
    else {
        return false;
    };
    let name_string = &raw mut object.DriverName;
    // SAFETY: the name of a driver object is valid.
    let name = unsafe { super::names::read(name_string) }.unwrap_or_default();
    let before = irql();
    driver_call(|| {
        // SAFETY: the routine that the driver set.
        unsafe { routine(driver) }
    });
    check_irql(before, "DriverUnload");
    // SAFETY: the reference of `create`.
    unsafe { ob::dereference(driver.cast()) };
    pool::check_unload(&name);
    true
}

/// IoAllocateDriverObjectExtension. IRQL <= APC_LEVEL.
///
/// # Safety
/// `driver` is a driver object, `extension` valid.
pub unsafe extern "win64" fn IoAllocateDriverObjectExtension(
    driver: PDRIVER_OBJECT,
    identification: *mut c_void,
    size: ULONG,
    extension: *mut *mut c_void,
) -> NTSTATUS {
    let _inside = enter_with("IoAllocateDriverObjectExtension", APC_LEVEL, driver.addr());
    // SAFETY: by the caller's promise.
    let extension = unsafe { borrow(extension, "IoAllocateDriverObjectExtension") };
    *extension = std::ptr::null_mut();
    let key = (driver.addr(), identification.addr());
    if extensions().contains_key(&key) {
        return STATUS_OBJECT_NAME_COLLISION;
    }
    let Some(block) = pool::allocate(Pool::NonPaged, size.max(1) as usize, TAG) else {
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    // SAFETY: a fresh block of this size.
    unsafe { block.cast::<u8>().write_bytes(0, size as usize) };
    extensions().insert(key, block.expose_provenance());
    *extension = block;
    STATUS_SUCCESS
}

/// IoGetDriverObjectExtension. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn IoGetDriverObjectExtension(
    driver: PDRIVER_OBJECT,
    identification: *mut c_void,
) -> *mut c_void {
    let _inside = enter_with("IoGetDriverObjectExtension", DISPATCH_LEVEL, driver.addr());
    let found = extensions()
        .get(&(driver.addr(), identification.addr()))
        .copied();
    found.map_or(std::ptr::null_mut(), std::ptr::with_exposed_provenance_mut)
}

/// IoOpenDriverRegistryKey. IRQL = PASSIVE_LEVEL. The Parameters key of the service.
///
/// # Safety
/// `driver` is a driver object, `key` valid.
pub unsafe extern "win64" fn IoOpenDriverRegistryKey(
    driver: PDRIVER_OBJECT,
    key_type: DRIVER_REGKEY_TYPE,
    _access: ACCESS_MASK,
    flags: ULONG,
    key: PHANDLE,
) -> NTSTATUS {
    let _inside = enter_with("IoOpenDriverRegistryKey", PASSIVE_LEVEL, driver.addr());
    if flags != 0 {
        return STATUS_INVALID_PARAMETER;
    }
    if key_type != nt_sys::_DRIVER_REGKEY_TYPE::DriverRegKeyParameters {
        stop_machine(
            Stop::Unimplemented,
            format!("IoOpenDriverRegistryKey for key type {key_type}"),
        );
    }
    // SAFETY: by the caller's promise.
    let extension = unsafe { borrow(driver, "IoOpenDriverRegistryKey") }.DriverExtension;
    // SAFETY: the extension of a driver object.
    let service = &raw mut unsafe { borrow(extension, "IoOpenDriverRegistryKey") }.ServiceKeyName;
    // SAFETY: its name is valid.
    let service = unsafe { super::names::read(service) }.unwrap_or_default();
    let path = format!(r"{}\Parameters", registry::service_path(&service));
    match registry::open(&path) {
        Ok(handle) => {
            // SAFETY: by the caller's promise.
            *unsafe { borrow(key, "IoOpenDriverRegistryKey") } = handle;
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}
