//! The event descriptors by which a device interrupts.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::event::{EventfdFlags, eventfd};

use crate::BoardError;

/// An event: signalled by the server, taken by us.
pub(super) struct Event(OwnedFd);

impl Event {
    pub(super) fn new() -> Result<Self, BoardError> {
        let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC);
        event.map(Self).map_err(|error| BoardError::System {
            action: "make an event descriptor",
            source: error.into(),
        })
    }

    pub(super) fn several(count: u16) -> Result<Vec<Self>, BoardError> {
        (0..count).map(|_| Self::new()).collect()
    }

    /// Whether it was signalled since it was last taken, once or more often.
    pub(super) fn take(&self) -> bool {
        rustix::io::read(&self.0, &mut [0; 8]).is_ok()
    }

    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.0
    }
}

impl AsRawFd for Event {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
