//! Registers, resets, power, the link.

use crate::support::{DATA, Rig, card_bytes, single};
use abi::card::Direction::ToCard;
use abi::card::register::{self, Causes, Control};
use abi::card::{DESCRIPTOR_LIMIT, IDENTITY};
use card::{Function, Timing};

use crate::common::*;

#[test]
fn the_card_says_what_it_is() {
    let mut rig = Rig::with(4 << 30, Timing::REAL);
    assert_eq!(rig.get(None, register::IDENTIFICATION), IDENTITY);
    assert_eq!(rig.get(None, register::MEMORY_SIZE), 4 << 30);
    assert_eq!(rig.get(None, register::LENGTH_LIMIT), DESCRIPTOR_LIMIT);
    assert!(rig.get(None, register::FEATURES).is_all());
}

#[test]
fn only_registers_of_the_right_width_can_be_accessed() {
    let mut rig = Rig::new();
    assert_eq!(rig.raw_read(0x00, 8), u64::MAX);
    assert_eq!(rig.raw_read(0x00, 2), 0xffff);
    assert_eq!(rig.raw_read(0x08, 4), 0xffff_ffff);
    assert_eq!(rig.raw_read(0x3000, 4), 0xffff_ffff);
    rig.raw_write(0x1008, 4, 0x1000);
    assert_eq!(rig.get(Some(ToCard), register::DESCRIPTOR_RING), 0);
}

#[test]
fn no_register_can_be_made_to_read_as_all_ones() {
    let mut rig = Rig::new();
    for offset in (0..0x3000).step_by(4) {
        for size in [4, 8] {
            rig.raw_write(offset, size, !u64::from(offset == 0x20));
        }
    }
    rig.host.now += 1_000_000;
    let registers = [0x00, 0x04, 0x10, 0x14, 0x20, 0x28, 0x2c, 0x30, 0x34];
    let channel = [0x00, 0x04, 0x20, 0x24, 0x28];
    let wide = [0x08, 0x10, 0x18, 0x30, 0x38, 0x40];
    for offset in registers {
        assert_ne!(rig.raw_read(offset, 4), 0xffff_ffff, "{offset:#x}");
    }
    for page in [0x1000, 0x2000] {
        for offset in channel {
            assert_ne!(rig.raw_read(page + offset, 4), 0xffff_ffff, "{offset:#x}");
        }
        for offset in wide {
            assert_ne!(rig.raw_read(page + offset, 8), u64::MAX, "{offset:#x}");
        }
    }
}

#[test]
fn a_reset_takes_its_time_and_keeps_nothing_but_the_memory() {
    let mut rig = running(ToCard, PLAIN);
    rig.card.memory_mut().poke(5, b"kept");
    rig.submit(ToCard, &[single(1, DATA, 0x1_0000, 0x4_0000)]);
    rig.step();
    let accesses = (rig.host.reads, rig.host.writes);
    rig.reset();
    assert_eq!(rig.get(None, register::CONTROL), Control::RESET);
    assert_eq!(rig.get(None, register::IDENTIFICATION), IDENTITY);
    rig.set(None, register::INTERRUPT_ENABLE, Causes::all());
    rig.host.now += Timing::REAL.reset;
    assert_eq!(rig.get(None, register::CONTROL), Control::empty());
    assert_eq!(rig.get(None, register::INTERRUPT_ENABLE), Causes::empty());
    rig.settle();
    assert_eq!((rig.host.reads, rig.host.writes), accesses);
    assert_eq!(rig.get(Some(ToCard), register::DESCRIPTOR_RING), 0);
    assert_eq!(card_bytes(&rig.card, 5, 4), b"kept");
    rig.enable(ToCard, PLAIN);
    carry_out(&mut rig, ToCard, &[single(1, DATA, 0, 64)]);
}

#[test]
fn a_card_that_sleeps_does_nothing_and_wakes_up_with_its_memory_alone() {
    let mut rig = running(ToCard, PLAIN);
    rig.card.memory_mut().poke(5, b"kept");
    rig.submit(ToCard, &[single(1, DATA, 0x1_0000, 0x4_0000)]);
    rig.step();
    let asleep = Function {
        bus_master: true,
        awake: false,
    };
    rig.card.configure(asleep, &mut rig.host);
    assert_eq!(rig.card.next_event(), None);
    assert_eq!(rig.raw_read(0, 4), 0xffff_ffff);
    rig.set_master(true);
    assert_eq!(rig.get(Some(ToCard), register::DESCRIPTOR_RING), 0);
    assert_eq!(card_bytes(&rig.card, 5, 4), b"kept");
}

#[test]
fn while_the_link_is_down_the_card_is_not_there() {
    let mut rig = running(ToCard, PLAIN);
    rig.submit(ToCard, &[single(1, DATA, 0, 64)]);
    rig.card.faults().set_link_down(true);
    assert_eq!(rig.raw_read(0, 4), 0xffff_ffff);
    assert_eq!(rig.card.next_event(), None);
    let accesses = (rig.host.reads, rig.host.writes);
    rig.card.run(&mut rig.host);
    assert_eq!((rig.host.reads, rig.host.writes), accesses);
    rig.card.faults().set_link_down(false);
    rig.settle();
    assert_eq!(rig.drain(ToCard).len(), 1);
}
