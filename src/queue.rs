//! Reads and writes as they come out of their queue, and how every one of them ends.

use abi::window::Refusal;
use kmdf::context::ContextType;
use kmdf::dma::Direction;
use kmdf::queue::{StopReason, TransferEvents};
use kmdf::{NtStatus, Request, Result};

use crate::device::Card;
use crate::hw::Hardware;

impl<H: Hardware> TransferEvents for Card<H>
where
    Self: ContextType,
{
    fn read(&self, request: Request, length: usize) {
        self.arrive(request, length, Direction::FromDevice);
    }

    fn write(&self, request: Request, length: usize) {
        self.arrive(request, length, Direction::ToDevice);
    }

    /// A request is in the engine's hands. The card cannot abort a transfer, and finishes it soon: it is waited for, in
    /// every case but one. A card that is gone will never say that it has finished, but cannot touch memory any more
    /// either: looking at it ends the request.
    fn stop(&self, _reason: StopReason) {
        self.drain();
    }
}

impl<H: Hardware> Card<H>
where
    Self: ContextType,
{
    /// Checks where in the card's memory the request points, before anything is done for it.
    fn arrive(&self, request: Request, length: usize, direction: Direction) {
        self.counters.requests.increment();
        match H::MEMORY.span(request.file_offset(), length) {
            Ok(Some(span)) => self.begin(request, span, direction),
            Ok(None) => self.end(request, Ok(0)),
            Err(refusal) => self.end(request, Err(status_of(refusal))),
        }
    }

    /// Completes a read or a write with the bytes moved or the reason why not. The only place where one ends.
    pub(crate) fn end(&self, request: Request, outcome: Result<usize>) {
        match outcome {
            Ok(bytes) => {
                self.counters.completed.increment();
                request.complete_with_bytes(bytes);
            }
            Err(status) => {
                self.counters.failed.increment();
                request.complete(status);
            }
        }
    }
}

/// As the table of [`abi::window`] says.
const fn status_of(refusal: Refusal) -> NtStatus {
    match refusal {
        Refusal::NegativeOffset => NtStatus::INVALID_PARAMETER,
        Refusal::BeyondEnd => NtStatus::END_OF_FILE,
        Refusal::AcrossEnd => NtStatus::INVALID_BUFFER_SIZE,
    }
}
