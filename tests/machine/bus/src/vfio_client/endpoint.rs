//! The device as its client has it: regions, and interrupts as the board sees them.
//!
//! Configuration space is the server's; what decides on interrupts and addresses is read from it after each write. The
//! MSI-X table is ours, as it is QEMU's, but written to the server as well: it says when the function was reset.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_ACTION_UNMASK, VFIO_IRQ_SET_DATA_EVENTFD,
    VFIO_IRQ_SET_DATA_NONE, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_INTX_IRQ_INDEX,
    VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX,
};
use vfio_user::{Client, Error};

use super::MESSAGES;
use super::events::Event;
use super::header::{Header, Signalling};
use super::server::Connection;
use crate::pci::{MessageTable, MessageWrite, command, offset};
use crate::{BoardError, BoardEvent, FunctionAddress, PhysicalMemory, q35};

const CONNECT: u32 = VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_EVENTFD;
const DISCONNECT: u32 = VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_NONE;
const UNMASK: u32 = VFIO_IRQ_SET_ACTION_UNMASK | VFIO_IRQ_SET_DATA_NONE;

/// In the status register: the function asks for its line.
const STATUS_INTERRUPT: u32 = 1 << 3;

/// The device.
pub(super) struct Endpoint {
    connection: Connection,
    /// It was pulled out.
    gone: bool,
    slot: FunctionAddress,
    memory: Arc<PhysicalMemory>,
    header: Header,
    table: Option<MessageTable>,
    signalling: Signalling,
    line: Line,
    /// One for each message, as many as are enabled.
    messages: Vec<Event>,
    /// What has happened since the last poll.
    happened: Vec<BoardEvent>,
}

/// INTx. The server tells that it is asserted and then keeps quiet until it is asked again.
struct Line {
    event: Event,
    /// The device asserts it, as far as it was asked.
    requested: bool,
    /// It is asserted: not so while INTx is disabled.
    asserted: bool,
}

impl Endpoint {
    /// Lends the server guest RAM, and has it signal the line.
    pub(super) fn new(
        mut connection: Connection,
        slot: FunctionAddress,
        memory: Arc<PhysicalMemory>,
    ) -> Result<Self, BoardError> {
        let bad = |reason| BoardError::BadDevice {
            device: format!("the vfio-user device at {slot}"),
            reason,
        };
        let line = Line {
            event: Event::new()?,
            requested: false,
            asserted: false,
        };
        set_up(&mut connection.client, &memory, &line.event)
            .map_err(|_| bad("its server does not take guest RAM or the interrupt line"))?;
        let mut endpoint = Self {
            header: Header::of(&connection.client),
            connection,
            gone: false,
            slot,
            memory,
            table: None,
            signalling: Signalling::Line,
            line,
            messages: Vec::new(),
            happened: Vec::new(),
        };
        endpoint.refresh();
        if endpoint.gone {
            return Err(bad("its server does not let configuration space be read"));
        }
        endpoint.table = endpoint.header.table().map_err(bad)?;
        Ok(endpoint)
    }

    pub(super) fn config_read(&mut self, at: u16, size: u8) -> u32 {
        self.collect();
        let value = self.region_read(VFIO_PCI_CONFIG_REGION_INDEX, at.into(), size) as u32;
        // The line is the client's, and with it the bit that shows it.
        let shown = (at..at + u16::from(size)).contains(&offset::STATUS);
        if shown && self.line.requested {
            return value | STATUS_INTERRUPT << (8 * (offset::STATUS - at));
        }
        value
    }

    pub(super) fn config_write(&mut self, at: u16, size: u8, value: u32) {
        self.collect();
        self.region_write(
            VFIO_PCI_CONFIG_REGION_INDEX,
            at.into(),
            size,
            u64::from(value),
        );
        self.refresh();
    }

    pub(super) fn read(&mut self, physical: u64, size: u8) -> u64 {
        let Some((bar, offset)) = self.header.decode(physical) else {
            return u64::MAX;
        };
        if self.has_table(bar) {
            self.collect();
            let table = self.table.as_ref().filter(|_| !self.gone);
            return table.map_or(u64::MAX, |table| table.read(offset, size));
        }
        let value = self.region_read(bar.into(), offset, size);
        self.ask_line();
        value
    }

