//! WDFDRIVER (`fxdriver.cpp`, `fxdriverapi.cpp`).

use std::sync::Arc;

use crate::flat::*;
use machine_nt::ke::stack::{driver_call, machine_code};

use crate::device::{self, DeviceInit};
use crate::globals::DriverGlobals;
use crate::lock::Record;
use crate::object::attributes::Rules;
use crate::object::{self, Attributes, Header, Kind, Object, Parent, Typed, handle};
use crate::{registry, string, trace, verifier, wdm};

/// The drivers that exist, by driver object: the kernel's entry points know no more.
static DRIVERS: Record<Vec<Arc<Driver>>> = Record::new(Vec::new());

/// A driver.
pub(crate) struct Driver {
    header: Header,
    device_add: PFN_WDF_DRIVER_DEVICE_ADD,
    unload: PFN_WDF_DRIVER_UNLOAD,
    registry_path: Vec<u16>,
    level: WDF_EXECUTION_LEVEL,
    scope: WDF_SYNCHRONIZATION_SCOPE,
}

impl Object for Driver {
    fn header(&self) -> &Header {
        &self.header
    }

    fn dump(&self) -> Vec<String> {
        let globals = self.header.globals();
        vec![
            format!(
                "registry path {}",
                String::from_utf16_lossy(&self.registry_path)
            ),
            format!(
                "verifier {}",
                if globals.verifier_on() { "on" } else { "off" }
            ),
        ]
    }
}

impl Typed for Driver {
    const KIND: Kind = Kind::Driver;
}

impl Driver {
    fn find(driver_object: *mut DRIVER_OBJECT) -> Option<Arc<Self>> {
        DRIVERS.with(|all| {
            all.iter()
                .find(|driver| driver.globals().driver_object() == driver_object)
                .cloned()
        })
    }

    /// Forgets the driver: it is being unloaded.
    pub(crate) fn forget(driver: &Arc<Self>) {
        DRIVERS.with(|all| all.retain(|other| !Arc::ptr_eq(other, driver)));
        driver.globals().set_driver(None);
    }

    /// The driver's globals.
    pub(crate) fn globals(&self) -> &'static DriverGlobals {
        self.header.globals()
    }

    /// Execution level and synchronization scope its devices inherit.
    pub(crate) fn constraints(&self) -> (WDF_EXECUTION_LEVEL, WDF_SYNCHRONIZATION_SCOPE) {
        (self.level, self.scope)
    }

    fn add_device(self: &Arc<Self>, physical: PDEVICE_OBJECT) -> NTSTATUS {
        let mut init = DeviceInit::for_function(self.clone(), physical);
        let Some(device_add) = self.device_add else {
            return STATUS_SUCCESS;
        };
        // SAFETY: the driver registered the callback; the init structure outlives the call.
        let status =
            driver_call(|| unsafe { device_add(self.header.handle() as WDFDRIVER, init.as_ddi()) });
        match init.created() {
            None if init.is_filter() && !wdm::success(status) => STATUS_SUCCESS,
            None => status,
            Some(device) if wdm::success(status) => {
                device.finish_initializing();
                status
            }
            Some(device) => device::delete_failed_add(&device, status),
        }
    }
}

unsafe extern "win64" fn add_device(
    driver_object: PDRIVER_OBJECT,
    physical: PDEVICE_OBJECT,
) -> NTSTATUS {
    let _inside = machine_code();
    match Driver::find(driver_object) {
        Some(driver) => driver.add_device(physical),
        None => STATUS_UNSUCCESSFUL,
    }
}

unsafe extern "win64" fn unload(driver_object: PDRIVER_OBJECT) {
    let _inside = machine_code();
    let Some(driver) = Driver::find(driver_object) else {
        return;
    };
    if let Some(callback) = driver.unload {
        // SAFETY: the driver registered the callback.
        driver_call(|| unsafe { callback(driver.header.handle() as WDFDRIVER) });
    }
    Driver::forget(&driver);
    object::delete(&driver);
}

