//! What works.

use DMA_COMPLETION_STATUS::{DmaCancelled, DmaComplete, DmaError};
use abi::fifo::controller::{SET_BURST, SET_PERIOD};
use abi::fifo::{BUS_ERROR_AFTER, CAUSES, CONTROL, Causes, Control, RX_THRESHOLD, pattern};
use harness::Suite;
use machine_hal::Config;
use machine_nt::counters;
use machine_nt::exports::{IoAllocateMdl, MmBuildMdlForNonPagedPool};
use nt_sys::*;

use crate::driver::{Channel, Fifo, RECEIVE, TRANSMIT, completions, delay, started, wait_for};
use crate::support::{Adapter, Buffer, at_dispatch, elements, keep_object, note_list, packet, run};

pub fn add(suite: Suite) -> Suite {
    let with = |config: Config, test: fn(&Fifo)| move || started(config, test);
    let usual = |test| with(Config::default(), test);
    let bounced = Config {
        always_bounce: true,
        ..Config::default()
    };
    suite
        .passes("packets_pass_through_the_loop", usual(packets))
        .passes("packets_are_bounced", with(bounced, packets))
        .passes(
            "a_transfer_goes_on_with_the_next_mapping",
            usual(several_mappings),
        )
        .passes("accesses_are_as_wide_as_described", usual(widths))
        .passes("a_list_is_optional", usual(without_a_list))
        .passes("a_busy_channel_is_waited_for", usual(busy))
        .passes("a_common_buffer_is_played_over_and_over", usual(looped))
        .passes("a_looped_buffer_is_never_bounced", with(bounced, looped))
        .passes("periods_are_set_by_a_custom_function", usual(periods))
        .passes("block_mode_overruns_a_slow_device", usual(block_mode))
        .passes("a_bus_error_ends_a_transfer", usual(bus_error))
        .passes("a_cancelled_transfer_stays_cancelled", usual(cancelled))
        .passes(
            "a_transfer_is_cancelled_before_it_is_mapped",
            usual(cancelled_early),
        )
        .passes("accesses_do_not_straddle_pages", usual(misaligned))
        .passes("a_channel_says_what_it_can_do", usual(information))
        .passes("only_channels_that_exist_have_adapters", usual(no_adapter))
        .passes("a_packet_list_has_one_element", packet_list)
}

fn bytes(length: u32) -> Vec<u8> {
    (0..length)
        .map(|index| (index * 7 + index / 251) as u8)
        .collect()
}

/// A buffer with a pattern.
fn filled(length: u32) -> Buffer {
    let mut buffer = Buffer::new(length);
    buffer.bytes().copy_from_slice(&bytes(length));
    buffer
}

/// Both directions at the same time, on a channel each.
fn packets(fifo: &Fifo) {
    const LENGTH: u32 = 0x5000;
    let (out, mut back) = (filled(LENGTH), Buffer::new(LENGTH));
    let transmit = fifo.channel(TRANSMIT, LENGTH);
    let receive = fifo.channel(RECEIVE, LENGTH);
    fifo.loop_back();
    receive.begin(fifo, &back);
    transmit.begin(fifo, &out);
    wait_for(2);
    assert_eq!(
        completions(),
        [(TRANSMIT, DmaComplete), (RECEIVE, DmaComplete)]
    );
    assert_eq!((transmit.counter(), receive.counter()), (0, 0));
    assert_eq!(
        back.bytes(),
        vec![0; LENGTH as usize],
        "nothing arrives before the flush"
    );
    for (channel, buffer) in [(transmit, &out), (receive, &back)] {
        assert_eq!(channel.flush(buffer, 0, LENGTH), STATUS_SUCCESS);
        channel.free();
        channel.adapter.put();
    }
    assert_eq!(back.bytes(), bytes(LENGTH));
    // The controller reaches 32 bits, and some of the pool's pages lie above.
    assert!(counters().bounced_bytes.get() > 0);
    let lost = Causes::RX_OVERRUN | Causes::TX_OVERRUN | Causes::RX_UNDERRUN;
    assert!(!Causes::from_bits_retain(fifo.get(CAUSES.offset())).intersects(lost));
}

