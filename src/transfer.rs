//! The way of a request through the DMA engine: phases 2, 3 and 4 of the four.
//!
//! ```text
//! begin    phase 2: slot -> Initialize -> Execute           the request is inside the transaction now
//! program  phase 3: one transfer is mapped -> the card is told -> slot
//!             ... the card moves data, interrupts ...
//! drain    phase 4: slot -> has the card finished? -> DmaCompleted
//!                      more to move: the framework calls program for the next transfer
//!                      all moved:    Release -> slot, the request completes
//! ```

use core::ffi::CStr;

use abi::window::Span;
use kmdf::context::ContextType;
use kmdf::dma::{
    Direction, DmaEvents, Executing, Idle, Progress, Refused, ScatterGather, Transaction,
};
use kmdf::slot::Knock;
use kmdf::{NtStatus, Request, Result, log};

use crate::device::Card;
use crate::hw::{Fault, Hardware, State};

/// A transfer that the card has been told about.
pub(crate) struct InFlight<H: Hardware> {
    transfer: Transaction<Executing>,
    direction: Direction,
    /// What the card was told, to be compared with what it says when it has finished.
    told: H::Told,
}

impl<H: Hardware> Card<H>
where
    Self: ContextType,
{
    /// Phase 2: carries out a request for a part of the card's memory. IRQL <= DISPATCH_LEVEL.
    ///
    /// The queue hands out one request at a time, so the transaction is idle. The framework splits the request's buffer
    /// into transfers; where in the card's memory the request begins travels along with the transaction.
    pub(crate) fn begin(&self, request: Request, span: Span, direction: Direction) {
        let Some(transaction) = self.slot.take_idle() else {
            return self.end(request, Err(NtStatus::INTERNAL_ERROR));
        };
        let begun = transaction
            .initialize::<Self>(request, direction)
            .and_then(|transaction| transaction.execute(span.start() as usize));
        // On success everything may be over already; there is nothing left here to look at.
        if let Err(refused) = begun {
            let Refused {
                status,
                transaction,
                request,
            } = refused;
            log::failure(c"beginning a transaction", status);
            self.finish(transaction, request, Err(status));
        }
    }

    /// Phase 4: looks whether the card has finished the transfer in flight, and reports it. IRQL <= DISPATCH_LEVEL.
    ///
    /// It may be called at any time and by several processors at once: who gets the transfer out of the slot has it
    /// alone, and puts it back if the card is still at work.
    pub(crate) fn drain(&self) {
        let Some(started) = self.started.enter() else {
            return;
        };
        while let Some(in_flight) = self.slot.take_running() {
            let failure = match started.hardware.state(&in_flight.told) {
                Ok(State::Running) => match self.slot.put_running(in_flight) {
                    Ok(Knock::Quiet) => return,
                    // Another look was taken in the meantime, perhaps because it has finished now.
                    Ok(Knock::Knocked) => continue,
                    Err(_) => return defect(c"putting a transfer back"),
                },
                Ok(State::Finished) => None,
                Err(fault) => Some(fault),
            };
            drop(started);
            return self.report(in_flight.transfer, in_flight.direction, failure);
        }
    }

    /// Reports the end of a transfer to the framework, and if nothing follows, ends the request.
    fn report(
        &self,
        transfer: Transaction<Executing>,
        direction: Direction,
        failure: Option<Fault>,
    ) {
        let progress = match failure {
            None => transfer.complete(),
            Some(fault) => {
                log::failure(c"transferring", fault.status());
                self.counters.hardware_errors.increment();
                transfer.finish(0)
            }
        };
        let Progress::Ended(ended) = progress else {
            // The framework has gone on to the next transfer.
            return;
        };
        let bytes = ended.bytes_transferred();
        let outcome = match failure {
            None => ended.status().ok().map(|()| bytes),
            Some(fault) => Err(fault.status()),
        };
        match direction {
            Direction::FromDevice => self.counters.bytes_read.add(bytes),
            Direction::ToDevice => self.counters.bytes_written.add(bytes),
        }
        let (transaction, request) = ended.release();
        self.finish(transaction, request, outcome);
    }

    /// Makes the transaction available to the next request, and then ends this one: completing it may make the queue
    /// hand out the next before this returns.
    fn finish(&self, transaction: Transaction<Idle>, request: Request, outcome: Result<usize>) {
        if self.slot.put_idle(transaction).is_err() {
            defect(c"putting the transaction back");
        }
        self.end(request, outcome);
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
}

/// The slot was not empty for the one who had emptied it: a defect of this driver, which cannot happen.
fn defect(what: &CStr) {
    log::failure(what, NtStatus::INTERNAL_ERROR);
}

impl<H: Hardware> DmaEvents for Card<H>
where
    Self: ContextType,
{
    /// Phase 3: tells the card about one transfer.
    ///
    /// The transfer goes into the slot after the card has been told, never before: until then an interrupt that is
    /// left over from earlier must not find it. If the deferred call has looked in vain in the meantime, it is made to
    /// look again.
    fn program(
        &self,
        transfer: Transaction<Executing>,
        word: usize,
        direction: Direction,
        list: &ScatterGather<'_>,
    ) -> bool {
        match self.tell(&transfer, word, direction, list) {
            Ok(told) => {
                self.counters.transfers.increment();
                let in_flight = InFlight {
                    transfer,
                    direction,
                    told,
                };
                match self.slot.put_running(in_flight) {
                    Ok(Knock::Quiet) => {}
                    Ok(Knock::Knocked) => self.interrupt.queue_deferred(),
                    Err(_) => defect(c"keeping a transfer"),
                }
                true
            }
            Err(fault) => {
                self.report(transfer, direction, Some(fault));
                false
            }
        }
    }
}