    pub(super) fn write(&mut self, physical: u64, size: u8, value: u64) {
        let Some((bar, offset)) = self.header.decode(physical) else {
            return;
        };
        if self.has_table(bar) {
            // What was sent until now goes by the old entries.
            self.collect();
            self.region_write(bar.into(), offset, size, value);
            if let Some(table) = self.table.as_mut().filter(|_| size >= 4) {
                table.write(offset, size, value);
            }
            return self.send_unmasked();
        }
        self.region_write(bar.into(), offset, size, value);
        self.ask_line();
    }

    fn has_table(&self, bar: u8) -> bool {
        self.table.as_ref().is_some_and(|table| table.bar() == bar)
    }

    /// Power is off for a moment.
    pub(super) fn reset(&mut self) {
        self.collect();
        self.ask(Client::reset);
        self.refresh();
    }

    pub(super) fn take_events(&mut self, events: &mut Vec<BoardEvent>) {
        self.collect();
        if self.has_ended() {
            self.lose();
        }
        events.append(&mut self.happened);
    }

    /// Whether there may be something to take, now or within `limit`.
    pub(super) fn has_news(&self, limit: Duration) -> bool {
        if !self.happened.is_empty() {
            return true;
        }
        let end = self.connection.end().filter(|_| !self.gone);
        let events = self.messages.iter().chain([&self.line.event]);
        let descriptors = events.map(|event| event.descriptor().as_fd());
        let mut polled: Vec<PollFd<'_>> = descriptors
            .chain(end.map(AsFd::as_fd))
            .map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN))
            .collect();
        let limit = Timespec {
            tv_sec: limit.as_secs() as i64,
            tv_nsec: limit.subsec_nanos().into(),
        };
        poll(&mut polled, Some(&limit)).is_ok_and(|ready| ready > 0)
    }

    /// Finds out whether the server is still there, unless that can be waited for.
    pub(super) fn probe(&mut self) {
        if self.connection.end().is_none() {
            self.region_read(VFIO_PCI_CONFIG_REGION_INDEX, 0, 4);
        }
    }

    fn has_ended(&self) -> bool {
        let Some(end) = self.connection.end().filter(|_| !self.gone) else {
            return false;
        };
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut [PollFd::new(end, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// Asks the server something; a server that fails is gone.
    fn ask<T>(&mut self, question: impl FnOnce(&mut Client) -> Result<T, Error>) -> Option<T> {
        if self.gone {
            return None;
        }
        match question(&mut self.connection.client) {
            Ok(answer) => Some(answer),
            Err(error) => {
                if let Some(message) = self.connection.give_up(&error) {
                    eprintln!("{message}");
                }
                self.lose();
                None
            }
        }
    }

    /// The device is pulled out.
    fn lose(&mut self) {
        self.collect();
        self.gone = true;
        self.line.requested = false;
        self.update_line();
        let function = self.slot;
        self.happened.push(BoardEvent::Removed { function });
    }

    fn region_read(&mut self, region: u32, offset: u64, size: u8) -> u64 {
        let mut bytes = [0; 8];
        let part = &mut bytes[..usize::from(size)];
        match self.ask(|client| client.region_read(region, offset, part)) {
            Some(()) => u64::from_le_bytes(bytes),
            None => q35::mask(size),
        }
    }

    fn region_write(&mut self, region: u32, offset: u64, size: u8, value: u64) {
        let bytes = value.to_le_bytes();
        let part = &bytes[..usize::from(size)];
        self.ask(|client| client.region_write(region, offset, part));
    }

    /// Configuration space may have changed, and with it everything that follows from it.
    fn refresh(&mut self) {
        let mut bytes = [0; Header::SIZE];
        let region = VFIO_PCI_CONFIG_REGION_INDEX;
        if self
            .ask(|client| client.region_read(region, 0, &mut bytes))
            .is_none()
        {
            return;
        }
        self.header.update(bytes);
        self.refresh_table();
        self.connect_messages();
        self.send_unmasked();
        self.ask_line();
        self.update_line();
    }

    /// A table that is not what was written to it was reset.
    fn refresh_table(&mut self) {
        let Some(table) = &self.table else {
            return;
        };
        let (bar, length) = (table.bar(), table.size());
        let mut theirs = vec![0; length];
        if self
            .ask(|client| client.region_read(bar.into(), 0, &mut theirs))
            .is_none()
        {
            return;
        }
        let Some(table) = &mut self.table else {
            return;
        };
        let words = theirs.as_chunks::<8>().0.iter().copied();
        let words = words.map(u64::from_le_bytes).zip((0..).step_by(8));
        let same = words.clone().all(|(word, at)| table.read(at, 8) == word);
        if !same {
            table.reset();
            words.for_each(|(word, at)| table.write(at, 8, word));
        }
    }

    /// Gives the server an event for each message that is enabled, and takes the others away.
    fn connect_messages(&mut self) {
        let wanted = self.header.signalling();
        let before = kind(std::mem::replace(&mut self.signalling, wanted));
        if kind(wanted) == before {
            return;
        }
        self.messages.clear();
        if let Some((index, _)) = before {
            self.ask(|client| client.set_irqs(index, DISCONNECT, 0, 0, &[]));
        }
        if let Some((index, count)) = kind(wanted) {
            // Out of descriptors is out of everything: the device can as well be gone.
            let Ok(messages) = Event::several(count) else {
                return self.lose();
            };
            let descriptors: Vec<_> = messages.iter().map(AsRawFd::as_raw_fd).collect();
            self.messages = messages;
            self.ask(|client| client.set_irqs(index, CONNECT, 0, count.into(), &descriptors));
        }
    }

    /// Takes what the server has signalled.
    fn collect(&mut self) {
        if self.line.event.take() {
            self.line.requested = true;
            self.update_line();
        }
        let taken = self.messages.iter().map(Event::take).zip(0_u16..);
        let sent: Vec<u16> = taken
            .filter(|(taken, _)| *taken)
            .map(|(_, number)| number)
            .collect();
        for number in sent {
            let write = match (self.signalling, &mut self.table) {
                (Signalling::MsiX { masked, .. }, Some(table)) => table.send(number, masked),
                _ => self.header.msi_message(number),
            };
            if let Some(write) = write {
                self.deliver(write);
            }
        }
    }

    /// Sends messages that were masked and are no longer.
    fn send_unmasked(&mut self) {
        if let (Signalling::MsiX { masked: false, .. }, Some(table)) =
            (self.signalling, &mut self.table)
        {
            for write in table.take_unmasked() {
                self.deliver(write);
            }
        }
    }

    fn deliver(&mut self, message: MessageWrite) {
        if message.address == MESSAGES {
            let vector = message.data as u8;
            self.happened.push(BoardEvent::Message { vector });
        } else {
            // Elsewhere a message is a write like any other, and lost where there is no RAM.
            let bytes = message.data.to_le_bytes();
            let _ = self.memory.write(message.address, &bytes);
        }
    }

    /// Asks whether the line is still asserted, after an access that may have released it.
    fn ask_line(&mut self) {
        self.collect();
        if !self.line.requested {
            return;
        }
        let index = VFIO_PCI_INTX_IRQ_INDEX;
        if self
            .ask(|client| client.set_irqs(index, UNMASK, 0, 1, &[]))
            .is_some()
        {
            self.line.requested = self.line.event.take();
            self.update_line();
        }
    }

    fn update_line(&mut self) {
        let disabled = self.header.command() & command::INTX_DISABLE != 0;
        let asserted = self.line.requested && !disabled;
        if std::mem::replace(&mut self.line.asserted, asserted) != asserted {
            let line = q35::line(self.slot, self.header.pin());
            self.happened.push(BoardEvent::Line { line, asserted });
        }
    }
}

/// The interrupts that messages of a kind are to vfio-user, and how many are enabled.
fn kind(signalling: Signalling) -> Option<(u32, u16)> {
    match signalling {
        Signalling::Line => None,
        Signalling::Msi { count } => Some((VFIO_PCI_MSI_IRQ_INDEX, count)),
        Signalling::MsiX { count, .. } => Some((VFIO_PCI_MSIX_IRQ_INDEX, count)),
    }
}

fn set_up(client: &mut Client, memory: &PhysicalMemory, line: &Event) -> Result<(), Error> {
    for range in memory.ranges() {
        let length = range.end - range.start;
        if let Some(offset) = memory.file_offset(range.start).filter(|_| length > 0) {
            let file = memory.file().as_raw_fd();
            client.dma_map(offset, range.start, length, file)?;
        }
    }
    let line = [line.as_raw_fd()];
    client.set_irqs(VFIO_PCI_INTX_IRQ_INDEX, CONNECT, 0, 1, &line)
}