fn validate(globals: &DriverGlobals, config: &WDF_DRIVER_CONFIG) -> Result<(), NTSTATUS> {
    let allowed = (WdfDriverInitNonPnpDriver
        | WdfDriverInitNoDispatchOverride
        | WdfDriverInitCompanion) as u32;
    let flags = config.DriverInitFlags;
    if config.Size as usize != size_of::<WDF_DRIVER_CONFIG>() {
        trace::error(
            globals,
            &format!(
                "WDF_DRIVER_CONFIG size {:#x} is not {:#x}",
                config.Size,
                size_of::<WDF_DRIVER_CONFIG>()
            ),
        );
        return Err(STATUS_INFO_LENGTH_MISMATCH);
    }
    if flags & !allowed != 0 {
        return Err(STATUS_INVALID_PARAMETER);
    }
    if flags & WdfDriverInitNonPnpDriver as u32 != 0 && config.EvtDriverDeviceAdd.is_some() {
        return Err(STATUS_INVALID_PARAMETER);
    }
    Ok(())
}

/// Creates the driver object, once, from `DriverEntry`. `PASSIVE_LEVEL`.
///
/// Errors: `STATUS_INFO_LENGTH_MISMATCH`, `STATUS_INVALID_PARAMETER` (unknown flags; a non-PnP driver with EvtDriverDeviceAdd),
/// `STATUS_DRIVER_INTERNAL_ERROR` if it exists already, those of the attributes.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDriverCreate(
    globals: PWDF_DRIVER_GLOBALS,
    driver_object: PDRIVER_OBJECT,
    registry_path: PCUNICODE_STRING,
    attributes: PWDF_OBJECT_ATTRIBUTES,
    config: PWDF_DRIVER_CONFIG,
    driver: *mut WDFDRIVER,
) -> NTSTATUS {
    let globals = DriverGlobals::from_ddi(globals);
    verifier::not_null(globals, driver_object, "DriverObject");
    verifier::not_null(globals, registry_path.cast_mut(), "RegistryPath");
    verifier::not_null(globals, config, "DriverConfig");
    if let Err(status) = verifier::check_irql(globals, PASSIVE_LEVEL) {
        return status;
    }
    // SAFETY: checked not to be null; the driver's structure.
    let config = unsafe { *config };
    if let Err(status) = validate(globals, &config) {
        return status;
    }
    if globals.driver().is_some() {
        trace::error(globals, "WDFDRIVER is created twice");
        return STATUS_DRIVER_INTERNAL_ERROR;
    }
    let rules = Rules {
        parent_forbidden: true,
        ..Rules::CALLBACKS
    };
    // SAFETY: null or the driver's structure.
    let attributes = match unsafe { Attributes::check(globals, attributes, rules) } {
        Ok(attributes) => attributes,
        Err(status) => return status,
    };
    let chosen = |choice: Option<i64>, inherit: i64, default: i64| {
        choice.filter(|&value| value != inherit).unwrap_or(default)
    };
    let created = Arc::new(Driver {
        header: Header::new(Kind::Driver, globals),
        device_add: config.EvtDriverDeviceAdd,
        unload: config.EvtDriverUnload,
        // SAFETY: the I/O manager's string.
        registry_path: unsafe { wdm::wide(registry_path) },
        level: chosen(
            attributes.as_ref().map(|a| a.execution_level() as i64),
            WdfExecutionLevelInheritFromParent as i64,
            WdfExecutionLevelDispatch as i64,
        ) as _,
        scope: chosen(
            attributes
                .as_ref()
                .map(|a| a.synchronization_scope() as i64),
            WdfSynchronizationScopeInheritFromParent as i64,
            WdfSynchronizationScopeNone as i64,
        ) as _,
    });
    created.header.mark_no_delete();
    let value = match object::commit(&created, attributes.as_ref(), Parent::None) {
        Ok(value) => value,
        Err(status) => return status,
    };
    globals.set_driver(Some(created.clone()));
    DRIVERS.with(|all| all.push(created));
    install(driver_object, &config);
    if !driver.is_null() {
        // SAFETY: the driver's variable.
        unsafe { driver.write(value as WDFDRIVER) };
    }
    STATUS_SUCCESS
}

