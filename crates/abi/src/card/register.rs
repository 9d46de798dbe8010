//! Registers. Each takes accesses of its own width at its own offset only; no register reads as all ones.
//!
//! The first page of base address register 0 is the card's. The registers of a channel are given by their offset in
//! the channel's page, which starts at [`Direction::window`](super::Direction::window).

use bitflags::bitflags;
use registers::{ReadOnly, ReadWrite, Register, Value, WriteOnly};

use super::Direction;
use super::status::ChannelError;

/// Bytes of the card's own registers.
pub const WINDOW_LENGTH: usize = 0x1000;

/// Bytes of a channel's registers.
pub const CHANNEL_WINDOW_LENGTH: usize = 0x1000;

/// Reads [`IDENTITY`](super::IDENTITY).
pub const IDENTIFICATION: Register<0x00, u32, ReadOnly> = Register::new();

/// What the card can do.
pub const FEATURES: Register<0x04, Features, ReadOnly> = Register::new();

/// Bytes of the card's memory.
pub const MEMORY_SIZE: Register<0x08, u64, ReadOnly> = Register::new();

/// Most entries of a ring.
pub const RING_LIMIT: Register<0x10, u32, ReadOnly> = Register::new();

/// Most bytes of a descriptor.
pub const LENGTH_LIMIT: Register<0x14, u32, ReadOnly> = Register::new();

/// Reset, and whether it is over.
pub const CONTROL: Register<0x20, Control, ReadWrite> = Register::new();

/// Which causes interrupt. A cause that comes while it is disabled stays pending.
pub const INTERRUPT_ENABLE: Register<0x28, Causes, ReadWrite> = Register::new();

/// Which causes are pending. **Reading it clears them** and releases the line.
pub const INTERRUPT_CAUSE: Register<0x2c, Causes, ReadOnly> = Register::new();

/// Which causes are pending; reading it changes nothing.
pub const INTERRUPT_PENDING: Register<0x30, Causes, ReadOnly> = Register::new();

/// Number of the message for the causes [`Causes::TO_CARD_ERROR`] and [`Causes::FROM_CARD_ERROR`].
pub const EVENT_MESSAGE: Register<0x34, u32, ReadWrite> = Register::new();

/// Starts and stops the channel.
pub const CHANNEL_CONTROL: Register<0x00, ChannelControl, ReadWrite> = Register::new();

/// What the channel does.
pub const CHANNEL_STATUS: Register<0x04, ChannelStatus, ReadOnly> = Register::new();

/// Bus address of the descriptor ring.
pub const DESCRIPTOR_RING: Register<0x08, u64, ReadWrite> = Register::new();

/// Bus address of the completion ring.
pub const COMPLETION_RING: Register<0x10, u64, ReadWrite> = Register::new();

/// Bus address of the shadow block.
pub const SHADOW: Register<0x18, u64, ReadWrite> = Register::new();

/// Entries of both rings: a power of two.
pub const ENTRIES: Register<0x20, u32, ReadWrite> = Register::new();

/// Interrupt moderation.
pub const MODERATION: Register<0x24, Moderation, ReadWrite> = Register::new();

/// Number of the message for completions.
pub const MESSAGE: Register<0x28, u32, ReadWrite> = Register::new();

/// Gives up the transfer with this tag.
pub const ABORT_TAG: Register<0x2c, u32, WriteOnly> = Register::new();

/// Why the channel has stopped.
pub const ERROR: Register<0x30, ErrorRecord, ReadOnly> = Register::new();

/// Position of the next descriptor that the channel has not taken.
pub const CONSUMER: Register<0x38, u64, ReadOnly> = Register::new();

/// Completions written.
pub const COMPLETED: Register<0x40, u64, ReadOnly> = Register::new();

/// The producer: the position after the last descriptor that is ready.
pub const DOORBELL: Register<0x80, u32, WriteOnly> = Register::new();

bitflags! {
    /// What the card can do. Version 1.0 has all of it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Features: u32 {
        /// Shadow doorbells.
        const SHADOW = 1;
        /// Interrupts by event index.
        const EVENT_INDEX = 1 << 1;
        /// Interrupt moderation.
        const MODERATION = 1 << 2;
        /// CRC-32C of transferred data.
        const CHECKSUM = 1 << 3;
        /// Interrupts held back as the shadow block says.
        const GATHER = 1 << 4;
    }
}

bitflags! {
    /// The card's control register.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Control: u32 {
        /// Written: reset. Read: the reset is not over, and nothing else may be accessed.
        const RESET = 1;
    }
}

bitflags! {
    /// Causes of interrupts.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Causes: u32 {
        /// The channel to the card has written completions.
        const TO_CARD = 1;
        /// The channel from the card has written completions.
        const FROM_CARD = 1 << 1;
        /// The channel to the card has stopped with an error.
        const TO_CARD_ERROR = 1 << 8;
        /// The channel from the card has stopped with an error.
        const FROM_CARD_ERROR = 1 << 9;
    }
}

impl Causes {
    /// The cause of a channel's completions.
    #[must_use]
    pub const fn completion(channel: Direction) -> Self {
        match channel {
            Direction::ToCard => Self::TO_CARD,
            Direction::FromCard => Self::FROM_CARD,
        }
    }

