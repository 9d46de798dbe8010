//! What the card does, as its manual has it.

mod support;

use abi::card::Direction::{self, FromCard, ToCard};
use abi::card::register::{self, Causes, ChannelControl, ChannelStatus, Control};
use abi::card::ring::{Completion, Descriptor, DescriptorFlags, ShadowBlock};
use abi::card::status::{ChannelError, TransferStatus};
use abi::card::{DESCRIPTOR_LIMIT, IDENTITY};
use card::{Fault, Function, Signalling, Timing};
use support::{DATA, RAM, RAM_SIZE, Rig, by_tag, card_bytes, chain, pattern, single};

const PLAIN: ChannelControl = ChannelControl::IDLE_INTERRUPT;

fn shadowed() -> ChannelControl {
    PLAIN | ChannelControl::SHADOW
}

fn by_event() -> ChannelControl {
    shadowed() | ChannelControl::EVENT_INDEX
}

/// A rig with a channel that runs.
fn running(direction: Direction, mode: ChannelControl) -> Rig {
    let mut rig = Rig::new();
    rig.enable(direction, mode);
    rig
}

fn status(completion: &Completion) -> TransferStatus {
    Completion::status(completion.outcome).expect("an honest card sends what there is")
}

/// Carries out one transfer and returns its completion.
fn carry_out(rig: &mut Rig, direction: Direction, descriptors: &[Descriptor]) -> Completion {
    rig.submit(direction, descriptors);
    rig.settle();
    let completions = rig.drain(direction);
    assert_eq!(completions.len(), 1, "a transfer has one completion");
    completions[0]
}

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

/// Disables the channel, so that it can be enabled again.
fn disable(rig: &mut Rig) {
    rig.set(
        Some(ToCard),
        register::CHANNEL_CONTROL,
        ChannelControl::empty(),
    );
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

#[test]
fn data_may_lie_at_the_end_of_the_address_space() {
    let mut rig = running(ToCard, PLAIN);
    let completion = carry_out(&mut rig, ToCard, &[single(1, u64::MAX - 3, 0, 64)]);
    assert_eq!(status(&completion), TransferStatus::BusError);
    let end = RAM + RAM_SIZE as u64;
    let completion = carry_out(&mut rig, ToCard, &[single(1, end - 64, 0, 64)]);
    assert_eq!(status(&completion), TransferStatus::Success);
}
