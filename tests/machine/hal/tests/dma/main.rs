//! DMA adapters as drivers use and misuse them. What misuse leads to is docs/verifier.md's table.

#[path = "../support/mod.rs"]
mod support;

mod adapters;
mod common_buffers;
mod grants;
mod memory_violations;
mod resource_violations;
mod transfer_violations;
mod transfers;

use std::process::ExitCode;

use harness::{BugCheck, Suite, bug_check};
use machine_hal::Config;
use nt_sys::*;

use support::*;

fn main() -> ExitCode {
    [
        transfers::add,
        grants::add,
        common_buffers::add,
        adapters::add,
        transfer_violations::add,
        resource_violations::add,
        memory_violations::add,
    ]
    .into_iter()
    .fold(Suite::new(), |suite, add| add(suite))
    .main()
}

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

/// A buffer that is mapped through `base`.
fn mapped(adapter: Adapter, write: bool) -> (Buffer, PVOID, u64) {
    let buffer = Buffer::new(0x1000);
    let base = adapter.registers(2);
    let (_, list, _) = adapter.map_ex(buffer.mdl, base, 0x100, 0x200, write, 1);
    (buffer, base, list[0].0)
}