    /// The cause of a channel's error.
    #[must_use]
    pub const fn error(channel: Direction) -> Self {
        match channel {
            Direction::ToCard => Self::TO_CARD_ERROR,
            Direction::FromCard => Self::FROM_CARD_ERROR,
        }
    }
}

bitflags! {
    /// A channel's control register. All bits but [`Self::ABORT`] are settings that the card does not change.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct ChannelControl: u32 {
        /// The channel runs. Setting it takes the ring registers over and starts at position 0; clearing it stops the
        /// channel, and no access to memory follows.
        const ENABLE = 1;
        /// The producer is read from the shadow block too, and doorbells are asked for by event index. Taken over
        /// with [`Self::ENABLE`].
        const SHADOW = 1 << 1;
        /// Interrupts are sent by event index. Taken over with [`Self::ENABLE`]; means nothing without
        /// [`Self::SHADOW`].
        const EVENT_INDEX = 1 << 2;
        /// A channel that has run out of descriptors does not wait with an interrupt.
        const IDLE_INTERRUPT = 1 << 3;
        /// Written: give up everything that is ready now. Read: not all of it has been given up yet.
        const ABORT = 1 << 8;
    }
}

bitflags! {
    /// A channel's status register.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct ChannelStatus: u32 {
        /// It is enabled and has not stopped with an error.
        const RUNNING = 1;
        /// It has taken descriptors that it has not written a completion for, or knows of more.
        const BUSY = 1 << 1;
        /// It has stopped with an error: [`ERROR`] says which.
        const ERROR = 1 << 2;
    }
}

/// Interrupt moderation of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moderation(u32);

impl Moderation {
    /// The longest time, in microseconds.
    pub const LONGEST_US: u16 = 0xfff;

    /// An interrupt once `count` completions wait for one (0 is as good as 1), or one has waited for `time_us`
    /// microseconds, at most [`Self::LONGEST_US`]; 0 means that no time is too long.
    #[must_use]
    pub const fn new(count: u16, time_us: u16) -> Self {
        let time = if time_us < Self::LONGEST_US {
            time_us
        } else {
            Self::LONGEST_US
        };
        Self(count as u32 | (time as u32) << 16)
    }

    /// Completions, at least 1.
    #[must_use]
    pub const fn count(self) -> u32 {
        match self.0 & 0xffff {
            0 => 1,
            count => count,
        }
    }

    /// Microseconds; `None` if no time is too long.
    #[must_use]
    pub const fn time_us(self) -> Option<u32> {
        match self.0 >> 16 & 0xfff {
            0 => None,
            time => Some(time),
        }
    }
}

/// What a channel says about the error that it has stopped with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ErrorRecord(u64);

impl ErrorRecord {
    /// An error at a position: that of the descriptor in question, of the completion that could not be written, or of
    /// the producer.
    #[must_use]
    pub const fn new(error: ChannelError, position: u32) -> Self {
        Self((error.code() as u64) << 32 | position as u64)
    }

    /// The error; `None` if there is none, or the code is unknown.
    #[must_use]
    pub const fn error(self) -> Option<ChannelError> {
        ChannelError::from_code((self.0 >> 32) as u8)
    }

    /// Where.
    #[must_use]
    pub const fn position(self) -> u32 {
        self.0 as u32
    }
}

macro_rules! values {
    ($($type:ty: $word:ty, $from:expr, $into:expr;)*) => {$(
        impl Value for $type {
            type Word = $word;

            fn from_word(word: $word) -> Self {
                ($from)(word)
            }

            fn into_word(self) -> $word {
                ($into)(self)
            }
        }
    )*};
}

values! {
    Features: u32, Self::from_bits_retain, |value: Self| value.bits();
    Control: u32, Self::from_bits_retain, |value: Self| value.bits();
    Causes: u32, Self::from_bits_retain, |value: Self| value.bits();
    ChannelControl: u32, Self::from_bits_retain, |value: Self| value.bits();
    ChannelStatus: u32, Self::from_bits_retain, |value: Self| value.bits();
    Moderation: u32, |word: u32| Self(word & 0xfff_ffff), |value: Self| value.0;
    ErrorRecord: u64, Self, |value: Self| value.0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moderation_says_what_it_was_made_of() {
        let moderation = Moderation::new(16, 50);
        assert_eq!((moderation.count(), moderation.time_us()), (16, Some(50)));
        assert_eq!(moderation.into_word(), 0x0032_0010);
        let none = Moderation::new(0, 0);
        assert_eq!((none.count(), none.time_us()), (1, None));
        let longest = Moderation::new(u16::MAX, u16::MAX);
        assert_eq!(longest.time_us(), Some(0xfff));
        assert_ne!(longest.into_word(), u32::MAX);
    }

    #[test]
    fn an_error_record_is_never_all_ones() {
        let record = ErrorRecord::new(ChannelError::Configuration, u32::MAX);
        assert_eq!(record.into_word(), 0x6_ffff_ffff);
        assert_eq!(record.error(), Some(ChannelError::Configuration));
        assert_eq!(record.position(), u32::MAX);
        assert_eq!(ErrorRecord::default().error(), None);
    }
}
