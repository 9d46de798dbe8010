//! Misuse of mapping and flushing: the wrong buffer, length or order.

use harness::Suite;
use nt_sys::*;

use crate::support::*;
use crate::{mapped, rig, violation};

pub fn add(suite: Suite) -> Suite {
    suite
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
            "flushed_unmapped",
            violation(0x16),
            rig(|_, adapter| {
                adapter.flush_ex(Buffer::new(0x1000).mdl, 0x1234 as PVOID, 0, 0x10, true);
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
}
