//! What the physical device objects of all buses answer to PnP and power requests.

use nt_sys::{
    _BUS_QUERY_ID_TYPE, _DEVICE_POWER_STATE, _DEVICE_RELATION_TYPE, _DEVICE_TEXT_TYPE,
    _POWER_STATE_TYPE, _SYSTEM_POWER_STATE, GUID, IO_STACK_LOCATION, IRP_MN_CANCEL_REMOVE_DEVICE,
    IRP_MN_CANCEL_STOP_DEVICE, IRP_MN_DEVICE_USAGE_NOTIFICATION, IRP_MN_QUERY_BUS_INFORMATION,
    IRP_MN_QUERY_CAPABILITIES, IRP_MN_QUERY_DEVICE_RELATIONS, IRP_MN_QUERY_DEVICE_TEXT,
    IRP_MN_QUERY_ID, IRP_MN_QUERY_INTERFACE, IRP_MN_QUERY_POWER, IRP_MN_QUERY_REMOVE_DEVICE,
    IRP_MN_QUERY_RESOURCE_REQUIREMENTS, IRP_MN_QUERY_STOP_DEVICE, IRP_MN_READ_CONFIG,
    IRP_MN_REMOVE_DEVICE, IRP_MN_SET_POWER, IRP_MN_START_DEVICE, IRP_MN_STOP_DEVICE,
    IRP_MN_SURPRISE_REMOVAL, IRP_MN_WRITE_CONFIG, NTSTATUS, PCI_WHICHSPACE_CONFIG, PDEVICE_OBJECT,
    STATUS_BUFFER_TOO_SMALL, STATUS_INVALID_PARAMETER, STATUS_NO_SUCH_DEVICE, STATUS_SUCCESS,
};

use super::{BusDevice, Child, child};
use crate::irp::Irp;
use crate::pci::{self, PciFunction, reset};
use crate::{pnp, pool, resources};

/// PnP requests.
pub fn pnp(pdo: PDEVICE_OBJECT, irp: Irp) -> NTSTATUS {
    let Some(child) = child(pdo as u64) else {
        return irp.complete(STATUS_NO_SUCH_DEVICE);
    };
    let device = child.device();
    let location = irp.location();
    match irp.minor() {
        IRP_MN_START_DEVICE => {
            let status = start(device, &location);
            irp.complete(status)
        }
        IRP_MN_STOP_DEVICE => {
            device.stop();
            irp.complete(STATUS_SUCCESS)
        }
        IRP_MN_REMOVE_DEVICE => {
            device.stop();
            let gone = device.is_gone();
            let status = irp.complete(STATUS_SUCCESS);
            if gone {
                super::delete(pdo);
            }
            status
        }
        IRP_MN_SURPRISE_REMOVAL
        | IRP_MN_QUERY_STOP_DEVICE
        | IRP_MN_CANCEL_STOP_DEVICE
        | IRP_MN_QUERY_REMOVE_DEVICE
        | IRP_MN_CANCEL_REMOVE_DEVICE
        | IRP_MN_DEVICE_USAGE_NOTIFICATION => irp.complete(STATUS_SUCCESS),
        IRP_MN_QUERY_ID => query_id(device, irp, &location),
        IRP_MN_QUERY_RESOURCE_REQUIREMENTS => {
            let requirements = device.requirements(pnp::messages_allowed(pdo as u64));
            let list =
                resources::requirements_list(&requirements, &device.bus(), device.place().slot);
            irp.succeed_with(list.into_raw() as u64)
        }
        IRP_MN_QUERY_CAPABILITIES => {
            let status = query_capabilities(device, &location);
            irp.complete(status)
        }
        IRP_MN_QUERY_INTERFACE => query_interface(&child, pdo, irp, &location),
        IRP_MN_QUERY_DEVICE_RELATIONS => {
            // SAFETY: the minor function names this member.
            let kind = unsafe { location.Parameters.QueryDeviceRelations.Type };
            match kind {
                _DEVICE_RELATION_TYPE::TargetDeviceRelation => {
                    irp.succeed_with(super::device_relations(&[pdo as u64]))
                }
                _ => irp.complete_unchanged(),
            }
        }
        IRP_MN_QUERY_BUS_INFORMATION => irp.succeed_with(pool::copy(&[device.bus()])),
        IRP_MN_QUERY_DEVICE_TEXT => query_text(device, irp, &location),
        IRP_MN_READ_CONFIG | IRP_MN_WRITE_CONFIG => match &child {
            Child::Pci(function) => config(function, irp, &location),
            Child::Acpi(_) => irp.complete_unchanged(),
        },
        _ => irp.complete_unchanged(),
    }
}

