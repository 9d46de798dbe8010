//! DMA adapters as drivers use and misuse them. What misuse leads to is docs/verifier.md's table.

mod support;

use std::process::ExitCode;

use harness::{BugCheck, Suite, bug_check, machine_stop};
use machine_hal::Config;
use machine_nt::{counters, sched, trace};
use nt_sys::*;

use support::*;

/// A packet adapter of edu, for transfers of up to four pages.
fn rig(f: impl FnOnce(&Rig, Adapter) + 'static) -> impl FnOnce() + 'static {
    configured(Config::default(), packet(0x4000), f)
}

fn configured(
    config: Config,
    description: DEVICE_DESCRIPTION,
    f: impl FnOnce(&Rig, Adapter) + 'static,
) -> impl FnOnce() + 'static {
    move || {
        run(config, move |rig| {
            let adapter = Adapter::get(rig.edu().device(), description).unwrap();
            f(&rig, adapter);
        });
    }
}

fn violation(p1: u64) -> BugCheck {
    bug_check(0xE6).p1(p1)
}

fn pattern(length: u32) -> Vec<u8> {
    (0..length).map(|index| (index * 7 + 3) as u8).collect()
}

fn a_write_is_bounced(rig: &Rig, adapter: Adapter) {
    let mut buffer = Buffer::new(0x3000);
    buffer.bytes().copy_from_slice(&pattern(0x3000));
    assert_eq!(adapter.registers, 5);
    let base = adapter.registers(3);
    let (status, list, mapped) = adapter.map_ex(buffer.mdl, base, 0x10, 0x2000, true, 1);
    assert_eq!((status, list.len(), mapped), (STATUS_SUCCESS, 1, 0x2000));
    let (logical, length) = list[0];
    assert_eq!(length, 0x2000);
    assert!(logical + 0x2000 <= 1 << 28);
    assert_eq!(
        rig.device_read(logical, 0x2000).unwrap(),
        pattern(0x3000)[0x10..0x2010]
    );
    assert_eq!(
        rig.device_read(logical, 0x2001),
        Err(logical + 0x2000),
        "not a byte more"
    );
    assert_eq!(
        rig.device_write(logical, &[0]),
        Err(logical),
        "not writable"
    );
    assert_eq!(counters().bounced_bytes.get(), 0x2000);
    assert_eq!(
        adapter.flush_ex(buffer.mdl, base, 0x10, 0x2000, true),
        STATUS_SUCCESS
    );
    assert_eq!(
        rig.device_read(logical, 1),
        Err(logical),
        "not after the flush"
    );
    adapter.free_registers(base, 3);
    adapter.put();
}

fn a_read_arrives_with_the_flush(rig: &Rig, adapter: Adapter) {
    let mut buffer = Buffer::new(0x1000);
    let base = adapter.registers(1);
    let (_, list, _) = adapter.map_ex(buffer.mdl, base, 0, 0x100, false, 1);
    rig.device_write(list[0].0, &pattern(0x100)).unwrap();
    assert_eq!(
        buffer.bytes()[..0x100],
        [0; 0x100],
        "nothing arrives before the flush"
    );
    assert_eq!(
        adapter.flush_ex(buffer.mdl, base, 0, 0x80, false),
        STATUS_SUCCESS
    );
    assert_eq!(buffer.bytes()[..0x80], pattern(0x80));
    assert_eq!(
        buffer.bytes()[0x80..0x100],
        [0; 0x80],
        "only what was flushed arrives"
    );
    adapter.free_registers(base, 1);
    adapter.put();
}

