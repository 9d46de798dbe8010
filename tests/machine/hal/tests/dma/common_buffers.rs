//! Common buffers, and the accesses to them that are watched.

use harness::Suite;
use machine_hal::Config;
use machine_nt::{counters, sched, trace};
use nt_sys::*;

use crate::support::*;
use crate::{configured, rig};

pub fn add(suite: Suite) -> Suite {
    let watched = Config {
        watch_common_buffers: true,
        ..Config::default()
    };
    suite
        .passes("a_common_buffer_is_shared", rig(a_common_buffer_is_shared))
        .passes(
            "a_watched_common_buffer_is_shared",
            configured(watched, packet(0x1000), a_common_buffer_is_shared),
        )
        .passes(
            "accesses_to_a_watched_common_buffer_are_switch_points",
            configured(
                watched,
                packet(0x1000),
                accesses_to_a_watched_common_buffer_are_switch_points,
            ),
        )
}

fn a_common_buffer_is_shared(rig: &Rig, adapter: Adapter) {
    let mut logical = PHYSICAL_ADDRESS::default();
    // SAFETY: as a driver would.
    let address = unsafe {
        adapter.operations().AllocateCommonBuffer.unwrap()(adapter.raw, 0x100, &raw mut logical, 1)
    };
    let address = address.cast::<u8>();
    // SAFETY: a plain number.
    let bus = unsafe { logical.QuadPart } as u64;
    // SAFETY: the buffer is 0x100 bytes long.
    unsafe { address.write(0xA5) };
    assert_eq!(rig.device_read(bus, 1).unwrap(), [0xA5]);
    rig.device_write(bus + 1, &[0x5A]).unwrap();
    // SAFETY: as above.
    assert_eq!(unsafe { address.wrapping_add(1).read() }, 0x5A);
    assert_eq!(rig.device_write(bus + 0xFF, &[0, 0]), Err(bus + 0x100));
    // SAFETY: as a driver would.
    unsafe {
        adapter.operations().FreeCommonBuffer.unwrap()(
            adapter.raw,
            0x100,
            logical,
            address.cast(),
            1,
        )
    };
    adapter.put();
}

/// One processor does nothing but look, at DISPATCH_LEVEL, and another has the device write in the meantime.
fn accesses_to_a_watched_common_buffer_are_switch_points(rig: &Rig, adapter: Adapter) {
    let mut logical = PHYSICAL_ADDRESS::default();
    // SAFETY: as a driver would.
    let address = unsafe {
        adapter.operations().AllocateCommonBuffer.unwrap()(adapter.raw, 0x1800, &raw mut logical, 1)
    };
    // SAFETY: a plain number.
    let bus = unsafe { logical.QuadPart } as u64;
    let flag = address.cast::<u8>().wrapping_add(0x1004);
    // SAFETY: the buffer is 0x1800 bytes long.
    unsafe { flag.write_volatile(0) };
    let board = rig.board.clone();
    let writer = sched::spawn("writer", sched::Kind::System, move || {
        at_dispatch(|| {
            sched::switch_point(sched::Point::Yield);
            device_write(&board, bus + 0x1004, &[1]).unwrap();
        });
    });
    // The writer is on its processor.
    sched::switch_point(sched::Point::Yield);
    let accesses = || counters().common_buffer_accesses.get();
    let before = accesses();
    // SAFETY: as above.
    let looks = at_dispatch(|| (1..=10_000).find(|_| unsafe { flag.read_volatile() } == 1));
    let looks: u64 = looks.expect("the other processor went on");
    assert!(looks > 1, "it looked before the device wrote");
    assert_eq!(accesses() - before, looks);
    let events = trace::events();
    assert!(
        events
            .iter()
            .any(|event| (event.what, event.argument) == ("common buffer read", bus + 0x1004))
    );
    writer.join();
    // SAFETY: as a driver would.
    unsafe {
        adapter.operations().FreeCommonBuffer.unwrap()(adapter.raw, 0x1800, logical, address, 1)
    };
    adapter.put();
}
