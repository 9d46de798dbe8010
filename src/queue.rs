//! Reads and writes as they come out of their queue; [`crate::outcome`] says how every one of them ends.

use kmdf::Request;
use kmdf::context::ContextType;
use kmdf::dma::{Concluded, Stopped};
use kmdf::queue::{StopReason, TransferEvents};
use kmdf::request::{CancelEvents, RequestKey};

use crate::device::Card;
use crate::hw::Hardware;
use crate::outcome::status_of;

impl<H: Hardware> TransferEvents for Card<H>
where
    Self: ContextType,
{
    fn read(&self, request: Request, length: usize) {
        self.arrive(request, length);
    }

    fn write(&self, request: Request, length: usize) {
        self.arrive(request, length);
    }

    /// A request has left the queue and not ended. If the device sleeps for a while, the request is finished first, or
    /// goes back to the queue if it waits for map registers; if the device goes, the request ends after the transfer.
    /// The transfer is waited for, not longer than the time limit, and not at all if the card is gone: a look at it
    /// tells.
    fn stop(&self, _request: RequestKey, reason: StopReason) {
        self.ended(match reason {
            StopReason::Suspend => self.channel.recall(),
            StopReason::Purge => self.channel.stop(),
        });
        self.look();
    }
}

impl<H: Hardware> CancelEvents for Card<H>
where
    Self: ContextType,
{
    /// There is one request at a time, so it is this one. A transfer that the card has begun is waited for: the card
    /// cannot abort it.
    fn cancel(&self, _request: RequestKey) {
        self.ended(self.channel.cancel());
    }
}

impl<H: Hardware> Card<H>
where
    Self: ContextType,
{
    /// Checks where in the card's memory the request points, before anything is done for it.
    fn arrive(&self, request: Request, length: usize) {
        self.counters.requests.increment();
        match H::MEMORY.span(request.wanted().offset, length) {
            Ok(Some(span)) => self.begin(request, span),
            Ok(None) => self.counters.end(request, Ok(()), 0),
            Err(refusal) => self.counters.end(request, Err(status_of(refusal)), 0),
        }
    }

    /// Somebody wanted a request to end, and may have ended it.
    pub(crate) fn ended(&self, stopped: Stopped) {
        match stopped {
            Stopped::Noted | Stopped::Running => {}
            Stopped::Concluded(concluded) => self.conclude(Some(concluded)),
        }
    }

    /// Completes a request if it is over, or hands it back.
    pub(crate) fn conclude(&self, concluded: Option<Concluded>) {
        if let Some(concluded) = concluded {
            self.counters.conclude(concluded);
        }
    }
}
