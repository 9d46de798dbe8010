//! Map registers: who gets them, when, and who is withdrawn.

use harness::Suite;
use machine_hal::Config;
use machine_nt::sched;
use nt_sys::*;

use crate::configured;
use crate::support::*;

pub fn add(suite: Suite) -> Suite {
    let few = Config {
        map_registers: 4,
        ..Config::default()
    };
    let later = Config {
        defer_grants: true,
        ..Config::default()
    };
    let unverified = Config {
        verifier: false,
        ..Config::default()
    };
    suite
        .passes(
            "requests_wait_in_order",
            configured(few, packet(0x3000), requests_wait_in_order),
        )
        .passes(
            "a_request_can_be_cancelled",
            configured(few, packet(0x3000), a_request_can_be_cancelled),
        )
        .passes(
            "a_deferred_grant_comes_from_a_dpc",
            configured(later, packet(0x1000), a_deferred_grant_comes_from_a_dpc),
        )
        .passes(
            "too_many_registers_unverified",
            configured(unverified, packet(0x1000), |_, adapter| {
                let mut base = std::ptr::null_mut();
                let status = adapter.allocate_ex(
                    adapter.context(),
                    3,
                    0,
                    Some(keep_registers),
                    &raw mut base,
                );
                assert_eq!(status, STATUS_INSUFFICIENT_RESOURCES);
            }),
        )
}

/// Two requests for all map registers: the second waits.
fn requests_wait_in_order(_: &Rig, adapter: Adapter) {
    let (mut first, mut second): (PVOID, PVOID) = (std::ptr::null_mut(), std::ptr::null_mut());
    adapter.allocate_ex(
        adapter.context(),
        4,
        0,
        Some(keep_registers),
        &raw mut first,
    );
    let waiting = adapter.context();
    assert_eq!(
        adapter.allocate_ex(waiting, 4, 0, Some(keep_registers), &raw mut second),
        STATUS_SUCCESS
    );
    assert!(!first.is_null() && second.is_null());
    let mut never = std::ptr::null_mut();
    let status = adapter.allocate_ex(
        adapter.context(),
        1,
        DMA_SYNCHRONOUS_CALLBACK,
        Some(keep_registers),
        &raw mut never,
    );
    assert_eq!(status, STATUS_INSUFFICIENT_RESOURCES);
    adapter.free_registers(first, 4);
    assert!(!second.is_null());
    assert!(!cancel(adapter, waiting), "it has its resources");
    adapter.free_registers(second, 4);
    adapter.put();
}

fn a_request_can_be_cancelled(_: &Rig, adapter: Adapter) {
    let base = adapter.registers(4);
    let (mut cancelled, mut next): (PVOID, PVOID) = (std::ptr::null_mut(), std::ptr::null_mut());
    let context = adapter.context();
    adapter.allocate_ex(context, 4, 0, Some(keep_registers), &raw mut cancelled);
    adapter.allocate_ex(adapter.context(), 4, 0, Some(keep_registers), &raw mut next);
    assert!(cancel(adapter, context));
    assert!(!cancel(adapter, context));
    adapter.free_registers(base, 4);
    assert!(cancelled.is_null());
    adapter.free_registers(next, 4);
    let early = adapter.context();
    assert!(cancel(adapter, early), "before the request");
    let status = adapter.allocate_ex(early, 1, 0, Some(keep_registers), &raw mut cancelled);
    assert_eq!(status, STATUS_CANCELLED);
    adapter.put();
}

fn a_deferred_grant_comes_from_a_dpc(_: &Rig, adapter: Adapter) {
    let mut base = std::ptr::null_mut();
    let base_place = &raw mut base;
    at_dispatch(|| {
        adapter.allocate_ex(adapter.context(), 1, 0, Some(keep_registers), base_place);
        // SAFETY: a local.
        assert!(unsafe { base_place.read() }.is_null());
    });
    while base.is_null() {
        sched::switch_point(sched::Point::Yield);
        // SAFETY: a local that the routine writes.
        base = unsafe { base_place.read_volatile() };
    }
    adapter.free_registers(base, 1);
    adapter.put();
}

fn cancel(adapter: Adapter, context: PVOID) -> bool {
    // SAFETY: as a driver would.
    unsafe {
        adapter.operations().CancelAdapterChannel.unwrap()(
            adapter.raw,
            std::ptr::null_mut(),
            context,
        ) != 0
    }
}
