//! Reads and writes on a ring card: three of the four phases, each for many requests at a time.

use core::sync::atomic::Ordering;

use abi::window::Span;
use kmdf::dma::{
    Attempt, Channel, Concluded, Direction, DmaEvents, Executing, ScatterGather, Stopped,
    Transaction,
};
use kmdf::queue::{StopReason, TransferEvents};
use kmdf::request::{CancelEvents, RequestKey};
use kmdf::timer::TimerEvents;
use kmdf::{NtStatus, Request, log};

use super::card::RingCard;
use super::engine::{Engine, Flight};
use super::recovery::TICKS;
use crate::outcome::status_of;

/// What travels along with a transaction in one word: where in the card's memory the request begins, and its slot.
#[derive(Clone, Copy)]
struct Ticket {
    start: u32,
    slot: u32,
}

impl Ticket {
    const fn into_word(self) -> usize {
        self.start as usize | (self.slot as usize) << u32::BITS
    }

    const fn from_word(word: usize) -> Self {
        Self {
            start: word as u32,
            slot: (word >> u32::BITS) as u32,
        }
    }
}

impl TransferEvents for RingCard {
    fn read(&self, request: Request, length: usize) {
        self.arrive(&self.from_card, request, length);
    }

    fn write(&self, request: Request, length: usize) {
        self.arrive(&self.to_card, request, length);
    }

    /// If the device sleeps for a while, the request is finished first, or goes back to its queue if it waits for map
    /// registers; if the device goes, its transfer is given up. A card that is gone is not waited for.
    fn stop(&self, request: RequestKey, reason: StopReason) {
        if let Some((engine, slot, channel)) = self.find(request) {
            let stopped = match reason {
                StopReason::Suspend => channel.recall(),
                StopReason::Purge => channel.stop(),
            };
            self.stopped(engine, slot, stopped, reason == StopReason::Purge);
        }
        self.look();
        self.look_for_card();
    }
}

impl CancelEvents for RingCard {
    fn cancel(&self, request: RequestKey) {
        if let Some((engine, slot, channel)) = self.find(request) {
            self.stopped(engine, slot, channel.cancel(), true);
        }
    }
}

impl RingCard {
    /// Which slot has the request, if one has.
    fn find(&self, request: RequestKey) -> Option<(&Engine, u32, &Channel<Flight>)> {
        self.engines().into_iter().find_map(|engine| {
            let (slot, channel) = engine.find(request)?;
            Some((engine, slot, channel))
        })
    }

    fn engine(&self, direction: Direction) -> &Engine {
        match direction {
            Direction::ToDevice => &self.to_card,
            Direction::FromDevice => &self.from_card,
        }
    }

    /// Phase 2: checks where in the card's memory the request points, and carries it out in a slot of its own.
    fn arrive(&self, engine: &Engine, request: Request, length: usize) {
        self.counters.requests.increment();
        let Some(started) = self.started.enter() else {
            return self
                .counters
                .end(request, Err(NtStatus::DEVICE_NOT_READY), 0);
        };
        let memory = started.registers.memory();
        drop(started);
        match memory.span(request.wanted().offset, length) {
            Ok(Some(span)) => self.begin(engine, request, span),
            Ok(None) => self.counters.end(request, Ok(()), 0),
            Err(refusal) => self.counters.end(request, Err(status_of(refusal)), 0),
        }
    }

    fn begin(&self, engine: &Engine, request: Request, span: Span) {
        let Some((slot, channel)) = engine.claim() else {
            // The queue has handed out more requests than there are slots.
            return self.counters.end(request, Err(NtStatus::INTERNAL_ERROR), 0);
        };
        let ticket = Ticket {
            start: span.start(),
            slot,
        };
        // If nothing comes back everything may be over already; there is nothing left here to look at.
        let concluded = channel.begin::<Self>(request, ticket.into_word());
        self.conclude(engine, slot, concluded);
    }

