//! The card's registers. None is touched in the data path, but for a doorbell that the card has asked for.

use abi::card::register::{
    ABORT_TAG, CHANNEL_CONTROL, CHANNEL_STATUS, CHANNEL_WINDOW_LENGTH, COMPLETION_RING, CONTROL,
    Causes, ChannelControl, ChannelStatus, Control, DESCRIPTOR_RING, DOORBELL, ENTRIES,
    EVENT_MESSAGE, IDENTIFICATION, INTERRUPT_CAUSE, INTERRUPT_ENABLE, LENGTH_LIMIT, MEMORY_SIZE,
    MESSAGE, MODERATION, Moderation, RING_LIMIT, SHADOW, WINDOW_LENGTH,
};
use abi::card::{Direction, IDENTITY, MESSAGES, RESET_LIMIT_US};
use abi::window::Window;
use kmdf::resources::{MemoryResource, ResourceList};
use kmdf::{DeviceGone, IoSpace, NtStatus, Result, thread};

use super::memory::Rings;
use super::{ENTRIES as RING_ENTRIES, MAXIMUM_REQUEST, MAXIMUM_TRANSFER};
use crate::hw::Fault;

/// Bits of [`IDENTIFICATION`] that have to be as expected: the major version, and the device.
const COMPATIBLE: u32 = 0xff00_ffff;

/// How often the end of a reset is looked for, a millisecond apart or more; the card takes 10 at most.
const RESET_LOOKS: u32 = 2 * RESET_LIMIT_US / 1000;

/// The registers of one channel.
type Channel = IoSpace<CHANNEL_WINDOW_LENGTH>;

/// A card whose registers are mapped.
pub(crate) struct Registers {
    card: IoSpace<WINDOW_LENGTH>,
    to_card: Channel,
    from_card: Channel,
    memory: Window,
    identity: u32,
}

impl Registers {
    /// Maps the registers, and makes sure that it is a card that this driver can drive. PASSIVE_LEVEL.
    pub(super) fn map(resources: ResourceList<'_>) -> Result<Self> {
        let window = resources
            .memory()
            .next()
            .ok_or(NtStatus::DEVICE_CONFIGURATION_ERROR)?;
        let card: IoSpace<WINDOW_LENGTH> = IoSpace::map(window)?;
        let gone = |DeviceGone| NtStatus::DEVICE_REMOVED;
        let identity = card.read(IDENTIFICATION).map_err(gone)?;
        if identity & COMPATIBLE != IDENTITY & COMPATIBLE
            || card.read(RING_LIMIT).map_err(gone)? < RING_ENTRIES
            || (card.read(LENGTH_LIMIT).map_err(gone)? as usize) < MAXIMUM_TRANSFER
        {
            return Err(NtStatus::DEVICE_CONFIGURATION_ERROR);
        }
        let memory = card.read(MEMORY_SIZE).map_err(gone)?;
        Ok(Self {
            to_card: map_channel(window, Direction::ToCard)?,
            from_card: map_channel(window, Direction::FromCard)?,
            memory: Window::with_limit(memory, MAXIMUM_REQUEST),
            identity,
            card,
        })
    }

    pub(super) const fn identity(&self) -> u32 {
        self.identity
    }

    /// The card's memory.
    pub(super) const fn memory(&self) -> Window {
        self.memory
    }

    /// Whether the card answers.
    pub(super) fn probe(&self) -> Result<(), DeviceGone> {
        self.card.read(IDENTIFICATION).map(|_| ())
    }

    /// Resets the card, and waits until that is over. PASSIVE_LEVEL. Whatever the outcome, the card accesses no memory
    /// any more, unless it does not do what it is told.
    pub(super) fn reset(&self) -> Result<(), Fault> {
        self.card.write(CONTROL, Control::RESET);
        for _ in 0..RESET_LOOKS {
            if !self.card.read(CONTROL)?.contains(Control::RESET) {
                return Ok(());
            }
            thread::pause();
        }
        Err(Fault::Busy)
    }

    /// Lets the card interrupt, or not.
    pub(super) fn enable_interrupts(&self, enabled: bool) {
        let causes = if enabled {
            Causes::all()
        } else {
            Causes::empty()
        };
        self.card.write(EVENT_MESSAGE, u32::from(MESSAGES - 1));
        self.card.write(INTERRUPT_ENABLE, causes);
    }

    /// What the card interrupts for by its line; reading acknowledges it.
    pub(super) fn acknowledge(&self) -> Result<Causes, DeviceGone> {
        self.card.read(INTERRUPT_CAUSE)
    }

    const fn channel(&self, direction: Direction) -> &Channel {
        match direction {
            Direction::ToCard => &self.to_card,
            Direction::FromCard => &self.from_card,
        }
    }

    /// Starts a channel at position 0 of its rings, which are all zero.
    pub(super) fn start(&self, direction: Direction, rings: &Rings, moderation: Moderation) {
        let channel = self.channel(direction);
        channel.write(DESCRIPTOR_RING, rings.descriptors.address().to_bits());
        channel.write(COMPLETION_RING, rings.completions.address().to_bits());
        channel.write(SHADOW, rings.shadow.address().to_bits());
        channel.write(ENTRIES, RING_ENTRIES);
        channel.write(MODERATION, moderation);
        // A number for which there is no message means the first.
        channel.write(MESSAGE, direction.index() as u32);
        channel.write(
            CHANNEL_CONTROL,
            ChannelControl::ENABLE
                | ChannelControl::SHADOW
                | ChannelControl::EVENT_INDEX
                | ChannelControl::IDLE_INTERRUPT,
        );
    }

    /// Stops a channel: when this returns it accesses no memory any more.
    pub(super) fn stop(&self, direction: Direction) -> Result<(), Fault> {
        let channel = self.channel(direction);
        channel.write(CHANNEL_CONTROL, ChannelControl::empty());
        if channel
            .read(CHANNEL_STATUS)?
            .intersects(ChannelStatus::RUNNING | ChannelStatus::BUSY)
        {
            Err(Fault::Busy)
        } else {
            Ok(())
        }
    }

    /// Sets how completions are gathered into interrupts, from now on.
    pub(super) fn moderate(&self, direction: Direction, moderation: Moderation) {
        self.channel(direction).write(MODERATION, moderation);
    }

    /// Tells a channel to look at the producer.
    pub(super) fn ring(&self, direction: Direction, producer: u32) {
        self.channel(direction).write(DOORBELL, producer);
    }

    /// Has a channel give up the transfer with this tag.
    pub(super) fn abort(&self, direction: Direction, tag: u32) {
        self.channel(direction).write(ABORT_TAG, tag);
    }
}

fn map_channel(window: MemoryResource, direction: Direction) -> Result<Channel> {
    let window = window
        .from(direction.window())
        .ok_or(NtStatus::DEVICE_CONFIGURATION_ERROR)?;
    IoSpace::map(window)
}