/// 8, 16, 32 and 64 bits: the device's registers take all of them.
fn widths(fifo: &Fifo) {
    const LENGTH: u32 = 0x400;
    let described = |connection, width| DEVICE_DESCRIPTION {
        DmaWidth: width,
        ..fifo.description(connection, LENGTH)
    };
    fifo.loop_back();
    for (width, smallest) in (_DMA_WIDTH::Width8Bits..=_DMA_WIDTH::Width64Bits).zip([1, 2, 4, 8]) {
        let channel = |connection| {
            let adapter = Adapter::get(fifo.pdo, described(connection, width)).unwrap();
            Channel::take(adapter, connection)
        };
        let (transmit, receive) = (channel(TRANSMIT), channel(RECEIVE));
        let (out, mut back) = (filled(LENGTH), Buffer::new(LENGTH));
        if smallest > 1 {
            let (status, ..) = transmit.map(&out, 0, smallest / 2, Some(16));
            assert_eq!(status, STATUS_INVALID_PARAMETER);
        }
        receive.begin(fifo, &back);
        transmit.begin(fifo, &out);
        wait_for(2);
        completions();
        for (channel, buffer) in [(transmit, &out), (receive, &back)] {
            assert_eq!(channel.flush(buffer, 0, LENGTH), STATUS_SUCCESS);
            channel.free();
            channel.adapter.put();
        }
        assert_eq!(back.bytes(), bytes(LENGTH), "{smallest} bytes at a time");
    }
}

/// Fewer map registers than the buffer has pages: what was not mapped is mapped next (R108).
fn several_mappings(fifo: &Fifo) {
    let (out, mut back) = (filled(0x4000), Buffer::new(0x4000));
    let transmit = fifo.channel(TRANSMIT, 0x1000);
    let receive = fifo.channel(RECEIVE, 0x4000);
    assert_eq!(transmit.adapter.registers, 2);
    fifo.loop_back();
    receive.begin(fifo, &back);
    let mut done = 0;
    while done < 0x4000 {
        let (status, list, mapped) = transmit.map(&out, done.into(), 0x4000 - done, Some(16));
        assert_eq!((status, mapped), (STATUS_SUCCESS, 0x2000));
        assert!(list.iter().all(|(logical, _)| *logical < 1 << 32));
        transmit.program(fifo, mapped);
        wait_for(1 + usize::from(done + mapped == 0x4000));
        assert!(completions().contains(&(TRANSMIT, DmaComplete)));
        assert_eq!(transmit.flush(&out, done.into(), mapped), STATUS_SUCCESS);
        done += mapped;
    }
    assert_eq!(receive.flush(&back, 0, 0x4000), STATUS_SUCCESS);
    assert_eq!(back.bytes(), bytes(0x4000));
}

fn without_a_list(fifo: &Fifo) {
    let out = filled(0x3000);
    let transmit = fifo.channel(TRANSMIT, 0x3000);
    let (status, _, mapped) = transmit.map(&out, 0, 0x3000, None);
    assert_eq!(status, STATUS_SUCCESS);
    assert!(mapped < 0x3000 && mapped > 0, "one element: {mapped:#x}");
    // Too small a list is another matter.
    let other = fifo.channel(RECEIVE, 0x3000);
    assert_eq!(
        other.map(&out, 0, 0x1000, Some(0)).0,
        STATUS_INVALID_PARAMETER
    );
}

/// Two adapters of one channel.
fn busy(fifo: &Fifo) {
    let first = fifo.channel(TRANSMIT, 0x1000);
    let second = fifo.adapter(TRANSMIT, 0x1000);
    let mut base: PVOID = std::ptr::null_mut();
    let place = &raw mut base;
    let synchronous = second.allocate_ex(
        second.context(),
        2,
        DMA_SYNCHRONOUS_CALLBACK,
        Some(keep_object),
        place,
    );
    assert_eq!(synchronous, STATUS_INSUFFICIENT_RESOURCES);
    let status = second.allocate_ex(second.context(), 2, 0, Some(keep_object), place);
    assert_eq!(status, STATUS_SUCCESS);
    assert!(base.is_null(), "the channel is busy");
    // Another channel is not.
    fifo.channel(RECEIVE, 0x1000);
    first.free();
    // SAFETY: written by the routine.
    assert!(!unsafe { place.read() }.is_null());
}

