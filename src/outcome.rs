//! How reads and writes end, whatever device they were for, and how that is counted.

use abi::window::Refusal;
use kmdf::dma::{Concluded, Direction};
use kmdf::{NtStatus, Request, Result};

use crate::statistics::Counters;

impl Counters {
    /// Completes a request that is over, or hands it back.
    pub(crate) fn conclude(&self, concluded: Concluded) {
        let Concluded {
            request,
            status,
            moved,
            recalled,
        } = concluded;
        if recalled {
            // It will be counted when it comes again.
            self.requests.decrement();
            request.hand_back();
        } else {
            self.end(request, status, moved);
        }
    }

    /// Completes a read or a write. The only place where one ends.
    ///
    /// One that did not end with success tells its caller nothing of what it has moved, but what was moved is counted.
    pub(crate) fn end(&self, request: Request, status: Result<()>, moved: usize) {
        match request.wanted().direction {
            Direction::FromDevice => self.bytes_read.add(moved),
            Direction::ToDevice => self.bytes_written.add(moved),
        }
        match status {
            Ok(()) => {
                self.completed.increment();
                return request.complete_with_bytes(moved);
            }
            Err(NtStatus::CANCELLED) => self.cancelled.increment(),
            Err(NtStatus::IO_TIMEOUT) => {
                self.timeouts.increment();
                self.failed.increment();
            }
            Err(NtStatus::INSUFFICIENT_RESOURCES) => {
                self.without_resources.increment();
                self.failed.increment();
            }
            Err(_) => self.failed.increment(),
        }
        request.complete(status.into());
    }
}

/// Why a request that points where it must not is refused: as the table of [`abi::window`] says.
pub(crate) const fn status_of(refusal: Refusal) -> NtStatus {
    match refusal {
        Refusal::NegativeOffset => NtStatus::INVALID_PARAMETER,
        Refusal::BeyondEnd => NtStatus::END_OF_FILE,
        Refusal::AcrossEnd | Refusal::TooLong => NtStatus::INVALID_BUFFER_SIZE,
    }
}
