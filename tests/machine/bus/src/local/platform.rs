//! The platform devices of the in-process board, and what connects them: interrupt lines and the system DMA controller.

use std::ops::Range;

use super::controller::{Bus, Controller};
use super::slot::Shared;
use crate::platform::{BusError, Peripheral, PlatformDevice};
use crate::{BoardEvent, Iommu, PhysicalMemory};

/// The platform devices and the controller that serves them.
#[derive(Default)]
pub(super) struct Platform {
    devices: Vec<Wired>,
    pub(super) controller: Option<Controller>,
}

/// A device as the firmware describes it, and the level of its interrupt line.
struct Wired {
    description: PlatformDevice,
    device: Box<dyn Peripheral>,
    asserted: bool,
}

impl Platform {
    pub(super) fn new(
        devices: Vec<(PlatformDevice, Box<dyn Peripheral>)>,
        controller: Option<Controller>,
    ) -> Self {
        let wired = |(description, device)| Wired {
            description,
            device,
            asserted: false,
        };
        Self {
            devices: devices.into_iter().map(wired).collect(),
            controller,
        }
    }

    pub(super) fn descriptions(&self) -> Vec<PlatformDevice> {
        let description = |wired: &Wired| wired.description.clone();
        self.devices.iter().map(description).collect()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        self.devices.iter().map(|wired| {
            format!(
                "{} at {:#x}",
                wired.device.name(),
                wired.description.registers.start
            )
        })
    }

    /// A read by a processor; `None` if no device decodes the address. A bus error reads as all ones.
    pub(super) fn read(&mut self, physical: u64, size: u8, shared: &mut Shared) -> Option<u64> {
        let value = read(&mut self.devices, physical, size, shared.now)?;
        self.update_lines(shared);
        Some(value.unwrap_or(u64::MAX))
    }

    /// A write by a processor; `None` if no device decodes the address.
    pub(super) fn write(
        &mut self,
        physical: u64,
        size: u8,
        value: u64,
        shared: &mut Shared,
    ) -> Option<()> {
        // A processor's write is posted: nobody hears of an error.
        let _ = write(&mut self.devices, physical, size, value, shared.now)?;
        self.update_lines(shared);
        Some(())
    }

    /// Takes the device whose registers these are out of the board. What it drove is not driven any more.
    pub(super) fn remove(&mut self, registers: &Range<u64>, shared: &mut Shared) {
        let is_meant = |wired: &mut Wired| wired.description.registers == *registers;
        for gone in self.devices.extract_if(.., is_meant) {
            if let (Some(line), true) = (gone.description.line, gone.asserted) {
                shared.events.push(BoardEvent::Line {
                    line,
                    asserted: false,
                });
            }
        }
    }

    /// When a device or the controller has something to do.
    pub(super) fn next_event(&self, now: u64) -> Option<u64> {
        let devices = self
            .devices
            .iter()
            .filter_map(|wired| wired.device.next_event());
        let channels = self
            .controller
            .iter()
            .filter_map(|controller| controller.next_event(&|line| requests(&self.devices, line)));
        devices.chain(channels).min().map(|due| due.max(now))
    }

    /// Runs what is due.
    pub(super) fn run(&mut self, memory: &PhysicalMemory, iommu: &Iommu, shared: &mut Shared) {
        let now = shared.now;
        for wired in &mut self.devices {
            if wired.device.next_event().is_some_and(|due| due <= now) {
                wired.device.run(now);
            }
        }
        if let Some(controller) = &mut self.controller {
            let mut bus = Wires {
                devices: &mut self.devices,
                memory,
                iommu,
                shared,
            };
            controller.run(now, &mut bus);
        }
        self.update_lines(shared);
    }

    fn update_lines(&mut self, shared: &mut Shared) {
        for wired in &mut self.devices {
            let asserted = wired.device.interrupts();
            if let Some(line) = wired.description.line
                && asserted != wired.asserted
            {
                wired.asserted = asserted;
                shared.events.push(BoardEvent::Line { line, asserted });
            }
        }
    }
}

fn decode(devices: &mut [Wired], physical: u64) -> Option<(&mut dyn Peripheral, u64)> {
    let wired = devices
        .iter_mut()
        .find(|wired| wired.description.registers.contains(&physical))?;
    let offset = physical - wired.description.registers.start;
    Some((wired.device.as_mut(), offset))
}

fn read(devices: &mut [Wired], physical: u64, size: u8, now: u64) -> Option<Result<u64, BusError>> {
    let (device, offset) = decode(devices, physical)?;
    Some(device.read(offset, size, now))
}

fn write(
    devices: &mut [Wired],
    physical: u64,
    size: u8,
    value: u64,
    now: u64,
) -> Option<Result<(), BusError>> {
    let (device, offset) = decode(devices, physical)?;
    Some(device.write(offset, size, value, now))
}

/// Whether any device asserts a request line.
fn requests(devices: &[Wired], line: u32) -> bool {
    devices.iter().any(|wired| {
        let connections = wired.description.dma.iter().enumerate();
        connections
            .filter(|(_, connection)| connection.request_line == line)
            .any(|(index, _)| wired.device.requests(index))
    })
}

/// What the controller reaches while it runs.
struct Wires<'a> {
    devices: &'a mut [Wired],
    memory: &'a PhysicalMemory,
    iommu: &'a Iommu,
    shared: &'a mut Shared,
}

impl Wires<'_> {
    /// The physical memory behind a range, unless the channel may not access all of it.
    fn translate(
        &mut self,
        channel: u32,
        logical: u64,
        length: usize,
        write: bool,
    ) -> Result<Vec<crate::iommu::Segment>, BusError> {
        let function = crate::system_dma::requester(channel);
        let segments = self
            .iommu
            .translate_to_ram(self.memory, function, logical, length, write);
        segments.map_err(|fault| {
            self.shared.events.push(BoardEvent::DmaFault {
                function,
                address: fault.address,
                write,
            });
            BusError
        })
    }
}

impl Bus for Wires<'_> {
    fn requests(&self, line: u32) -> bool {
        requests(self.devices, line)
    }

    fn read_device(&mut self, physical: u64, size: u8) -> Result<u64, BusError> {
        read(self.devices, physical, size, self.shared.now).unwrap_or(Err(BusError))
    }

    fn write_device(&mut self, physical: u64, size: u8, value: u64) -> Result<(), BusError> {
        write(self.devices, physical, size, value, self.shared.now).unwrap_or(Err(BusError))
    }

    fn read_memory(
        &mut self,
        channel: u32,
        logical: u64,
        bytes: &mut [u8],
    ) -> Result<(), BusError> {
        let mut rest = bytes;
        for segment in self.translate(channel, logical, rest.len(), false)? {
            let (part, after) = rest.split_at_mut(segment.length);
            self.memory
                .read(segment.physical, part)
                .expect("translated to RAM");
            rest = after;
        }
        Ok(())
    }

    fn write_memory(&mut self, channel: u32, logical: u64, bytes: &[u8]) -> Result<(), BusError> {
        let mut rest = bytes;
        for segment in self.translate(channel, logical, rest.len(), true)? {
            let (part, after) = rest.split_at(segment.length);
            self.memory
                .write(segment.physical, part)
                .expect("translated to RAM");
            rest = after;
        }
        Ok(())
    }
}
