//! Devices that fail, resets, and everything together, with requests under way.

use abi::ioctl::RESET;
use machine::Config;
use machine::fault::{Fault, FaultKind, Moment};
use machine::inf::{RegistryData, RegistryValue};
use machine::nt_sys::{
    STATUS_CANCELLED, STATUS_DELETE_PENDING, STATUS_DEVICE_DOES_NOT_EXIST,
    STATUS_INVALID_DEVICE_STATE, STATUS_IO_DEVICE_ERROR, STATUS_IO_TIMEOUT, STATUS_SUCCESS,
};

use super::cancel::cancel_some;
use super::lane::{Allowed, Lane, SUCCESS_ONLY};
use super::power::{GONE, sleep_and_wake};
use super::traffic::{Plan, Traffic};
use super::{Driver, Scenario, Setting};

/// Of requests that take too long.
const TIMED_OUT: Allowed = Allowed {
    statuses: &[STATUS_IO_TIMEOUT],
    cut_off: true,
};

/// Of requests that may be ended by a reset or by whoever waits for them.
const RESET_OR_CANCELLED: Allowed = Allowed {
    statuses: &[STATUS_CANCELLED],
    cut_off: true,
};

/// Of requests that may be ended by everything that leaves the device in order.
const CUT: Allowed = Allowed {
    statuses: &[STATUS_CANCELLED, STATUS_IO_TIMEOUT],
    cut_off: true,
};

pub(super) const HANG: Scenario = Scenario {
    name: "hang",
    about: "a transfer that the device never finishes; the next ones work",
    driver: Driver::Project,
    configure: |config| limit(config, 120),
    run: |setting| {
        arm(setting, FaultKind::Hang, 8);
        let mut lanes = traffic(setting, TIMED_OUT);
        setting.machine.faults().disarm();
        setting.check(&mut lanes);
    },
};

pub(super) const SLOW: Scenario = Scenario {
    name: "slow",
    about: "transfers that end just when their time is over",
    driver: Driver::Project,
    configure: |config| limit(config, 20),
    run: |setting| {
        // What the memory holds now cannot be read in good time.
        drop(traffic(setting, TIMED_OUT));
        setting.check_statistics();
    },
};

pub(super) const STUCK: Scenario = Scenario {
    name: "stuck",
    about: "an engine that goes on although it is cut off: the device fails",
    driver: Driver::Project,
    configure: |config| limit(config, 120),
    run: |setting| {
        const FAILED: Allowed = Allowed {
            statuses: &[
                STATUS_IO_TIMEOUT,
                STATUS_IO_DEVICE_ERROR,
                STATUS_CANCELLED,
                STATUS_INVALID_DEVICE_STATE,
                STATUS_DELETE_PENDING,
                STATUS_DEVICE_DOES_NOT_EXIST,
            ],
            cut_off: true,
        };
        arm(setting, FaultKind::Stuck, 3);
        drop(traffic(setting, FAILED));
        setting.machine.settle();
        setting.machine.finish_removals();
    },
};

pub(super) const INTERRUPTS: Scenario = Scenario {
    name: "interrupts",
    about: "interrupts that are lost, late, doubled or for nothing",
    driver: Driver::Project,
    configure: |config| limit(config, 120),
    run: |setting| {
        for _ in 0..1 + setting.below(3) {
            let time = setting.magnitude(100_000_000);
            let kind = match setting.below(4) {
                0 => FaultKind::DropInterrupt,
                1 => FaultKind::DelayInterrupt { by_ns: time },
                2 => FaultKind::DuplicateInterrupt { after_ns: time },
                _ => FaultKind::SpuriousInterrupt,
            };
            arm(setting, kind, 8);
        }
        let mut lanes = traffic(setting, SUCCESS_ONLY);
        setting.machine.faults().disarm();
        setting.check(&mut lanes);
    },
};

pub(super) const UNPLUG: Scenario = Scenario {
    name: "unplug",
    about: "the device is pulled out at an access to it, and the system hears of it later",
    driver: Driver::Project,
    configure: |config| limit(config, 120),
    run: |setting| {
        let access = 1 + setting.below(60) as u32;
        let fault = Fault::at(FaultKind::Unplug, Moment::Access(access));
        setting.machine.faults().arm(fault).expect("armed");
        drop(traffic(setting, GONE));
        setting.machine.faults().disarm();
        setting.machine.settle();
        setting.machine.finish_removals();
    },
};

pub(super) const RESETS: Scenario = Scenario {
    name: "reset",
    about: "resets of a device that works or hangs, with requests under way, some of them cancelled",
    driver: Driver::Project,
    configure: |config| limit(config, 120),
    run: |setting| {
        let handle = setting.open();
        let hangs = setting.below(3) == 0;
        let allowed = if hangs { CUT } else { RESET_OR_CANCELLED };
        if hangs {
            arm(setting, FaultKind::Hang, 4);
        }
        let plan = Plan {
            allowed,
            meanwhile: cancel_some,
            ..Plan::default()
        };
        let traffic = Traffic::start(setting, &handle, plan);
        for _ in 0..1 + setting.below(2) {
            setting.pause();
            reset(setting);
        }
        let mut lanes = traffic.join();
        setting.machine.faults().disarm();
        drop(handle);
        setting.check(&mut lanes);
    },
};

pub(super) const MIX: Scenario = Scenario {
    name: "mix",
    about: "cancelling, a device that hangs, resets, sleep and rebalance in any order",
    driver: Driver::Project,
    configure: |config| limit(config, 120),
    run: |setting| {
        let handle = setting.open();
        if setting.below(2) == 0 {
            arm(setting, FaultKind::Hang, 6);
        }
        let plan = Plan {
            allowed: CUT,
            meanwhile: cancel_some,
            loses_power: true,
        };
        let traffic = Traffic::start(setting, &handle, plan);
        for _ in 0..1 + setting.below(3) {
            match setting.below(4) {
                0 => sleep_and_wake(setting),
                1 => setting.machine.rebalance().expect("rebalanced"),
                2 => reset(setting),
                _ => setting.pause(),
            }
        }
        let mut lanes = traffic.join();
        setting.machine.faults().disarm();
        drop(handle);
        setting.check(&mut lanes);
    },
};

/// Sets the driver's time limit for transfers, in milliseconds. Edu takes 100 at most.
fn limit(config: &mut Config, milliseconds: u32) {
    config.registry.push(RegistryValue {
        subkey: "Parameters".to_owned(),
        name: "TransferTimeout".to_owned(),
        data: RegistryData::Dword(milliseconds),
    });
}

/// Has a fault strike at one of the next `within` opportunities.
fn arm(setting: &Setting<'_>, kind: FaultKind, within: u64) {
    let opportunity = 1 + setting.below(within) as u32;
    let fault = Fault::at(kind, Moment::Nth(opportunity));
    setting.machine.faults().arm(fault).expect("armed");
}

fn traffic(setting: &Setting<'_>, allowed: Allowed) -> Vec<Lane> {
    let plan = Plan {
        allowed,
        ..Plan::default()
    };
    Traffic::start(setting, &setting.open(), plan).join()
}

/// By a handle of its own, since what cancels all requests of a handle cancels a reset as well.
fn reset(setting: &Setting<'_>) {
    let handle = setting.open();
    let buffer = handle.process.buffer(1).expect("memory for a request");
    let completion = handle.file.control(RESET, buffer, 0..0, 0..0).wait();
    assert_eq!(completion.status, STATUS_SUCCESS, "reset");
}
