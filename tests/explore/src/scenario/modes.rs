//! How requests get their map registers changes while they are under way.

use abi::ioctl::SET_DMA_MODE;
use abi::mode::{DmaMode, ModeChange};
use machine::nt_sys::{
    STATUS_CANCELLED, STATUS_DEVICE_BUSY, STATUS_INSUFFICIENT_RESOURCES, STATUS_IO_TIMEOUT,
    STATUS_SUCCESS,
};

use super::cancel::cancel_some;
use super::lane::Allowed;
use super::power::sleep_and_wake;
use super::traffic::{Plan, Traffic};
use super::{Driver, Scenario, Setting};

/// Cancelled, or without map registers.
const CANCELLED_OR_WITHOUT: Allowed = Allowed {
    statuses: &[STATUS_CANCELLED, STATUS_INSUFFICIENT_RESOURCES],
    cut_off: false,
    bounced: false,
};

pub(super) const MODES: Scenario = Scenario {
    name: "modes",
    about: "map registers are reserved and given back with requests under way, while others take them and the system sleeps",
    driver: Driver::Project,
    configure: |config| {
        config.hal.map_registers = 3;
        config.hal.defer_grants = true;
    },
    run: |setting| {
        let handle = setting.open();
        let plan = Plan {
            allowed: CANCELLED_OR_WITHOUT,
            meanwhile: cancel_some,
        };
        let traffic = Traffic::start(setting, &handle, plan);
        for _ in 0..2 + setting.below(3) {
            setting.pause();
            let others = (setting.below(3) == 0).then(|| setting.machine.occupy_map_registers());
            match setting.below(6) {
                0 => sleep_and_wake(setting),
                1 => {
                    setting.machine.rebalance().expect("rebalanced");
                }
                _ => change(setting, any(setting)),
            }
            setting.pause();
            drop(others);
        }
        let mut lanes = traffic.join();
        drop(handle);
        change(setting, ModeChange::default());
        setting.check(&mut lanes);
    },
};

fn any(setting: &Setting<'_>) -> ModeChange {
    let mode = DmaMode::from_bits_truncate(setting.below(4) as u32);
    let map_registers = if mode.contains(DmaMode::RESERVED) {
        setting.below(3) as u32
    } else {
        0
    };
    ModeChange {
        mode: mode.bits(),
        map_registers,
    }
}

fn change(setting: &Setting<'_>, change: ModeChange) {
    let handle = setting.open();
    let mut buffer = handle.process.buffer(8).expect("memory for a request");
    buffer.copy_from_slice(change.as_bytes());
    let completion = handle.file.control(SET_DMA_MODE, buffer, 0..8, 0..0).wait();
    assert!(
        [
            STATUS_SUCCESS,
            STATUS_DEVICE_BUSY,
            STATUS_INSUFFICIENT_RESOURCES,
            STATUS_IO_TIMEOUT
        ]
        .contains(&completion.status),
        "{:#x}",
        completion.status
    );
}
