//! What drivers ask the PnP manager about their devices, and tell it: properties, registry keys, invalidated state.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use machine_nt::bugcheck::{Stop, stop_machine};
use machine_nt::hal::HalHooks;
use machine_nt::registry;
use nt_sys::{
    _DEVICE_REGISTRY_PROPERTY as Property, ACCESS_MASK, DEVICE_REGISTRY_PROPERTY,
    DEVICE_RELATION_TYPE, DEVPROPKEY, DEVPROPTYPE, GUID, IRP_MJ_PNP, IRP_MN_QUERY_PNP_DEVICE_STATE,
    LCID, NTSTATUS, PDEVICE_OBJECT, PDEVPROPTYPE, PHANDLE, PLUGPLAY_REGKEY_DEVICE,
    PLUGPLAY_REGKEY_DRIVER, PNP_DEVICE_FAILED, PNP_DEVICE_REMOVED,
    PNP_DEVICE_RESOURCE_REQUIREMENTS_CHANGED, PULONG, PVOID, STATUS_BUFFER_TOO_SMALL,
    STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_PARAMETER, STATUS_OBJECT_NAME_NOT_FOUND,
    STATUS_SUCCESS, STATUS_UNSUCCESSFUL, ULONG,
};

use super::{Node, Phase, node, remove, request_power_irp, serial, start};
use crate::{bus_driver, dma, interrupt, irp, mmio, pool};

/// The routines through which `machine_nt` forwards to the HAL.
pub(crate) fn hooks() -> HalHooks {
    HalHooks {
        get_dma_adapter: dma::get_dma_adapter,
        connect_interrupt_ex: interrupt::connect_ex,
        disconnect_interrupt_ex: interrupt::disconnect_ex,
        report_interrupt_active: interrupt::report_active,
        report_interrupt_inactive: interrupt::report_inactive,
        get_device_property,
        get_device_property_data,
        set_device_property_data,
        open_device_registry_key,
        invalidate_device_state,
        invalidate_device_relations,
        request_device_eject,
        request_power_irp,
        map_io_space_ex: mmio::map_io_space_ex,
        unmap_io_space: mmio::unmap_io_space,
    }
}

/// Writes a property if it fits, and its size in any case.
///
/// # Safety
/// `buffer` has room for `length` bytes, `result` is valid.
unsafe fn answer(bytes: &[u8], length: ULONG, buffer: PVOID, result: PULONG) -> NTSTATUS {
    // SAFETY: the caller vouches for the result.
    unsafe { result.write(bytes.len() as ULONG) };
    if bytes.len() > length as usize {
        return STATUS_BUFFER_TOO_SMALL;
    }
    // SAFETY: the buffer is as long as the caller says, and that is enough.
    unsafe {
        buffer
            .cast::<u8>()
            .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len())
    };
    STATUS_SUCCESS
}

fn utf16(units: &[u16]) -> Vec<u8> {
    units.iter().flat_map(|unit| unit.to_le_bytes()).collect()
}

fn text(value: &str) -> Vec<u8> {
    utf16(&pool::terminated(value))
}

fn guid_bytes(guid: &GUID) -> Vec<u8> {
    [
        &guid.Data1.to_le_bytes()[..],
        &guid.Data2.to_le_bytes(),
        &guid.Data3.to_le_bytes(),
        &guid.Data4,
    ]
    .concat()
}

/// What a device is called that no INF has given a name.
fn description(node: &Node) -> &'static str {
    bus_driver::child(node.pdo).map_or("", |child| child.device().place().description)
}

/// The bus that found a device: the first part of its device ID.
fn enumerator(node: &Node) -> &str {
    node.instance_path.split('\\').next().unwrap_or_default()
}

/// A property of a device; `Err` with the status if there is none.
fn property(node: &Node, property: DEVICE_REGISTRY_PROPERTY) -> Result<Vec<u8>, NTSTATUS> {
    let number = |value: u32| value.to_le_bytes().to_vec();
    Ok(match property {
        Property::DevicePropertyDeviceDescription => text(description(node)),
        Property::DevicePropertyHardwareID => utf16(&pool::list(&node.hardware_ids)),
        Property::DevicePropertyCompatibleIDs => utf16(&pool::list(&node.compatible_ids)),
        Property::DevicePropertyLocationInformation => text(&node.location),
        Property::DevicePropertyBusTypeGuid => guid_bytes(&node.bus.BusTypeGuid),
        Property::DevicePropertyLegacyBusType => number(node.bus.LegacyBusType.cast_unsigned()),
        Property::DevicePropertyBusNumber => number(node.bus.BusNumber),
        Property::DevicePropertyEnumeratorName => text(enumerator(node)),
        Property::DevicePropertyAddress => number(node.capabilities.Address),
        Property::DevicePropertyUINumber => number(node.capabilities.UINumber),
        Property::DevicePropertyDriverKeyName => {
            text(&driver_key_name(node).ok_or(STATUS_OBJECT_NAME_NOT_FOUND)?)
        }
        // InstallStateInstalled, RemovalPolicyExpectNoRemoval.
        Property::DevicePropertyInstallState => number(0),
        Property::DevicePropertyRemovalPolicy => number(1),
        Property::DevicePropertyClassName
        | Property::DevicePropertyClassGuid
        | Property::DevicePropertyManufacturer
        | Property::DevicePropertyFriendlyName
        | Property::DevicePropertyContainerID => return Err(STATUS_OBJECT_NAME_NOT_FOUND),
        other => stop_machine(
            Stop::Unimplemented,
            format_args!("IoGetDeviceProperty: property {other:#x}"),
        ),
    })
}