/// A common buffer and an MDL over it.
fn common_buffer(adapter: &Adapter, length: u32) -> (Buffer, u64) {
    let mut logical = LARGE_INTEGER::default();
    // SAFETY: as a driver would.
    let address = unsafe {
        adapter.operations().AllocateCommonBuffer.unwrap()(adapter.raw, length, &raw mut logical, 1)
    };
    assert!(!address.is_null());
    // SAFETY: the range was just allocated.
    let mdl = unsafe { IoAllocateMdl(address, length, 0, 0, std::ptr::null_mut()) };
    // SAFETY: it is nonpaged.
    unsafe { MmBuildMdlForNonPagedPool(mdl) };
    let buffer = Buffer {
        mdl,
        address: address.cast(),
        length,
    };
    // SAFETY: a plain number.
    (buffer, unsafe { logical.QuadPart } as u64)
}

/// A looped transfer of a common buffer from the pattern generator.
fn begin_looped(fifo: &Fifo, length: u32) -> (Channel, Buffer, u64) {
    let description = DEVICE_DESCRIPTION {
        AutoInitialize: 1,
        ..fifo.description(RECEIVE, length)
    };
    let adapter = Adapter::get(fifo.pdo, description).unwrap();
    let (buffer, logical) = common_buffer(&adapter, length);
    let channel = Channel::take(adapter, RECEIVE);
    let (status, _, mapped) = channel.map(&buffer, 0, length, None);
    assert_eq!((status, mapped), (STATUS_SUCCESS, length));
    (channel, buffer, logical)
}

fn stream(fifo: &Fifo) {
    fifo.set(RX_THRESHOLD.offset(), 16);
    let control = Control::RX_ENABLE | Control::RX_DMA | Control::PATTERN | Control::STREAM;
    fifo.set(CONTROL.offset(), control.bits());
}

fn end_looped(channel: &Channel, buffer: &Buffer, logical: u64) {
    assert_eq!(channel.cancel(), STATUS_SUCCESS);
    assert!(
        completions()
            .iter()
            .all(|(_, status)| *status == DmaComplete)
    );
    wait_for(1);
    assert_eq!(completions(), [(RECEIVE, DmaCancelled)]);
    assert_eq!(channel.flush(buffer, 0, buffer.length), STATUS_SUCCESS);
    channel.free();
    let logical = LARGE_INTEGER {
        QuadPart: logical as i64,
    };
    let (raw, address) = (channel.adapter.raw, buffer.address.cast());
    let free = channel.adapter.operations().FreeCommonBuffer.unwrap();
    // SAFETY: as a driver would.
    unsafe { free(raw, buffer.length, logical, address, 1) };
    channel.adapter.put();
}

/// R99: mapped once, a completion each round, position by the counter.
fn looped(fifo: &Fifo) {
    const LENGTH: u32 = 0x1000;
    let (channel, mut buffer, logical) = begin_looped(fifo, LENGTH);
    stream(fifo);
    for round in 0..3_u64 {
        wait_for(1);
        assert_eq!(completions(), [(RECEIVE, DmaComplete)]);
        let position = LENGTH - channel.counter();
        assert!(
            position < LENGTH / 2,
            "the next round has begun: {position:#x}"
        );
        let expected = (0..u64::from(LENGTH)).map(|at| pattern(0, round * u64::from(LENGTH) + at));
        let from = position as usize + 64;
        // What this round has not overwritten yet is of the last one, without any flush.
        let kept: Vec<u8> = expected.skip(from).collect();
        assert_eq!(buffer.bytes()[from..], kept);
    }
    assert_eq!(fifo.get(CAUSES.offset()) & Causes::RX_OVERRUN.bits(), 0);
    end_looped(&channel, &buffer, logical);
    assert_eq!(counters().bounced_bytes.get(), 0);
}

