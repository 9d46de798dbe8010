//! When a channel interrupts: by count, by time, when it runs dry, and as the shadow block allows.

use std::sync::atomic::{Ordering, fence};

use abi::card::position::passes;
use abi::card::register::{Causes, ChannelControl, Moderation};
use abi::card::ring::ShadowBlock;
use abi::card::status::ChannelError;

use registers::Value;

use super::Channel;
use crate::bus::{BusError, Master};

/// What waits to be told to software.
#[derive(Default)]
pub(super) struct Notify {
    /// Completions that wait for an interrupt.
    waiting: u32,
    /// When the first of them has waited for long enough.
    deadline: Option<u64>,
    /// Completions there were when an interrupt was last sent or dropped.
    signalled: u32,
    /// An interrupt that is held back.
    held: Option<Held>,
    completion: bool,
    error: bool,
}

/// An interrupt that software does not want yet.
struct Held {
    /// When it is sent all the same.
    until: u64,
    /// After what time to look for a further producer.
    look: u64,
}

/// What software wants with an interrupt that has been decided on.
enum Wish {
    Send,
    Drop,
    /// Unless another completion comes within this time, ns.
    Hold(u64),
}

/// How often the producer is looked at while an interrupt is held back, at most.
const LOOKS: u64 = 1024;

impl Notify {
    pub(super) fn deadline(&self) -> Option<u64> {
        let held = self.held.as_ref().map(|held| held.until);
        self.deadline.into_iter().chain(held).min()
    }

    /// If an interrupt is held back, the channel goes on looking for a further producer, after this time.
    pub(super) fn look(&self) -> Option<u64> {
        self.held.as_ref().map(|held| held.look)
    }

    pub(super) fn fail(&mut self) {
        self.error = true;
    }
}

impl Channel {
    /// The causes that have come since the last call.
    pub(crate) fn take_causes(&mut self) -> Causes {
        let mut causes = Causes::empty();
        let completion = std::mem::take(&mut self.notify.completion);
        causes.set(Causes::completion(self.direction), completion);
        let error = std::mem::take(&mut self.notify.error);
        causes.set(Causes::error(self.direction), error);
        causes
    }

    /// A completion asks for an interrupt.
    pub(super) fn notify(&mut self, master: &mut Master<'_>) {
        self.notify.waiting += 1;
        if self.notify.waiting >= self.moderation.count() {
            return self.decide(master, false);
        }
        let time = self.moderation.time_us();
        let deadline = time.map(|time| master.now() + u64::from(time) * 1000);
        self.notify.deadline = self.notify.deadline.or(deadline);
    }

    /// The channel has run dry.
    pub(super) fn notify_idle(&mut self, master: &mut Master<'_>) {
        let waits = self.notify.waiting > 0 && self.notify.held.is_none();
        if waits && self.control.contains(ChannelControl::IDLE_INTERRUPT) {
            self.decide(master, false);
        }
    }

    /// Time has passed.
    pub(super) fn notify_late(&mut self, master: &mut Master<'_>) {
        if self.notify.deadline().is_some_and(|at| at <= master.now()) {
            self.decide(master, self.notify.held.is_some());
        }
    }

    /// Interrupts for all that waits, unless software wants none, or none yet and it is not `late`.
    fn decide(&mut self, master: &mut Master<'_>, late: bool) {
        let by_event = ChannelControl::SHADOW | ChannelControl::EVENT_INDEX;
        let wish = if self.mode.contains(by_event) {
            self.wish(master, late)
        } else {
            Ok(Wish::Send)
        };
        match wish {
            Ok(Wish::Hold(time)) => {
                self.notify.deadline = None;
                self.notify.held = Some(Held {
                    until: master.now() + time,
                    look: time / LOOKS,
                });
            }
            Ok(wish) => {
                self.notify.waiting = 0;
                self.notify.deadline = None;
                self.notify.held = None;
                self.notify.signalled = self.completed;
                self.notify.completion |= matches!(wish, Wish::Send);
            }
            Err(BusError) => self.fail(ChannelError::Shadow, self.completed, master),
        }
    }

    /// What the shadow block says about an interrupt.
    fn wish(&self, master: &mut Master<'_>, late: bool) -> Result<Wish, BusError> {
        let word = |offset: usize| self.active.shadow + offset as u64;
        // The completion is written before the event is read; the driver does it the other way round.
        fence(Ordering::SeqCst);
        let event = master.load(word(ShadowBlock::COMPLETION_EVENT))?;
        let goes_beyond = |event| passes(event, self.notify.signalled, self.completed);
        if !goes_beyond(event) {
            return Ok(Wish::Drop);
        }
        if late {
            return Ok(Wish::Send);
        }
        let gather = Moderation::from_word(master.load(word(ShadowBlock::GATHER))?);
        match gather.time_us() {
            Some(time) if !goes_beyond(event.wrapping_add(gather.count() - 1)) => {
                Ok(Wish::Hold(u64::from(time) * 1000))
            }
            _ => Ok(Wish::Send),
        }
    }
}
