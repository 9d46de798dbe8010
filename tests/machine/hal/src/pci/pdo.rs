//! What a physical device object of the PCI bus answers to PnP and power requests.

use machine_nt::exports::ObfReferenceObject;
use nt_sys::{
    _BUS_QUERY_ID_TYPE, _DEVICE_POWER_STATE, _DEVICE_RELATION_TYPE, _DEVICE_TEXT_TYPE,
    _INTERFACE_TYPE, _POWER_STATE_TYPE, _SYSTEM_POWER_STATE, BUS_INTERFACE_STANDARD, GUID,
    IO_STACK_LOCATION, IRP_MN_CANCEL_REMOVE_DEVICE, IRP_MN_CANCEL_STOP_DEVICE,
    IRP_MN_DEVICE_USAGE_NOTIFICATION, IRP_MN_QUERY_BUS_INFORMATION, IRP_MN_QUERY_CAPABILITIES,
    IRP_MN_QUERY_DEVICE_RELATIONS, IRP_MN_QUERY_DEVICE_TEXT, IRP_MN_QUERY_ID,
    IRP_MN_QUERY_INTERFACE, IRP_MN_QUERY_POWER, IRP_MN_QUERY_REMOVE_DEVICE,
    IRP_MN_QUERY_RESOURCE_REQUIREMENTS, IRP_MN_QUERY_STOP_DEVICE, IRP_MN_READ_CONFIG,
    IRP_MN_REMOVE_DEVICE, IRP_MN_SET_POWER, IRP_MN_START_DEVICE, IRP_MN_STOP_DEVICE,
    IRP_MN_SURPRISE_REMOVAL, IRP_MN_WRITE_CONFIG, NTSTATUS, PCI_WHICHSPACE_CONFIG, PDEVICE_OBJECT,
    PNP_BUS_INFORMATION, STATUS_BUFFER_TOO_SMALL, STATUS_INVALID_PARAMETER, STATUS_NO_SUCH_DEVICE,
    STATUS_SUCCESS,
};

use super::function::{Assignment, PciFunction};
use super::{device, interface};
use crate::irp::Irp;
use crate::{pnp, pool, resources};

/// GUID_BUS_TYPE_PCI.
const PCI_BUS: GUID = GUID::from_u128(0xc8ebdfb0_b510_11d0_80e5_00a0c92542e3);

/// PnP requests.
pub fn pnp(pdo: PDEVICE_OBJECT, irp: Irp) -> NTSTATUS {
    let Some(function) = device(pdo as u64) else {
        return irp.complete(STATUS_NO_SUCH_DEVICE);
    };
    let location = irp.location();
    match irp.minor() {
        IRP_MN_START_DEVICE => {
            let status = start(&function, &location);
            irp.complete(status)
        }
        IRP_MN_STOP_DEVICE => {
            function.stop();
            irp.complete(STATUS_SUCCESS)
        }
        IRP_MN_REMOVE_DEVICE => {
            function.stop();
            let gone = function.is_gone();
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
        IRP_MN_QUERY_ID => query_id(&function, irp, &location),
        IRP_MN_QUERY_RESOURCE_REQUIREMENTS => {
            let requirements = function.requirements(pnp::messages_allowed(pdo as u64));
            let list = resources::requirements_list(
                &requirements,
                function.address.bus.into(),
                function.slot(),
            );
            irp.succeed_with(list.into_raw() as u64)
        }
        IRP_MN_QUERY_CAPABILITIES => {
            let status = query_capabilities(&function, &location);
            irp.complete(status)
        }
        IRP_MN_QUERY_INTERFACE => query_interface(pdo, irp, &location),
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
        IRP_MN_QUERY_BUS_INFORMATION => {
            let information = PNP_BUS_INFORMATION {
                BusTypeGuid: PCI_BUS,
                LegacyBusType: _INTERFACE_TYPE::PCIBus,
                BusNumber: function.address.bus.into(),
            };
            irp.succeed_with(pool::copy(&[information]))
        }
        IRP_MN_QUERY_DEVICE_TEXT => query_text(&function, irp, &location),
        IRP_MN_READ_CONFIG | IRP_MN_WRITE_CONFIG => config(&function, irp, &location),
        _ => irp.complete_unchanged(),
    }
}

/// Power requests.
pub fn power(pdo: PDEVICE_OBJECT, irp: Irp) -> NTSTATUS {
    let Some(function) = device(pdo as u64) else {
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
                    _DEVICE_POWER_STATE::PowerDeviceD0 => function.wake(),
                    _ => function.sleep(),
                }
            }
            irp.complete(STATUS_SUCCESS)
        }
        _ => irp.complete_unchanged(),
    }
}

