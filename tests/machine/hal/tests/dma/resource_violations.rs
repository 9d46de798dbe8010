//! Misuse of what an adapter hands out: freed twice, never, too early, at the wrong IRQL.

use harness::Suite;
use machine_hal::Config;
use nt_sys::*;

use crate::support::*;
use crate::{configured, mapped, rig, violation};

pub fn add(suite: Suite) -> Suite {
    let big = scatter_gather(0x10000);
    suite
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
}
