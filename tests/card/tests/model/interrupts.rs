//! Doorbells and interrupts: as few as possible, and none lost.

use crate::support::{DATA, Rig, single};
use abi::card::Direction::{FromCard, ToCard};
use abi::card::register::{self, Causes, ChannelControl};
use abi::card::ring::{Descriptor, ShadowBlock};
use card::Signalling;

use crate::common::*;

#[test]
fn with_messages_a_transfer_at_a_time_takes_one_doorbell_and_no_read() {
    let mut rig = running(ToCard, by_event());
    let (reads, writes) = (rig.register_reads, rig.register_writes);
    let event = Rig::shadow(ToCard) + ShadowBlock::COMPLETION_EVENT as u64;
    for n in 0..100 {
        rig.put(ToCard, &[single(n, DATA, 0, 4096)]);
        rig.publish(ToCard, n);
        rig.settle();
        assert_eq!(rig.messages(), [1], "one interrupt a transfer");
        assert_eq!(rig.drain(ToCard).len(), 1);
        rig.host.put(event, &(n + 1).to_le_bytes());
        assert_eq!(rig.completion(ToCard), None);
    }
    assert_eq!(rig.register_reads - reads, 0);
    assert_eq!(rig.register_writes - writes, 100);
}

#[test]
fn a_busy_channel_needs_hardly_a_doorbell_and_few_interrupts() {
    let mut rig = Rig::new();
    rig.entries = 64;
    rig.enable(ToCard, by_event());
    rig.moderate(ToCard, 16, 50);
    let writes = rig.register_writes;
    let (mut interrupts, mut done, mut next) = (0, 0, 0);
    while done < 2000 {
        let old = next;
        while next - done < 32 {
            rig.put(ToCard, &[single(next, DATA, 0, 4096)]);
            next += 1;
        }
        rig.publish(ToCard, old);
        rig.step();
        let messages = rig.messages().len();
        interrupts += messages;
        if messages > 0 {
            done += rig.drain(ToCard).len() as u32;
            let event = Rig::shadow(ToCard) + ShadowBlock::COMPLETION_EVENT as u64;
            let taken = rig.taken(ToCard);
            rig.host.put(event, &taken.to_le_bytes());
        }
    }
    let doorbells = rig.register_writes - writes;
    assert!(doorbells < 10, "{doorbells} doorbells");
    assert!(interrupts <= 150, "{interrupts} interrupts");
}

#[test]
fn a_doorbell_is_asked_for_before_the_channel_rests() {
    let mut rig = running(ToCard, shadowed());
    for n in 0..40 {
        rig.put(ToCard, &[single(n, DATA, 0, 64)]);
        rig.publish(ToCard, n);
        rig.settle();
        assert_eq!(rig.drain(ToCard).len(), 1, "nothing is left lying");
    }
}

/// The driver writes the producer and finds no doorbell wanted; then the card asks for one.
#[test]
fn what_is_published_while_the_channel_goes_to_rest_is_found() {
    let mut rig = running(ToCard, shadowed());
    rig.put(ToCard, &[single(0, DATA, 0, 64)]);
    rig.publish(ToCard, 0);
    let shadow = Rig::shadow(ToCard);
    let (producer, event) = (ShadowBlock::PRODUCER, ShadowBlock::DOORBELL_EVENT);
    rig.put(ToCard, &[single(1, DATA, 0, 64)]);
    rig.host.race = Some((shadow + event as u64, shadow + producer as u64, 2));
    rig.settle();
    assert_eq!(rig.drain(ToCard).len(), 2);
}

#[test]
fn with_a_shadow_block_an_old_doorbell_does_no_harm() {
    let mut rig = running(ToCard, shadowed());
    rig.put(ToCard, &[single(0, DATA, 0, 64), single(1, DATA, 0, 64)]);
    rig.publish(ToCard, 0);
    rig.settle();
    rig.set(Some(ToCard), register::DOORBELL, 1);
    rig.settle();
    assert_eq!(rig.drain(ToCard).len(), 2);
    assert_eq!(rig.get(Some(ToCard), register::ERROR).error(), None);
}

#[test]
fn an_interrupt_waits_for_the_count() {
    let mut rig = running(ToCard, ChannelControl::empty());
    rig.moderate(ToCard, 4, 0);
    for n in 0..11 {
        rig.submit(ToCard, &[single(n, DATA, 0, 64)]);
        rig.settle();
    }
    assert_eq!(rig.messages(), [1, 1]);
}

#[test]
fn an_interrupt_does_not_wait_for_longer_than_the_time() {
    let mut rig = running(ToCard, ChannelControl::empty());
    rig.moderate(ToCard, 100, 50);
    rig.submit(ToCard, &[single(1, DATA, 0, 64)]);
    let start = rig.host.now;
    rig.run_until(start + 45_000);
    assert_eq!(rig.drain(ToCard).len(), 1);
    assert_eq!(rig.messages(), []);
    rig.run_until(start + 55_000);
    assert_eq!(rig.messages(), [1]);
    rig.run_until(start + 1_000_000);
    assert_eq!(rig.messages(), []);
}

