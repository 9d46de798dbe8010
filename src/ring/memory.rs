//! What the driver shares with the card in memory: a channel's rings and its shadow block.

use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use abi::card::ALIGNMENT;
use abi::card::position::{passes, phase};
use abi::card::register::Moderation;
use abi::card::ring::{Completion, Descriptor, ShadowBlock};
use kmdf::Result;
use kmdf::dma::{CommonBuffer, DeviceShared, Enabler};
use kmdf::registers::Value;

use super::{ENTRIES, ENTRIES_LOG2};

/// A [`Descriptor`] in the ring.
#[repr(C)]
pub(super) struct DescriptorCell {
    bus_address: AtomicU64,
    card_address: AtomicU64,
    length: AtomicU32,
    flags: AtomicU32,
    tag: AtomicU32,
    reserved: AtomicU32,
}

/// A [`Completion`] in the ring.
#[repr(C)]
pub(super) struct CompletionCell {
    tag: AtomicU32,
    consumer: AtomicU32,
    moved: AtomicU64,
    checksum: AtomicU32,
    failed: AtomicU32,
    reserved: AtomicU32,
    outcome: AtomicU32,
}

/// A [`ShadowBlock`].
#[repr(C)]
pub(super) struct ShadowCell {
    producer: AtomicU32,
    completion_event: AtomicU32,
    gather: AtomicU32,
    driver: [AtomicU32; 13],
    doorbell_event: AtomicU32,
    error: AtomicU32,
    card: [AtomicU32; 14],
}

const _: () = {
    assert!(size_of::<DescriptorCell>() == Descriptor::SIZE);
    assert!(size_of::<CompletionCell>() == Completion::SIZE);
    assert!(offset_of!(CompletionCell, outcome) == Completion::OUTCOME);
    assert!(size_of::<ShadowCell>() == ShadowBlock::SIZE);
    assert!(offset_of!(ShadowCell, gather) == ShadowBlock::GATHER);
    assert!(offset_of!(ShadowCell, doorbell_event) == ShadowBlock::DOORBELL_EVENT);
    assert!(offset_of!(ShadowCell, error) == ShadowBlock::ERROR);
};

// SAFETY: atomics, without anything between them.
unsafe impl DeviceShared for DescriptorCell {}

// SAFETY: atomics, without anything between them.
unsafe impl DeviceShared for CompletionCell {}

// SAFETY: atomics, without anything between them.
unsafe impl DeviceShared for ShadowCell {}

impl DescriptorCell {
    fn write(&self, descriptor: &Descriptor) {
        self.bus_address
            .store(descriptor.bus_address, Ordering::Relaxed);
        self.card_address
            .store(descriptor.card_address, Ordering::Relaxed);
        self.length.store(descriptor.length, Ordering::Relaxed);
        self.flags.store(descriptor.flags, Ordering::Relaxed);
        self.tag.store(descriptor.tag, Ordering::Relaxed);
        self.reserved.store(descriptor.reserved, Ordering::Relaxed);
    }
}

/// The memory of one channel.
pub(super) struct Rings {
    pub(super) descriptors: CommonBuffer<DescriptorCell>,
    pub(super) completions: CommonBuffer<CompletionCell>,
    pub(super) shadow: CommonBuffer<ShadowCell>,
}

impl Rings {
    /// Allocates it. PASSIVE_LEVEL.
    pub(super) fn create(enabler: &Enabler) -> Result<Self> {
        const ALIGN: u32 = ALIGNMENT as u32;
        Ok(Self {
            descriptors: CommonBuffer::create::<ENTRIES_LOG2>(enabler, ALIGN)?,
            completions: CommonBuffer::create::<ENTRIES_LOG2>(enabler, ALIGN)?,
            shadow: CommonBuffer::create::<0>(enabler, ALIGN)?,
        })
    }

    /// Sets everything to zero; the channel is not enabled.
    ///
    /// # Safety
    ///
    /// No other processor uses the rings meanwhile.
    pub(super) unsafe fn clear(&self) {
        // SAFETY: by the caller's promise.
        unsafe { self.descriptors.clear() };
        // SAFETY: as above.
        unsafe { self.completions.clear() };
        // SAFETY: as above.
        unsafe { self.shadow.clear() };
    }

    /// Puts a descriptor in, at or after the producer.
    pub(super) fn put(&self, position: u32, descriptor: &Descriptor) {
        self.descriptors.at(position).write(descriptor);
    }

    /// Lets the card see the descriptors between two positions. Whether it wants the doorbell rung.
    pub(super) fn publish(&self, old: u32, new: u32) -> bool {
        let shadow = self.shadow.at(0);
        shadow.producer.store(new, Ordering::Release);
        // The card writes its event and then reads the producer: one of the two sees the other.
        fence(Ordering::SeqCst);
        passes(shadow.doorbell_event.load(Ordering::Relaxed), old, new)
    }

    /// The completion at a position, if the card has written it.
    pub(super) fn completion(&self, position: u32) -> Option<Completion> {
        let cell = self.completions.at(position);
        // It is written last, so the rest is not read earlier.
        let outcome = cell.outcome.load(Ordering::Acquire);
        (Completion::phase(outcome) == phase(position, ENTRIES)).then(|| Completion {
            tag: cell.tag.load(Ordering::Relaxed),
            consumer: cell.consumer.load(Ordering::Relaxed),
            moved: cell.moved.load(Ordering::Relaxed),
            checksum: cell.checksum.load(Ordering::Relaxed),
            failed: cell.failed.load(Ordering::Relaxed),
            reserved: cell.reserved.load(Ordering::Relaxed),
            outcome,
        })
    }

    /// Asks for an interrupt when there are more than so many completions. Whether there are already: then no interrupt
    /// may come for them.
    pub(super) fn ask_for_interrupt(&self, taken: u32) -> bool {
        let shadow = self.shadow.at(0);
        shadow.completion_event.store(taken, Ordering::Release);
        // The card writes a completion and then reads the event: one of the two sees the other.
        fence(Ordering::SeqCst);
        self.completion(taken).is_some()
    }

    /// Has that interrupt, and those after it, held back as it says.
    pub(super) fn gather(&self, gather: Moderation) {
        let word = gather.into_word();
        self.shadow.at(0).gather.store(word, Ordering::Relaxed);
    }

    /// Whether the channel says that it has stopped with an error.
    pub(super) fn has_error(&self) -> bool {
        self.shadow.at(0).error.load(Ordering::Relaxed) != 0
    }
}
