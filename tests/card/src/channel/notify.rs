//! When a channel interrupts: by count, by time, when it runs dry, and as the event index allows.

use abi::card::position::passes;
use abi::card::register::{Causes, ChannelControl};
use abi::card::ring::ShadowBlock;
use abi::card::status::ChannelError;

use super::Channel;
use crate::bus::Master;

/// What waits to be told to software.
#[derive(Default)]
pub(super) struct Notify {
    /// Completions that wait for an interrupt.
    waiting: u32,
    /// When the first of them has waited for long enough.
    deadline: Option<u64>,
    /// Completions there were when an interrupt was last decided on.
    signalled: u32,
    completion: bool,
    error: bool,
}

impl Notify {
    pub(super) fn deadline(&self) -> Option<u64> {
        self.deadline
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
            return self.interrupt(master);
        }
        let time = self.moderation.time_us();
        let deadline = time.map(|time| master.now() + u64::from(time) * 1000);
        self.notify.deadline = self.notify.deadline.or(deadline);
    }

    /// The channel has run dry.
    pub(super) fn notify_idle(&mut self, master: &mut Master<'_>) {
        if self.notify.waiting > 0 && self.control.contains(ChannelControl::IDLE_INTERRUPT) {
            self.interrupt(master);
        }
    }

    /// Time has passed.
    pub(super) fn notify_late(&mut self, master: &mut Master<'_>) {
        if self.notify.deadline.is_some_and(|at| at <= master.now()) {
            self.interrupt(master);
        }
    }

    /// Interrupts for all that waits, unless software wants none yet.
    fn interrupt(&mut self, master: &mut Master<'_>) {
        self.notify.waiting = 0;
        self.notify.deadline = None;
        let by_event = ChannelControl::SHADOW | ChannelControl::EVENT_INDEX;
        if self.mode.contains(by_event) {
            // The completion is written before the event is read; the driver does it the other way round.
            std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
            let word = self.active.shadow + ShadowBlock::COMPLETION_EVENT as u64;
            let Ok(event) = master.load(word) else {
                return self.fail(ChannelError::Shadow, self.completed, master);
            };
            let old = std::mem::replace(&mut self.notify.signalled, self.completed);
            if !passes(event, old, self.completed) {
                return;
            }
        }
        self.notify.completion = true;
    }
}