/// Fills the driver object's entry points (`FxDriver::Initialize`).
fn install(driver_object: PDRIVER_OBJECT, config: &WDF_DRIVER_CONFIG) {
    let flags = config.DriverInitFlags;
    if flags & WdfDriverInitNonPnpDriver as u32 == 0 || config.EvtDriverUnload.is_some() {
        // SAFETY: the driver's own object, during its DriverEntry.
        unsafe { (*driver_object).DriverUnload = Some(unload) };
    }
    if flags & WdfDriverInitNonPnpDriver as u32 == 0 {
        // SAFETY: as above.
        let extension = unsafe { (*driver_object).DriverExtension };
        // SAFETY: the I/O manager gives every driver object an extension.
        unsafe { (*extension).AddDevice = Some(add_device) };
    }
    if flags & WdfDriverInitNoDispatchOverride as u32 == 0 {
        // SAFETY: as above.
        let table = unsafe { &mut (*driver_object).MajorFunction };
        table.fill(Some(device::dispatch));
    }
}

/// The driver's registry path, as text that stays valid. `PASSIVE_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDriverGetRegistryPath(
    globals: PWDF_DRIVER_GLOBALS,
    driver: WDFDRIVER,
) -> PWSTR {
    let driver = handle::get::<Driver>(DriverGlobals::from_ddi(globals), driver as usize);
    string::persistent(&driver.registry_path)
}

/// The driver's WDM driver object. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDriverWdmGetDriverObject(
    globals: PWDF_DRIVER_GLOBALS,
    driver: WDFDRIVER,
) -> PDRIVER_OBJECT {
    handle::get::<Driver>(DriverGlobals::from_ddi(globals), driver as usize)
        .globals()
        .driver_object()
}

/// Opens the driver's `Parameters` key. `PASSIVE_LEVEL`.
///
/// Errors: those of the attributes, of `ZwOpenKey`, `STATUS_INSUFFICIENT_RESOURCES`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDriverOpenParametersRegistryKey(
    globals: PWDF_DRIVER_GLOBALS,
    driver: WDFDRIVER,
    access: ACCESS_MASK,
    attributes: PWDF_OBJECT_ATTRIBUTES,
    key: *mut WDFKEY,
) -> NTSTATUS {
    let globals = DriverGlobals::from_ddi(globals);
    let driver = handle::get::<Driver>(globals, driver as usize);
    verifier::not_null(globals, key, "Key");
    // SAFETY: null or the driver's structure.
    let attributes = match unsafe { Attributes::check(globals, attributes, Rules::PLAIN) } {
        Ok(attributes) => attributes,
        Err(status) => return status,
    };
    let path: Vec<u16> = driver
        .registry_path
        .iter()
        .copied()
        .chain(r"\Parameters".encode_utf16())
        .collect();
    let opened = registry::open_path(&path, access).and_then(|opened| {
        registry::Key::publish(globals, opened, attributes.as_ref(), Parent::Driver)
    });
    match opened {
        Ok(value) => {
            // SAFETY: checked not to be null.
            unsafe { key.write(value as WDFKEY) };
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

/// Whether the framework is at least of a version. IRQL <= `PASSIVE_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDriverIsVersionAvailable(
    globals: PWDF_DRIVER_GLOBALS,
    driver: WDFDRIVER,
    version: PWDF_DRIVER_VERSION_AVAILABLE_PARAMS,
) -> BOOLEAN {
    let globals = DriverGlobals::from_ddi(globals);
    handle::get::<Driver>(globals, driver as usize);
    verifier::not_null(globals, version, "VersionAvailableParams");
    // SAFETY: checked not to be null; the driver's structure.
    let version = unsafe { *version };
    if version.Size as usize != size_of::<WDF_DRIVER_VERSION_AVAILABLE_PARAMS>() {
        verifier::break_point(globals);
        return FALSE as BOOLEAN;
    }
    BOOLEAN::from(version.MajorVersion == 1 && version.MinorVersion <= 33)
}

/// Writes the framework's version as text, "Kernel Mode Driver Framework version 1.33.x". `PASSIVE_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDriverRetrieveVersionString(
    globals: PWDF_DRIVER_GLOBALS,
    driver: WDFDRIVER,
    text: WDFSTRING,
) -> NTSTATUS {
    let globals = DriverGlobals::from_ddi(globals);
    handle::get::<Driver>(globals, driver as usize);
    handle::get::<string::Text>(globals, text as usize).assign(&wdm::utf16(
        "Kernel Mode Driver Framework version 1.33.22621",
    ));
    STATUS_SUCCESS
}
