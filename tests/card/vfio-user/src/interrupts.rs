//! The client's event descriptors, and when they are signalled.

use std::fs::File;
use std::io::Write;

use abi::card::{MESSAGES, MSI_MESSAGES};
use card::Signalling;
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_MASK, VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_ACTION_UNMASK,
    VFIO_IRQ_SET_DATA_EVENTFD, VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX,
    VFIO_PCI_MSIX_IRQ_INDEX,
};

/// How many interrupts there are of each kind that a PCI device has.
pub(crate) fn count(index: u32) -> u32 {
    match index {
        VFIO_PCI_INTX_IRQ_INDEX => 1,
        VFIO_PCI_MSI_IRQ_INDEX => MSI_MESSAGES.into(),
        VFIO_PCI_MSIX_IRQ_INDEX => MESSAGES.into(),
        _ => 0,
    }
}

/// The function's interrupts.
#[derive(Default)]
pub(crate) struct Interrupts {
    line: Line,
    msi: Messages,
    msi_x: Messages,
}

/// INTx. The client masks it when it is told of it, and unmasks it when its software may have dealt with it.
#[derive(Default)]
struct Line {
    event: Option<File>,
    asserted: bool,
    masked: bool,
}

/// MSI or MSI-X: an event for each message, as many as were enabled.
#[derive(Default)]
struct Messages {
    events: Vec<Option<File>>,
    /// Sent while there was no event.
    pending: u64,
}

impl Interrupts {
    /// A request of the client: which events there are, or that the line is masked or not.
    pub(crate) fn set(
        &mut self,
        index: u32,
        flags: u32,
        start: u32,
        number: u32,
        files: Vec<File>,
    ) {
        let end = start.saturating_add(number);
        if end > count(index) {
            return;
        }
        let triggers = flags & VFIO_IRQ_SET_ACTION_TRIGGER != 0;
        let events = flags & VFIO_IRQ_SET_DATA_EVENTFD != 0;
        match index {
            VFIO_PCI_INTX_IRQ_INDEX if triggers => self.line.connect(files.into_iter().next()),
            VFIO_PCI_INTX_IRQ_INDEX if flags & VFIO_IRQ_SET_ACTION_MASK != 0 => {
                self.line.masked = true;
            }
            VFIO_PCI_INTX_IRQ_INDEX if flags & VFIO_IRQ_SET_ACTION_UNMASK != 0 && !events => {
                self.line.unmask();
            }
            VFIO_PCI_MSI_IRQ_INDEX if triggers => self.msi.connect(start, number, files),
            VFIO_PCI_MSIX_IRQ_INDEX if triggers => self.msi_x.connect(start, number, files),
            _ => {}
        }
    }

    /// Forgets all events.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn signalling(&self) -> Signalling {
        match self.messages() {
            Some(messages) => Signalling::Messages(messages.events.len() as u16),
            None => Signalling::Line,
        }
    }

    fn messages(&self) -> Option<&Messages> {
        let kinds = [&self.msi_x, &self.msi];
        kinds.into_iter().find(|kind| !kind.events.is_empty())
    }

    pub(crate) fn send_message(&mut self, number: u16) {
        let kinds = [&mut self.msi_x, &mut self.msi];
        if let Some(messages) = kinds.into_iter().find(|kind| !kind.events.is_empty()) {
            messages.send(number);
        }
    }

    pub(crate) fn set_line(&mut self, asserted: bool) {
        self.line.asserted = asserted;
        self.line.signal();
    }
}

impl Line {
    fn connect(&mut self, event: Option<File>) {
        self.event = event;
        self.unmask();
    }

    fn unmask(&mut self) {
        self.masked = false;
        self.signal();
    }

    fn signal(&mut self) {
        if self.asserted && !self.masked && self.event.is_some() {
            self.masked = true;
            signal(self.event.as_mut());
        }
    }
}

