//! Whatever the host writes, the card neither panics nor works for ever, and answers for what it was given.

mod support;

use abi::card::Direction;
use abi::card::register::{self, Causes, ChannelControl};
use abi::card::ring::{Descriptor, DescriptorFlags};
use abi::card::status::TransferStatus;
use card::{Card, Fault, Function, Signalling, Timing};
use proptest::collection::vec;
use proptest::prelude::*;
use support::{DATA, RAM, Rig, chain, pattern, single};

/// Something that a host may do.
#[derive(Clone, Debug)]
enum Act {
    Read(u64, u8),
    Write(u64, u8, u64),
    Poke(u64, Vec<u8>),
    Run(u8),
    Wait(u32),
    Configure(bool, bool),
    Signal(Signalling),
    Hole(u64),
    Break(Fault),
    Link(bool),
    FunctionReset,
}

fn size() -> impl Strategy<Value = u8> {
    prop::sample::select(vec![1_u8, 2, 4, 4, 4, 8, 8])
}

/// Offsets of registers, mostly.
fn offset() -> impl Strategy<Value = u64> {
    let register = (0..3_u64, 0..0x11_u64).prop_map(|(page, word)| page * 0x1000 + word * 4);
    let doorbell = (1..3_u64).prop_map(|page| page * 0x1000 + 0x80);
    let any = (0..0x1_0000_u64).prop_map(|offset| offset * 4);
    prop_oneof![8 => register, 4 => doorbell, 1 => any]
}

/// Values that mean something now and then.
fn value() -> impl Strategy<Value = u64> {
    let page = (0..0x200_u64).prop_map(|page| RAM + page * 0x1000);
    let sizes = (0..18_u32).prop_map(|bit| 1 << bit);
    prop_oneof![4 => 0..0x200_u64, 3 => page, 2 => sizes, 1 => any::<u64>()]
}

fn direction() -> impl Strategy<Value = Direction> {
    prop::sample::select(Direction::ALL.to_vec())
}

fn fault() -> impl Strategy<Value = Fault> {
    (direction(), 0..12, any::<u32>()).prop_map(|(channel, kind, bits)| match kind {
        0 => Fault::Hang(channel),
        1 => Fault::Stick(channel),
        2 => Fault::DropInterrupt,
        3 => Fault::DuplicateInterrupt,
        4 => Fault::DropCompletion(channel),
        5 => Fault::DuplicateCompletion(channel),
        6 => Fault::Tag(channel, bits),
        7 => Fault::Count(channel, i64::MIN + i64::from(bits)),
        8 => Fault::Outcome(channel, bits),
        9 => Fault::Consumer(channel, bits as i32),
        10 => Fault::Phase(channel),
        _ => Fault::LateWrite { after: bits.into() },
    })
}

fn act() -> impl Strategy<Value = Act> {
    let signalling = prop_oneof![
        Just(Signalling::Line),
        (1..5_u16).prop_map(Signalling::Messages)
    ];
    let poke = (0..0x1000_u64, vec(any::<u8>(), 1..64));
    prop_oneof![
        6 => (offset(), size()).prop_map(|(offset, size)| Act::Read(offset, size)),
        20 => (offset(), size(), value()).prop_map(|(offset, size, value)| Act::Write(offset, size, value)),
        6 => poke.prop_map(|(word, bytes)| Act::Poke(RAM + word * 8, bytes)),
        6 => any::<u8>().prop_map(Act::Run),
        2 => any::<u32>().prop_map(Act::Wait),
        2 => (prop::bool::weighted(0.9), prop::bool::weighted(0.9)).prop_map(|(a, b)| Act::Configure(a, b)),
        1 => signalling.prop_map(Act::Signal),
        1 => (0..0x400_u64).prop_map(|page| Act::Hole(RAM + page * 0x1000)),
        1 => fault().prop_map(Act::Break),
        1 => prop::bool::weighted(0.3).prop_map(Act::Link),
        1 => Just(Act::FunctionReset),
    ]
}

fn perform(rig: &mut Rig, act: Act) {
    match act {
        Act::Read(offset, size) => {
            let value = rig.raw_read(offset, size);
            assert!(size == 8 || value < 1 << (8 * size));
        }
        Act::Write(offset, size, value) => rig.raw_write(offset, size, value),
        Act::Poke(address, bytes) => rig.host.put(address, &bytes),
        Act::Run(times) => {
            for _ in 0..times {
                if !rig.step() {
                    break;
                }
            }
        }
        Act::Wait(time) => rig.host.now += u64::from(time),
        Act::Configure(bus_master, awake) => {
            let function = Function { bus_master, awake };
            rig.card.configure(function, &mut rig.host);
        }
        Act::Signal(signalling) => rig.host.signalling = signalling,
        Act::Hole(page) => rig.host.holes = vec![page],
        Act::Break(fault) => rig.card.faults().arm(fault),
        Act::Link(down) => rig.card.faults().set_link_down(down),
        Act::FunctionReset => rig.card.reset(&mut rig.host),
    }
}

/// A rig whose channels run, with rings full of what a driver might have written.
fn busy(seed: u32) -> Rig {
    let timing = if seed.is_multiple_of(2) {
        Timing::REAL
    } else {
        Timing::IMMEDIATE
    };
    let mut rig = Rig::with(64 << 20, timing);
    for direction in Direction::ALL {
        rig.enable(
            direction,
            ChannelControl::SHADOW | ChannelControl::EVENT_INDEX,
        );
        let noise = pattern(seed, rig.entries as usize * Descriptor::SIZE);
        rig.host.put(Rig::descriptors(direction), &noise);
    }
    rig
}

