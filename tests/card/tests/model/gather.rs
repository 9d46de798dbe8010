//! Interrupts that are held back, so that one tells of several completions: none is lost, and none waits for long.

use crate::support::{DATA, Rig, single};
use abi::card::Direction::ToCard;
use abi::card::position;
use abi::card::register::{ChannelControl, Moderation};
use abi::card::ring::{Completion, ShadowBlock};
use proptest::collection::vec;
use proptest::prelude::*;
use registers::Value;

use crate::common::*;

fn put(rig: &mut Rig, offset: usize, value: u32) {
    let at = Rig::shadow(ToCard) + offset as u64;
    rig.host.put(at, &value.to_le_bytes());
}

/// Has completions gathered.
fn gather(rig: &mut Rig, count: u16, time_us: u16) {
    let word = Moderation::new(count, time_us).into_word();
    put(rig, ShadowBlock::GATHER, word);
}

/// Asks for an interrupt by all that have not been taken. Whether there are any already.
fn ask(rig: &mut Rig) -> bool {
    let taken = rig.taken(ToCard);
    put(rig, ShadowBlock::COMPLETION_EVENT, taken);
    let entry = u64::from(position::entry(taken, rig.entries)) * Completion::SIZE as u64;
    let outcome = Rig::completion_ring(ToCard) + entry + Completion::OUTCOME as u64;
    Completion::phase(rig.host.word(outcome)) == position::phase(taken, rig.entries)
}

/// Puts one transfer in and rings if the card asks for it.
fn publish(rig: &mut Rig) {
    let old = rig.producers[ToCard.index()];
    rig.put(ToCard, &[single(old, DATA, 0, 64)]);
    rig.publish(ToCard, old);
}

/// Runs the card for so many microseconds.
fn run(rig: &mut Rig, microseconds: u64) {
    let end = rig.host.now + microseconds * 1000;
    rig.run_until(end);
}

#[test]
fn an_interrupt_is_held_back_until_there_are_as_many_as_are_asked_for() {
    let mut rig = running(ToCard, by_event());
    gather(&mut rig, 4, 50);
    for _ in 0..3 {
        publish(&mut rig);
        run(&mut rig, 20);
        assert_eq!(rig.messages(), []);
    }
    publish(&mut rig);
    run(&mut rig, 20);
    assert_eq!(rig.messages(), [1]);
    assert_eq!(rig.drain(ToCard).len(), 4);
    // Until software asks again there is none.
    publish(&mut rig);
    run(&mut rig, 1000);
    assert_eq!(rig.messages(), []);
}

#[test]
fn each_completion_begins_the_time_anew_and_when_it_is_over_there_is_one_interrupt() {
    let mut rig = running(ToCard, by_event());
    gather(&mut rig, 16, 50);
    for _ in 0..3 {
        publish(&mut rig);
        run(&mut rig, 40);
        assert_eq!(rig.messages(), []);
    }
    run(&mut rig, 20);
    assert_eq!(rig.messages(), [1]);
    assert_eq!(rig.drain(ToCard).len(), 3);
    assert!(!ask(&mut rig));
    run(&mut rig, 1000);
    assert_eq!(rig.messages(), []);
}

#[test]
fn without_a_time_and_without_an_event_index_nothing_is_held_back() {
    for (mode, time_us) in [(by_event(), 0), (shadowed(), 50)] {
        let mut rig = running(ToCard, mode);
        gather(&mut rig, 16, time_us);
        publish(&mut rig);
        run(&mut rig, 20);
        assert_eq!(rig.messages(), [1]);
    }
}

/// Be its interrupt held back, sent, or not asked for because software is at it.
#[test]
fn for_the_time_after_a_completion_no_doorbell_is_needed() {
    let mut rig = running(ToCard, by_event());
    gather(&mut rig, 8, 50);
    let writes = rig.register_writes;
    for _ in 0..16 {
        publish(&mut rig);
        run(&mut rig, 40);
    }
    assert_eq!(rig.register_writes - writes, 1);
    assert_eq!(rig.messages(), [1]);
    run(&mut rig, 60);
    publish(&mut rig);
    assert_eq!(rig.register_writes - writes, 2);
}

#[test]
fn who_asks_for_one_at_a_time_rings_for_each() {
    let mut rig = running(ToCard, by_event());
    gather(&mut rig, 1, 50);
    let writes = rig.register_writes;
    for n in 1..10 {
        publish(&mut rig);
        run(&mut rig, 10);
        assert_eq!(rig.messages(), [1]);
        assert_eq!(rig.drain(ToCard).len(), 1);
        assert!(!ask(&mut rig));
        assert_eq!(rig.register_writes - writes, n);
    }
}

/// The driver looks without having been told, and is not told of what it has taken.
#[test]
fn of_what_has_been_taken_meanwhile_there_is_no_interrupt() {
    let mut rig = running(ToCard, by_event());
    gather(&mut rig, 16, 50);
    publish(&mut rig);
    run(&mut rig, 20);
    assert_eq!(rig.drain(ToCard).len(), 1);
    assert!(!ask(&mut rig));
    run(&mut rig, 1000);
    assert_eq!(rig.messages(), []);
    // But of the next.
    publish(&mut rig);
    run(&mut rig, 100);
    assert_eq!(rig.messages(), [1]);
}

#[test]
fn a_channel_that_stops_has_no_interrupt_left() {
    let mut rig = running(ToCard, by_event());
    gather(&mut rig, 16, 50);
    publish(&mut rig);
    run(&mut rig, 20);
    disable(&mut rig);
    run(&mut rig, 1000);
    assert_eq!(rig.messages(), []);
}

proptest! {
    /// A driver that looks only when it is told, and then at once or later, finds everything.
    #[test]
    fn no_completion_is_lost_however_they_are_gathered(
        steps in vec((1..8_u32, 0..20_u16, 0..60_u16, 0..40_u64), 1..100),
        moderation in prop::option::of((0..8_u16, 1..40_u16)),
        idle in any::<bool>(),
    ) {
        let mode = ChannelControl::SHADOW | ChannelControl::EVENT_INDEX;
        let mode = if idle { mode | PLAIN } else { mode };
        let mut rig = running(ToCard, mode);
        if let Some((count, time)) = moderation {
            rig.moderate(ToCard, count, time);
        }
        let mut pending = 0;
        for (count, at_once, time, delay) in steps {
            for _ in 0..count.min(rig.entries - pending) {
                publish(&mut rig);
                pending += 1;
            }
            run(&mut rig, delay);
            if !rig.messages().is_empty() {
                run(&mut rig, delay);
                loop {
                    pending -= rig.drain(ToCard).len() as u32;
                    gather(&mut rig, at_once, time);
                    if !ask(&mut rig) {
                        break;
                    }
                }
            }
        }
        for _ in 0..64 {
            if !rig.messages().is_empty() {
                pending -= rig.drain(ToCard).len() as u32;
                ask(&mut rig);
            }
            run(&mut rig, 10 * 110);
        }
        prop_assert_eq!(pending, 0);
    }
}