fn periods(fifo: &Fifo) {
    const LENGTH: u32 = 0x1000;
    let description = fifo.description(RECEIVE, LENGTH);
    let adapter = Adapter::get(fifo.pdo, description).unwrap();
    let configuring = Channel::take(adapter, RECEIVE);
    assert_eq!(
        configuring.configure(SET_PERIOD, LENGTH / 4),
        STATUS_SUCCESS
    );
    assert_eq!(configuring.configure(SET_BURST, 16), STATUS_SUCCESS);
    assert_eq!(configuring.configure(SET_BURST, 0), STATUS_NOT_IMPLEMENTED);
    assert_eq!(configuring.configure(99, 0), STATUS_NOT_IMPLEMENTED);
    configuring.free();
    let (channel, buffer, logical) = begin_looped(fifo, LENGTH);
    stream(fifo);
    for quarter in 1..=8 {
        wait_for(1);
        assert_eq!(completions(), [(RECEIVE, DmaComplete)]);
        let position = LENGTH - channel.counter();
        assert_eq!(position / (LENGTH / 4), quarter % 4);
    }
    end_looped(&channel, &buffer, logical);
}

/// Without the request line, the controller is faster than the line.
fn block_mode(fifo: &Fifo) {
    let description = DEVICE_DESCRIPTION {
        DemandMode: 0,
        ..fifo.description(TRANSMIT, 0x1000)
    };
    let channel = Channel::take(Adapter::get(fifo.pdo, description).unwrap(), TRANSMIT);
    let out = filled(0x1000);
    let (status, ..) = channel.map(&out, 0, 0x1000, Some(16));
    assert_eq!(status, STATUS_SUCCESS);
    wait_for(1);
    assert_eq!(completions(), [(TRANSMIT, DmaComplete)]);
    let causes = Causes::from_bits_retain(fifo.get(CAUSES.offset()));
    assert!(causes.contains(Causes::TX_OVERRUN));
    assert_eq!(channel.flush(&out, 0, 0x1000), STATUS_SUCCESS);
}

fn bus_error(fifo: &Fifo) {
    let out = filled(0x1000);
    let transmit = fifo.channel(TRANSMIT, 0x1000);
    fifo.loop_back();
    fifo.set(BUS_ERROR_AFTER.offset(), 100);
    transmit.begin(fifo, &out);
    wait_for(1);
    assert_eq!(completions(), [(TRANSMIT, DmaError)]);
    assert_eq!(transmit.counter(), 0x1000 - 100);
    assert_eq!(transmit.flush(&out, 0, 100), STATUS_SUCCESS);
    transmit.free();
    transmit.adapter.put();
}

fn cancelled(fifo: &Fifo) {
    let out = filled(0x1000);
    let transmit = fifo.channel(TRANSMIT, 0x1000);
    // Mapped, and the device does not ask for anything.
    transmit.begin(fifo, &out);
    delay(100);
    assert_eq!(transmit.counter(), 0x1000);
    assert_eq!(transmit.cancel(), STATUS_SUCCESS);
    wait_for(1);
    assert_eq!(completions(), [(TRANSMIT, DmaCancelled)]);
    assert_eq!(transmit.cancel(), STATUS_CANCELLED, "once is enough");
    assert_eq!(transmit.flush(&out, 0, 0), STATUS_SUCCESS);
    assert_eq!(transmit.map(&out, 0, 0x1000, Some(16)).0, STATUS_CANCELLED);
    transmit.free();
    // A new context may go on.
    let again = Channel::take(transmit.adapter, TRANSMIT);
    fifo.loop_back();
    again.begin(fifo, &out);
    delay(20);
    assert_eq!(again.cancel(), STATUS_SUCCESS);
    wait_for(1);
    let left = again.counter();
    assert!(left > 0 && left < 0x1000, "running: {left:#x}");
    assert_eq!(again.flush(&out, 0, 0x1000 - left), STATUS_SUCCESS);
    again.free();
    again.adapter.put();
}

fn cancelled_early(fifo: &Fifo) {
    let out = filled(0x1000);
    let transmit = fifo.channel(TRANSMIT, 0x1000);
    assert_eq!(transmit.cancel(), STATUS_SUCCESS);
    assert_eq!(transmit.map(&out, 0, 0x1000, Some(16)).0, STATUS_CANCELLED);
    // Nothing was mapped: a flush of nothing is allowed, and nobody is told.
    assert_eq!(transmit.flush(&out, 0, 0), STATUS_SUCCESS);
    delay(100);
    assert_eq!(completions(), []);
    transmit.free();
    transmit.adapter.put();
}

