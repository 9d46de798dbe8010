//! What the card does on command.

use crate::support::{DATA, Rig, by_tag, single};
use abi::card::Direction::{FromCard, ToCard};
use abi::card::register::{self, ChannelStatus, Control};
use abi::card::ring::Completion;
use card::{Fault, Signalling};

use crate::common::*;

#[test]
fn completions_lie_on_command() {
    let honest = Completion {
        tag: 1,
        consumer: 1,
        moved: 64,
        checksum: 0,
        failed: 0,
        reserved: 0,
        outcome: 0x8000_0000,
    };
    let lies = [
        (Fault::Tag(ToCard, 6), Completion { tag: 7, ..honest }),
        (
            Fault::Count(ToCard, -1),
            Completion {
                moved: 63,
                ..honest
            },
        ),
        (
            Fault::Outcome(ToCard, 0xabcd),
            Completion {
                outcome: 0x8000_abcd,
                ..honest
            },
        ),
        (
            Fault::Consumer(ToCard, 5),
            Completion {
                consumer: 6,
                ..honest
            },
        ),
    ];
    for (fault, lie) in lies {
        let mut rig = running(ToCard, PLAIN);
        rig.card.faults().arm(fault);
        let told = carry_out(&mut rig, ToCard, &[single(1, DATA, 0, 64)]);
        assert_eq!(told, lie);
        assert_eq!(rig.card.faults().struck(), [fault]);
    }
}

#[test]
fn completions_and_interrupts_are_lost_and_doubled_on_command() {
    let counts = |fault, line: bool| {
        let mut rig = running(ToCard, PLAIN);
        if line {
            rig.host.signalling = Signalling::Line;
        }
        rig.card.faults().arm(fault);
        rig.submit(ToCard, &[single(1, DATA, 0, 64)]);
        rig.settle();
        let interrupts = if line {
            let mut count = 0;
            while rig.host.line {
                rig.get(None, register::INTERRUPT_CAUSE);
                count += 1;
            }
            count
        } else {
            rig.messages().len()
        };
        (rig.drain(ToCard).len(), interrupts)
    };
    assert_eq!(counts(Fault::DropCompletion(ToCard), false), (0, 0));
    // Its interrupt comes, and nothing is to be seen.
    assert_eq!(counts(Fault::Phase(ToCard), false), (0, 1));
    assert_eq!(counts(Fault::DuplicateCompletion(ToCard), false), (2, 1));
    for line in [false, true] {
        assert_eq!(counts(Fault::DropInterrupt, line), (1, 0));
        assert_eq!(counts(Fault::DuplicateInterrupt, line), (1, 2));
    }
}

#[test]
fn a_channel_hangs_on_command_until_it_is_aborted_or_disabled() {
    let mut rig = running(ToCard, PLAIN);
    rig.card.faults().arm(Fault::Hang(ToCard));
    rig.submit(ToCard, &[single(1, DATA, 0, 64), single(2, DATA, 0, 64)]);
    rig.settle();
    assert_eq!(rig.drain(ToCard), []);
    assert!(
        rig.get(Some(ToCard), register::CHANNEL_STATUS)
            .contains(ChannelStatus::BUSY)
    );
    rig.set(Some(ToCard), register::ABORT_TAG, 1);
    rig.settle();
    assert_eq!(by_tag(&rig.drain(ToCard)), [(1, 3), (2, 0)].into());

    rig.card.faults().arm(Fault::Stick(ToCard));
    rig.submit(ToCard, &[single(1, DATA, 0, 64)]);
    rig.settle();
    rig.set(Some(ToCard), register::ABORT_TAG, 1);
    rig.settle();
    assert_eq!(rig.drain(ToCard), []);
    disable(&mut rig);
    rig.enable(ToCard, PLAIN);
    carry_out(&mut rig, ToCard, &[single(1, DATA, 0, 64)]);
}

#[test]
fn the_card_writes_late_on_command() {
    let mut rig = running(FromCard, PLAIN);
    rig.card.memory_mut().poke(0, b"late");
    rig.card.faults().arm(Fault::LateWrite { after: 50_000 });
    rig.submit(FromCard, &[single(1, DATA, 0, 4)]);
    let start = rig.host.now;
    rig.run_until(start + 40_000);
    assert_eq!(rig.drain(FromCard).len(), 1);
    rig.host.put(DATA, b"mine");
    rig.run_until(start + 60_000);
    assert_eq!(rig.host.bytes(DATA, 4), b"late");
}

#[test]
fn a_reset_never_ends_on_command() {
    let mut rig = Rig::new();
    rig.card.faults().arm(Fault::EndlessReset);
    rig.reset();
    rig.host.now += 1_000_000_000;
    assert_eq!(rig.get(None, register::CONTROL), Control::RESET);
}
