//! The rules, each broken once.

use harness::{BugCheck, Suite, bug_check, machine_stop};
use machine_hal::Config;
use machine_nt::counters;
use nt_sys::*;

use crate::driver::{Channel, Fifo, RECEIVE, TRANSMIT, completions, started, wait_for};
use crate::support::{Adapter, Buffer, packet, run, storage};

fn violation(p1: u64) -> BugCheck {
    bug_check(0xE6).p1(p1)
}

pub fn add(suite: Suite) -> Suite {
    let usual = |test: fn(&Fifo)| move || started(Config::default(), test);
    let unverified = Config {
        verifier: false,
        ..Config::default()
    };
    suite
        .stops(
            "r105_mapped_again_without_a_flush",
            violation(0x0D),
            usual(mapped_twice),
        )
        .stops(
            "r105_cancelled_and_not_flushed",
            violation(0x0D),
            usual(cancelled_not_flushed),
        )
        .stops(
            "a_running_channel_is_flushed",
            violation(0x23).p2(0).p4(4),
            usual(flushed_running),
        )
        .passes("a_running_channel_is_flushed_unverified", move || {
            started(unverified, flushed_running_unverified)
        })
        .stops(
            "a_looped_channel_is_flushed",
            violation(0x23),
            usual(looped_flushed),
        )
        .stops(
            "what_an_error_kept_back_is_flushed",
            machine_stop("4096 bytes are flushed, and channel 4 had moved 100"),
            usual(flushed_too_much),
        )
        .passes("r106_flushing_caches_does_nothing", usual(io_buffers))
        .stops(
            "r107_channel_given_up_by_adapter_control",
            violation(0x0D),
            usual(given_up),
        )
        .stops(
            "r107_channel_freed_before_the_flush",
            violation(0x10),
            usual(freed_early),
        )
        .stops(
            "the_channel_is_freed_twice",
            violation(0x04).p2(1),
            usual(freed_twice),
        )
        .stops(
            "the_adapter_is_put_with_its_channel",
            violation(0x08).p3(1),
            usual(put_with_channel),
        )
        .stops(
            "r108_more_registers_than_granted",
            violation(0x0C).p2(3).p3(2),
            usual(too_many),
        )
        .stops(
            "r109_a_list_is_not_put",
            violation(0x0A).p3(1),
            list_not_put,
        )
        .stops(
            "r109_a_list_at_passive_level",
            violation(0x13).p2(1).p3(2).p4(0),
            list_at_passive,
        )
        .passes("r110_a_context_is_initialised_first", usual(no_context))
}

fn begun(fifo: &Fifo) -> (Channel, Buffer) {
    let channel = fifo.channel(TRANSMIT, 0x1000);
    let buffer = Buffer::new(0x1000);
    channel.begin(fifo, &buffer);
    (channel, buffer)
}

fn mapped_twice(fifo: &Fifo) {
    fifo.loop_back();
    let (channel, buffer) = begun(fifo);
    fifo.set(abi::fifo::RX_COUNT.offset(), 0x1000);
    let receive = fifo.channel(RECEIVE, 0x1000);
    receive.begin(fifo, &Buffer::new(0x1000));
    wait_for(1);
    channel.map(&buffer, 0, 0x1000, Some(16));
}

fn cancelled_not_flushed(fifo: &Fifo) {
    let (channel, buffer) = begun(fifo);
    assert_eq!(channel.cancel(), STATUS_SUCCESS);
    wait_for(1);
    // The channel goes to a new request while the old transfer is still mapped.
    // SAFETY: as a driver would.
    crate::support::at_dispatch(|| unsafe {
        channel.adapter.operations().FreeAdapterObject.unwrap()(
            channel.adapter.raw,
            _IO_ALLOCATION_ACTION::DeallocateObjectKeepRegisters,
        )
    });
    let again = Channel::take(channel.adapter, TRANSMIT);
    again.map(&buffer, 0, 0x1000, Some(16));
}

fn flushed_running(fifo: &Fifo) {
    let (channel, buffer) = begun(fifo);
    channel.flush(&buffer, 0, 0x1000);
}

fn flushed_too_much(fifo: &Fifo) {
    fifo.loop_back();
    fifo.set(abi::fifo::BUS_ERROR_AFTER.offset(), 100);
    let (channel, buffer) = begun(fifo);
    wait_for(1);
    channel.flush(&buffer, 0, 0x1000);
}

