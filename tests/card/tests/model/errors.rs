//! What goes wrong with transfers and channels, and how the card says so.

use crate::support::{DATA, RAM, RAM_SIZE, Rig, chain, single};
use abi::card::DESCRIPTOR_LIMIT;
use abi::card::Direction::{FromCard, ToCard};
use abi::card::register::{self, ChannelControl, ChannelStatus};
use abi::card::ring::{Descriptor, DescriptorFlags, ShadowBlock};
use abi::card::status::{ChannelError, TransferStatus};

use crate::common::*;

#[test]
fn a_bus_error_ends_the_transfer_and_not_the_channel() {
    let mut rig = running(ToCard, PLAIN);
    rig.host.holes = vec![DATA + 0x3000];
    let transfer = chain(vec![
        single(1, DATA, 0, 0x1000),
        single(1, DATA + 0x1800, 0x1000, 0x4000),
        single(1, DATA + 0x8000, 0x5000, 0x1000),
    ]);
    rig.submit(ToCard, &transfer);
    rig.submit(ToCard, &[single(2, DATA, 0, 64)]);
    rig.settle();
    let completions = rig.drain(ToCard);
    let failed = completions[0];
    assert_eq!(status(&failed), TransferStatus::BusError);
    assert_eq!((failed.failed, failed.consumer), (1, 3));
    assert_eq!(
        failed.moved,
        0x1000 + 0x1800,
        "up to the page that is not there"
    );
    assert_eq!(status(&completions[1]), TransferStatus::Success);
}

#[test]
fn a_range_beyond_the_cards_memory_is_refused_as_a_whole() {
    let mut rig = running(FromCard, PLAIN);
    let size = rig.get(None, register::MEMORY_SIZE);
    rig.host.put(DATA, &[0xaa; 64]);
    for address in [size - 63, size, u64::MAX - 3, 1 << 40] {
        let completion = carry_out(&mut rig, FromCard, &[single(1, DATA, address, 64)]);
        assert_eq!(status(&completion), TransferStatus::OutOfRange);
        assert_eq!(completion.moved, 0);
        assert_eq!(rig.host.bytes(DATA, 64), [0xaa; 64]);
    }
    let completion = carry_out(&mut rig, FromCard, &[single(1, DATA, size - 64, 64)]);
    assert_eq!(status(&completion), TransferStatus::Success);
}

#[test]
fn descriptors_that_are_none_are_refused() {
    let good = single(1, DATA, 0, 64);
    let bad = [
        Descriptor { length: 0, ..good },
        Descriptor {
            length: DESCRIPTOR_LIMIT + 1,
            ..good
        },
        Descriptor {
            flags: 1 << 3,
            ..good
        },
        Descriptor {
            reserved: 1,
            ..good
        },
    ];
    let mut rig = running(ToCard, PLAIN);
    for descriptor in bad {
        let completion = carry_out(&mut rig, ToCard, &[descriptor]);
        assert_eq!(status(&completion), TransferStatus::InvalidDescriptor);
    }
    let other_tag = chain(vec![good, single(2, DATA, 64, 64), good]);
    let completion = carry_out(&mut rig, ToCard, &other_tag);
    assert_eq!(status(&completion), TransferStatus::InvalidDescriptor);
    assert_eq!((completion.tag, completion.failed), (1, 5));
    assert_eq!((completion.consumer, completion.moved), (7, 64));
}

#[test]
fn memory_that_cannot_be_read_is_a_data_error_until_it_is_written() {
    let mut rig = running(FromCard, PLAIN);
    rig.enable(ToCard, PLAIN);
    rig.card.memory_mut().spoil(0x2_0000, 1);
    let read = [single(1, DATA, 0x1_0000, 0x2_0000)];
    let completion = carry_out(&mut rig, FromCard, &read);
    assert_eq!(status(&completion), TransferStatus::DataError);
    assert_eq!(completion.moved, 0x1_0000);
    let repair = carry_out(&mut rig, ToCard, &[single(2, DATA, 0x2_0000, 64)]);
    assert_eq!(status(&repair), TransferStatus::Success);
    let completion = carry_out(&mut rig, FromCard, &read);
    assert_eq!(status(&completion), TransferStatus::Success);
}

#[test]
fn without_bus_mastering_the_card_reaches_nothing() {
    let mut rig = running(ToCard, PLAIN);
    rig.set_master(false);
    let accesses = (rig.host.reads, rig.host.writes);
    rig.submit(ToCard, &[single(1, DATA, 0, 64)]);
    rig.settle();
    assert_eq!((rig.host.reads, rig.host.writes), accesses);
    let error = rig.get(Some(ToCard), register::ERROR);
    assert_eq!(error.error(), Some(ChannelError::DescriptorFetch));
    assert_eq!(rig.messages(), [], "a message is a write as well");
    rig.set_master(true);
    assert_eq!(rig.messages(), [0], "the cause was pending");
}

#[test]
fn bus_mastering_that_goes_during_a_transfer_is_a_bus_error() {
    let mut rig = running(ToCard, PLAIN);
    rig.submit(ToCard, &[single(1, DATA, 0, 0x4_0000)]);
    rig.step();
    rig.set_master(false);
    rig.settle();
    let error = rig.get(Some(ToCard), register::ERROR);
    assert_eq!(error.error(), Some(ChannelError::CompletionWrite));
    assert_eq!(rig.drain(ToCard), []);
}

