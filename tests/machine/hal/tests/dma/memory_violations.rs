//! Memory that changes although nobody may write it: what stands around bounced data, and its source.

use harness::Suite;

use crate::support::*;
use crate::{mapped, rig, violation};

pub fn add(suite: Suite) -> Suite {
    suite
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
