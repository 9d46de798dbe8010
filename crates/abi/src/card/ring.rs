//! What lies in host memory: descriptors, completions, the shadow block. Everything is little-endian.

use core::mem::offset_of;

use bitflags::bitflags;
use static_assertions::{const_assert, const_assert_eq};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::status::TransferStatus;

/// One piece of a transfer: contiguous on the bus and in the card's memory. Written by the driver.
#[repr(C)]
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Descriptor {
    /// Where the data is in host memory; any alignment.
    pub bus_address: u64,
    /// Where the data is in the card's memory; any alignment.
    pub card_address: u64,
    /// Bytes, from 1 to [`DESCRIPTOR_LIMIT`](super::DESCRIPTOR_LIMIT).
    pub length: u32,
    /// [`DescriptorFlags`].
    pub flags: u32,
    /// The driver's name for the transfer, the same in all its descriptors.
    pub tag: u32,
    /// Zero.
    pub reserved: u32,
}

const_assert_eq!(size_of::<Descriptor>(), 32);
const_assert_eq!(offset_of!(Descriptor, length), 16);
const_assert_eq!(offset_of!(Descriptor, tag), 24);

impl Descriptor {
    /// Bytes of a descriptor.
    pub const SIZE: usize = size_of::<Self>();

    /// Whether the transfer goes on with the next descriptor.
    #[must_use]
    pub const fn is_chained(&self) -> bool {
        self.flags & DescriptorFlags::CHAIN.bits() != 0
    }
}

bitflags! {
    /// Flags of a descriptor.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct DescriptorFlags: u32 {
        /// The transfer goes on with the next descriptor.
        const CHAIN = 1;
        /// The transfer's completion asks for an interrupt; counts in the last descriptor.
        const INTERRUPT = 1 << 1;
        /// The completion has the CRC-32C of the transfer's data; counts in the first descriptor.
        const CHECKSUM = 1 << 2;
    }
}

/// The end of a transfer. Written by the card, in one piece, [`Completion::outcome`] last.
#[repr(C)]
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Completion {
    /// The transfer's tag.
    pub tag: u32,
    /// The position after the transfer's last descriptor: everything before it is free again.
    pub consumer: u32,
    /// Bytes moved, from the transfer's start on.
    pub moved: u64,
    /// CRC-32C (Castagnoli, as in iSCSI) of these bytes, if the transfer asked for it, otherwise 0.
    pub checksum: u32,
    /// Unless the transfer succeeded: the position of the descriptor at which it ended.
    pub failed: u32,
    /// Zero.
    pub reserved: u32,
    /// Status and phase: [`Completion::phase`] and [`Completion::status`].
    pub outcome: u32,
}

const_assert_eq!(size_of::<Completion>(), 32);
const_assert_eq!(offset_of!(Completion, moved), 8);
const_assert_eq!(offset_of!(Completion, failed), 20);
const_assert_eq!(offset_of!(Completion, outcome), 28);

impl Completion {
    /// Bytes of a completion.
    pub const SIZE: usize = size_of::<Self>();

    /// Where [`Completion::outcome`] is in a completion.
    pub const OUTCOME: usize = offset_of!(Self, outcome);

    const PHASE: u32 = 1 << 31;

    /// What goes into [`Completion::outcome`].
    #[must_use]
    pub const fn outcome(status: TransferStatus, phase: bool) -> u32 {
        status.code() as u32 | if phase { Self::PHASE } else { 0 }
    }

    /// Whether an outcome is that of a round with this phase: the completion has then been written.
    #[must_use]
    pub const fn phase(outcome: u32) -> bool {
        outcome & Self::PHASE != 0
    }

    /// How the transfer ended; `None` if no card says so.
    #[must_use]
    pub const fn status(outcome: u32) -> Option<TransferStatus> {
        if outcome & !Self::PHASE > 0xff {
            return None;
        }
        TransferStatus::from_code(outcome as u8)
    }
}