/// One call does so many accesses to memory at most.
const WORK: u64 = 256;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_host_does_the_card_answers_in_bounded_time(
        seed in any::<u32>(),
        acts in vec(act(), 1..200),
    ) {
        let mut rig = busy(seed);
        for act in acts {
            let many = match act {
                Act::Run(times) => u64::from(times).max(1),
                _ => 1,
            };
            let before = rig.host.reads + rig.host.writes;
            perform(&mut rig, act);
            let work = rig.host.reads + rig.host.writes - before;
            prop_assert!(work <= WORK * many, "{work} accesses");
        }
        // When the host does no more, the card comes to rest.
        rig.settle();
    }

    #[test]
    fn every_transfer_has_one_completion_and_only_its_bytes_are_touched(
        transfers in vec((direction(), 0..0x1_0000_u64, vec((0..0x8000_u64, 1..0x3000_u32), 1..5)), 1..40),
        shadow in any::<bool>(),
        aborts in vec(0..40_u32, 0..4),
    ) {
        let mut rig = Rig::new();
        rig.entries = 256;
        let mode = if shadow { ChannelControl::SHADOW } else { ChannelControl::empty() };
        for direction in Direction::ALL {
            rig.enable(direction, mode);
        }
        let data = pattern(3, 0x8000 + 0x3000);
        rig.host.put(DATA, &data);
        for (tag, (direction, card_address, pieces)) in (0..).zip(&transfers) {
            let mut at = *card_address;
            let descriptors = pieces.iter().map(|&(start, length)| {
                let piece = Descriptor {
                    flags: (DescriptorFlags::CHECKSUM | DescriptorFlags::INTERRUPT).bits(),
                    // What comes from the card goes where nothing comes from.
                    ..single(tag, DATA + start + 0x10_0000 * direction.index() as u64, at, length)
                };
                at += u64::from(length);
                piece
            });
            let descriptors = chain(descriptors.collect());
            let old = rig.producers[direction.index()];
            rig.put(*direction, &descriptors);
            if shadow { rig.publish(*direction, old) } else { rig.ring(*direction) }
            rig.step();
        }
        for &tag in &aborts {
            for direction in Direction::ALL {
                rig.set(Some(direction), register::ABORT_TAG, tag);
            }
        }
        rig.settle();
        for direction in Direction::ALL {
            let completions = rig.drain(direction);
            let of_channel = (0..).zip(&transfers).filter(|(_, (of, ..))| *of == direction);
            let expected: Vec<(u32, u64)> = of_channel
                .map(|(tag, (_, _, pieces))| (tag, pieces.iter().map(|(_, length)| u64::from(*length)).sum()))
                .collect();
            let tags: Vec<u32> = completions.iter().map(|c| c.tag).collect();
            let sent: Vec<u32> = expected.iter().map(|(tag, _)| *tag).collect();
            prop_assert_eq!(tags, sent, "in order, each once");
            for (completion, (tag, length)) in completions.iter().zip(expected) {
                match TransferStatus::from_code(completion.outcome as u8) {
                    Some(TransferStatus::Success) => prop_assert_eq!(completion.moved, length),
                    Some(TransferStatus::Aborted) => {
                        prop_assert!(aborts.contains(&tag) && completion.moved < length);
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
        prop_assert_eq!(rig.host.bytes(DATA, data.len()), &data[..]);
        let beyond = DATA + 0x10_0000 + data.len() as u64;
        prop_assert!(rig.host.bytes(beyond, 0x1000).iter().all(|byte| *byte == 0));
    }

    #[test]
    fn what_went_to_the_card_comes_back(
        card_address in 0..(64_u64 << 20) - 0x2_0000,
        length in 1..0x2_0000_u32,
        to in 0..0x1000_u64,
        from in 0..0x1000_u64,
    ) {
        let mut rig = Rig::with(64 << 20, Timing::IMMEDIATE);
        let data = pattern(length, length as usize);
        rig.host.put(DATA + to, &data);
        rig.enable(Direction::ToCard, ChannelControl::empty());
        rig.enable(Direction::FromCard, ChannelControl::empty());
        rig.submit(Direction::ToCard, &[single(1, DATA + to, card_address, length)]);
        rig.settle();
        let back = DATA + 0x10_0000 + from;
        rig.submit(Direction::FromCard, &[single(2, back, card_address, length)]);
        rig.settle();
        prop_assert_eq!(rig.host.bytes(back, data.len()), &data[..]);
    }
}

#[test]
fn a_card_of_the_largest_size_takes_the_last_byte() {
    let mut rig = Rig::with(4 << 30, Timing::IMMEDIATE);
    rig.host.put(DATA, &[0x5a]);
    rig.enable(Direction::ToCard, ChannelControl::empty());
    rig.submit(Direction::ToCard, &[single(1, DATA, (4 << 30) - 1, 1)]);
    rig.settle();
    assert_eq!(support::card_bytes(&rig.card, (4 << 30) - 1, 1), [0x5a]);
    assert!(Card::new(8 << 30, Timing::IMMEDIATE).is_err());
    assert_eq!(rig.get(None, register::INTERRUPT_PENDING), Causes::empty());
}