/// Enables a channel, does something wrong, and returns the error with the position it names.
fn channel_error(wrong: impl FnOnce(&mut Rig)) -> (Option<ChannelError>, u32) {
    let mut rig = running(ToCard, PLAIN);
    wrong(&mut rig);
    rig.settle();
    let status = rig.get(Some(ToCard), register::CHANNEL_STATUS);
    assert_eq!(status, ChannelStatus::ERROR);
    assert_eq!(rig.messages().last(), Some(&0), "an error is an event");
    let record = rig.get(Some(ToCard), register::ERROR);
    disable(&mut rig);
    rig.enable(ToCard, PLAIN);
    let completion = carry_out(&mut rig, ToCard, &[single(9, DATA, 0, 64)]);
    assert_eq!(completion.tag, 9, "enabled again, the channel runs");
    (record.error(), record.position())
}

#[test]
fn a_channel_that_stops_names_error_and_descriptor() {
    let ring = Rig::descriptors(ToCard);
    let fetch = |rig: &mut Rig| {
        rig.submit(ToCard, &[single(1, DATA, 0, 64)]);
        rig.settle();
        rig.host.holes = vec![ring];
        rig.submit(ToCard, &[single(2, DATA, 0, 64)]);
        rig.settle();
        rig.host.holes.clear();
        rig.drain(ToCard);
    };
    let (error, position) = channel_error(fetch);
    assert_eq!((error, position), (Some(ChannelError::DescriptorFetch), 1));

    let torn = |rig: &mut Rig| {
        let chained = DescriptorFlags::CHAIN.bits();
        let descriptor = Descriptor {
            flags: chained,
            ..single(1, DATA, 0, 64)
        };
        rig.submit(ToCard, &[descriptor, descriptor]);
    };
    let (error, position) = channel_error(torn);
    assert_eq!((error, position), (Some(ChannelError::TornTransfer), 2));

    let too_far = |rig: &mut Rig| rig.set(Some(ToCard), register::DOORBELL, 17);
    let (error, position) = channel_error(too_far);
    assert_eq!((error, position), (Some(ChannelError::Producer), 17));

    let backwards = |rig: &mut Rig| {
        rig.set(Some(ToCard), register::DOORBELL, 3);
        rig.set(Some(ToCard), register::DOORBELL, 2);
    };
    let (error, position) = channel_error(backwards);
    assert_eq!((error, position), (Some(ChannelError::Producer), 2));
}

#[test]
fn a_completion_that_cannot_be_written_stops_the_channel() {
    let mut rig = running(ToCard, PLAIN);
    rig.host.holes = vec![Rig::completion_ring(ToCard)];
    rig.submit(ToCard, &[single(1, DATA, 0, 64), single(2, DATA, 0, 64)]);
    rig.settle();
    let record = rig.get(Some(ToCard), register::ERROR);
    assert_eq!(record.error(), Some(ChannelError::CompletionWrite));
    assert_eq!(record.position(), 0);
    assert_eq!(rig.get(Some(ToCard), register::COMPLETED), 0);
}

#[test]
fn a_ring_that_is_none_cannot_be_enabled() {
    for entries in [0, 1, 3, 0x1_0001, 0x2_0000] {
        let mut rig = Rig::new();
        rig.set(Some(ToCard), register::ENTRIES, entries);
        rig.set(
            Some(ToCard),
            register::CHANNEL_CONTROL,
            ChannelControl::ENABLE,
        );
        let error = rig.get(Some(ToCard), register::ERROR).error();
        assert_eq!(error, Some(ChannelError::Configuration), "{entries}");
    }
    let mut rig = Rig::new();
    rig.set(Some(ToCard), register::ENTRIES, 16);
    rig.set(Some(ToCard), register::DESCRIPTOR_RING, u64::MAX);
    rig.set(
        Some(ToCard),
        register::CHANNEL_CONTROL,
        ChannelControl::ENABLE,
    );
    let error = rig.get(Some(ToCard), register::ERROR).error();
    assert_eq!(error, Some(ChannelError::Configuration));
}

#[test]
fn a_channel_error_is_told_in_the_shadow_block() {
    let mut rig = running(ToCard, shadowed());
    rig.host.holes = vec![Rig::descriptors(ToCard)];
    rig.put(ToCard, &[single(1, DATA, 0, 64)]);
    rig.publish(ToCard, 0);
    rig.settle();
    let word = Rig::shadow(ToCard) + ShadowBlock::ERROR as u64;
    let code = rig.host.word(word);
    assert_eq!(code, ChannelError::DescriptorFetch.code().into());
}

#[test]
fn data_may_lie_at_the_end_of_the_address_space() {
    let mut rig = running(ToCard, PLAIN);
    let completion = carry_out(&mut rig, ToCard, &[single(1, u64::MAX - 3, 0, 64)]);
    assert_eq!(status(&completion), TransferStatus::BusError);
    let end = RAM + RAM_SIZE as u64;
    let completion = carry_out(&mut rig, ToCard, &[single(1, end - 64, 0, 64)]);
    assert_eq!(status(&completion), TransferStatus::Success);
}
