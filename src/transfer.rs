//! The way of a request into the DMA engine: phases 2 and 3 of the four; phase 4 is in [`crate::watch`].
//!
//! ```text
//! begin    phase 2: mark cancelable -> Initialize -> Execute   the request is inside the transaction now
//! program  phase 3: one transfer is mapped -> the card is told -> the channel
//!             ... the card moves data, interrupts ...
//! look     phase 4: the channel -> has the card finished? -> DmaCompleted
//!                      more to move: the framework calls program for the next transfer
//!                      all moved:    Release -> the request completes
//! ```

use core::sync::atomic::Ordering;

use abi::window::Span;
use kmdf::clock::Moment;
use kmdf::context::ContextType;
use kmdf::dma::{Attempt, Direction, DmaEvents, Executing, ScatterGather, Transaction};
use kmdf::slot::Knock;
use kmdf::{NtStatus, Request, Result, log};

use crate::device::Card;
use crate::hw::{Fault, Hardware};
use crate::watch::Cut;

/// A transfer that the card has been told about.
pub(crate) struct InFlight<H: Hardware> {
    pub(crate) transfer: Transaction<Executing>,
    /// What the card was told, to be compared with what it says when it has finished.
    pub(crate) told: H::Told,
    /// When it was told.
    pub(crate) since: Moment,
    /// Whether the card has been cut off from the bus meanwhile.
    pub(crate) cut: Option<Cut>,
}

impl<H: Hardware> Card<H>
where
    Self: ContextType,
{
    /// Phase 2: carries out a request for a part of the card's memory. IRQL <= DISPATCH_LEVEL.
    ///
    /// The queue hands out one request at a time, so the channel is idle. The framework splits the request's buffer
    /// into transfers; where in the card's memory the request begins travels along with the transaction.
    pub(crate) fn begin(&self, request: Request, span: Span) {
        if self.failed.load(Ordering::Acquire) {
            return self
                .counters
                .end(request, Err(NtStatus::IO_DEVICE_ERROR), 0);
        }
        // If nothing comes back everything may be over already; there is nothing left here to look at.
        let concluded = self.channel.begin::<Self>(request, span.start() as usize);
        self.conclude(concluded);
    }

    /// Tells the card about one transfer.
    fn tell(
        &self,
        transfer: &Transaction<Executing>,
        begin: usize,
        direction: Direction,
        list: &ScatterGather<'_>,
    ) -> Result<H::Told, Fault> {
        let started = self.started.enter().ok_or(Fault::Gone)?;
        let element = list.single().ok_or(Fault::Contradiction)?;
        // Where this transfer lies in the card's memory. It cannot lie outside, as the request does not; but what
        // is told to a card is checked where it is told.
        let offset = begin
            .checked_add(transfer.bytes_transferred())
            .and_then(|offset| i64::try_from(offset).ok())
            .ok_or(Fault::Contradiction)?;
        match H::MEMORY.span(offset, element.length as usize) {
            Ok(Some(span)) => started.hardware.start(span, direction, element.address),
            Ok(None) | Err(_) => Err(Fault::Contradiction),
        }
    }

    /// The card has gone wrong over a transfer and does not use the buffer: ends the request.
    pub(crate) fn give_up(&self, transfer: Transaction<Executing>, fault: Fault) {
        log::failure(c"transferring", fault.status());
        self.counters.hardware_errors.increment();
        let concluded = self.channel.fail(transfer, fault.status());
        self.conclude(concluded);
    }
}

impl<H: Hardware> DmaEvents for Card<H>
where
    Self: ContextType,
{
    /// Phase 3: tells the card about one transfer.
    ///
    /// The transfer goes into the channel after the card has been told, never before: until then an interrupt that is
    /// left over from earlier must not find it. If the deferred call has looked in vain in the meantime, it is made to
    /// look again.
    fn program(
        &self,
        transfer: Transaction<Executing>,
        word: usize,
        direction: Direction,
        list: &ScatterGather<'_>,
    ) -> bool {
        let transfer = match self.channel.arrive(transfer) {
            Attempt::Go(transfer) => transfer,
            Attempt::Over(concluded) => {
                self.conclude(concluded);
                return false;
            }
        };
        match self.tell(&transfer, word, direction, list) {
            Ok(told) => {
                self.counters.transfers.increment();
                let in_flight = InFlight {
                    transfer,
                    told,
                    since: Moment::now(),
                    cut: None,
                };
                // Before anybody can end the transfer, and stop the timer.
                self.watchdog.start(self.limit);
                if self.channel.put_running(in_flight) == Knock::Knocked {
                    self.interrupt.queue_deferred();
                }
                true
            }
            Err(fault) => {
                self.give_up(transfer, fault);
                false
            }
        }
    }
}