fn flushed_running_unverified(fifo: &Fifo) {
    let (channel, buffer) = begun(fifo);
    assert_eq!(channel.flush(&buffer, 0, 0x1000), STATUS_SUCCESS);
    channel.free();
    crate::driver::delay(100);
    assert_eq!(completions(), [], "the transfer was stopped");
}

fn looped_flushed(fifo: &Fifo) {
    let description = DEVICE_DESCRIPTION {
        AutoInitialize: 1,
        ..fifo.description(RECEIVE, 0x1000)
    };
    let channel = Channel::take(Adapter::get(fifo.pdo, description).unwrap(), RECEIVE);
    let buffer = Buffer::new(0x1000);
    channel.map(&buffer, 0, 0x1000, Some(16));
    channel.flush(&buffer, 0, 0x1000);
}

/// R106 is for readers: on this processor KeFlushIoBuffers is allowed and has no effect.
fn io_buffers(fifo: &Fifo) {
    let (channel, buffer) = begun(fifo);
    let bounced = counters().bounced_bytes.get();
    // SAFETY: as a driver would.
    unsafe { machine_nt::exports::KeFlushIoBuffers(buffer.mdl, 0, 1) };
    assert_eq!(counters().bounced_bytes.get(), bounced);
    assert_eq!(channel.cancel(), STATUS_SUCCESS);
}

/// What an AdapterControl routine works on.
struct Control<'a> {
    adapter: Adapter,
    buffer: &'a Buffer,
}

unsafe extern "win64" fn map_and_give_up(
    _device: PDEVICE_OBJECT,
    _irp: PIRP,
    base: PVOID,
    context: PVOID,
) -> IO_ALLOCATION_ACTION {
    // SAFETY: the context of `given_up`.
    let Control { adapter, buffer } = unsafe { &*context.cast::<Control<'_>>() };
    adapter.map_ex(buffer.mdl, base, 0, 0x1000, true, 16);
    _IO_ALLOCATION_ACTION::DeallocateObjectKeepRegisters
}

fn given_up(fifo: &Fifo) {
    let adapter = fifo.adapter(TRANSMIT, 0x1000);
    let buffer = Buffer::new(0x1000);
    let mut control = Control {
        adapter,
        buffer: &buffer,
    };
    let context = (&raw mut control).cast();
    adapter.allocate_ex(adapter.context(), 2, 0, Some(map_and_give_up), context);
}

fn freed_early(fifo: &Fifo) {
    let (channel, _) = begun(fifo);
    channel.free();
}

fn freed_twice(fifo: &Fifo) {
    let channel = fifo.channel(TRANSMIT, 0x1000);
    channel.free();
    channel.free();
}

fn put_with_channel(fifo: &Fifo) {
    fifo.channel(TRANSMIT, 0x1000).adapter.put();
}

fn too_many(fifo: &Fifo) {
    let adapter = fifo.adapter(TRANSMIT, 0x1000);
    let mut base = std::ptr::null_mut();
    let routine = Some(crate::support::keep_object as _);
    adapter.allocate_ex(adapter.context(), 3, 0, routine, &raw mut base);
}

fn list_not_put() {
    run(Config::default(), |rig| {
        let adapter = Adapter::get(rig.edu().device(), packet(0x1000)).unwrap();
        adapter.list(&Buffer::new(0x1000), 0x1000, true);
        adapter.put();
    });
}

fn list_at_passive() {
    run(Config::default(), |rig| {
        let adapter = Adapter::get(rig.edu().device(), packet(0x1000)).unwrap();
        let buffer = Buffer::new(0x1000);
        // SAFETY: as a driver would, but at PASSIVE_LEVEL.
        let _ = unsafe {
            adapter.operations().GetScatterGatherList.unwrap()(
                adapter.raw,
                std::ptr::null_mut(),
                buffer.mdl,
                buffer.address.cast(),
                0x1000,
                Some(crate::support::note_list),
                std::ptr::null_mut(),
                1,
            )
        };
    });
}

fn no_context(fifo: &Fifo) {
    let adapter = fifo.adapter(TRANSMIT, 0x1000);
    let mut base = std::ptr::null_mut();
    let routine = Some(crate::support::keep_object as _);
    for context in [std::ptr::null_mut(), storage()] {
        let status = adapter.allocate_ex(context, 1, 0, routine, &raw mut base);
        assert_eq!(status, STATUS_INVALID_PARAMETER);
        // SAFETY: as a driver would.
        let status =
            unsafe { adapter.operations().CancelMappedTransfer.unwrap()(adapter.raw, context) };
        assert_eq!(status, STATUS_INVALID_PARAMETER);
    }
}
