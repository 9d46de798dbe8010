//! A slot of the in-process board: the PCI side of a device.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::bell::Bell;
use super::{MESSAGES, direct};
use crate::device::DmaError;
use crate::iommu::{Fault, Segment};
use crate::pci::{ConfigSpace, MessageWrite, command};
use crate::{BoardEvent, Device, FunctionAddress, Iommu, PhysicalMemory, Port, q35};

/// What slots have in common.
#[derive(Default)]
pub(super) struct Shared {
    /// The board's time in nanoseconds, if it is not real.
    pub(super) now: u64,
    /// What has happened since the last poll.
    pub(super) events: Vec<BoardEvent>,
    /// Who asserts which line: it is asserted as long as anybody does.
    asserting: BTreeSet<(u32, FunctionAddress)>,
    /// The device that gave up, and why.
    pub(super) aborted: Option<(String, String)>,
    /// Where it goes at once, and since when time is real, if devices run on a thread of their own.
    real: Option<(Instant, Arc<Outlet>)>,
}

/// What has happened to devices that run on a thread of their own, on its way to whoever polls.
#[derive(Default)]
pub(super) struct Outlet {
    happened: Mutex<Happened>,
    news: AtomicBool,
    bell: Bell,
}

#[derive(Default)]
struct Happened {
    events: Vec<BoardEvent>,
    aborted: Option<(String, String)>,
}

