//! How a channel is opened and closed.
//!
//! ```text
//! close        the card sees no more transfers; those that come wait in their slots
//!     ... the card is told to stop, and has, or is gone ...
//! shut         all of them end, and what comes later as well
//! start_over   all of them end, and the channel begins with empty rings
//! ```
//!
//! What the rings hold changes only while nobody else looks after the channel, and none of those who do waits: one that
//! is still at it would take an old completion for a new one, or ask for the interrupts of the time before.
//!
//! A transfer that comes to a channel that is shut is ended by a deferred call, not where it comes: its end may free the
//! map registers that the next one waits for, which would come within that end, and so on, with a stack that does not grow.

use core::sync::atomic::Ordering;

use kmdf::{NtStatus, thread};

use super::card::RingCard;
use super::drain::Reaper;
use super::engine::{Engine, Submission};
use super::registers::Registers;

/// What becomes of transfers that are put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// The card sees them.
    Open,
    /// They wait for the end that whoever stops the channel brings about for all.
    Closing,
    /// They end with this status.
    Shut(NtStatus),
}

impl Engine {
    /// Lets the card see no more transfers. IRQL <= DISPATCH_LEVEL.
    pub(super) fn close(&self) {
        self.submission
            .with(|submission| submission.gate = Gate::Closing);
    }

    /// Ends everything, and what comes from now on, with `status` for most. The card has stopped, or is gone.
    /// PASSIVE_LEVEL.
    pub(super) fn shut(&self, card: &RingCard, status: NtStatus) {
        self.submission
            .with(|submission| submission.gate = Gate::Shut(status));
        self.alone(card, |reaper| {
            self.started.store(false, Ordering::Release);
            self.end_all(card, reaper, status);
        });
    }

    /// Ends everything with `status` for most, and starts the channel with empty rings. It is closed, and the card has
    /// stopped it. PASSIVE_LEVEL.
    pub(super) fn start_over(&self, card: &RingCard, registers: &Registers, status: NtStatus) {
        self.alone(card, |reaper| {
            loop {
                self.end_all(card, reaper, status);
                if self.open(reaper, card, registers) {
                    break;
                }
            }
        });
    }

    /// Starts the channel with empty rings and lets transfers in, unless one has come in the meantime. For whoever has the
    /// reaper.
    fn open(&self, _: &mut Reaper, card: &RingCard, registers: &Registers) -> bool {
        self.submission.with(|submission| {
            let empty = self.is_empty();
            if empty {
                self.submitted.store(0, Ordering::Release);
                self.taken.store(0, Ordering::Release);
                self.clear_out.store(0, Ordering::Release);
                // SAFETY: completions are taken by whoever has the reaper, and descriptors are put in with the lock.
                unsafe { self.rings.clear() };
                registers.start(self.direction, &self.rings, card.moderation());
                self.started.store(true, Ordering::Release);
                *submission = Submission {
                    producer: 0,
                    gate: Gate::Open,
                };
            }
            empty
        })
    }

    /// If the channel is shut, has the transfer ended that was just put in; whether a deferred call is needed for that.
    pub(super) fn refuse(&self, submission: &Submission) -> bool {
        match submission.gate {
            Gate::Open | Gate::Closing => false,
            Gate::Shut(status) => {
                let code = status.code().cast_unsigned();
                self.clear_out.store(code, Ordering::Release);
                true
            }
        }
    }

    /// Does `work` while nobody else looks after the channel, and then whatever others have come for meanwhile.
    /// PASSIVE_LEVEL.
    fn alone(&self, card: &RingCard, work: impl FnOnce(&mut Reaper)) {
        let mut work = Some(work);
        loop {
            self.reaper.take(|reaper| match work.take() {
                Some(work) => work(reaper),
                None => self.look_after(card, reaper),
            });
            if work.is_none() {
                break;
            }
            // Another processor is at it.
            thread::pause();
        }
    }
}