fn a_list_has_an_element_a_run(rig: &Rig, adapter: Adapter) {
    let mut buffer = Buffer::new(0x8000);
    buffer.bytes().copy_from_slice(&pattern(0x8000));
    let (status, list) = adapter.list(&buffer, 0x8000, true);
    assert_eq!(status, STATUS_SUCCESS);
    let ranges = elements(list);
    assert!(ranges.len() > 1, "pool pages are scattered");
    assert_eq!(ranges.iter().map(|(_, length)| length).sum::<u32>(), 0x8000);
    let read: Vec<u8> = ranges
        .iter()
        .flat_map(|&(logical, length)| rig.device_read(logical, length as usize).unwrap())
        .collect();
    assert_eq!(read, pattern(0x8000));
    assert!(ranges.iter().all(|(logical, _)| *logical >= 1 << 32));
    assert_eq!(counters().bounced_bytes.get(), 0);
    adapter.put_list(list, true);
    assert!(rig.device_read(ranges[0].0, 1).is_err());
    adapter.put();
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

fn versions(rig: &Rig, adapter: Adapter) {
    let pdo = rig.edu().device();
    assert_eq!(
        adapter.operations().Size as usize,
        size_of::<DMA_OPERATIONS>()
    );
    let old = DEVICE_DESCRIPTION {
        Version: DEVICE_DESCRIPTION_VERSION2,
        Dma32BitAddresses: 1,
        ..packet(0x1000)
    };
    let second = Adapter::get(pdo, old).unwrap();
    assert!(second.operations().GetDmaAdapterInfo.is_none());
    assert!(second.operations().BuildScatterGatherList.is_some());
    let first = Adapter::get(
        pdo,
        DEVICE_DESCRIPTION {
            Version: DEVICE_DESCRIPTION_VERSION1,
            ..old
        },
    )
    .unwrap();
    assert!(first.operations().CalculateScatterGatherList.is_none());
    assert!(
        Adapter::get(
            pdo,
            DEVICE_DESCRIPTION {
                DmaAddressWidth: 65,
                ..packet(0x1000)
            }
        )
        .is_none()
    );
    assert!(Adapter::get(std::ptr::null_mut(), packet(0x1000)).is_none());
}

/// Version 2: one virtually contiguous transfer, mapped and flushed by address.
fn version_2_by_address(rig: &Rig, adapter: Adapter) {
    let mut buffer = Buffer::new(0x2000);
    buffer.bytes().copy_from_slice(&pattern(0x2000));
    let base = adapter.registers(2);
    let operations = adapter.operations();
    let start = buffer.address.wrapping_add(0x800).cast();
    let mut length = 0x1000;
    // SAFETY: as a driver would.
    let logical = unsafe {
        operations.MapTransfer.unwrap()(adapter.raw, buffer.mdl, base, start, &raw mut length, 1)
    };
    assert_eq!(length, 0x1000);
    // SAFETY: a plain number.
    let logical = unsafe { logical.QuadPart } as u64;
    assert_eq!(
        rig.device_read(logical, 0x1000).unwrap(),
        pattern(0x2000)[0x800..0x1800]
    );
    // SAFETY: as a driver would.
    let flushed = unsafe {
        operations.FlushAdapterBuffers.unwrap()(adapter.raw, buffer.mdl, base, start, length, 1)
    };
    assert_eq!(flushed, 1);
    adapter.free_registers(base, 2);
    adapter.put();
}

/// Two MDLs that do not meet at page borders: a packet adapter maps one at a time, another both.
fn an_mdl_chain(rig: &Rig, adapter: Adapter) {
    let (mut first, mut second) = (Buffer::new(0x100), Buffer::new(0x80));
    first.bytes().fill(1);
    second.bytes().fill(2);
    // SAFETY: both MDLs are the test's.
    unsafe { (*first.mdl).Next = second.mdl };
    let base = adapter.registers(2);
    let (status, list, mapped) = adapter.map_ex(first.mdl, base, 0, 0x180, true, 1);
    assert_eq!((status, list.len(), mapped), (STATUS_SUCCESS, 1, 0x100));
    assert_eq!(rig.device_read(list[0].0, 0x100).unwrap(), [1; 0x100]);
    adapter.flush_ex(first.mdl, base, 0, 0x100, true);
    let (_, list, mapped) = adapter.map_ex(first.mdl, base, 0x100, 0x80, true, 1);
    assert_eq!(mapped, 0x80);
    assert_eq!(rig.device_read(list[0].0, 0x80).unwrap(), [2; 0x80]);
    adapter.flush_ex(first.mdl, base, 0x100, 0x80, true);
    adapter.free_registers(base, 2);
    let list_adapter = Adapter::get(rig.edu().device(), scatter_gather(0x1000)).unwrap();
    let base = list_adapter.registers(2);
    let (_, list, mapped) = list_adapter.map_ex(first.mdl, base, 0x10, 0x170, true, 4);
    assert_eq!((list.len(), mapped), (2, 0x170));
    list_adapter.flush_ex(first.mdl, base, 0x10, 0x170, true);
    list_adapter.free_registers(base, 2);
}

/// With every transfer bounced, a device that reaches all pages gets other ones.
fn always_bounced(rig: &Rig, adapter: Adapter) {
    let mut buffer = Buffer::new(0x3000);
    let (status, list) = adapter.list(&buffer, 0x3000, false);
    assert_eq!(status, STATUS_SUCCESS);
    let (logical, _) = elements(list)[0];
    rig.device_write(logical, &pattern(0x10)).unwrap();
    assert_eq!(buffer.bytes()[..0x10], [0; 0x10]);
    adapter.put_list(list, false);
    assert_eq!(buffer.bytes()[..0x10], pattern(0x10));
    assert_eq!(counters().bounced_bytes.get(), 0x3000);
    adapter.put();
}

fn what_a_transfer_needs(_: &Rig, adapter: Adapter) {
    let operations = adapter.operations();
    let buffer = Buffer::new(0x3000);
    let mut info = DMA_TRANSFER_INFO {
        Version: DMA_TRANSFER_INFO_VERSION1,
        ..Default::default()
    };
    let get = operations.GetDmaTransferInfo.unwrap();
    // SAFETY: as a driver would.
    let status = unsafe { get(adapter.raw, buffer.mdl, 0x10, 0x2000, 0, &raw mut info) };
    assert_eq!(status, STATUS_SUCCESS);
    // SAFETY: plain numbers.
    let needs = unsafe { info.__bindgen_anon_1.V1 };
    assert_eq!(
        (needs.MapRegisterCount, needs.ScatterGatherElementCount),
        (3, 3)
    );
    info.Version = 0;
    // SAFETY: as a driver would.
    let status = unsafe { get(adapter.raw, buffer.mdl, 0, 1, 0, &raw mut info) };
    assert_eq!(status, STATUS_NOT_SUPPORTED);
    let (mut size, mut registers) = (0, 0);
    let calculate = operations.CalculateScatterGatherList.unwrap();
    let nowhere = std::ptr::null_mut();
    // SAFETY: as the framework does: without an MDL.
    let status = unsafe {
        calculate(
            adapter.raw,
            std::ptr::null_mut(),
            nowhere,
            0x4000,
            &raw mut size,
            &raw mut registers,
        )
    };
    assert_eq!((status, registers, size), (STATUS_SUCCESS, 4, 16 + 4 * 24));
    let mut info = DMA_ADAPTER_INFO {
        Version: DMA_ADAPTER_INFO_VERSION1,
        ..Default::default()
    };
    // SAFETY: as a driver would.
    let status = unsafe { operations.GetDmaAdapterInfo.unwrap()(adapter.raw, &raw mut info) };
    assert_eq!(status, STATUS_SUCCESS);
    // SAFETY: plain numbers.
    assert_eq!(unsafe { info.__bindgen_anon_1.V1.DmaAddressWidth }, 64);
}

/// A buffer that is mapped through `base`.
fn mapped(adapter: Adapter, write: bool) -> (Buffer, PVOID, u64) {
    let buffer = Buffer::new(0x1000);
    let base = adapter.registers(2);
    let (_, list, _) = adapter.map_ex(buffer.mdl, base, 0x100, 0x200, write, 1);
    (buffer, base, list[0].0)
}

/// The physical address of the bounce page behind a logical address that the device may write.
fn bounce(rig: &Rig, logical: u64) -> u64 {
    translate(rig, logical, true)
}

/// The same for one that it may read.
fn readable(rig: &Rig, logical: u64) -> u64 {
    translate(rig, logical, false)
}

fn translate(rig: &Rig, logical: u64, write: bool) -> u64 {
    use machine_bus::Board;
    rig.board
        .iommu()
        .unwrap()
        .translate(EDU, logical, 1, write)
        .unwrap()[0]
        .physical
}

fn corrupt(rig: &Rig, physical: u64) {
    use machine_bus::Board;
    rig.board.memory().write(physical, &[0xEE]).unwrap();
}

fn main() -> ExitCode {
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
    let bounced = Config {
        always_bounce: true,
        ..Config::default()
    };
    let watched = Config {
        watch_common_buffers: true,
        ..Config::default()
    };
    let big = scatter_gather(0x10000);
    Suite::new()
        .passes("a_write_is_bounced", rig(a_write_is_bounced))
        .passes(
            "a_read_arrives_with_the_flush",
            rig(a_read_arrives_with_the_flush),
        )
        .passes(
            "a_list_has_an_element_a_run",
            configured(Config::default(), big, a_list_has_an_element_a_run),
        )
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
        .passes("versions", rig(versions))
        .passes("version_2_by_address", rig(version_2_by_address))
        .passes("an_mdl_chain", rig(an_mdl_chain))
        .passes("always_bounced", configured(bounced, big, always_bounced))
        .passes(
            "what_a_transfer_needs",
            configured(Config::default(), big, what_a_transfer_needs),
        )
        .passes(
            "a_pc_has_no_adapter_for_what_is_no_bus_master",
            rig(|rig, _| {
                let description = DEVICE_DESCRIPTION {
                    Master: 0,
                    ..packet(0x1000)
                };
                assert!(Adapter::get(rig.edu().device(), description).is_none());
            }),
        )
        .stops(
            "an_absent_routine",
            machine_stop("DMA_OPERATIONS.LeaveDmaDomain"),
            rig(|_, adapter| {
                // SAFETY: as a driver would.
                unsafe { adapter.operations().LeaveDmaDomain.unwrap()(adapter.raw) };
            }),
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
        .stops(
            "flushed_too_much",
            violation(0).p2(1).p3(0x200).p4(0x201),
            rig(|_, adapter| {
                let (buffer, base, _) = mapped(adapter, true);
                adapter.flush_ex(buffer.mdl, base, 0x100, 0x201, true);
            }),
        )
        .stops(
            "out_of_map_registers",
            violation(0).p2(2),
            rig(|_, adapter| {
                let buffer = Buffer::new(0x3000);
                let base = adapter.registers(1);
                let mut length = 0x2000;
                // SAFETY: as a driver would.
                unsafe {
                    adapter.operations().MapTransfer.unwrap()(
                        adapter.raw,
                        buffer.mdl,
                        base,
                        buffer.address.cast(),
                        &raw mut length,
                        1,
                    )
                };
            }),
        )
        .stops(
            "common_buffer_freed_twice",
            violation(3),
            rig(|_, adapter| {
                let mut logical = PHYSICAL_ADDRESS::default();
                let operations = adapter.operations();
                // SAFETY: as a driver would.
                let address = unsafe {
                    operations.AllocateCommonBuffer.unwrap()(adapter.raw, 16, &raw mut logical, 1)
                };
                for _ in 0..2 {
                    // SAFETY: the second time is the mistake.
                    unsafe {
                        operations.FreeCommonBuffer.unwrap()(adapter.raw, 16, logical, address, 1)
                    };
                }
            }),
        )
        .stops(
            "channel_freed_twice",
            violation(4),
            rig(|_, adapter| {
                // SAFETY: the mistake.
                at_dispatch(|| unsafe {
                    adapter.operations().FreeAdapterChannel.unwrap()(adapter.raw)
                });
            }),
        )
        .stops(
            "map_registers_freed_twice",
            violation(5),
            rig(|_, adapter| {
                let base = adapter.registers(2);
                adapter.free_registers(base, 2);
                adapter.free_registers(base, 2);
            }),
        )
        .stops(
            "list_put_twice",
            violation(6).p2(1).p3(2),
            configured(Config::default(), big, |_, adapter| {
                let (_, list) = adapter.list(&Buffer::new(0x1000), 0x1000, true);
                adapter.put_list(list, true);
                adapter.put_list(list, true);
            }),
        )
        .stops(
            "common_buffer_outstanding",
            violation(7).p3(1),
            rig(|_, adapter| {
                let mut logical = PHYSICAL_ADDRESS::default();
                // SAFETY: as a driver would.
                unsafe {
                    adapter.operations().AllocateCommonBuffer.unwrap()(
                        adapter.raw,
                        16,
                        &raw mut logical,
                        1,
                    )
                };
                adapter.put();
            }),
        )
        .stops(
            "channel_outstanding",
            violation(8).p3(1),
            rig(|_, adapter| {
                let mut base = std::ptr::null_mut();
                adapter.allocate_ex(adapter.context(), 1, 0, Some(keep_object), &raw mut base);
                adapter.put();
            }),
        )
        .stops(
            "map_registers_outstanding",
            violation(9).p3(2),
            rig(|_, adapter| {
                adapter.registers(2);
                adapter.put();
            }),
        )
        .stops(
            "list_outstanding",
            violation(0xA).p3(1),
            configured(Config::default(), big, |_, adapter| {
                adapter.list(&Buffer::new(0x1000), 0x1000, true);
                adapter.put();
            }),
        )
        .stops(
            "channel_allocated_twice",
            violation(0xB),
            rig(|rig, adapter| {
                let pdo = rig.edu().device();
                let mut base: PVOID = std::ptr::null_mut();
                for _ in 0..2 {
                    // SAFETY: the second time is the mistake.
                    at_dispatch(|| unsafe {
                        adapter.operations().AllocateAdapterChannel.unwrap()(
                            adapter.raw,
                            pdo,
                            1,
                            Some(keep_object),
                            (&raw mut base).cast(),
                        )
                    });
                }
            }),
        )
        .stops(
            "too_many_map_registers",
            violation(0xC).p2(6).p3(5),
            rig(|_, adapter| {
                adapter.registers(6);
            }),
        )
        .stops(
            "not_flushed",
            violation(0xD).p2(0x200),
            rig(|_, adapter| {
                let (_, base, _) = mapped(adapter, true);
                adapter.map_ex(Buffer::new(0x1000).mdl, base, 0, 0x10, true, 1);
            }),
        )
        .stops(
            "not_locked",
            violation(0xE),
            rig(|_, adapter| {
                let buffer = Buffer::new(0x1000);
                // SAFETY: the MDL is the test's.
                unsafe { (*buffer.mdl).MdlFlags = 0 };
                adapter.map_ex(buffer.mdl, adapter.registers(1), 0, 0x10, true, 1);
            }),
        )
        .stops(
            "tag_before_modified",
            violation(0xF).p2(1).p3(0x200),
            rig(|rig, adapter| {
                let (buffer, base, logical) = mapped(adapter, false);
                corrupt(rig, bounce(rig, logical) - 1);
                adapter.flush_ex(buffer.mdl, base, 0x100, 0x200, false);
            }),
        )
        .stops(
            "tag_after_modified",
            violation(0xF).p2(2).p3(0x200),
            rig(|rig, adapter| {
                let (buffer, base, logical) = mapped(adapter, false);
                corrupt(rig, bounce(rig, logical) + 0x200);
                adapter.flush_ex(buffer.mdl, base, 0x100, 0x200, false);
            }),
        )
        .stops(
            "free_map_register_modified",
            violation(0xF).p2(3),
            rig(|rig, adapter| {
                let (buffer, base, logical) = mapped(adapter, false);
                let page = bounce(rig, logical);
                adapter.flush_ex(buffer.mdl, base, 0x100, 0x200, false);
                corrupt(rig, page);
                adapter.free_registers(base, 2);
            }),
        )
        .stops(
            "padding_before_modified",
            violation(0xF).p2(4),
            rig(|rig, adapter| {
                let (buffer, base, logical) = mapped(adapter, false);
                corrupt(rig, bounce(rig, logical) - 9);
                adapter.flush_ex(buffer.mdl, base, 0x100, 0x200, false);
            }),
        )
        .stops(
            "padding_after_modified",
            violation(0xF).p2(5),
            rig(|rig, adapter| {
                let (buffer, base, logical) = mapped(adapter, false);
                corrupt(rig, bounce(rig, logical) + 0x208);
                adapter.flush_ex(buffer.mdl, base, 0x100, 0x200, false);
            }),
        )
        .stops(
            "padding_after_the_page_modified",
            violation(0xF).p2(5),
            rig(|rig, adapter| {
                let (buffer, base, logical) = mapped(adapter, false);
                corrupt(rig, bounce(rig, logical) + 0x2000);
                adapter.flush_ex(buffer.mdl, base, 0x100, 0x200, false);
            }),
        )
        .stops(
            "source_modified",
            violation(0x26).p4(1),
            rig(|rig, adapter| {
                let (buffer, base, logical) = mapped(adapter, true);
                corrupt(rig, readable(rig, logical) + 0x1ff);
                adapter.flush_ex(buffer.mdl, base, 0x100, 0x200, true);
            }),
        )
        .stops(
            "freed_while_mapped",
            violation(0x10).p2(1),
            rig(|_, adapter| {
                let (_, base, _) = mapped(adapter, true);
                adapter.free_registers(base, 2);
            }),
        )
        .stops(
            "irql_too_low",
            violation(0x13).p2(1).p3(2).p4(0),
            rig(|_, adapter| {
                let base = adapter.registers(1);
                // SAFETY: the mistake is the IRQL.
                unsafe { adapter.operations().FreeMapRegisters.unwrap()(adapter.raw, base, 1) };
            }),
        )
        .stops(
            "irql_too_high",
            violation(0x13).p2(2).p3(0).p4(2),
            rig(|_, adapter| {
                let mut logical = PHYSICAL_ADDRESS::default();
                // SAFETY: the mistake is the IRQL.
                at_dispatch(|| unsafe {
                    adapter.operations().AllocateCommonBuffer.unwrap()(
                        adapter.raw,
                        16,
                        &raw mut logical,
                        1,
                    )
                });
            }),
        )
        .stops(
            "flushed_unmapped",
            violation(0x16),
            rig(|_, adapter| {
                adapter.flush_ex(Buffer::new(0x1000).mdl, 0x1234 as PVOID, 0, 0x10, true);
            }),
        )
        .stops(
            "adapter_released",
            violation(0x18),
            rig(|_, adapter| {
                adapter.put();
                adapter.put();
            }),
        )
        .stops(
            "adapter_null",
            violation(0x19),
            rig(|_, adapter| {
                // SAFETY: the mistake.
                unsafe { adapter.operations().PutDmaAdapter.unwrap()(std::ptr::null_mut()) };
            }),
        )
        .stops(
            "already_mapped",
            violation(0x1D),
            rig(|_, adapter| {
                let (buffer, _, _) = mapped(adapter, true);
                adapter.map_ex(buffer.mdl, adapter.registers(1), 0x2FF, 1, true, 1);
            }),
        )
        .stops(
            "outside_first_mdl",
            violation(0x1F).p2(2),
            rig(|_, adapter| {
                let buffer = Buffer::new(0x1000);
                let mut length = 1;
                // SAFETY: the mistake is the address.
                unsafe {
                    adapter.operations().MapTransfer.unwrap()(
                        adapter.raw,
                        buffer.mdl,
                        adapter.registers(1),
                        buffer.address.wrapping_add(0x1000).cast(),
                        &raw mut length,
                        1,
                    )
                };
            }),
        )
        .stops(
            "flushed_other",
            violation(0x20),
            rig(|_, adapter| {
                let (buffer, base, _) = mapped(adapter, true);
                adapter.flush_ex(buffer.mdl, base, 0, 0x200, true);
            }),
        )
        .stops(
            "zero_length",
            violation(0x21),
            rig(|_, adapter| {
                adapter.map_ex(Buffer::new(0x1000).mdl, adapter.registers(1), 0, 0, true, 1);
            }),
        )
        .stops(
            "buffer_too_short",
            violation(0x24).p2(1),
            rig(|_, adapter| {
                adapter.map_ex(
                    Buffer::new(0x1000).mdl,
                    adapter.registers(2),
                    0x10,
                    0xFF1,
                    true,
                    1,
                );
            }),
        )
        .stops(
            "unknown_version",
            violation(0x25).p2(4),
            rig(|rig, _| {
                Adapter::get(
                    rig.edu().device(),
                    DEVICE_DESCRIPTION {
                        Version: 4,
                        ..packet(0x1000)
                    },
                );
            }),
        )
        .main()
}
