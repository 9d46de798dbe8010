//! A channel: its registers, and where it is in its rings.

pub(crate) mod engine;
mod notify;

use std::collections::{HashMap, VecDeque};

use abi::card::register::{ChannelControl, ChannelStatus, ErrorRecord, Moderation};
use abi::card::ring::{Completion, Descriptor, ShadowBlock};
use abi::card::status::{ChannelError, TransferStatus};
use abi::card::{Direction, RING_ENTRIES};

use crate::bus::Master;
use crate::fault::Fault;
use crate::timing::Timing;
use notify::Notify;

/// The registers that are taken over when the channel is enabled.
#[derive(Clone, Copy, Default)]
pub(crate) struct Rings {
    pub(crate) descriptors: u64,
    pub(crate) completions: u64,
    pub(crate) shadow: u64,
    pub(crate) entries: u32,
}

/// One direction.
pub(crate) struct Channel {
    direction: Direction,
    /// As software has written them.
    pub(crate) rings: Rings,
    pub(crate) moderation: Moderation,
    control: ChannelControl,
    /// As they were when the channel was enabled.
    active: Rings,
    mode: ChannelControl,
    error: Option<ErrorRecord>,
    /// An abort of everything: what is before this position.
    abort_before: Option<u32>,
    /// Aborts of tags: what is before these positions.
    abort_tags: HashMap<u32, u32>,
    /// The position after the last descriptor that is known of.
    producer: u32,
    /// The position after the last descriptor that was read.
    fetched: u32,
    /// Descriptors that were read and not looked at.
    queue: VecDeque<Descriptor>,
    /// The position after the last transfer that is over.
    released: u32,
    /// Completions written.
    completed: u32,
    transfer: Option<Transfer>,
    piece: Option<Piece>,
    notify: Notify,
    /// When the engine goes on by itself.
    due: Option<u64>,
    /// Until when the shadow block is looked at.
    linger: Option<u64>,
    /// A fault: the engine gets nowhere.
    hung: Option<Fault>,
}

/// A transfer that has begun.
struct Transfer {
    tag: u32,
    status: TransferStatus,
    /// Where it failed.
    failed: u32,
    moved: u64,
    checksum: Option<u32>,
}

/// A descriptor whose data is being moved.
struct Piece {
    descriptor: Descriptor,
    position: u32,
    done: u32,
}

impl Channel {
    pub(crate) fn new(direction: Direction) -> Self {
        Self {
            direction,
            rings: Rings::default(),
            moderation: Moderation::default(),
            control: ChannelControl::empty(),
            active: Rings::default(),
            mode: ChannelControl::empty(),
            error: None,
            abort_before: None,
            abort_tags: HashMap::new(),
            producer: 0,
            fetched: 0,
            queue: VecDeque::new(),
            released: 0,
            completed: 0,
            transfer: None,
            piece: None,
            notify: Notify::default(),
            due: None,
            linger: None,
            hung: None,
        }
    }

    pub(crate) fn control(&self) -> ChannelControl {
        let aborting = self.abort_before.is_some() && self.is_running();
        let abort = if aborting {
            ChannelControl::ABORT
        } else {
            ChannelControl::empty()
        };
        self.control | abort
    }

    pub(crate) fn status(&self) -> ChannelStatus {
        let mut status = ChannelStatus::empty();
        status.set(ChannelStatus::RUNNING, self.is_running());
        let busy = self.released != self.producer;
        status.set(ChannelStatus::BUSY, self.is_running() && busy);
        status.set(ChannelStatus::ERROR, self.error.is_some());
        status
    }

    pub(crate) fn error(&self) -> ErrorRecord {
        self.error.unwrap_or_default()
    }

    pub(crate) fn consumer(&self) -> u32 {
        self.taken()
    }

    pub(crate) fn completed(&self) -> u32 {
        self.completed
    }

    fn is_running(&self) -> bool {
        self.control.contains(ChannelControl::ENABLE) && self.error.is_none()
    }

    fn uses_shadow(&self) -> bool {
        self.mode.contains(ChannelControl::SHADOW)
    }

    /// Position of the next descriptor to look at.
    fn taken(&self) -> u32 {
        self.fetched.wrapping_sub(self.queue.len() as u32)
    }

    pub(crate) fn write_control(
        &mut self,
        value: ChannelControl,
        master: &mut Master<'_>,
        timing: &Timing,
    ) {
        let settings = value & (ChannelControl::all() - ChannelControl::ABORT);
        let was = std::mem::replace(&mut self.control, settings);
        match (
            was.contains(ChannelControl::ENABLE),
            settings.contains(ChannelControl::ENABLE),
        ) {
            (false, true) => self.enable(master, timing),
            (true, false) => self.stop(),
            _ => {}
        }
        if value.contains(ChannelControl::ABORT) && self.is_running() {
            self.abort_all(master, timing);
        }
    }

