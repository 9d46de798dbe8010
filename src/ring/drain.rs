//! The way out of a channel's completion ring.
//!
//! The card writes there what it likes. Completions come in the order of the descriptor ring, so the driver knows which
//! one comes next: whose tag it has, where it leaves the consumer, and how much it can have moved at most. Any other one
//! ends the card's trust until it has been reset, and is used for nothing.

use core::sync::atomic::Ordering;

use abi::card::register::Moderation;
use abi::card::ring::Completion;
use abi::card::status::TransferStatus;
use kmdf::clock::Moment;
use kmdf::pace::Pace;
use kmdf::slot::Knock;
use kmdf::{NtStatus, log};

use super::SLOTS;
use super::card::{RingCard, Started};
use super::engine::{Engine, Flight};
use super::recovery::GRACE;
use crate::hw::Fault;

/// Completions that are taken at most before the deferred call is queued anew, to let others run.
const BUDGET: u32 = 64;

/// If no completion comes for so many microseconds, those that there are have been waiting for long enough.
const QUIET_US: u16 = 50;

/// What the one needs who drains a channel.
pub(super) struct Reaper {
    /// When the latest completion was taken: the next transfer cannot have been begun before.
    progress: Moment,
    /// The number of the transfer that takes too long, and since when the card has been asked to give it up.
    late: Option<(u32, Moment)>,
    /// How many completions are asked for at a time, and how many have been taken since they were.
    pace: Pace,
    gathered: u32,
}

impl Reaper {
    pub(super) fn new() -> Self {
        Self {
            progress: Moment::now(),
            late: None,
            pace: Pace::new(SLOTS),
            gathered: 0,
        }
    }
}

impl Engine {
    /// Does whatever there is to do about the channel: takes completions, looks at the time, clears out. The work is left
    /// to another processor if that is at it. IRQL <= DISPATCH_LEVEL.
    pub(super) fn look(&self, card: &RingCard) {
        self.reaper.take(|reaper| self.look_after(card, reaper));
    }

    /// As [`look`](Self::look), by whoever has the turn.
    pub(super) fn look_after(&self, card: &RingCard, reaper: &mut Reaper) {
        let status = self.clear_out.swap(0, Ordering::AcqRel);
        if status != 0 {
            self.end_all(card, reaper, NtStatus::from_code(status.cast_signed()));
        }
        if !self.started.load(Ordering::Acquire) {
            return;
        }
        let Some(started) = card.started.enter() else {
            return;
        };
        match self.drain(card, reaper) {
            Ok(false) => {}
            Ok(true) => card.interrupts.of(self.direction).queue_deferred(),
            Err(fault) => {
                log::failure(c"reading a completion", fault.status());
                return card.distrust();
            }
        }
        if self.check_time.swap(false, Ordering::AcqRel) {
            self.look_at_time(card, &started, reaper);
        }
    }