/// Starts the function with the resources of a start request.
fn start(function: &PciFunction, location: &IO_STACK_LOCATION) -> NTSTATUS {
    // SAFETY: the minor function names this member.
    let parameters = unsafe { location.Parameters.StartDevice };
    // SAFETY: the PnP manager passes a resource list or NULL.
    let memory = unsafe { resources::read_memory(parameters.AllocatedResources) };
    // SAFETY: as above.
    let message = unsafe { resources::read_message(parameters.AllocatedResourcesTranslated) };
    let needed = function
        .requirements(0)
        .iter()
        .filter(|need| matches!(need[0], resources::Requirement::Memory { .. }))
        .count();
    if memory.len() != needed {
        return STATUS_INVALID_PARAMETER;
    }
    function.start(Assignment {
        memory: memory.into_iter().map(|(start, _)| start).collect(),
        message,
    });
    STATUS_SUCCESS
}

fn query_id(function: &PciFunction, irp: Irp, location: &IO_STACK_LOCATION) -> NTSTATUS {
    // SAFETY: the minor function names this member.
    let kind = unsafe { location.Parameters.QueryId.IdType };
    let identifiers = &function.identifiers;
    let text = match kind {
        _BUS_QUERY_ID_TYPE::BusQueryDeviceID => pool::terminated(&identifiers.device),
        _BUS_QUERY_ID_TYPE::BusQueryInstanceID => pool::terminated(&identifiers.instance),
        _BUS_QUERY_ID_TYPE::BusQueryHardwareIDs => pool::list(&identifiers.hardware),
        _BUS_QUERY_ID_TYPE::BusQueryCompatibleIDs => pool::list(&identifiers.compatible),
        _ => return irp.complete_unchanged(),
    };
    irp.succeed_with(pool::copy(&text))
}

fn query_text(function: &PciFunction, irp: Irp, location: &IO_STACK_LOCATION) -> NTSTATUS {
    // SAFETY: the minor function names this member.
    let kind = unsafe { location.Parameters.QueryDeviceText.DeviceTextType };
    let address = function.address;
    let text = match kind {
        _DEVICE_TEXT_TYPE::DeviceTextDescription => "PCI Device".to_owned(),
        _DEVICE_TEXT_TYPE::DeviceTextLocationInformation => {
            format!(
                "PCI bus {}, device {}, function {}",
                address.bus, address.device, address.function
            )
        }
        _ => return irp.complete_unchanged(),
    };
    irp.succeed_with(pool::copy(&pool::terminated(&text)))
}

fn query_capabilities(function: &PciFunction, location: &IO_STACK_LOCATION) -> NTSTATUS {
    // SAFETY: the minor function names this member.
    let capabilities = unsafe { location.Parameters.DeviceCapabilities.Capabilities };
    // SAFETY: the sender of the request passes its structure.
    let Some(capabilities) = (unsafe { capabilities.as_mut() }) else {
        return STATUS_INVALID_PARAMETER;
    };
    if capabilities.Version != 1 || usize::from(capabilities.Size) < size_of_val(capabilities) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    capabilities.Address =
        u32::from(function.address.device) << 16 | u32::from(function.address.function);
    capabilities.UINumber = u32::from(function.address.device);
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

fn query_interface(pdo: PDEVICE_OBJECT, irp: Irp, location: &IO_STACK_LOCATION) -> NTSTATUS {
    // SAFETY: the minor function names this member.
    let query = unsafe { location.Parameters.QueryInterface };
    // SAFETY: the sender of the request names the interface.
    let wanted = unsafe { *query.InterfaceType };
    if !same(&wanted, &interface::BUS_INTERFACE) {
        return irp.complete_unchanged();
    }
    if usize::from(query.Size) < size_of::<BUS_INTERFACE_STANDARD>() {
        return irp.complete(STATUS_BUFFER_TOO_SMALL);
    }
    // SAFETY: the device exists; the interface holds a reference to it from here on.
    unsafe { ObfReferenceObject(pdo.cast()) };
    // SAFETY: the sender passes memory of the size it states.
    unsafe {
        query
            .Interface
            .cast::<BUS_INTERFACE_STANDARD>()
            .write(interface::bus_interface(pdo.cast()))
    };
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