    fn enable(&mut self, master: &mut Master<'_>, timing: &Timing) {
        let fresh = Self {
            rings: self.rings,
            moderation: self.moderation,
            control: self.control,
            active: self.rings,
            mode: self.control,
            ..Self::new(self.direction)
        };
        *self = fresh;
        if !self.active.are_valid(self.uses_shadow()) {
            return self.fail(ChannelError::Configuration, 0, master);
        }
        if self.uses_shadow() {
            self.schedule(master.now() + timing.latency);
        }
    }

    /// Stops at once. What software reads of the positions stays as it is.
    fn stop(&mut self) {
        self.due = None;
        self.linger = None;
        self.hung = None;
        self.notify = Notify::default();
        self.transfer = None;
        self.piece = None;
        self.abort_before = None;
        self.abort_tags.clear();
        self.error = None;
    }

    /// Stops with an error. A shadow block is told, if it can be.
    fn fail(&mut self, error: ChannelError, position: u32, master: &mut Master<'_>) {
        self.stop();
        self.error = Some(ErrorRecord::new(error, position));
        self.notify.fail();
        if self.uses_shadow() && error != ChannelError::Configuration {
            let word = self.active.shadow + ShadowBlock::ERROR as u64;
            // There is no further place to report to than the register.
            let _ = master.store(word, error.code().into());
        }
    }

    /// Software says that there are descriptors. With a shadow block its producer counts, and not the value.
    /// The card looks at them after `latency`.
    pub(crate) fn ring(&mut self, value: u32, master: &mut Master<'_>, latency: u64) {
        if !self.is_running() {
            return;
        }
        if !self.uses_shadow() && !self.produce(value, master) {
            return;
        }
        self.linger = None;
        self.schedule(master.now() + latency);
    }

    /// Learns of a producer. Returns whether the channel still runs.
    fn produce(&mut self, producer: u32, master: &mut Master<'_>) -> bool {
        let room = producer.wrapping_sub(self.released);
        if room > self.active.entries || room < self.producer.wrapping_sub(self.released) {
            self.fail(ChannelError::Producer, producer, master);
            return false;
        }
        self.producer = producer;
        true
    }

    /// Reads the producer from the shadow block. Returns whether the channel still runs.
    fn look(&mut self, master: &mut Master<'_>) -> bool {
        match master.load(self.active.shadow + ShadowBlock::PRODUCER as u64) {
            Ok(producer) => self.produce(producer, master),
            Err(_) => {
                self.fail(ChannelError::Shadow, self.producer, master);
                false
            }
        }
    }

    fn abort_all(&mut self, master: &mut Master<'_>, timing: &Timing) {
        if self.uses_shadow() && !self.look(master) {
            return;
        }
        if self.released != self.producer {
            self.abort_before = Some(self.producer);
            self.wake_from_hang(master, timing);
        }
    }

    /// Gives up the transfer with a tag, if it is in the ring now.
    pub(crate) fn abort_tag(&mut self, tag: u32, master: &mut Master<'_>, timing: &Timing) {
        if !self.is_running() || self.uses_shadow() && !self.look(master) {
            return;
        }
        // More aborts than descriptors name none that is there.
        let room = self.abort_tags.len() < self.active.entries as usize;
        if self.released != self.producer && (room || self.abort_tags.contains_key(&tag)) {
            self.abort_tags.insert(tag, self.producer);
            self.wake_from_hang(master, timing);
        }
    }

    fn wake_from_hang(&mut self, master: &mut Master<'_>, timing: &Timing) {
        if matches!(self.hung, Some(Fault::Hang(_))) {
            self.hung = None;
        }
        self.schedule(master.now() + timing.latency);
    }

    /// Whether what starts at or goes on at `position` is to be given up.
    fn is_aborted(&self, tag: u32, position: u32) -> bool {
        let before = |end: u32| (position.wrapping_sub(end) as i32) < 0;
        self.abort_before.is_some_and(before)
            || self.abort_tags.get(&tag).is_some_and(|&end| before(end))
    }

    /// Forgets aborts of what is over.
    fn forget_aborts(&mut self) {
        let released = self.released;
        let ahead = |end: u32| end.wrapping_sub(released) as i32 > 0;
        self.abort_before = self.abort_before.filter(|&end| ahead(end));
        self.abort_tags.retain(|_, end| ahead(*end));
    }

    fn schedule(&mut self, at: u64) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// When the channel wants to be run.
    pub(crate) fn next_event(&self) -> Option<u64> {
        if !self.is_running() {
            return None;
        }
        let engine = self.due.filter(|_| self.hung.is_none());
        engine.into_iter().chain(self.notify.deadline()).min()
    }
}

impl Rings {
    fn are_valid(&self, shadow: bool) -> bool {
        let fits = |address: u64, bytes: u64| address.checked_add(bytes).is_some();
        let entries = u64::from(self.entries);
        RING_ENTRIES.contains(&self.entries)
            && self.entries.is_power_of_two()
            && fits(self.descriptors, entries * Descriptor::SIZE as u64)
            && fits(self.completions, entries * Completion::SIZE as u64)
            && (!shadow || fits(self.shadow, ShadowBlock::SIZE as u64))
    }
}
