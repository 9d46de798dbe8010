//! A slot of the in-process board: the PCI side of a device.

use super::MESSAGES;
use crate::device::DmaError;
use crate::iommu::{Fault, Segment};
use crate::pci::{ConfigSpace, command};
use crate::{BoardEvent, Device, FunctionAddress, Iommu, PhysicalMemory, Port, q35};

/// What slots have in common.
#[derive(Default)]
pub(super) struct Shared {
    /// The board's time in nanoseconds.
    pub(super) now: u64,
    /// What has happened since the last poll.
    pub(super) events: Vec<BoardEvent>,
    /// The device that gave up, and why.
    pub(super) aborted: Option<(String, String)>,
}

impl Shared {
    /// Whether the next poll has something to report.
    pub(super) fn has_news(&self) -> bool {
        !self.events.is_empty() || self.aborted.is_some()
    }
}

pub(super) struct Slot {
    device: Box<dyn Device>,
    wires: Wires,
}

/// What connects a device to the board.
struct Wires {
    address: FunctionAddress,
    config: ConfigSpace,
    /// The device wants its line asserted.
    requested: bool,
    /// The line is asserted: not so while INTx is disabled.
    asserted: bool,
}

impl Slot {
    pub(super) fn new(address: FunctionAddress, device: Box<dyn Device>) -> Self {
        let config = device.config_space();
        Self {
            device,
            wires: Wires {
                address,
                config,
                requested: false,
                asserted: false,
            },
        }
    }

    pub(super) fn address(&self) -> FunctionAddress {
        self.wires.address
    }

    pub(super) fn name(&self) -> &str {
        self.device.name()
    }

    /// Takes the device out; its line is released.
    pub(super) fn remove(mut self, shared: &mut Shared) -> Box<dyn Device> {
        self.wires.requested = false;
        self.wires.update_line(shared);
        self.device
    }

    pub(super) fn config_read(&self, offset: u16, size: u8) -> u32 {
        self.wires.config.read(offset, size)
    }

    pub(super) fn config_write(&mut self, offset: u16, size: u8, value: u32, shared: &mut Shared) {
        let messages = self.wires.config.message(0).is_some();
        self.wires.config.write(offset, size, value);
        if !messages && self.wires.config.message(0).is_some() {
            // A function that turns to messages lets go of its line.
            self.wires.requested = false;
        }
        self.wires.update_line(shared);
    }

    /// The base address register that decodes an address, and the offset in it.
    pub(super) fn decode(&self, physical: u64) -> Option<(u8, u64)> {
        if self.wires.config.command() & command::MEMORY_SPACE == 0 {
            return None;
        }
        self.wires.config.memory_bars().find_map(|bar| {
            let offset = physical
                .checked_sub(bar.address)
                .filter(|&offset| offset < bar.size)?;
            (bar.address != 0).then_some((bar.index, offset))
        })
    }

    pub(super) fn next_event(&self) -> Option<u64> {
        self.device.next_event()
    }

    /// The device, and its connection for as long as it acts.
    pub(super) fn connect<'a>(
        &'a mut self,
        memory: &'a PhysicalMemory,
        iommu: &'a Iommu,
        shared: &'a mut Shared,
    ) -> (&'a mut dyn Device, SlotPort<'a>) {
        let name = self.device.name().to_owned();
        (
            self.device.as_mut(),
            SlotPort {
                name,
                wires: &mut self.wires,
                memory,
                iommu,
                shared,
            },
        )
    }
}

impl Wires {
    fn is_master(&self) -> bool {
        self.config.command() & command::BUS_MASTER != 0
    }

    /// Reports the line if its level has changed.
    fn update_line(&mut self, shared: &mut Shared) {
        self.config.set_interrupt_status(self.requested);
        let asserted = self.requested && self.config.command() & command::INTX_DISABLE == 0;
        if asserted != self.asserted {
            self.asserted = asserted;
            let line = q35::line(self.address, self.config.pin());
            shared.events.push(BoardEvent::Line { line, asserted });
        }
    }
}

/// A device's connection while it acts.
pub(super) struct SlotPort<'a> {
    name: String,
    wires: &'a mut Wires,
    memory: &'a PhysicalMemory,
    iommu: &'a Iommu,
    shared: &'a mut Shared,
}

impl SlotPort<'_> {
    /// The physical memory behind a logical range, unless the device may not access all of it.
    fn translate(
        &mut self,
        logical: u64,
        length: usize,
        write: bool,
    ) -> Result<Vec<Segment>, DmaError> {
        if !self.wires.is_master() {
            return Err(DmaError::NotMaster);
        }
        let function = self.wires.address;
        let segments = self
            .iommu
            .translate_to_ram(self.memory, function, logical, length, write);
        segments.map_err(|Fault { address }| {
            self.shared.events.push(BoardEvent::DmaFault {
                function,
                address,
                write,
            });
            DmaError::Fault
        })
    }
}

impl Port for SlotPort<'_> {
    fn now(&self) -> u64 {
        self.shared.now
    }

    fn read_memory(&mut self, logical: u64, buffer: &mut [u8]) -> Result<(), DmaError> {
        let mut rest = buffer;
        for Segment { physical, length } in self.translate(logical, rest.len(), false)? {
            let (part, after) = rest.split_at_mut(length);
            self.memory.read(physical, part).expect("translated to RAM");
            rest = after;
        }
        Ok(())
    }

    fn write_memory(&mut self, logical: u64, bytes: &[u8]) -> Result<(), DmaError> {
        let mut rest = bytes;
        for Segment { physical, length } in self.translate(logical, rest.len(), true)? {
            let (part, after) = rest.split_at(length);
            self.memory
                .write(physical, part)
                .expect("translated to RAM");
            rest = after;
        }
        Ok(())
    }

    fn messages_enabled(&self) -> bool {
        self.wires.config.message(0).is_some()
    }

    fn send_message(&mut self, number: u8) {
        let Some(message) = self
            .wires
            .config
            .message(number)
            .filter(|_| self.wires.is_master())
        else {
            return;
        };
        if message.address == MESSAGES {
            self.shared.events.push(BoardEvent::Message {
                vector: message.data as u8,
            });
        } else {
            // Elsewhere a message is a write like any other.
            let _ = self.write_memory(message.address, &u32::from(message.data).to_le_bytes());
        }
    }

    fn set_line(&mut self, asserted: bool) {
        self.wires.requested = asserted;
        self.wires.update_line(self.shared);
    }

    fn abort(&mut self, reason: String) {
        self.shared
            .aborted
            .get_or_insert((self.name.clone(), reason));
    }
}
