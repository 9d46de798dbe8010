//! What the tests have in common.

use crate::support::Rig;
use abi::card::Direction::{self, ToCard};
use abi::card::register::{self, ChannelControl};
use abi::card::ring::{Completion, Descriptor};
use abi::card::status::TransferStatus;

pub const PLAIN: ChannelControl = ChannelControl::IDLE_INTERRUPT;

pub fn shadowed() -> ChannelControl {
    PLAIN | ChannelControl::SHADOW
}

pub fn by_event() -> ChannelControl {
    shadowed() | ChannelControl::EVENT_INDEX
}

/// A rig with a channel that runs.
pub fn running(direction: Direction, mode: ChannelControl) -> Rig {
    let mut rig = Rig::new();
    rig.enable(direction, mode);
    rig
}

pub fn status(completion: &Completion) -> TransferStatus {
    Completion::status(completion.outcome).expect("an honest card sends what there is")
}

/// Carries out one transfer and returns its completion.
pub fn carry_out(rig: &mut Rig, direction: Direction, descriptors: &[Descriptor]) -> Completion {
    rig.submit(direction, descriptors);
    rig.settle();
    let completions = rig.drain(direction);
    assert_eq!(completions.len(), 1, "a transfer has one completion");
    completions[0]
}

/// Disables the channel, so that it can be enabled again.
pub fn disable(rig: &mut Rig) {
    rig.set(
        Some(ToCard),
        register::CHANNEL_CONTROL,
        ChannelControl::empty(),
    );
}
