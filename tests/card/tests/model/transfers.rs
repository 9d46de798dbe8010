//! Transfers, rings and aborts.

use crate::support::{DATA, by_tag, card_bytes, chain, pattern, single};
use abi::card::Direction::{FromCard, ToCard};
use abi::card::register::{self, ChannelControl};
use abi::card::ring::{Descriptor, DescriptorFlags};
use abi::card::status::TransferStatus;
use card::Fault;

use crate::common::*;

#[test]
fn a_transfer_moves_every_byte_whatever_its_pieces_are() {
    let mut rig = running(ToCard, PLAIN);
    rig.enable(FromCard, PLAIN);
    let data = pattern(1, 200_000);
    rig.host.put(DATA + 3, &data);
    let cuts = [(0, 1), (1, 4095), (4096, 70_001), (74_097, 125_903)];
    let pieces = |bus: u64, card: u64| -> Vec<Descriptor> {
        let piece = |&(start, length): &(u64, u32)| single(7, bus + start, card + start, length);
        chain(cuts.iter().map(piece).collect())
    };
    let there = carry_out(&mut rig, ToCard, &pieces(DATA + 3, 0x1_fff1));
    assert_eq!(there.tag, 7);
    assert_eq!(
        (status(&there), there.moved),
        (TransferStatus::Success, 200_000)
    );
    assert_eq!((there.consumer, there.checksum), (4, 0));
    assert_eq!(card_bytes(&rig.card, 0x1_fff1, 200_000), data);

    let back = carry_out(&mut rig, FromCard, &pieces(DATA + 0x10_0005, 0x1_fff1));
    assert_eq!(
        (status(&back), back.moved),
        (TransferStatus::Success, 200_000)
    );
    assert_eq!(rig.host.bytes(DATA + 0x10_0005, 200_000), data);
    assert_eq!(rig.host.bytes(DATA + 0x10_0004, 1), [0]);
    assert_eq!(rig.host.bytes(DATA + 0x10_0005 + 200_000, 1), [0]);
}

#[test]
fn the_checksum_is_that_of_the_whole_transfer() {
    let mut rig = running(ToCard, PLAIN);
    rig.host.put(DATA, b"123456789");
    let mut parts = chain(vec![single(1, DATA, 0, 4), single(1, DATA + 4, 4, 5)]);
    parts[0].flags |= DescriptorFlags::CHECKSUM.bits();
    let completion = carry_out(&mut rig, ToCard, &parts);
    assert_eq!(
        completion.checksum, 0xe306_9283,
        "the check value of CRC-32C"
    );
}

#[test]
fn rings_go_round_and_the_phase_with_them() {
    let mut rig = running(FromCard, PLAIN);
    for round in 0..5 {
        let transfers: Vec<_> = (0..rig.entries)
            .map(|n| single(round * 100 + n, DATA + 64 * u64::from(n), 0, 64))
            .collect();
        rig.submit(FromCard, &transfers);
        rig.settle();
        let completions = rig.drain(FromCard);
        let tags: Vec<u32> = completions.iter().map(|c| c.tag).collect();
        let expected: Vec<u32> = (0..rig.entries).map(|n| round * 100 + n).collect();
        assert_eq!(tags, expected);
        let last = completions.last().unwrap();
        assert_eq!(last.consumer, (round + 1) * rig.entries);
    }
}

#[test]
fn channels_are_independent() {
    let mut rig = running(ToCard, PLAIN);
    rig.enable(FromCard, PLAIN);
    rig.card.faults().arm(Fault::Stick(ToCard));
    rig.submit(ToCard, &[single(1, DATA, 0, 64)]);
    rig.submit(FromCard, &[single(2, DATA, 0, 64)]);
    rig.settle();
    assert_eq!(rig.drain(ToCard), []);
    assert_eq!(by_tag(&rig.drain(FromCard)), [(2, 0)].into());
}

