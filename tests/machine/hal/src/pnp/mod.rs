//! The PnP manager: finds devices and drivers, builds stacks, gives out resources, and starts, stops, powers and removes
//! devices with the requests Windows sends, in the order Windows sends them.
//!
//! [`Manager`] is what the machine's owner calls, from a system or user thread at PASSIVE_LEVEL.

mod arbiter;
mod node;
mod package;
mod power;
mod properties;
mod remove;
mod root;
mod serial;
mod start;
mod watch;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use machine_bus::FunctionAddress;
use machine_nt::exports::{ExFreePool, ObfDereferenceObject};
use machine_nt::registry;
use nt_sys::{
    _DEVICE_RELATION_TYPE, DEVICE_RELATIONS, IRP_MJ_PNP, IRP_MN_QUERY_DEVICE_RELATIONS, NTSTATUS,
    PDEVICE_OBJECT,
};
use thiserror::Error;

use crate::bus_driver::{self, Kind};
use crate::interrupt::{self, controller};
use crate::{irp, pci};
use arbiter::Arbiter;

pub use node::{Node, Phase, Status};
pub use package::{DriverPackage, HardwareValue};
pub(crate) use power::request_power_irp;
pub(crate) use properties::hooks;

/// Why a device is not where it was to be brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PnpError {
    /// No device has this physical device object.
    #[error("there is no such device")]
    NoDevice,
    /// The device is in a phase in which this cannot be done.
    #[error("the device is {0:?}")]
    Phase(Phase),
    /// AddDevice failed.
    #[error("AddDevice returned {0:#010x}")]
    AddDevice(NTSTATUS),
    /// There are not enough resources.
    #[error("there are no resources for the device")]
    Resources,
    /// IRP_MN_START_DEVICE failed; the device has been removed again.
    #[error("IRP_MN_START_DEVICE ended with {0:#010x}")]
    Start(NTSTATUS),
    /// A driver refused to let the device be stopped.
    #[error("IRP_MN_QUERY_STOP_DEVICE ended with {0:#010x}")]
    QueryStop(NTSTATUS),
    /// A driver refused to let the device be removed.
    #[error("IRP_MN_QUERY_REMOVE_DEVICE ended with {0:#010x}")]
    QueryRemove(NTSTATUS),
    /// The device cannot be removed while there are open handles.
    #[error("{0} handles to the device are open")]
    OpenHandles(usize),
    /// A driver refused the new power state.
    #[error("IRP_MN_QUERY_POWER ended with {0:#010x}")]
    QueryPower(NTSTATUS),
    /// A driver failed to go to a power state, which it may not.
    #[error("IRP_MN_SET_POWER ended with {0:#010x}")]
    SetPower(NTSTATUS),
}

/// What the manager knows.
struct State {
    /// The buses: their physical device objects.
    buses: Vec<u64>,
    packages: Vec<DriverPackage>,
    nodes: BTreeMap<u64, Arc<Node>>,
    arbiter: Arbiter,
}

static STATE: Mutex<Option<State>> = Mutex::new(None);

fn lock() -> MutexGuard<'static, Option<State>> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `f` on what the manager knows. `f` sends no request.
fn with<R>(f: impl FnOnce(&mut State) -> R) -> R {
    match lock().as_mut() {
        Some(state) => f(state),
        None => crate::stop_internal("PnP is used before the PnP manager is there"),
    }
}

/// The device with this physical device object.
fn node(pdo: u64) -> Option<Arc<Node>> {
    lock().as_ref()?.nodes.get(&pdo).cloned()
}

/// How many messages a device may use, by its driver's INF.
pub(crate) fn messages_allowed(pdo: u64) -> u16 {
    node(pdo).map_or(0, |node| node.status().messages)
}

/// The PnP manager of the machine.
#[derive(Debug, Clone, Copy)]
pub struct Manager(());

impl Manager {
    /// Starts the device tree: the root and the buses. At PASSIVE_LEVEL, after [`crate::install`].
    pub fn new() -> Self {
        serial::install();
        let root = root::create();
        let buses: Vec<_> = [Kind::Pci, Kind::Acpi]
            .into_iter()
            .map(|kind| (root::add_bus(root, kind), bus_driver::load(kind)))
            .collect();
        let arbiter = Arbiter::new(controller().board().register_window());
        *lock() = Some(State {
            buses: buses.iter().map(|(bus, _)| *bus as u64).collect(),
            packages: Vec::new(),
            nodes: BTreeMap::new(),
            arbiter,
        });
        for (bus, driver) in buses {
            start::start_bus(bus, driver);
        }
        interrupt::on_removal(pulled_out);
        Self(())
    }

    /// Installs a driver, for devices that are started from now on.
    pub fn add_driver(&self, package: DriverPackage) {
        with(|state| state.packages.push(package));
    }

    /// Looks for devices, and starts all that have a driver and are not started. What became of each of them.
    pub fn start_devices(&self) -> Vec<(Arc<Node>, Result<(), PnpError>)> {
        serial::exclusively(Self::start_new)
    }

    fn start_new() -> Vec<(Arc<Node>, Result<(), PnpError>)> {
        enumerate();
        let nodes: Vec<_> = with(|state| state.nodes.values().cloned().collect());
        let mut started = Vec::new();
        for node in nodes
            .into_iter()
            .filter(|node| node.phase() == Phase::Enumerated)
        {
            let identifiers = node.identifiers();
            let package = with(|state| {
                state
                    .packages
                    .iter()
                    .find(|package| package.matches(&identifiers))
                    .cloned()
            });
            if let Some(package) = package {
                let result = start::add_and_start(&node, &package);
                started.push((node, result));
            }
        }
        started
    }