fn misaligned(fifo: &Fifo) {
    let out = filled(0x1000);
    let transmit = fifo.channel(TRANSMIT, 0x1000);
    for (offset, length) in [(0, 6), (2, 8), (1, 4)] {
        let (status, ..) = transmit.map(&out, offset, length, Some(16));
        assert_eq!(
            status, STATUS_INVALID_PARAMETER,
            "{length} bytes at {offset}"
        );
    }
    assert_eq!(transmit.map(&out, 4, 8, Some(16)).0, STATUS_SUCCESS);
}

fn information(fifo: &Fifo) {
    let adapter = fifo.adapter(RECEIVE, 0x1000);
    let mut info = DMA_ADAPTER_INFO {
        Version: DMA_ADAPTER_INFO_VERSION1,
        ..DMA_ADAPTER_INFO::default()
    };
    // SAFETY: as a driver would.
    let status =
        unsafe { adapter.operations().GetDmaAdapterInfo.unwrap()(adapter.raw, &raw mut info) };
    assert_eq!(status, STATUS_SUCCESS);
    // SAFETY: plain numbers.
    let info = unsafe { info.__bindgen_anon_1.V1 };
    assert_eq!(info.ReadDmaCounterAvailable, 1);
    assert_eq!(
        (
            info.ScatterGatherLimit,
            info.DmaAddressWidth,
            info.MinimumTransferUnit
        ),
        (16, 32, 4)
    );
    // SAFETY: as a driver would.
    let alignment = unsafe { adapter.operations().GetDmaAlignment.unwrap()(adapter.raw) };
    assert_eq!(alignment, 4);
}

fn no_adapter(fifo: &Fifo) {
    let usual = fifo.description(RECEIVE, 0x1000);
    let refused = [
        DEVICE_DESCRIPTION {
            DmaChannel: 8,
            ..usual
        },
        DEVICE_DESCRIPTION {
            DmaRequestLine: 32,
            ..usual
        },
        DEVICE_DESCRIPTION {
            DmaWidth: _DMA_WIDTH::MaximumDmaWidth,
            ..usual
        },
        DEVICE_DESCRIPTION {
            Version: DEVICE_DESCRIPTION_VERSION2,
            ..usual
        },
        // The device is no bus master.
        DEVICE_DESCRIPTION {
            Master: 1,
            DmaAddressWidth: 32,
            ..usual
        },
    ];
    for description in refused {
        assert!(Adapter::get(fifo.pdo, description).is_none());
    }
}

/// GetScatterGatherListEx for hardware that takes one range: the map registers put the pages together.
fn packet_list() {
    run(Config::default(), |rig| {
        let adapter = Adapter::get(rig.edu().device(), packet(0x4000)).unwrap();
        let mut buffer = filled(0x3000);
        for write in [true, false] {
            let mut list: PSCATTER_GATHER_LIST = std::ptr::null_mut();
            let place = &raw mut list;
            let context = adapter.context();
            // SAFETY: as a driver would; the list is noted before the call returns.
            let status = at_dispatch(|| unsafe {
                adapter.operations().GetScatterGatherListEx.unwrap()(
                    adapter.raw,
                    std::ptr::null_mut(),
                    context,
                    buffer.mdl,
                    0x10,
                    0x2000,
                    0,
                    Some(note_list),
                    place.cast(),
                    write.into(),
                    None,
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                )
            });
            assert_eq!(status, STATUS_SUCCESS);
            // SAFETY: written by the routine.
            let list = unsafe { place.read() };
            let [(logical, 0x2000)] = elements(list)[..] else {
                panic!("{:?} is not one element", elements(list));
            };
            if write {
                let read = rig.device_read(logical, 0x2000).unwrap();
                assert_eq!(read, bytes(0x3000)[0x10..0x2010]);
            } else {
                rig.device_write(logical, &[0xAA; 0x2000]).unwrap();
                assert_eq!(buffer.bytes()[0x10..0x2010], bytes(0x3000)[0x10..0x2010]);
            }
            adapter.put_list(list, write);
        }
        assert_eq!(
            buffer.bytes()[0x10..0x2010],
            [0xAA; 0x2000],
            "after it was put"
        );
        adapter.put();
    });
}
