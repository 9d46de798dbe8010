//! Bringing a device up: its driver is added, resources are found, the stack is started. And the same again with other
//! resources.

use std::sync::Arc;

use machine_nt::ke::stack::driver_call;
use machine_nt::registry;
use machine_nt::sched;
use nt_sys::{
    _DEVICE_RELATION_TYPE, CM_RESOURCE_LIST, DEVICE_CAPABILITIES, DO_DEVICE_INITIALIZING,
    IRP_MJ_PNP, IRP_MN_CANCEL_STOP_DEVICE, IRP_MN_FILTER_RESOURCE_REQUIREMENTS,
    IRP_MN_QUERY_CAPABILITIES, IRP_MN_QUERY_DEVICE_RELATIONS, IRP_MN_QUERY_RESOURCE_REQUIREMENTS,
    IRP_MN_QUERY_STOP_DEVICE, IRP_MN_START_DEVICE, IRP_MN_STOP_DEVICE, NTSTATUS, PDEVICE_OBJECT,
    PDRIVER_OBJECT, PIO_RESOURCE_REQUIREMENTS_LIST, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_NOT_SUPPORTED, STATUS_SUCCESS, nt_success,
};

use super::{DriverPackage, Node, Phase, PnpError, properties, remove, with};
use crate::interrupt::controller;
use crate::resources::{self, Block, Configuration, Resource, View};
use crate::{irp, stop_internal};

/// Adds the bus driver to the bus and starts it. A bus needs no resources.
pub fn start_bus(bus: PDEVICE_OBJECT, driver: PDRIVER_OBJECT) {
    let status = add_device(driver, bus);
    if status != STATUS_SUCCESS {
        stop_internal(format_args!("AddDevice of a bus driver: {status:#x}"));
    }
    let outcome = irp::send(bus, irp::location(IRP_MJ_PNP, IRP_MN_START_DEVICE));
    if outcome.status != STATUS_SUCCESS {
        stop_internal(format_args!("a bus did not start: {:#x}", outcome.status));
    }
}

/// Adds a driver to a device that has none, and starts the device.
pub fn add_and_start(node: &Arc<Node>, package: &DriverPackage) -> Result<(), PnpError> {
    install(node, package);
    // The bus is asked before there is a driver, and its answer holds until it says otherwise.
    let requirements = query_requirements(node);
    node.status().requirements = requirements;
    let status = add_device(package.driver, node.device());
    if !nt_success(status) {
        node.status().phase = Phase::Failed(status);
        return Err(PnpError::AddDevice(status));
    }
    verify_initialized(node);
    node.status().phase = Phase::Added;
    start(node)
}

/// Writes what the INF says of the device into the registry.
fn install(node: &Node, package: &DriverPackage) {
    let key = node.hardware_key();
    registry::set_value(&key, "Service", registry::Value::string(&package.service));
    let parameters = format!(r"{key}\Device Parameters");
    registry::create_key(&parameters);
    for value in &package.hardware {
        let path = match value.subkey.as_str() {
            "" => parameters.clone(),
            subkey => format!(r"{parameters}\{subkey}"),
        };
        registry::set_value(&path, &value.name, value.data.clone());
    }
    let mut status = node.status();
    status.service = Some(package.service.clone());
    status.messages = package.messages();
}

fn add_device(driver: PDRIVER_OBJECT, pdo: PDEVICE_OBJECT) -> NTSTATUS {
    // SAFETY: a driver object that was created has an extension.
    let extension = unsafe { (*driver).DriverExtension };
    // SAFETY: as above.
    let routine = unsafe { (*extension).AddDevice };
    let Some(routine) = routine else {
        return STATUS_NOT_SUPPORTED;
    };
    driver_call(|| {
        // SAFETY: this is what the driver set the routine for.
        unsafe { routine(driver, pdo) }
    })
}

/// AddDevice must clear DO_DEVICE_INITIALIZING of the device it made: no handle could be opened to it otherwise.
fn verify_initialized(node: &Node) {
    let top = remove::stack(node).pop().unwrap_or(node.device());
    // SAFETY: the device is part of the stack.
    if unsafe { (*top).Flags } & DO_DEVICE_INITIALIZING != 0 {
        machine_nt::bugcheck::stop(
            machine_nt::bugcheck::code::DRIVER_VERIFIER_DETECTED_VIOLATION,
            [0x213, top as u64, 0, 0],
            format_args!("{top:p}: AddDevice left DO_DEVICE_INITIALIZING set"),
        );
    }
}

/// Finds resources for a device whose driver has been added, and starts it.
fn start(node: &Arc<Node>) -> Result<(), PnpError> {
    let requirements = requirements(node);
    let resources = with(|state| {
        controller().with_vectors(|vectors| {
            let mut configurations = requirements.iter();
            configurations
                .find_map(|configuration| state.arbiter.assign(node.pdo, configuration, vectors))
        })
    });
    let Some(resources) = resources else {
        fail(node, STATUS_INSUFFICIENT_RESOURCES);
        return Err(PnpError::Resources);
    };
    node.status().resources.clone_from(&resources);
    let status = start_with(node, &resources);
    if !nt_success(status) {
        fail(node, status);
        return Err(PnpError::Start(status));
    }
    node.status().phase = Phase::Started;
    after_start(node);
    Ok(())
}

