//! Edu: one transfer at a time, and it cannot be told to stop.

use machine::Device;
use machine::fault::{Fault, FaultKind, Moment};
use machine::nt_sys::{
    STATUS_CANCELLED, STATUS_DELETE_PENDING, STATUS_DEVICE_DOES_NOT_EXIST,
    STATUS_INVALID_DEVICE_STATE, STATUS_IO_DEVICE_ERROR, STATUS_IO_TIMEOUT,
};

use super::cancel::{self, cancel_some};
use super::lane::{Allowed, SUCCESS_ONLY};
use super::modes;
use super::power::{self, GONE, sleep_and_wake};
use super::traffic::{self, Plan, Traffic};
use super::{Driver, Load, Pauses, Profile, Scenario, Setting, limit, planted};

pub(super) const PROFILE: Profile = Profile {
    scenarios: &[
        traffic::TWO_PROCESSORS,
        cancel::CANCEL_IO,
        cancel::CLOSE_HANDLE,
        cancel::PROCESS_EXIT,
        power::SUSPEND,
        power::REBALANCE,
        power::SURPRISE_REMOVAL,
        HANG,
        SLOW,
        STUCK,
        INTERRUPTS,
        UNPLUG,
        RESETS,
        MIX,
        modes::MODES,
    ],
    planted: &[planted::RACE, planted::SOUND],
    configure: |config| {
        config.device = Device::EduTwin;
        // Two adapters' worth. Their pages are copied for every run, and checked at its end.
        config.hal.map_registers = 8;
    },
    memory: abi::edu::USABLE as usize,
    loses_power: true,
    load: |dice| Load {
        requests: 1 + dice.below(2) as usize,
        rounds: 1 + dice.below(2),
    },
    pauses: Pauses {
        longest: 500_000_000,
        around: 8_000,
    },
};

/// Of requests that take too long.
const TIMED_OUT: Allowed = Allowed {
    statuses: &[STATUS_IO_TIMEOUT],
    cut_off: true,
    bounced: false,
};

/// Of requests that may be ended by a reset or by whoever waits for them.
const RESET_OR_CANCELLED: Allowed = Allowed {
    statuses: &[STATUS_CANCELLED],
    cut_off: true,
    bounced: false,
};

/// Of requests that may be ended by everything that leaves the device in order.
const CUT: Allowed = Allowed {
    statuses: &[STATUS_CANCELLED, STATUS_IO_TIMEOUT],
    cut_off: true,
    bounced: false,
};

const HANG: Scenario = Scenario {
    name: "hang",
    about: "a transfer that the device never finishes; the next ones work",
    driver: Driver::Project,
    configure: |config| limit(config, 120),
    run: |setting| {
        arm(setting, FaultKind::Hang, 8);
        let mut lanes = traffic::send(setting, TIMED_OUT);
        setting.machine.faults().disarm();
        setting.check(&mut lanes);
    },
};

const SLOW: Scenario = Scenario {
    name: "slow",
    about: "transfers that end just when their time is over",
    driver: Driver::Project,
    configure: |config| limit(config, 20),
    run: |setting| {
        // What the memory holds now cannot be read in good time.
        drop(traffic::send(setting, TIMED_OUT));
        setting.check_statistics();
    },
};

const STUCK: Scenario = Scenario {
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
            bounced: false,
        };
        arm(setting, FaultKind::Stuck, 3);
        drop(traffic::send(setting, FAILED));
        setting.machine.settle();
        setting.machine.finish_removals();
    },
};

const INTERRUPTS: Scenario = Scenario {
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
        let mut lanes = traffic::send(setting, SUCCESS_ONLY);
        setting.machine.faults().disarm();
        setting.check(&mut lanes);
    },
};

const UNPLUG: Scenario = Scenario {
    name: "unplug",
    about: "the device is pulled out at an access to it, and the system hears of it later",
    driver: Driver::Project,
    configure: |config| limit(config, 120),
    run: |setting| {
        let access = 1 + setting.below(60) as u32;
        let fault = Fault::at(FaultKind::Unplug, Moment::Access(access));
        setting.machine.faults().arm(fault).expect("armed");
        drop(traffic::send(setting, GONE));
        setting.machine.faults().disarm();
        setting.machine.settle();
        setting.machine.finish_removals();
    },
};

const RESETS: Scenario = Scenario {
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
        };
        let traffic = Traffic::start(setting, &handle, plan);
        for _ in 0..1 + setting.below(2) {
            setting.pause();
            setting.reset();
        }
        let mut lanes = traffic.join();
        setting.machine.faults().disarm();
        drop(handle);
        setting.check(&mut lanes);
    },
};

const MIX: Scenario = Scenario {
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
        };
        let traffic = Traffic::start(setting, &handle, plan);
        for _ in 0..1 + setting.below(3) {
            match setting.below(4) {
                0 => sleep_and_wake(setting),
                1 => setting.machine.rebalance().expect("rebalanced"),
                2 => setting.reset(),
                _ => setting.pause(),
            }
        }
        let mut lanes = traffic.join();
        setting.machine.faults().disarm();
        drop(handle);
        setting.check(&mut lanes);
    },
};

/// Has a fault strike at one of the next `within` opportunities.
fn arm(setting: &Setting<'_>, kind: FaultKind, within: u64) {
    let opportunity = 1 + setting.below(within) as u32;
    let fault = Fault::at(kind, Moment::Nth(opportunity));
    setting.machine.faults().arm(fault).expect("armed");
}