    /// Takes completions until there are none. Whether there may be more, after so many that others should have a chance.
    fn drain(&self, card: &RingCard, reaper: &mut Reaper) -> Result<bool, Fault> {
        for _ in 0..BUDGET {
            let taken = self.taken.load(Ordering::Relaxed);
            match self.rings.completion(taken) {
                Some(completion) => self.take(card, reaper, &completion)?,
                None if self.rings.ask_for_interrupt(taken) => {}
                None if self.rings.has_error() && !self.is_empty() => {
                    return Err(Fault::Contradiction);
                }
                None => {
                    self.pace(card, reaper);
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Says how many completions the next interrupt is to tell of, judged by how many the latest has told of.
    fn pace(&self, card: &RingCard, reaper: &mut Reaper) {
        let found = core::mem::take(&mut reaper.gathered);
        if found == 0 {
            return;
        }
        let gather = if card.moderation() == Moderation::default() {
            reaper.pace.found(found);
            let count = u16::try_from(reaper.pace.asked()).unwrap_or(u16::MAX);
            Moderation::new(count, QUIET_US)
        } else {
            Moderation::default()
        };
        self.rings.gather(gather);
    }

    /// Takes the next completion, if it is what it has to be.
    fn take(
        &self,
        card: &RingCard,
        reaper: &mut Reaper,
        completion: &Completion,
    ) -> Result<(), Fault> {
        let number = self.taken.load(Ordering::Relaxed);
        let tag = self.tag_at(number).ok_or(Fault::Contradiction)?;
        let slot = self.slot(tag).ok_or(Fault::Contradiction)?;
        if completion.tag != tag {
            return Err(Fault::Contradiction);
        }
        let flight = slot.take_running().ok_or(Fault::Contradiction)?;
        let status = match check(completion, &flight) {
            Ok(status) => status,
            Err(fault) => {
                // It is ended after the card has been stopped.
                let _ = slot.put_running(flight);
                return Err(fault);
            }
        };
        let late = reaper.late.take_if(|(late, _)| *late == number).is_some();
        reaper.progress = Moment::now();
        reaper.gathered += 1;
        self.taken.store(number.wrapping_add(1), Ordering::Release);
        let failure = match status {
            TransferStatus::Success => None,
            TransferStatus::Aborted if late => Some(NtStatus::IO_TIMEOUT),
            TransferStatus::Aborted if slot.is_stopping() => Some(NtStatus::CANCELLED),
            _ => {
                card.counters.hardware_errors.increment();
                Some(NtStatus::IO_DEVICE_ERROR)
            }
        };
        let concluded = match failure {
            None => slot.complete(flight.transfer),
            // No more than the transfer has: that was checked.
            Some(status) => slot.fail_after(flight.transfer, completion.moved as usize, status),
        };
        card.conclude(self, tag, concluded);
        Ok(())
    }

    /// Has a transfer given up that takes too long, and the card if it does not do that.
    fn look_at_time(&self, card: &RingCard, started: &Started, reaper: &mut Reaper) {
        let number = self.taken.load(Ordering::Relaxed);
        let Some(tag) = self.tag_at(number) else {
            return;
        };
        match reaper.late {
            Some((late, since)) if late == number => {
                if since.elapsed_ms() >= GRACE {
                    card.give_up_channel(self);
                }
            }
            _ => {
                let Some((slot, flight)) = self
                    .slot(tag)
                    .and_then(|slot| Some((slot, slot.take_running()?)))
                else {
                    return;
                };
                let elapsed = flight.since.max(reaper.progress).elapsed_ms();
                let knock = slot.put_running(flight);
                if elapsed >= card.limit.into() {
                    log::failure(c"giving a transfer up", NtStatus::IO_TIMEOUT);
                    reaper.late = Some((number, Moment::now()));
                    self.abort(&started.registers, tag);
                } else if knock == Knock::Knocked && slot.is_stopping() {
                    self.abort(&started.registers, tag);
                }
            }
        }
    }

    /// Ends everything that is in the ring; the card has stopped and sees nothing that comes.
    pub(super) fn end_all(&self, card: &RingCard, reaper: &mut Reaper, status: NtStatus) {
        loop {
            let number = self.taken.load(Ordering::Relaxed);
            let Some(tag) = self.tag_at(number) else {
                break;
            };
            let late = reaper.late.take_if(|(late, _)| *late == number).is_some();
            self.taken.store(number.wrapping_add(1), Ordering::Release);
            let Some((slot, flight)) = self
                .slot(tag)
                .and_then(|slot| Some((slot, slot.take_running()?)))
            else {
                continue;
            };
            let status = match status {
                _ if late => NtStatus::IO_TIMEOUT,
                NtStatus::IO_DEVICE_ERROR if slot.is_stopping() => NtStatus::CANCELLED,
                status => status,
            };
            if status != NtStatus::CANCELLED {
                card.counters.hardware_errors.increment();
            }
            let concluded = slot.fail(flight.transfer, status);
            card.conclude(self, tag, concluded);
        }
        *reaper = Reaper::new();
    }
}

/// What a completion says about the transfer that it has to be about.
fn check(completion: &Completion, flight: &Flight) -> Result<TransferStatus, Fault> {
    let status = Completion::status(completion.outcome).ok_or(Fault::Contradiction)?;
    let whole = completion.moved == u64::from(flight.length);
    let plausible = completion.consumer == flight.end
        && completion.moved <= u64::from(flight.length)
        && (whole || status != TransferStatus::Success)
        && completion.reserved == 0;
    if plausible {
        Ok(status)
    } else {
        Err(Fault::Contradiction)
    }
}
