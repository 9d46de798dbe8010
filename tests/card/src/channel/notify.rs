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
    /// Software gathers completions, and there may be more.
    gathering: Option<Gathering>,
    /// An interrupt is held back as long as that.
    held: bool,
    completion: bool,
    error: bool,
}

/// The time after a completion in which another one is expected.
struct Gathering {
    until: u64,
    /// After what time to look for a further producer.
    look: u64,
}

/// What software wants with an interrupt that has been decided on.
enum Wish {
    Send,
    Drop,
    Hold,
}

/// How often the producer is looked at while completions are gathered, at most.
const LOOKS: u64 = 1024;

impl Notify {
    pub(super) fn deadline(&self) -> Option<u64> {
        let held = self.gathering.as_ref().filter(|_| self.held);
        let held = held.map(|gathering| gathering.until);
        self.deadline.into_iter().chain(held).min()
    }

    /// While completions are gathered the channel goes on looking for a further producer, each time after this one.
    pub(super) fn look(&self, now: u64) -> Option<u64> {
        let gathering = self.gathering.as_ref()?;
        (now < gathering.until).then_some(gathering.look)
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
        let waits = self.notify.waiting > 0 && !self.notify.held;
        if waits && self.control.contains(ChannelControl::IDLE_INTERRUPT) {
            self.decide(master, false);
        }
    }

    /// Time has passed.
    pub(super) fn notify_late(&mut self, master: &mut Master<'_>) {
        if self.notify.deadline().is_some_and(|at| at <= master.now()) {
            self.decide(master, self.notify.held);
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
        let Ok(wish) = wish else {
            return self.fail(ChannelError::Shadow, self.completed, master);
        };
        self.notify.deadline = None;
        self.notify.held = matches!(wish, Wish::Hold);
        if !self.notify.held {
            self.notify.waiting = 0;
            self.notify.signalled = self.completed;
            self.notify.completion |= matches!(wish, Wish::Send);
        }
    }

    /// What the shadow block says about an interrupt.
    fn wish(&mut self, master: &mut Master<'_>, late: bool) -> Result<Wish, BusError> {
        let shadow = self.active.shadow;
        let word = |offset: usize| shadow + offset as u64;
        // The completion is written before the event is read; the driver does it the other way round.
        fence(Ordering::SeqCst);
        let event = master.load(word(ShadowBlock::COMPLETION_EVENT))?;
        let gather = Moderation::from_word(master.load(word(ShadowBlock::GATHER))?);
        let more = gather.count() - 1;
        let time = gather.time_us().filter(|_| more > 0 && !late);
        self.notify.gathering = time.map(|time| Gathering {
            until: master.now() + u64::from(time) * 1000,
            look: u64::from(time) * 1000 / LOOKS,
        });
        let goes_beyond = |event| passes(event, self.notify.signalled, self.completed);
        Ok(if !goes_beyond(event) {
            Wish::Drop
        } else if time.is_some() && !goes_beyond(event.wrapping_add(more)) {
            Wish::Hold
        } else {
            Wish::Send
        })
    }
}