    /// Somebody wanted a request to end, and may have ended it. If the card is at work on it, it may be asked to stop.
    fn stopped(&self, engine: &Engine, slot: u32, stopped: Stopped, abort: bool) {
        match stopped {
            Stopped::Running if abort => {
                if let Some(started) = self.started.enter() {
                    engine.abort(&started.registers, slot);
                }
            }
            Stopped::Noted | Stopped::Running => {}
            Stopped::Concluded(concluded) => self.conclude(engine, slot, Some(concluded)),
        }
    }

    /// Completes the request of a slot if it is over, or hands it back; the slot is free before.
    pub(super) fn conclude(&self, engine: &Engine, slot: u32, concluded: Option<Concluded>) {
        if let Some(concluded) = concluded {
            engine.release(slot);
            self.counters.conclude(concluded);
        }
    }

    /// Tells the card about one transfer. Whether a deferred call is to look after the channel.
    fn tell(
        &self,
        transfer: Transaction<Executing>,
        ticket: Ticket,
        direction: Direction,
        list: &ScatterGather<'_>,
    ) -> Result<bool, (Transaction<Executing>, NtStatus)> {
        let Some(started) = self.started.enter() else {
            return Err((transfer, NtStatus::DEVICE_REMOVED));
        };
        // Where this transfer lies in the card's memory. It cannot lie outside, as the request does not; but what
        // is told to a card is checked where it is told.
        let offset = transfer.bytes_transferred() as u64 + u64::from(ticket.start);
        let length: u64 = list.iter().map(|piece| u64::from(piece.length)).sum();
        let memory = started.registers.memory();
        match memory.span(offset.cast_signed(), length as usize) {
            Ok(Some(span)) => {
                let engine = self.engine(direction);
                engine.submit(&started.registers, ticket.slot, transfer, span, list)
            }
            Ok(None) | Err(_) => Err((transfer, NtStatus::INTERNAL_ERROR)),
        }
    }
}

impl DmaEvents for RingCard {
    /// Phase 3: puts one transfer into the channel's ring. There is room, as the request has a slot.
    fn program(
        &self,
        transfer: Transaction<Executing>,
        word: usize,
        direction: Direction,
        list: &ScatterGather<'_>,
    ) -> bool {
        let engine = self.engine(direction);
        let ticket = Ticket::from_word(word);
        let Some(channel) = engine.slot(ticket.slot) else {
            return false;
        };
        let transfer = match channel.arrive(transfer) {
            Attempt::Go(transfer) => transfer,
            Attempt::Over(concluded) => {
                self.conclude(engine, ticket.slot, concluded);
                return false;
            }
        };
        self.counters.transfers.increment();
        // Once the card knows of the transfer, the list may be gone at any time.
        let descriptors = list.count() as usize;
        match self.tell(transfer, ticket, direction, list) {
            Ok(look) => {
                self.counters.descriptors.add(descriptors);
                if look {
                    self.interrupts.of(engine.direction).queue_deferred();
                }
                self.watch();
                true
            }
            Err((transfer, status)) => {
                if status != NtStatus::CANCELLED {
                    log::failure(c"transferring", status);
                    self.counters.hardware_errors.increment();
                }
                let concluded = channel.fail(transfer, status);
                self.conclude(engine, ticket.slot, concluded);
                false
            }
        }
    }
}

impl TimerEvents for RingCard {
    fn expired(&self) {
        self.watched.store(false, Ordering::Release);
        for engine in self.engines() {
            engine.check_time.store(true, Ordering::Release);
        }
        self.look();
        if self.engines().iter().any(|engine| !engine.is_empty()) {
            self.watch();
        }
    }
}

impl RingCard {
    /// Has the time limit looked after, as long as there is something in flight. IRQL <= DISPATCH_LEVEL.
    fn watch(&self) {
        if !self.watched.load(Ordering::Relaxed) && !self.watched.swap(true, Ordering::AcqRel) {
            self.watchdog.start((self.limit / TICKS).max(1));
        }
    }
}
