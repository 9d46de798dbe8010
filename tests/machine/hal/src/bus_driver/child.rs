//! What is on a bus, as its bus driver knows it.

use std::sync::Arc;

use nt_sys::PNP_BUS_INFORMATION;

use crate::acpi::AcpiDevice;
use crate::pci::PciFunction;
use crate::resources::Configuration;

/// The identifiers of a device, the most specific first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identifiers {
    /// Device ID.
    pub device: String,
    /// Instance ID: unique among the devices of the bus.
    pub instance: String,
    /// Hardware IDs.
    pub hardware: Vec<String>,
    /// Compatible IDs.
    pub compatible: Vec<String>,
}

/// Where a device sits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// What it is, if nobody knows better.
    pub description: &'static str,
    /// Where it sits, for people.
    pub location: String,
    /// The address its bus uses.
    pub address: u32,
    /// The number people use; all ones if there is none.
    pub number: u32,
    /// The slot in its requirements.
    pub slot: u32,
}

/// A device on a bus.
pub trait BusDevice: Send + Sync {
    /// What it is called.
    fn identifiers(&self) -> &Identifiers;

    /// Where it sits.
    fn place(&self) -> Place;

    /// Its bus.
    fn bus(&self) -> PNP_BUS_INFORMATION;

    /// What it needs to be started, in order of preference; with `messages`, at most so many instead of its line, if it can
    /// send them.
    fn requirements(&self, messages: u16) -> Vec<Configuration>;

    /// Starts it with the memory it was given, in the order of its requirements, and the vectors of its messages: none if
    /// it uses its line.
    fn start(&self, memory: Vec<u64>, messages: Vec<u8>);

    /// Takes away what [`BusDevice::start`] gave.
    fn stop(&self);

    /// Puts it to sleep.
    fn sleep(&self);

    /// Wakes it up.
    fn wake(&self);

    /// It has been pulled out: it answers no more.
    fn pull(&self);

    /// Whether it has been pulled out.
    fn is_gone(&self) -> bool;
}

/// A device on one of the buses.
#[derive(Clone)]
pub enum Child {
    /// A PCI function.
    Pci(Arc<PciFunction>),
    /// A device that the firmware describes.
    Acpi(Arc<AcpiDevice>),
}

impl Child {
    /// What all have in common.
    pub fn device(&self) -> &dyn BusDevice {
        match self {
            Self::Pci(function) => &**function,
            Self::Acpi(device) => &**device,
        }
    }
}