/// The shadow block: what each side tells the other without a register access. One half each, in cache lines of
/// their own.
#[repr(C)]
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct ShadowBlock {
    /// The driver's half.
    pub driver: DriverShadow,
    /// The card's half.
    pub card: CardShadow,
}

/// The half of the shadow block that the driver writes and the card reads.
#[repr(C)]
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DriverShadow {
    /// The position after the last descriptor that is ready.
    pub producer: u32,
    /// The driver wants an interrupt when the number of completions goes beyond this.
    pub completion_event: u32,
    /// The word of a [`Moderation`](super::register::Moderation): that interrupt is held back until there are so many
    /// completions beyond the event, or none has come for the time. Without a time nothing is held back.
    pub gather: u32,
    /// Not read.
    pub unused: [u32; 13],
}

/// The half of the shadow block that the card writes and the driver reads.
#[repr(C)]
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct CardShadow {
    /// The card wants a doorbell when the producer goes beyond this.
    pub doorbell_event: u32,
    /// Code of the [`ChannelError`](super::status::ChannelError) that the channel has stopped with, 0 while it runs.
    pub error: u32,
    /// Not written.
    pub unused: [u32; 14],
}

const_assert_eq!(size_of::<DriverShadow>(), 64);
const_assert_eq!(size_of::<CardShadow>(), 64);
const_assert!(size_of::<ShadowBlock>().is_multiple_of(super::ALIGNMENT as usize));

impl ShadowBlock {
    /// Bytes of the block.
    pub const SIZE: usize = size_of::<Self>();
    /// Where [`DriverShadow::producer`] is in the block.
    pub const PRODUCER: usize = offset_of!(Self, driver) + offset_of!(DriverShadow, producer);
    /// Where [`DriverShadow::completion_event`] is in the block.
    pub const COMPLETION_EVENT: usize =
        offset_of!(Self, driver) + offset_of!(DriverShadow, completion_event);
    /// Where [`DriverShadow::gather`] is in the block.
    pub const GATHER: usize = offset_of!(Self, driver) + offset_of!(DriverShadow, gather);
    /// Where [`CardShadow::doorbell_event`] is in the block.
    pub const DOORBELL_EVENT: usize =
        offset_of!(Self, card) + offset_of!(CardShadow, doorbell_event);
    /// Where [`CardShadow::error`] is in the block.
    pub const ERROR: usize = offset_of!(Self, card) + offset_of!(CardShadow, error);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_status_and_phase() {
        let outcome = Completion::outcome(TransferStatus::DataError, true);
        assert_eq!(outcome, 0x8000_0004);
        assert!(Completion::phase(outcome));
        assert_eq!(Completion::status(outcome), Some(TransferStatus::DataError));
        assert!(!Completion::phase(Completion::outcome(
            TransferStatus::Success,
            false
        )));
        assert_eq!(Completion::status(0x100), None);
        assert_eq!(Completion::status(0xff), None);
    }

    #[test]
    fn a_descriptor_is_laid_out_as_the_manual_says() {
        let descriptor = Descriptor {
            bus_address: 0x1122_3344_5566_7788,
            card_address: 0x99,
            length: 0x1000,
            flags: DescriptorFlags::CHAIN.bits(),
            tag: 7,
            reserved: 0,
        };
        let bytes = descriptor.as_bytes();
        assert_eq!(bytes[..8], 0x1122_3344_5566_7788_u64.to_le_bytes());
        assert_eq!(
            (bytes[8], bytes[17], bytes[20], bytes[24]),
            (0x99, 0x10, 1, 7)
        );
        assert!(descriptor.is_chained());
    }

    #[test]
    fn the_halves_of_the_shadow_block_share_no_cache_line() {
        assert_eq!((ShadowBlock::COMPLETION_EVENT, ShadowBlock::GATHER), (4, 8));
        assert_eq!((ShadowBlock::DOORBELL_EVENT, ShadowBlock::ERROR), (64, 68));
    }
}