/// Power requests.
pub fn power(pdo: PDEVICE_OBJECT, irp: Irp) -> NTSTATUS {
    let Some(child) = child(pdo as u64) else {
        return irp.complete(STATUS_NO_SUCH_DEVICE);
    };
    match irp.minor() {
        IRP_MN_QUERY_POWER => irp.complete(STATUS_SUCCESS),
        IRP_MN_SET_POWER => {
            let location = irp.location();
            // SAFETY: the minor function names this member.
            let power = unsafe { location.Parameters.Power };
            if power.Type == _POWER_STATE_TYPE::DevicePowerState {
                // SAFETY: the type names this member.
                match unsafe { power.State.DeviceState } {
                    _DEVICE_POWER_STATE::PowerDeviceD0 => child.device().wake(),
                    _ => child.device().sleep(),
                }
            }
            irp.complete(STATUS_SUCCESS)
        }
        _ => irp.complete_unchanged(),
    }
}

/// Starts the device with the resources of a start request.
fn start(device: &dyn BusDevice, location: &IO_STACK_LOCATION) -> NTSTATUS {
    // SAFETY: the minor function names this member.
    let parameters = unsafe { location.Parameters.StartDevice };
    // SAFETY: the PnP manager passes a resource list or NULL.
    let memory = unsafe { resources::read_memory(parameters.AllocatedResources) };
    // SAFETY: as above.
    let messages = unsafe {
        resources::read_messages(
            parameters.AllocatedResources,
            parameters.AllocatedResourcesTranslated,
        )
    };
    let needed = device
        .requirements(0)
        .iter()
        .flatten()
        .filter(|need| matches!(need[0], resources::Requirement::Memory { .. }))
        .count();
    if memory.len() != needed {
        return STATUS_INVALID_PARAMETER;
    }
    let memory: Vec<u64> = memory.into_iter().map(|(start, _)| start).collect();
    device.start(memory, messages);
    STATUS_SUCCESS
}

fn query_id(device: &dyn BusDevice, irp: Irp, location: &IO_STACK_LOCATION) -> NTSTATUS {
    // SAFETY: the minor function names this member.
    let kind = unsafe { location.Parameters.QueryId.IdType };
    let identifiers = device.identifiers();
    let text = match kind {
        _BUS_QUERY_ID_TYPE::BusQueryDeviceID => pool::terminated(&identifiers.device),
        _BUS_QUERY_ID_TYPE::BusQueryInstanceID => pool::terminated(&identifiers.instance),
        _BUS_QUERY_ID_TYPE::BusQueryHardwareIDs => pool::list(&identifiers.hardware),
        _BUS_QUERY_ID_TYPE::BusQueryCompatibleIDs => pool::list(&identifiers.compatible),
        _ => return irp.complete_unchanged(),
    };
    irp.succeed_with(pool::copy(&text))
}

fn query_text(device: &dyn BusDevice, irp: Irp, location: &IO_STACK_LOCATION) -> NTSTATUS {
    // SAFETY: the minor function names this member.
    let kind = unsafe { location.Parameters.QueryDeviceText.DeviceTextType };
    let place = device.place();
    let text = match kind {
        _DEVICE_TEXT_TYPE::DeviceTextDescription => place.description.to_owned(),
        _DEVICE_TEXT_TYPE::DeviceTextLocationInformation => place.location,
        _ => return irp.complete_unchanged(),
    };
    irp.succeed_with(pool::copy(&pool::terminated(&text)))
}