impl Messages {
    /// Takes events for messages from `start` on; without files they have none, and a request for no message at all
    /// turns them off.
    fn connect(&mut self, start: u32, number: u32, files: Vec<File>) {
        if number == 0 {
            *self = Self::default();
            return;
        }
        let (start, end) = (start as usize, (start + number) as usize);
        if self.events.len() < end {
            self.events.resize_with(end, || None);
        }
        let mut files = files.into_iter();
        for message in start..end {
            self.events[message] = files.next();
            if self.pending >> message & 1 != 0 {
                self.send(message as u16);
            }
        }
    }

    fn send(&mut self, number: u16) {
        let event = self.events.get_mut(usize::from(number));
        let sent = signal(event.and_then(Option::as_mut));
        let bit = 1 << number;
        self.pending = self.pending & !bit | if sent { 0 } else { bit };
    }
}

/// Signals an event; whether there is one.
fn signal(event: Option<&mut File>) -> bool {
    let Some(event) = event else {
        return false;
    };
    // An event that cannot be signalled has been so often that its reader knows.
    let _ = event.write_all(&1_u64.to_ne_bytes());
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};
    use std::io::Read;
    use vfio_bindings::bindings::vfio::VFIO_IRQ_SET_DATA_NONE;

    const EVENTS: u32 = VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_EVENTFD;
    const UNMASK: u32 = VFIO_IRQ_SET_ACTION_UNMASK | VFIO_IRQ_SET_DATA_NONE;

    fn event() -> (File, File) {
        let event = File::from(eventfd(0, EventfdFlags::NONBLOCK).unwrap());
        (event.try_clone().unwrap(), event)
    }

    fn signals(mut event: &File) -> u64 {
        let mut bytes = [0; 8];
        event
            .read(&mut bytes)
            .map_or(0, |_| u64::from_ne_bytes(bytes))
    }

    #[test]
    fn a_line_is_told_once_and_again_if_it_is_still_asserted() {
        let (ours, theirs) = event();
        let mut interrupts = Interrupts::default();
        interrupts.set(VFIO_PCI_INTX_IRQ_INDEX, EVENTS, 0, 1, vec![theirs]);
        interrupts.set_line(true);
        interrupts.set_line(true);
        assert_eq!(signals(&ours), 1);
        interrupts.set(VFIO_PCI_INTX_IRQ_INDEX, UNMASK, 0, 1, vec![]);
        assert_eq!(signals(&ours), 1);
        interrupts.set_line(false);
        interrupts.set(VFIO_PCI_INTX_IRQ_INDEX, UNMASK, 0, 1, vec![]);
        assert_eq!(signals(&ours), 0);
    }

    #[test]
    fn a_message_without_an_event_waits_for_it() {
        let (ours, theirs) = event();
        let mut interrupts = Interrupts::default();
        interrupts.set(VFIO_PCI_MSIX_IRQ_INDEX, EVENTS, 0, 3, vec![]);
        assert_eq!(interrupts.signalling(), Signalling::Messages(3));
        interrupts.send_message(2);
        interrupts.set(VFIO_PCI_MSIX_IRQ_INDEX, EVENTS, 2, 1, vec![theirs]);
        assert_eq!(signals(&ours), 1);
        let off = VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_NONE;
        interrupts.set(VFIO_PCI_MSIX_IRQ_INDEX, off, 0, 0, vec![]);
        assert_eq!(interrupts.signalling(), Signalling::Line);
    }

    #[test]
    fn what_there_is_not_is_not_set() {
        let mut interrupts = Interrupts::default();
        interrupts.set(VFIO_PCI_MSIX_IRQ_INDEX, EVENTS, u32::MAX, 2, vec![]);
        interrupts.set(VFIO_PCI_MSI_IRQ_INDEX, EVENTS, 1, 4, vec![]);
        interrupts.set(17, EVENTS, 0, 1, vec![]);
        assert_eq!(interrupts.signalling(), Signalling::Line);
    }
}