impl Outlet {
    fn put(&self, what: impl FnOnce(&mut Happened)) {
        what(&mut self.lock());
        self.news.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// Whether something has happened since the last [`Outlet::take`].
    pub(super) fn has_news(&self) -> bool {
        self.news.load(Ordering::Acquire)
    }

    /// Appends what has happened; the device that gave up and why, if one did.
    pub(super) fn take(&self, events: &mut Vec<BoardEvent>) -> Option<(String, String)> {
        // What is put from here on is news again.
        self.news.store(false, Ordering::SeqCst);
        let mut happened = self.lock();
        events.append(&mut happened.events);
        happened.aborted.take()
    }

    /// Waits until something has happened, at most for `limit`; whether it has.
    pub(super) fn wait(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        // The bell may have been rung for what was taken since.
        while !self.has_news() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.bell.wait(left);
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Happened> {
        self.happened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// For devices on a thread of their own.
    pub(super) fn in_real_time(started: Instant, outlet: Arc<Outlet>) -> Self {
        Self {
            real: Some((started, outlet)),
            ..Self::default()
        }
    }

    /// The board's time in nanoseconds.
    fn time(&self) -> u64 {
        match &self.real {
            Some((started, _)) => started.elapsed().as_nanos() as u64,
            None => self.now,
        }
    }

    /// Something has happened.
    fn report(&mut self, event: BoardEvent) {
        match &self.real {
            Some((_, outlet)) => outlet.put(|happened| happened.events.push(event)),
            None => self.events.push(event),
        }
    }

    /// A device gives up. The first one to do so is remembered.
    fn give_up(&mut self, device: &str, reason: String) {
        let why = (device.to_owned(), reason);
        match &self.real {
            Some((_, outlet)) => outlet.put(|happened| {
                happened.aborted.get_or_insert(why);
            }),
            None => {
                self.aborted.get_or_insert(why);
            }
        }
    }

    /// Has a function assert or release a line, and reports a change of its level.
    fn drive(&mut self, line: u32, function: FunctionAddress, asserted: bool) {
        let is_asserted = |shared: &Self| shared.asserting.iter().any(|(other, _)| *other == line);
        let before = is_asserted(self);
        if asserted {
            self.asserting.insert((line, function));
        } else {
            self.asserting.remove(&(line, function));
        }
        let asserted = is_asserted(self);
        if asserted != before {
            self.report(BoardEvent::Line { line, asserted });
        }
    }

    /// Whether the next poll has something to report.
    pub(super) fn has_news(&self) -> bool {
        !self.events.is_empty() || self.aborted.is_some()
    }
}

/// What the board lends to a slot. Without an IOMMU a device reaches all memory.
pub(super) struct Surroundings<'a> {
    pub(super) memory: &'a PhysicalMemory,
    pub(super) iommu: Option<&'a Iommu>,
    pub(super) shared: &'a mut Shared,
}

pub(super) struct Slot {
    device: Box<dyn Device>,
    wires: Wires,
}

/// What connects a device to the board.
struct Wires {
    name: String,
    address: FunctionAddress,
    config: ConfigSpace,
    /// The device wants its line asserted.
    requested: bool,
    /// The line is asserted: not so while INTx is disabled.
    asserted: bool,
}

impl Slot {
    pub(super) fn new(address: FunctionAddress, device: Box<dyn Device>) -> Self {
        let (name, config) = (device.name().to_owned(), device.config_space());
        Self {
            device,
            wires: Wires {
                name,
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
        &self.wires.name
    }

    /// Takes the device out; its line is released.
    pub(super) fn remove(mut self, shared: &mut Shared) -> Box<dyn Device> {
        self.wires.requested = false;
        self.wires.update_line(shared);
        self.device
    }

    /// The function has lost power for a moment.
    pub(super) fn power_off(&mut self, surroundings: Surroundings<'_>) {
        self.wires.config = self.device.config_space();
        self.wires.requested = false;
        self.wires.update_line(surroundings.shared);
        let (device, mut port) = self.connect(surroundings);
        device.reset(&mut port);
    }

    pub(super) fn config_read(&self, offset: u16, size: u8) -> u32 {
        self.wires.config.read(offset, size)
    }

    pub(super) fn config_write(
        &mut self,
        offset: u16,
        size: u8,
        value: u32,
        surroundings: Surroundings<'_>,
    ) {
        let messages = self.wires.config.messages();
        let reset = self.wires.config.write(offset, size, value);
        if messages == 0 && self.wires.config.messages() > 0 {
            // A function that turns to messages lets go of its line.
            self.wires.requested = false;
        }
        self.wires.update_line(surroundings.shared);
        let config = self.wires.config.clone();
        let (device, mut port) = self.connect(surroundings);
        if reset {
            device.reset(&mut port);
        }
        device.configured(&config, &mut port);
        port.send_unmasked();
    }

    /// Reads what a base address register decodes.
    pub(super) fn read(
        &mut self,
        bar: u8,
        offset: u64,
        size: u8,
        surroundings: Surroundings<'_>,
    ) -> u64 {
        if self.wires.config.has_table(bar) {
            return self.wires.config.read_table(offset, size);
        }
        let (device, mut port) = self.connect(surroundings);
        device.read(bar, offset, size, &mut port)
    }

    /// Writes what a base address register decodes.
    pub(super) fn write(
        &mut self,
        bar: u8,
        offset: u64,
        size: u8,
        value: u64,
        surroundings: Surroundings<'_>,
    ) {
        if self.wires.config.has_table(bar) {
            self.wires.config.write_table(offset, size, value);
            return self.connect(surroundings).1.send_unmasked();
        }
        let (device, mut port) = self.connect(surroundings);
        device.write(bar, offset, size, value, &mut port);
    }

    /// Has the device do what is due.
    pub(super) fn run(&mut self, surroundings: Surroundings<'_>) {
        let (device, mut port) = self.connect(surroundings);
        device.run(&mut port);
    }

    /// The base address register that decodes an address, and the offset in it.
    pub(super) fn decode(&self, physical: u64) -> Option<(u8, u64)> {
        let config = &self.wires.config;
        if config.command() & command::MEMORY_SPACE == 0 || config.is_asleep() {
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
    fn connect<'a>(
        &'a mut self,
        surroundings: Surroundings<'a>,
    ) -> (&'a mut dyn Device, SlotPort<'a>) {
        let Surroundings {
            memory,
            iommu,
            shared,
        } = surroundings;
        (
            self.device.as_mut(),
            SlotPort {
                wires: &mut self.wires,
                memory,
                iommu,
                shared,
            },
        )
    }
}

impl Wires {
    /// Drives the line as the device wants it, if INTx is not disabled.
    fn update_line(&mut self, shared: &mut Shared) {
        self.config.set_interrupt_status(self.requested);
        let asserted = self.requested && self.config.command() & command::INTX_DISABLE == 0;
        if asserted != self.asserted {
            self.asserted = asserted;
            let line = q35::line(self.address, self.config.pin());
            shared.drive(line, self.address, asserted);
        }
    }
}

/// A device's connection while it acts.
struct SlotPort<'a> {
    wires: &'a mut Wires,
    memory: &'a PhysicalMemory,
    iommu: Option<&'a Iommu>,
    shared: &'a mut Shared,
}

impl SlotPort<'_> {
    /// The physical memory behind a logical range, unless the device may not access all of it.
    fn translate(
        &mut self,
        iommu: &Iommu,
        logical: u64,
        length: usize,
        write: bool,
    ) -> Result<Vec<Segment>, DmaError> {
        let function = self.wires.address;
        let segments = iommu.translate_to_ram(self.memory, function, logical, length, write);
        segments.map_err(|Fault { address }| self.fault(address, write))
    }

    fn fault(&mut self, address: u64, write: bool) -> DmaError {
        self.shared.report(BoardEvent::DmaFault {
            function: self.wires.address,
            address,
            write,
        });
        DmaError::Fault
    }

    /// Sends messages that were masked and are no longer.
    fn send_unmasked(&mut self) {
        for message in self.wires.config.take_unmasked() {
            self.deliver(message);
        }
    }

    fn deliver(&mut self, message: MessageWrite) {
        if message.address == MESSAGES {
            self.shared.report(BoardEvent::Message {
                vector: message.data as u8,
            });
        } else {
            // Elsewhere a message is a write like any other.
            let _ = self.write_memory(message.address, &message.data.to_le_bytes());
        }
    }

    fn check_master(&self) -> Result<(), DmaError> {
        self.wires
            .config
            .is_master()
            .then_some(())
            .ok_or(DmaError::NotMaster)
    }
}

impl Port for SlotPort<'_> {
    fn now(&self) -> u64 {
        self.shared.time()
    }

    fn read_memory(&mut self, logical: u64, buffer: &mut [u8]) -> Result<(), DmaError> {
        self.check_master()?;
        let Some(iommu) = self.iommu else {
            return direct::read(self.memory, logical, buffer)
                .map_err(|_| self.fault(logical, false));
        };
        let mut rest = buffer;
        for Segment { physical, length } in self.translate(iommu, logical, rest.len(), false)? {
            let (part, after) = rest.split_at_mut(length);
            self.memory.read(physical, part).expect("translated to RAM");
            rest = after;
        }
        Ok(())
    }

    fn write_memory(&mut self, logical: u64, bytes: &[u8]) -> Result<(), DmaError> {
        self.check_master()?;
        let Some(iommu) = self.iommu else {
            return direct::write(self.memory, logical, bytes)
                .map_err(|_| self.fault(logical, true));
        };
        let mut rest = bytes;
        for Segment { physical, length } in self.translate(iommu, logical, rest.len(), true)? {
            let (part, after) = rest.split_at(length);
            self.memory
                .write(physical, part)
                .expect("translated to RAM");
            rest = after;
        }
        Ok(())
    }

    fn messages(&self) -> u16 {
        self.wires.config.messages()
    }

    fn send_message(&mut self, number: u16) {
        if self.wires.config.is_master()
            && let Some(message) = self.wires.config.send(number)
        {
            self.deliver(message);
        }
    }

    fn set_line(&mut self, asserted: bool) {
        self.wires.requested = asserted;
        self.wires.update_line(self.shared);
    }

    fn abort(&mut self, reason: String) {
        self.shared.give_up(&self.wires.name, reason);
    }
}