/// IoGetDeviceProperty.
unsafe extern "win64" fn get_device_property(
    device: PDEVICE_OBJECT,
    which: DEVICE_REGISTRY_PROPERTY,
    length: ULONG,
    buffer: PVOID,
    result: PULONG,
) -> NTSTATUS {
    let Some(node) = node(device as u64) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    match property(&node, which) {
        // SAFETY: the caller passes a buffer of that length, and where it wants the size.
        Ok(bytes) => unsafe { answer(&bytes, length, buffer, result) },
        Err(status) => status,
    }
}

/// What identifies a property of the unified model: its category and number.
type Key = ([u8; 16], u32);

/// The type of a property and its bytes.
type Value = (DEVPROPTYPE, Vec<u8>);

/// Properties that were set, by device.
static SET: Mutex<BTreeMap<(u64, Key), Value>> = Mutex::new(BTreeMap::new());

/// # Safety
/// `key` points to a property key.
unsafe fn key_of(key: *const DEVPROPKEY) -> Key {
    // SAFETY: the caller vouches for the key.
    let key = unsafe { &*key };
    let mut category = [0; 16];
    category.copy_from_slice(&guid_bytes(&key.fmtid));
    (category, key.pid)
}

/// IoGetDevicePropertyData: properties that a driver set; there are no others.
unsafe extern "win64" fn get_device_property_data(
    pdo: PDEVICE_OBJECT,
    key: *const DEVPROPKEY,
    _lcid: LCID,
    _flags: ULONG,
    size: ULONG,
    data: PVOID,
    required: PULONG,
    kind: PDEVPROPTYPE,
) -> NTSTATUS {
    // SAFETY: the caller passes a key.
    let key = unsafe { key_of(key) };
    let value = SET
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&(pdo as u64, key))
        .cloned();
    let Some((found, bytes)) = value else {
        return STATUS_OBJECT_NAME_NOT_FOUND;
    };
    // SAFETY: the caller passes where it wants the type.
    unsafe { kind.write(found) };
    // SAFETY: the caller passes a buffer of that size, and where it wants the size.
    unsafe { answer(&bytes, size, data, required) }
}

/// IoSetDevicePropertyData.
unsafe extern "win64" fn set_device_property_data(
    pdo: PDEVICE_OBJECT,
    key: *const DEVPROPKEY,
    _lcid: LCID,
    _flags: ULONG,
    kind: DEVPROPTYPE,
    size: ULONG,
    data: PVOID,
) -> NTSTATUS {
    // SAFETY: the caller passes a key.
    let key = unsafe { key_of(key) };
    let mut set = SET.lock().unwrap_or_else(PoisonError::into_inner);
    if data.is_null() {
        set.remove(&(pdo as u64, key));
        return STATUS_SUCCESS;
    }
    // SAFETY: the caller passes a buffer of that size.
    let bytes = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), size as usize) };
    set.insert((pdo as u64, key), (kind, bytes.to_vec()));
    STATUS_SUCCESS
}

/// Name of a device's software key below the class keys.
fn driver_key_name(node: &Node) -> Option<String> {
    node.status()
        .service
        .as_ref()
        .map(|service| format!(r"{service}\0000"))
}

/// IoOpenDeviceRegistryKey.
unsafe extern "win64" fn open_device_registry_key(
    device: PDEVICE_OBJECT,
    kind: ULONG,
    _access: ACCESS_MASK,
    key: PHANDLE,
) -> NTSTATUS {
    let Some(node) = node(device as u64) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    let path = match kind {
        PLUGPLAY_REGKEY_DEVICE => format!(r"{}\Device Parameters", node.hardware_key()),
        PLUGPLAY_REGKEY_DRIVER => match driver_key_name(&node) {
            Some(name) => {
                format!(r"\Registry\Machine\System\CurrentControlSet\Control\Class\{name}")
            }
            None => return STATUS_UNSUCCESSFUL,
        },
        _ => return STATUS_INVALID_PARAMETER,
    };
    registry::create_key(&path);
    match registry::open(&path) {
        Ok(handle) => {
            // SAFETY: the caller passes where it wants the handle.
            unsafe { key.write(handle) };
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

/// IoInvalidateDeviceState: the PnP manager asks for the state later.
unsafe extern "win64" fn invalidate_device_state(pdo: PDEVICE_OBJECT) {
    if let Some(node) = node(pdo as u64) {
        serial::later(move || check_state(&node));
    }
}

/// Asks a started device for its state and does what it says.
pub fn check_state(node: &Arc<Node>) {
    if node.phase() != Phase::Started {
        return;
    }
    let outcome = irp::send(
        node.device(),
        irp::location(IRP_MJ_PNP, IRP_MN_QUERY_PNP_DEVICE_STATE),
    );
    let Ok(state) = outcome.result() else { return };
    let state = state as u32;
    if state & (PNP_DEVICE_FAILED | PNP_DEVICE_REMOVED) != 0 {
        remove::surprise(node);
    } else if state & PNP_DEVICE_RESOURCE_REQUIREMENTS_CHANGED != 0 {
        // A refusal leaves the device as it is; a failed start has removed it.
        let _ = start::rebalance(node);
    }
}

/// IoInvalidateDeviceRelations.
unsafe extern "win64" fn invalidate_device_relations(
    _device: PDEVICE_OBJECT,
    _kind: DEVICE_RELATION_TYPE,
) {
    stop_machine(Stop::Unimplemented, "IoInvalidateDeviceRelations")
}

/// IoRequestDeviceEject.
unsafe extern "win64" fn request_device_eject(_pdo: PDEVICE_OBJECT) {
    stop_machine(Stop::Unimplemented, "IoRequestDeviceEject")
}
