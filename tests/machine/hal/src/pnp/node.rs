//! A device as the PnP manager knows it: a devnode.

use std::sync::{Mutex, MutexGuard, PoisonError};

use machine_nt::exports::ExFreePool;
use nt_sys::{
    _BUS_QUERY_ID_TYPE, _DEVICE_TEXT_TYPE, BUS_QUERY_ID_TYPE, DEVICE_CAPABILITIES,
    DEVICE_TEXT_TYPE, IRP_MJ_PNP, IRP_MN_QUERY_BUS_INFORMATION, IRP_MN_QUERY_CAPABILITIES,
    IRP_MN_QUERY_DEVICE_TEXT, IRP_MN_QUERY_ID, NTSTATUS, PDEVICE_OBJECT, PNP_BUS_INFORMATION,
    STATUS_SUCCESS,
};

use crate::irp;
use crate::resources::{Configuration, Resource};

/// Where a device is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Found; no driver has been added.
    Enumerated,
    /// AddDevice has succeeded.
    Added,
    /// Started.
    Started,
    /// Stopped for new resources.
    Stopped,
    /// Gone without notice; the drivers are still attached because there are open handles.
    SurpriseRemoved,
    /// Its driver could not be added or started, or said that it failed.
    Failed(NTSTATUS),
    /// Removed.
    Removed,
}

/// What changes about a device.
#[derive(Debug)]
pub struct Status {
    /// Where it is in its life.
    pub phase: Phase,
    /// Which driver it has.
    pub service: Option<String>,
    /// How many messages it may use.
    pub messages: u16,
    /// What its bus says it requires, in order of preference.
    pub requirements: Vec<Configuration>,
    /// What it was given.
    pub resources: Vec<Resource>,
}

/// A device on a bus.
pub struct Node {
    /// Address of its physical device object.
    pub pdo: u64,
    /// Device ID and instance ID: its name in the registry.
    pub instance_path: String,
    /// Hardware IDs.
    pub hardware_ids: Vec<String>,
    /// Compatible IDs.
    pub compatible_ids: Vec<String>,
    /// Where it sits, for people.
    pub location: String,
    /// Its bus.
    pub bus: PNP_BUS_INFORMATION,
    /// What its bus says it can do.
    pub capabilities: DEVICE_CAPABILITIES,
    status: Mutex<Status>,
}

impl Node {
    /// Asks the bus driver everything about a new device. At PASSIVE_LEVEL.
    pub fn new(pdo: PDEVICE_OBJECT) -> Result<Self, NTSTATUS> {
        let device_id = query_id(pdo, _BUS_QUERY_ID_TYPE::BusQueryDeviceID)?;
        let instance_id = query_id(pdo, _BUS_QUERY_ID_TYPE::BusQueryInstanceID)?;
        let first = |list: &[String]| list.first().cloned().unwrap_or_default();
        let location =
            query_text(pdo, _DEVICE_TEXT_TYPE::DeviceTextLocationInformation).unwrap_or_default();
        Ok(Self {
            pdo: pdo as u64,
            instance_path: format!("{}\\{}", first(&device_id), first(&instance_id)),
            hardware_ids: query_id(pdo, _BUS_QUERY_ID_TYPE::BusQueryHardwareIDs)
                .unwrap_or_default(),
            compatible_ids: query_id(pdo, _BUS_QUERY_ID_TYPE::BusQueryCompatibleIDs)
                .unwrap_or_default(),
            location: first(&location),
            bus: query_bus(pdo),
            capabilities: query_capabilities(pdo)?,
            status: Mutex::new(Status {
                phase: Phase::Enumerated,
                service: None,
                messages: 0,
                requirements: Vec::new(),
                resources: Vec::new(),
            }),
        })
    }

    /// What changes about it. Not to be held across anything that sends a request.
    pub fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is in its life.
    pub fn phase(&self) -> Phase {
        self.status().phase
    }

    /// Its physical device object.
    pub fn device(&self) -> PDEVICE_OBJECT {
        self.pdo as PDEVICE_OBJECT
    }