#[test]
fn a_channel_that_runs_dry_interrupts_at_once_if_it_is_to() {
    let mut rig = running(ToCard, PLAIN);
    rig.moderate(ToCard, 100, 4000);
    let start = rig.host.now;
    rig.submit(ToCard, &[single(1, DATA, 0, 64)]);
    rig.run_until(start + 20_000);
    assert_eq!(rig.messages(), [1]);
}

#[test]
fn a_completion_that_asks_for_no_interrupt_makes_none_unless_it_failed() {
    let mut rig = running(ToCard, PLAIN);
    let quiet = Descriptor {
        flags: 0,
        ..single(1, DATA, 0, 64)
    };
    rig.submit(ToCard, &[quiet]);
    rig.settle();
    assert_eq!(rig.messages(), []);
    rig.submit(ToCard, &[Descriptor { length: 0, ..quiet }]);
    rig.settle();
    assert_eq!(rig.messages(), [1]);
}

#[test]
fn by_event_index_there_is_one_interrupt_until_the_next_is_asked_for() {
    let mut rig = running(ToCard, by_event());
    let event = Rig::shadow(ToCard) + ShadowBlock::COMPLETION_EVENT as u64;
    for n in 0..3 {
        rig.put(ToCard, &[single(n, DATA, 0, 64)]);
        rig.publish(ToCard, n);
        rig.settle();
    }
    assert_eq!(rig.messages(), [1]);
    rig.host.put(event, &3_u32.to_le_bytes());
    rig.put(ToCard, &[single(3, DATA, 0, 64)]);
    rig.publish(ToCard, 3);
    rig.settle();
    assert_eq!(rig.messages(), [1]);
}

#[test]
fn causes_that_come_while_they_are_disabled_stay_pending() {
    let mut rig = running(ToCard, PLAIN);
    rig.set(None, register::INTERRUPT_ENABLE, Causes::empty());
    rig.submit(ToCard, &[single(1, DATA, 0, 64)]);
    rig.settle();
    assert_eq!(rig.messages(), []);
    assert_eq!(rig.get(None, register::INTERRUPT_CAUSE), Causes::empty());
    assert_eq!(rig.get(None, register::INTERRUPT_PENDING), Causes::TO_CARD);
    rig.set(None, register::INTERRUPT_ENABLE, Causes::TO_CARD);
    assert_eq!(rig.messages(), [1]);
    assert_eq!(rig.get(None, register::INTERRUPT_PENDING), Causes::empty());
}

#[test]
fn with_fewer_messages_the_first_stands_for_the_others() {
    for (count, message) in [(3, 2), (2, 0), (1, 0)] {
        let mut rig = running(FromCard, PLAIN);
        rig.host.signalling = Signalling::Messages(count);
        carry_out(&mut rig, FromCard, &[single(1, DATA, 0, 64)]);
        assert_eq!(rig.messages(), [message]);
    }
}

#[test]
fn reading_the_cause_register_releases_the_line() {
    let mut rig = running(ToCard, PLAIN);
    rig.enable(FromCard, PLAIN);
    rig.host.signalling = Signalling::Line;
    carry_out(&mut rig, ToCard, &[single(1, DATA, 0, 64)]);
    carry_out(&mut rig, FromCard, &[single(1, DATA, 0, 64)]);
    assert!(rig.host.line);
    let both = Causes::TO_CARD | Causes::FROM_CARD;
    assert_eq!(rig.get(None, register::INTERRUPT_CAUSE), both);
    assert!(!rig.host.line);
    assert_eq!(rig.get(None, register::INTERRUPT_CAUSE), Causes::empty());
    assert_eq!(rig.messages(), []);
}

#[test]
fn disabling_a_cause_releases_the_line_and_keeps_the_cause() {
    let mut rig = running(ToCard, PLAIN);
    rig.host.signalling = Signalling::Line;
    carry_out(&mut rig, ToCard, &[single(1, DATA, 0, 64)]);
    rig.set(None, register::INTERRUPT_ENABLE, Causes::empty());
    assert!(!rig.host.line);
    rig.set(None, register::INTERRUPT_ENABLE, Causes::all());
    assert!(rig.host.line);
}

#[test]
fn a_doorbell_takes_as_long_as_it_is_told_to() {
    let mut rig = Rig::new();
    let card = card::Card::new(64 << 20, card::Timing::REAL).unwrap();
    rig.card = card.paced(|usual| 70 * usual);
    rig.set_master(true);
    rig.enable(ToCard, PLAIN);
    let start = rig.host.now;
    rig.submit(ToCard, &[single(1, DATA, 0, 64)]);
    rig.run_until(start + 69_000);
    assert_eq!(rig.drain(ToCard), []);
    rig.run_until(start + 71_000);
    assert_eq!(rig.drain(ToCard).len(), 1);
}