fn query_capabilities(device: &dyn BusDevice, location: &IO_STACK_LOCATION) -> NTSTATUS {
    // SAFETY: the minor function names this member.
    let capabilities = unsafe { location.Parameters.DeviceCapabilities.Capabilities };
    // SAFETY: the sender of the request passes its structure.
    let Some(capabilities) = (unsafe { capabilities.as_mut() }) else {
        return STATUS_INVALID_PARAMETER;
    };
    if capabilities.Version != 1 || usize::from(capabilities.Size) < size_of_val(capabilities) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    let place = device.place();
    capabilities.Address = place.address;
    capabilities.UINumber = place.number;
    capabilities.set_UniqueID(0);
    capabilities.set_SurpriseRemovalOK(0);
    capabilities.DeviceState =
        [_DEVICE_POWER_STATE::PowerDeviceD3; _SYSTEM_POWER_STATE::PowerSystemMaximum as usize];
    capabilities.DeviceState[_SYSTEM_POWER_STATE::PowerSystemUnspecified as usize] =
        _DEVICE_POWER_STATE::PowerDeviceUnspecified;
    capabilities.DeviceState[_SYSTEM_POWER_STATE::PowerSystemWorking as usize] =
        _DEVICE_POWER_STATE::PowerDeviceD0;
    capabilities.SystemWake = _SYSTEM_POWER_STATE::PowerSystemUnspecified;
    capabilities.DeviceWake = _DEVICE_POWER_STATE::PowerDeviceUnspecified;
    STATUS_SUCCESS
}

/// Functions of the PCI bus offer BUS_INTERFACE_STANDARD, and DEVICE_RESET_INTERFACE_STANDARD if they can be reset alone;
/// what ACPI describes offers neither, and the HAL looks after it.
fn query_interface(
    child: &Child,
    pdo: PDEVICE_OBJECT,
    irp: Irp,
    location: &IO_STACK_LOCATION,
) -> NTSTATUS {
    let Child::Pci(function) = child else {
        return irp.complete_unchanged();
    };
    // SAFETY: the minor function names this member.
    let query = unsafe { location.Parameters.QueryInterface };
    // SAFETY: the sender of the request names the interface.
    let wanted = unsafe { *query.InterfaceType };
    let room = (query.Interface.cast(), query.Size);
    if same(&wanted, &pci::BUS_INTERFACE) {
        let interface = pci::bus_interface(pdo.cast());
        // SAFETY: the sender passes memory of the size it states.
        return unsafe { answer(pdo, irp, interface, size_of_val(&interface), room) };
    }
    let offered = same(&wanted, &reset::RESET_INTERFACE) && reset::is_offered(function);
    match reset::size_of_version(query.Version).filter(|_| offered) {
        Some(size) => {
            let interface = reset::reset_interface(pdo.cast(), query.Version);
            // SAFETY: as above.
            unsafe { answer(pdo, irp, interface, size, room) }
        }
        None => irp.complete_unchanged(),
    }
}

/// Writes the first `size` bytes of an interface where the sender of the request wants it.
///
/// # Safety
/// The memory has that many bytes, and the interface no fewer than `size`.
unsafe fn answer<T>(
    pdo: PDEVICE_OBJECT,
    irp: Irp,
    interface: T,
    size: usize,
    (memory, length): (*mut u8, u16),
) -> NTSTATUS {
    if usize::from(length) < size {
        return irp.complete(STATUS_BUFFER_TOO_SMALL);
    }
    // SAFETY: the device exists.
    unsafe { pci::hand_out(pdo.cast()) };
    // SAFETY: the caller vouches for both.
    unsafe { memory.copy_from_nonoverlapping((&raw const interface).cast(), size) };
    irp.complete(STATUS_SUCCESS)
}

fn same(a: &GUID, b: &GUID) -> bool {
    (a.Data1, a.Data2, a.Data3, a.Data4) == (b.Data1, b.Data2, b.Data3, b.Data4)
}

fn config(function: &PciFunction, irp: Irp, location: &IO_STACK_LOCATION) -> NTSTATUS {
    // SAFETY: the minor function names this member.
    let access = unsafe { location.Parameters.ReadWriteConfig };
    if access.WhichSpace != PCI_WHICHSPACE_CONFIG {
        return irp.complete(STATUS_INVALID_PARAMETER);
    }
    // SAFETY: the sender passes a buffer of the length it states, which nobody else uses meanwhile.
    let buffer = unsafe {
        std::slice::from_raw_parts_mut(access.Buffer.cast::<u8>(), access.Length as usize)
    };
    let count = if irp.minor() == IRP_MN_READ_CONFIG {
        function.read_config(access.Offset, buffer)
    } else {
        function.write_config(access.Offset, buffer)
    };
    irp.succeed_with(count as u64)
}
