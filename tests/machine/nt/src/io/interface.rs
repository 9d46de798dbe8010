//! Device interfaces: the names under which programs find devices.

use super::names;
use crate::entry::{borrow, enter_with};
use crate::rtl::allocate_string;
use crate::sched::PASSIVE_LEVEL;
use nt_sys::{
    BOOLEAN, GUID, NTSTATUS, PDEVICE_OBJECT, PUNICODE_STRING, PZZWSTR,
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_DEVICE_REQUEST, STATUS_OBJECT_NAME_EXISTS,
    STATUS_OBJECT_NAME_NOT_FOUND, STATUS_SUCCESS, ULONG,
};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// `Flags` of IoGetDeviceInterfaces: those that are not enabled as well.
const INCLUDE_NONACTIVE: ULONG = 1;

#[derive(Debug, Clone)]
struct Interface {
    class: String,
    /// Address of the physical device object.
    device: usize,
    enabled: bool,
}

/// Interfaces by their symbolic link.
static INTERFACES: Mutex<BTreeMap<String, Interface>> = Mutex::new(BTreeMap::new());
/// Instance IDs of physical device objects, as the PnP manager set them.
static INSTANCES: Mutex<BTreeMap<usize, String>> = Mutex::new(BTreeMap::new());

fn interfaces() -> MutexGuard<'static, BTreeMap<String, Interface>> {
    INTERFACES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells the I/O manager the device instance path of a physical device object, for instance
/// `PCI\VEN_1234&DEV_11E8&SUBSYS_11001AF4&REV_10\3&11583659&0&20`. The PnP manager does so before AddDevice.
pub fn set_instance_path(pdo: PDEVICE_OBJECT, path: &str) {
    let mut instances = INSTANCES.lock().unwrap_or_else(PoisonError::into_inner);
    instances.insert(pdo.addr(), path.to_owned());
}

/// The text of a GUID, in braces.
pub fn guid_text(guid: &GUID) -> String {
    let [a, b, rest @ ..] = guid.Data4;
    let tail: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "{{{:08x}-{:04x}-{:04x}-{a:02x}{b:02x}-{tail}}}",
        guid.Data1, guid.Data2, guid.Data3
    )
}

/// Symbolic links of the enabled interfaces of a class, for the user layer.
pub fn enabled(class: &GUID) -> Vec<String> {
    let class = guid_text(class);
    let interfaces = interfaces();
    let wanted = interfaces
        .iter()
        .filter(|(_, interface)| interface.enabled && interface.class == class);
    wanted.map(|(link, _)| link.clone()).collect()
}

/// Opens a device by any of its names; what is behind the name is the file name for the driver. The device object is
/// referenced.
pub fn open(path: &str) -> Option<(PDEVICE_OBJECT, String)> {
    names::open(path)
}

/// IoRegisterDeviceInterface. IRQL = PASSIVE_LEVEL. The caller frees the link with RtlFreeUnicodeString.
///
/// # Safety
/// As for the Windows routine.
pub unsafe extern "win64" fn IoRegisterDeviceInterface(
    pdo: PDEVICE_OBJECT,
    class: *const GUID,
    reference: PUNICODE_STRING,
    link: PUNICODE_STRING,
) -> NTSTATUS {
    let _inside = enter_with("IoRegisterDeviceInterface", PASSIVE_LEVEL, pdo.addr());
    let instances = INSTANCES.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(instance) = instances.get(&pdo.addr()).cloned() else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    drop(instances);
    // SAFETY: by the caller's promise.
    let class = guid_text(unsafe { borrow(class.cast_mut(), "IoRegisterDeviceInterface") });
    // SAFETY: by the caller's promise.
    let reference = unsafe { names::read(reference) }.filter(|text| !text.is_empty());
    let tail = reference
        .map(|text| format!(r"\{text}"))
        .unwrap_or_default();
    let name = format!(r"\??\{}#{class}{tail}", instance.replace('\\', "#"));
    let Some(string) = allocate_string(&name.encode_utf16().collect::<Vec<_>>()) else {
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    let interface = Interface {
        class,
        device: pdo.addr(),
        enabled: false,
    };
    interfaces().entry(name).or_insert(interface);
    // SAFETY: by the caller's promise.
    *unsafe { borrow(link, "IoRegisterDeviceInterface") } = string;
    STATUS_SUCCESS
}

/// IoSetDeviceInterfaceState. IRQL = PASSIVE_LEVEL.
///
/// # Safety
/// `link` is from [`IoRegisterDeviceInterface`].
pub unsafe extern "win64" fn IoSetDeviceInterfaceState(
    link: PUNICODE_STRING,
    enable: BOOLEAN,
) -> NTSTATUS {
    let _inside = enter_with("IoSetDeviceInterfaceState", PASSIVE_LEVEL, link.addr());
    // SAFETY: by the caller's promise.
    let link = unsafe { names::read(link) }.unwrap_or_default();
    let enable = enable != 0;
    let mut interfaces = interfaces();
    let Some(interface) = interfaces.get_mut(&link) else {
        return STATUS_OBJECT_NAME_NOT_FOUND;
    };
    match (interface.enabled, enable) {
        (true, true) => return STATUS_OBJECT_NAME_EXISTS,
        (false, false) => return STATUS_OBJECT_NAME_NOT_FOUND,
        _ => {}
    }
    if enable {
        let device: PDEVICE_OBJECT = std::ptr::with_exposed_provenance_mut(interface.device);
        let Some(target) = names::name_of(device) else {
            return STATUS_INVALID_DEVICE_REQUEST;
        };
        if let Err(status) = names::insert_link(&link, &target) {
            return status;
        }
    } else if let Err(status) = names::remove_link(&link) {
        return status;
    }
    interface.enabled = enable;
    STATUS_SUCCESS
}

/// IoGetDeviceInterfaces. IRQL = PASSIVE_LEVEL. The caller frees the list with ExFreePool.
///
/// # Safety
/// As for the Windows routine.
pub unsafe extern "win64" fn IoGetDeviceInterfaces(
    class: *const GUID,
    pdo: PDEVICE_OBJECT,
    flags: ULONG,
    list: *mut PZZWSTR,
) -> NTSTATUS {
    let _inside = enter_with("IoGetDeviceInterfaces", PASSIVE_LEVEL, pdo.addr());
    // SAFETY: by the caller's promise.
    let class = guid_text(unsafe { borrow(class.cast_mut(), "IoGetDeviceInterfaces") });
    let mut units: Vec<u16> = Vec::new();
    for (link, interface) in interfaces().iter() {
        let is_wanted = interface.class == class
            && (pdo.is_null() || interface.device == pdo.addr())
            && (interface.enabled || flags & INCLUDE_NONACTIVE != 0);
        if is_wanted {
            units.extend(link.encode_utf16());
            units.push(0);
        }
    }
    let Some(string) = allocate_string(&units) else {
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    // SAFETY: by the caller's promise.
    *unsafe { borrow(list, "IoGetDeviceInterfaces") } = string.Buffer;
    STATUS_SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guid() {
        let guid = GUID {
            Data1: 0x1234_5678,
            Data2: 0x9ABC,
            Data3: 0xDEF0,
            Data4: [1, 2, 3, 4, 5, 6, 7, 8],
        };
        assert_eq!(guid_text(&guid), "{12345678-9abc-def0-0102-030405060708}");
    }
}
