//! What is mapped and flushed: packets through bounce pages, lists without them, chains of MDLs.

use harness::Suite;
use machine_hal::Config;
use machine_nt::counters;
use nt_sys::*;

use crate::support::*;
use crate::{configured, pattern, rig};

pub fn add(suite: Suite) -> Suite {
    let bounced = Config {
        always_bounce: true,
        ..Config::default()
    };
    let big = scatter_gather(0x10000);
    suite
        .passes("a_write_is_bounced", rig(a_write_is_bounced))
        .passes(
            "a_read_arrives_with_the_flush",
            rig(a_read_arrives_with_the_flush),
        )
        .passes(
            "a_list_has_an_element_a_run",
            configured(Config::default(), big, a_list_has_an_element_a_run),
        )
        .passes("version_2_by_address", rig(version_2_by_address))
        .passes("an_mdl_chain", rig(an_mdl_chain))
        .passes("always_bounced", configured(bounced, big, always_bounced))
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