    /// All identifiers by which a driver may be found, the best first.
    pub fn identifiers(&self) -> Vec<String> {
        [self.hardware_ids.as_slice(), self.compatible_ids.as_slice()].concat()
    }

    /// Its key in the registry.
    pub fn hardware_key(&self) -> String {
        format!(
            r"\Registry\Machine\System\CurrentControlSet\Enum\{}",
            self.instance_path
        )
    }
}

fn query_id(device: PDEVICE_OBJECT, kind: BUS_QUERY_ID_TYPE) -> Result<Vec<String>, NTSTATUS> {
    let mut location = irp::location(IRP_MJ_PNP, IRP_MN_QUERY_ID);
    location.Parameters.QueryId.IdType = kind;
    let text = irp::send(device, location).result()?;
    let several = [
        _BUS_QUERY_ID_TYPE::BusQueryHardwareIDs,
        _BUS_QUERY_ID_TYPE::BusQueryCompatibleIDs,
    ];
    // SAFETY: the answer to this request is such a string in pool.
    Ok(unsafe { take_strings(text, several.contains(&kind)) })
}

fn query_text(device: PDEVICE_OBJECT, kind: DEVICE_TEXT_TYPE) -> Result<Vec<String>, NTSTATUS> {
    let mut location = irp::location(IRP_MJ_PNP, IRP_MN_QUERY_DEVICE_TEXT);
    location.Parameters.QueryDeviceText.DeviceTextType = kind;
    let text = irp::send(device, location).result()?;
    // SAFETY: the answer to this request is a string in pool.
    Ok(unsafe { take_strings(text, false) })
}

fn query_bus(device: PDEVICE_OBJECT) -> PNP_BUS_INFORMATION {
    let outcome = irp::send(
        device,
        irp::location(IRP_MJ_PNP, IRP_MN_QUERY_BUS_INFORMATION),
    );
    let Ok(address) = outcome.result() else {
        return PNP_BUS_INFORMATION::default();
    };
    let information = address as *mut PNP_BUS_INFORMATION;
    // SAFETY: the answer to this request is such a structure in pool.
    let copy = unsafe { information.read() };
    // SAFETY: whoever asks frees the answer.
    unsafe { ExFreePool(information.cast()) };
    copy
}

fn query_capabilities(device: PDEVICE_OBJECT) -> Result<DEVICE_CAPABILITIES, NTSTATUS> {
    let mut capabilities = DEVICE_CAPABILITIES {
        Size: size_of::<DEVICE_CAPABILITIES>() as u16,
        Version: 1,
        Address: u32::MAX,
        UINumber: u32::MAX,
        ..DEVICE_CAPABILITIES::default()
    };
    let mut location = irp::location(IRP_MJ_PNP, IRP_MN_QUERY_CAPABILITIES);
    location.Parameters.DeviceCapabilities.Capabilities = &raw mut capabilities;
    match irp::send(device, location).status {
        STATUS_SUCCESS => Ok(capabilities),
        status => Err(status),
    }
}

/// Reads a string, or a list of strings that an empty one ends, and frees it.
///
/// # Safety
/// `address` is such a string or list of UTF-16 in pool, or 0.
unsafe fn take_strings(address: u64, several: bool) -> Vec<String> {
    let mut strings = Vec::new();
    let mut next = address as *const u16;
    if next.is_null() {
        return strings;
    }
    loop {
        // SAFETY: the string or list has not ended yet.
        let units = unsafe { units(next) };
        if several && units.is_empty() {
            break;
        }
        next = next.wrapping_add(units.len() + 1);
        strings.push(String::from_utf16_lossy(&units));
        if !several {
            break;
        }
    }
    // SAFETY: whoever asks frees the answer.
    unsafe { ExFreePool(address as *mut _) };
    strings
}

/// The units of a string, without its terminator.
///
/// # Safety
/// `start` points to a terminated string.
unsafe fn units(start: *const u16) -> Vec<u16> {
    // SAFETY: every unit up to the terminator is readable.
    let unit = |index| unsafe { start.wrapping_add(index).read() };
    (0..).map(unit).take_while(|&unit| unit != 0).collect()
}