    /// All devices of all buses.
    pub fn devices(&self) -> Vec<Arc<Node>> {
        with(|state| state.nodes.values().cloned().collect())
    }

    /// Stops a started device and starts it again with other resources, as after a rebalance.
    ///
    /// # Errors
    /// A driver refuses (the device goes on as it was), or the device does not start again (it is removed).
    pub fn rebalance(&self, node: &Arc<Node>) -> Result<(), PnpError> {
        serial::exclusively(|| start::rebalance(node))
    }

    /// Removes a started device as when it is disabled: asks first. Handles to it must have been closed.
    ///
    /// # Errors
    /// A driver refuses, or handles are open: the device goes on as it was.
    pub fn remove(&self, node: &Arc<Node>) -> Result<(), PnpError> {
        serial::exclusively(|| remove::remove(node))
    }

    /// Enables a device that was removed: it is added and started again.
    ///
    /// # Errors
    /// As when it was started first.
    pub fn enable(&self, node: &Arc<Node>) -> Result<(), PnpError> {
        match node.phase() {
            Phase::Removed | Phase::Failed(_) => {}
            phase => return Err(PnpError::Phase(phase)),
        }
        let identifiers = node.identifiers();
        let package = with(|state| {
            state
                .packages
                .iter()
                .find(|package| package.matches(&identifiers))
                .cloned()
        });
        let package = package.ok_or(PnpError::NoDevice)?;
        serial::exclusively(|| start::add_and_start(node, &package))
    }

    /// Pulls a device out: its registers are all ones from now on, and its drivers hear of it afterwards. They are
    /// removed at once, or, if there are open handles, by [`Manager::finish_removals`].
    ///
    /// A device whose drivers have been told already stays as it is.
    ///
    /// # Errors
    /// The device has no drivers.
    pub fn surprise_remove(&self, node: &Arc<Node>) -> Result<(), PnpError> {
        serial::exclusively(|| remove::surprise_remove(node))
    }

    /// Removes the drivers of all devices that have been pulled out and have no open handles any more. To be called
    /// when a handle was closed.
    pub fn finish_removals(&self) {
        serial::exclusively(|| {
            for node in self.devices() {
                if node.phase() == Phase::SurpriseRemoved {
                    remove::finish(&node);
                }
            }
        });
    }

    /// Puts the system to sleep (S3): every started device, the last first.
    ///
    /// # Errors
    /// A driver refuses; the devices are then awake again.
    pub fn suspend(&self) -> Result<(), PnpError> {
        serial::exclusively(|| power::suspend(&self.devices()))
    }

    /// Wakes the system up.
    ///
    /// # Errors
    /// A driver failed to wake its device up.
    pub fn resume(&self) -> Result<(), PnpError> {
        serial::exclusively(|| power::resume(&self.devices()))
    }

    /// Waits until nothing is left to do of what drivers and the board announced: a failed device, one that was pulled
    /// out.
    pub fn settle(&self) {
        serial::settle();
    }
}

impl Default for Manager {
    fn default() -> Self {
        Self::new()
    }
}

/// The board says that a function was pulled out: its drivers are told later.
fn pulled_out(address: FunctionAddress) {
    if let Some(node) = pci::pdo_of(address).and_then(node) {
        serial::later(move || {
            // A device that has no drivers is just gone.
            let _ = remove::surprise_remove(&node);
        });
    }
}

/// Asks the buses for their devices and learns about the new ones.
fn enumerate() {
    for bus in with(|state| state.buses.clone()) {
        enumerate_bus(bus);
    }
}

fn enumerate_bus(bus: u64) {
    let mut location = irp::location(IRP_MJ_PNP, IRP_MN_QUERY_DEVICE_RELATIONS);
    location.Parameters.QueryDeviceRelations.Type = _DEVICE_RELATION_TYPE::BusRelations;
    let outcome = irp::send(bus as PDEVICE_OBJECT, location);
    let Ok(relations) = outcome.result() else {
        crate::stop_internal(format_args!(
            "a bus has no relations: {:#x}",
            outcome.status
        ))
    };
    // SAFETY: the answer to this request.
    for pdo in unsafe { take_relations(relations) } {
        if node(pdo as u64).is_some() {
            // SAFETY: the list's reference; the node has its own.
            unsafe { ObfDereferenceObject(pdo.cast()) };
            continue;
        }
        match Node::new(pdo) {
            Ok(node) => {
                machine_nt::io::interface::set_instance_path(pdo, &node.instance_path);
                registry::create_key(&node.hardware_key());
                with(|state| state.nodes.insert(pdo as u64, Arc::new(node)));
            }
            Err(status) => crate::stop_internal(format_args!("a device has no name: {status:#x}")),
        }
    }
}

/// The devices of DEVICE_RELATIONS, which is freed. The references in it are the caller's.
///
/// # Safety
/// `address` is a DEVICE_RELATIONS in pool that is the caller's.
unsafe fn take_relations(address: u64) -> Vec<PDEVICE_OBJECT> {
    const HEAD: usize = std::mem::offset_of!(DEVICE_RELATIONS, Objects);
    let relations = address as *mut DEVICE_RELATIONS;
    // SAFETY: the caller vouches for the structure.
    let count = unsafe { (*relations).Count } as usize;
    let first = relations.wrapping_byte_add(HEAD).cast::<PDEVICE_OBJECT>();
    // SAFETY: there are as many devices as the count says.
    let devices = (0..count).map(|index| unsafe { first.wrapping_add(index).read() });
    let devices = devices.collect();
    // SAFETY: whoever asks frees the answer.
    unsafe { ExFreePool(relations.cast()) };
    devices
}