/// Sends IRP_MN_START_DEVICE with these resources.
fn start_with(node: &Node, resources: &[Resource]) -> NTSTATUS {
    let processors = (1u64 << sched::processor_count()) - 1;
    let list = |view| -> Option<Block<CM_RESOURCE_LIST>> {
        let list = || resources::resource_list(resources, view, &node.bus, processors);
        (!resources.is_empty()).then(list)
    };
    let (raw, translated) = (list(View::Raw), list(View::Translated));
    let address =
        |block: &Option<Block<_>>| block.as_ref().map_or(std::ptr::null_mut(), Block::as_ptr);
    let mut location = irp::location(IRP_MJ_PNP, IRP_MN_START_DEVICE);
    location.Parameters.StartDevice.AllocatedResources = address(&raw);
    location.Parameters.StartDevice.AllocatedResourcesTranslated = address(&translated);
    irp::send(node.device(), location).status
}

/// What the bus driver says a device requires.
fn query_requirements(node: &Node) -> Vec<Configuration> {
    let query = irp::location(IRP_MJ_PNP, IRP_MN_QUERY_RESOURCE_REQUIREMENTS);
    match irp::send(node.device(), query).result() {
        // SAFETY: the request answers with such a list or with nothing.
        Ok(list) => unsafe { take_requirements(list as PIO_RESOURCE_REQUIREMENTS_LIST) },
        Err(_) => vec![Configuration::new()],
    }
}

/// What a device requires after the drivers above the bus have had a look at it.
fn requirements(node: &Node) -> Vec<Configuration> {
    let requirements = node.status().requirements.clone();
    let slot = node.capabilities.Address >> 16;
    let list = resources::requirements_list(&requirements, &node.bus, slot).into_raw();
    let mut filter = irp::location(IRP_MJ_PNP, IRP_MN_FILTER_RESOURCE_REQUIREMENTS);
    filter
        .Parameters
        .FilterResourceRequirements
        .IoResourceRequirementList = list;
    let filtered = match irp::send(node.device(), filter).result() {
        Ok(filtered) if filtered != 0 => filtered as PIO_RESOURCE_REQUIREMENTS_LIST,
        _ => list,
    };
    // A driver that answers with a list of its own has freed the one it was passed.
    // SAFETY: the request answers with such a list.
    unsafe { take_requirements(filtered) }
}

/// Reads a requirements list and frees it.
///
/// # Safety
/// `list` is NULL or a requirements list in pool that is the caller's.
unsafe fn take_requirements(list: PIO_RESOURCE_REQUIREMENTS_LIST) -> Vec<Configuration> {
    // SAFETY: the caller vouches for the list.
    let requirements = unsafe { resources::read_requirements(list) };
    if !list.is_null() {
        // SAFETY: as above.
        unsafe { machine_nt::exports::ExFreePool(list.cast()) };
    }
    requirements
}

/// What Windows asks a device that has just been started.
fn after_start(node: &Arc<Node>) {
    let mut capabilities = DEVICE_CAPABILITIES {
        Size: size_of::<DEVICE_CAPABILITIES>() as u16,
        Version: 1,
        Address: u32::MAX,
        UINumber: u32::MAX,
        ..DEVICE_CAPABILITIES::default()
    };
    let mut query = irp::location(IRP_MJ_PNP, IRP_MN_QUERY_CAPABILITIES);
    query.Parameters.DeviceCapabilities.Capabilities = &raw mut capabilities;
    irp::send(node.device(), query);
    properties::check_state(node);
    let mut relations = irp::location(IRP_MJ_PNP, IRP_MN_QUERY_DEVICE_RELATIONS);
    relations.Parameters.QueryDeviceRelations.Type = _DEVICE_RELATION_TYPE::BusRelations;
    if let Ok(children) = irp::send(node.device(), relations).result()
        && children != 0
    {
        // SAFETY: the answer to this request.
        let children = unsafe { super::take_relations(children) };
        if !children.is_empty() {
            machine_nt::bugcheck::stop_machine(
                machine_nt::bugcheck::Stop::Unimplemented,
                "devices below a device",
            );
        }
    }
}

/// A device that could not be started is removed.
fn fail(node: &Node, status: NTSTATUS) {
    remove::send_remove(node);
    node.status().phase = Phase::Failed(status);
}

/// Stops a started device and starts it with other resources.
pub fn rebalance(node: &Arc<Node>) -> Result<(), PnpError> {
    if node.phase() != Phase::Started {
        return Err(PnpError::Phase(node.phase()));
    }
    let query = irp::send(
        node.device(),
        irp::location(IRP_MJ_PNP, IRP_MN_QUERY_STOP_DEVICE),
    );
    if !nt_success(query.status) {
        irp::send(
            node.device(),
            irp::location(IRP_MJ_PNP, IRP_MN_CANCEL_STOP_DEVICE),
        );
        return Err(PnpError::QueryStop(query.status));
    }
    irp::send(node.device(), irp::location(IRP_MJ_PNP, IRP_MN_STOP_DEVICE));
    node.status().phase = Phase::Stopped;
    with(|state| controller().with_vectors(|vectors| state.arbiter.release(node.pdo, vectors)));
    start(node)
}