#[test]
fn a_disabled_channel_reaches_nothing_and_starts_anew() {
    let mut rig = running(ToCard, PLAIN);
    rig.submit(ToCard, &[single(1, DATA, 0, 0x4_0000)]);
    rig.step();
    disable(&mut rig);
    let accesses = (rig.host.reads, rig.host.writes);
    assert_eq!(rig.card.next_event(), None);
    rig.settle();
    assert_eq!((rig.host.reads, rig.host.writes), accesses);
    rig.enable(ToCard, PLAIN);
    let completion = carry_out(&mut rig, ToCard, &[single(2, DATA, 0, 64)]);
    assert_eq!((completion.tag, completion.consumer), (2, 1));
}

#[test]
fn an_abort_of_a_tag_ends_this_transfer_alone() {
    let mut rig = running(ToCard, PLAIN);
    let transfers: Vec<_> = (0..4).map(|n| single(n, DATA, 0, 0x2_0000)).collect();
    rig.submit(ToCard, &transfers);
    rig.step();
    rig.set(Some(ToCard), register::ABORT_TAG, 0);
    rig.set(Some(ToCard), register::ABORT_TAG, 2);
    rig.set(Some(ToCard), register::ABORT_TAG, 77);
    rig.settle();
    let completions = rig.drain(ToCard);
    assert_eq!(
        by_tag(&completions),
        [(0, 3), (1, 0), (2, 3), (3, 0)].into()
    );
    assert_eq!(completions[0].moved, 0x1_0000, "what was moved before");
    assert_eq!(completions[2].moved, 0);
    // The tags are as good as new.
    let again = carry_out(&mut rig, ToCard, &[single(2, DATA, 0, 64)]);
    assert_eq!(status(&again), TransferStatus::Success);
    let again = carry_out(&mut rig, ToCard, &[single(77, DATA, 0, 64)]);
    assert_eq!(status(&again), TransferStatus::Success);
}

#[test]
fn an_abort_of_the_channel_ends_what_is_there_and_nothing_later() {
    for mode in [PLAIN, shadowed()] {
        let mut rig = running(ToCard, mode);
        let part = |n| single(n, DATA, 0, 0x2_0000);
        rig.put(ToCard, &chain(vec![part(0), part(0)]));
        rig.put(ToCard, &[part(1), part(2)]);
        rig.publish(ToCard, 0);
        rig.ring(ToCard);
        rig.step();
        rig.step();
        let control = mode | ChannelControl::ENABLE | ChannelControl::ABORT;
        rig.set(Some(ToCard), register::CHANNEL_CONTROL, control);
        let busy = rig.get(Some(ToCard), register::CHANNEL_CONTROL);
        assert!(busy.contains(ChannelControl::ABORT));
        rig.put(ToCard, &[part(3)]);
        rig.publish(ToCard, 4);
        rig.ring(ToCard);
        rig.settle();
        let completions = rig.drain(ToCard);
        assert_eq!(
            by_tag(&completions),
            [(0, 3), (1, 3), (2, 3), (3, 0)].into()
        );
        let idle = rig.get(Some(ToCard), register::CHANNEL_CONTROL);
        assert!(!idle.contains(ChannelControl::ABORT));
    }
}

#[test]
fn aborts_that_came_too_late_leave_room_for_others() {
    let mut rig = running(ToCard, PLAIN);
    for round in 0..3 * rig.entries {
        rig.submit(ToCard, &[single(round, DATA, 0, 64)]);
        rig.set(Some(ToCard), register::ABORT_TAG, 1000 + round);
        rig.settle();
    }
    rig.drain(ToCard);
    rig.submit(ToCard, &[single(7, DATA, 0, 64)]);
    rig.set(Some(ToCard), register::ABORT_TAG, 7);
    rig.settle();
    let completions = rig.drain(ToCard);
    assert_eq!(
        completions.last().map(status),
        Some(TransferStatus::Aborted)
    );
}
