//! A device that the firmware describes, as the bus driver answers for it.

use std::sync::atomic::{AtomicBool, Ordering};

use machine_bus::platform::PlatformDevice;
use nt_sys::{_INTERFACE_TYPE, GUID, PNP_BUS_INFORMATION};

use crate::bus_driver::{BusDevice, Identifiers, Place};
use crate::interrupt::controller;
use crate::mmio;
use crate::resources::{Configuration, Requirement};

/// GUID_ACPI_INTERFACE_STANDARD's bus: GUID_BUS_TYPE_ACPI.
const ACPI_BUS: GUID = GUID::from_u128(0xd7b46895_001a_4942_891f_a7d46610a843);

/// A device.
#[derive(Debug)]
pub struct AcpiDevice {
    /// What the firmware says of it.
    pub description: PlatformDevice,
    identifiers: Identifiers,
    gone: AtomicBool,
}

impl AcpiDevice {
    /// A device with this description.
    pub fn new(description: PlatformDevice) -> Self {
        let id = description.hardware_id;
        let identifiers = Identifiers {
            device: id.to_owned(),
            instance: format!("{:x}", description.uid),
            // ACPI reports an identifier with the name of the bus and one without.
            hardware: vec![id.to_owned(), id.replacen(r"ACPI\", "*", 1)],
            compatible: Vec::new(),
        };
        Self {
            description,
            identifiers,
            gone: AtomicBool::new(false),
        }
    }
}

impl BusDevice for AcpiDevice {
    fn identifiers(&self) -> &Identifiers {
        &self.identifiers
    }

    fn place(&self) -> Place {
        Place {
            description: "ACPI Device",
            location: String::new(),
            address: self.description.uid,
            number: u32::MAX,
            slot: 0,
        }
    }

    fn bus(&self) -> PNP_BUS_INFORMATION {
        PNP_BUS_INFORMATION {
            BusTypeGuid: ACPI_BUS,
            LegacyBusType: _INTERFACE_TYPE::Internal,
            BusNumber: 0,
        }
    }

    /// What its `_CRS` lists, in that order.
    fn requirements(&self, _messages: u16) -> Vec<Configuration> {
        let registers = &self.description.registers;
        let mut requirements = vec![vec![Requirement::Memory {
            length: (registers.end - registers.start) as u32,
            prefetchable: false,
            minimum: registers.start,
            maximum: registers.end - 1,
        }]];
        requirements.extend(
            self.description
                .line
                .map(|line| vec![Requirement::Line(line)]),
        );
        let connections = self.description.dma.iter();
        requirements.extend(connections.map(|connection| vec![Requirement::Dma(*connection)]));
        vec![requirements]
    }

    // The device has its addresses and lines from the beginning, and nothing to switch off.
    fn start(&self, _memory: Vec<u64>, _messages: Vec<u8>) {}

    fn stop(&self) {}

    fn sleep(&self) {}

    fn wake(&self) {}

    fn pull(&self) {
        self.gone.store(true, Ordering::Relaxed);
        mmio::remove(self.description.registers.clone());
        let board = controller().board();
        board.unplug_platform(&self.description.registers);
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }
}
