//! The ring card: many transfers at a time in each direction, each of which can be aborted.

use std::time::Duration;

use abi::card::Direction::{self, FromCard, ToCard};
use abi::ioctl::SET_MODERATION;
use machine::fault::{Fault, FaultKind, Moment};
use machine::nt_sys::{
    STATUS_CANCELLED, STATUS_DELETE_PENDING, STATUS_DEVICE_DOES_NOT_EXIST, STATUS_DEVICE_REMOVED,
    STATUS_INVALID_DEVICE_STATE, STATUS_IO_DEVICE_ERROR, STATUS_IO_TIMEOUT, STATUS_SUCCESS,
};
use machine::{CardFault, CardFaults, CardTiming, Device, Interrupts};

use super::cancel::{self, cancel_some};
use super::lane::{Allowed, CANCELLED, SUCCESS_ONLY};
use super::power::{self, GONE, sleep_and_wake};
use super::traffic::{self, Plan, Traffic};
use super::{Driver, Load, Pauses, Profile, Scenario, Setting, lies, limit};

pub(super) const PROFILE: Profile = Profile {
    scenarios: &[
        traffic::TWO_PROCESSORS,
        cancel::CANCEL_IO,
        cancel::CLOSE_HANDLE,
        cancel::PROCESS_EXIT,
        power::SUSPEND,
        power::REBALANCE,
        power::SURPRISE_REMOVAL,
        SCARCE,
        MODERATION,
        HANG,
        SLOW,
        STUCK,
        INTERRUPTS,
        LINE,
        UNPLUG,
        LINK_DOWN,
        RESETS,
        MIX,
        lies::COMPLETIONS,
        lies::FIELDS,
        lies::LATE,
        lies::FAILS,
        lies::MIX,
    ],
    planted: &[],
    configure: |config| {
        config.device = Device::Card;
        config.hal.map_registers = 16;
        // Three pages a transfer: most requests have several.
        config.hal.map_register_grant = Some(4);
        // Slow enough for something else to happen in the meantime; schedules make it as fast as it likes.
        config.card.timing = CardTiming {
            latency: 30_000,
            descriptor: 10_000,
            ..CardTiming::REAL
        };
    },
    memory: 96 << 10,
    loses_power: false,
    load: |dice| match dice.below(8) {
        // More than there are slots.
        0 => Load {
            requests: 40,
            rounds: 1,
        },
        _ => Load {
            requests: 1 + dice.below(4) as usize,
            rounds: 1 + dice.below(3),
        },
    },
    pauses: Pauses {
        longest: 400_000,
        around: 2_000,
    },
};

/// Milliseconds that a transfer may take where some take too long.
pub(super) const LIMIT: u32 = 20;

/// Of requests that take too long.
const TIMED_OUT: Allowed = Allowed::with(&[STATUS_IO_TIMEOUT]);

/// Of requests on a channel that is started again: the one that takes too long, and those behind it.
const LOST: Allowed = Allowed::with(&[STATUS_IO_TIMEOUT, STATUS_IO_DEVICE_ERROR]);

/// Of requests that may be ended by everything that leaves the card in order.
const CUT: Allowed = Allowed::with(&[STATUS_CANCELLED, STATUS_IO_TIMEOUT, STATUS_IO_DEVICE_ERROR]);

const SCARCE: Scenario = Scenario {
    name: "scarce",
    about: "requests that wait for map registers, some of them cancelled, while the system sleeps",
    driver: Driver::Project,
    configure: |config| {
        config.hal.always_bounce = true;
        config.hal.map_registers = 6;
    },
    run: |setting| {
        let plan = Plan {
            allowed: Allowed {
                bounced: true,
                ..CANCELLED
            },
            meanwhile: cancel_some,
        };
        let traffic = Traffic::start(setting, &setting.open(), plan);
        for _ in 0..setting.below(3) {
            sleep_and_wake(setting);
        }
        let mut lanes = traffic.join();
        setting.check(&mut lanes);
    },
};

const MODERATION: Scenario = Scenario {
    name: "moderation",
    about: "completions are gathered into interrupts, in ways that change with requests under way",
    driver: Driver::Project,
    configure: |_| {},
    run: |setting| {
        let traffic = Traffic::start(setting, &setting.open(), Plan::default());
        for _ in 0..1 + setting.below(3) {
            setting.pause();
            moderate(setting);
        }
        let mut lanes = traffic.join();
        setting.check(&mut lanes);
    },
};

const HANG: Scenario = Scenario {
    name: "hang",
    about: "a transfer that the card never finishes; the others work",
    driver: Driver::Project,
    configure: |config| limit(config, LIMIT),
    run: |setting| {
        arm(setting, CardFault::Hang(channel(setting)), 12);
        let mut lanes = traffic::send(setting, TIMED_OUT);
        faults(setting).disarm();
        setting.check(&mut lanes);
    },
};

const SLOW: Scenario = Scenario {
    name: "slow",
    about: "transfers that end just when their time is over",
    driver: Driver::Project,
    configure: |config| {
        limit(config, LIMIT);
        config.card.timing = CardTiming {
            descriptor: 5_000_000,
            ..CardTiming::REAL
        };
    },
    run: |setting| {
        // What the memory holds now cannot be read in good time.
        drop(traffic::send(setting, LOST));
        setting.check_statistics();
    },
};

const STUCK: Scenario = Scenario {
    name: "stuck",
    about: "a channel that does not hear of aborts is started again",
    driver: Driver::Project,
    configure: |config| limit(config, LIMIT),
    run: |setting| {
        arm(setting, CardFault::Stick(channel(setting)), 12);
        let mut lanes = traffic::send(setting, LOST);
        faults(setting).disarm();
        setting.check(&mut lanes);
    },
};

const INTERRUPTS: Scenario = Scenario {
    name: "interrupts",
    about: "messages that are lost, late, doubled or for nothing",
    driver: Driver::Project,
    configure: |config| limit(config, LIMIT),
    run: disturb_interrupts,
};

const LINE: Scenario = Scenario {
    name: "line",
    about: "a line's interrupts that are lost, late, doubled or for nothing",
    driver: Driver::Project,
    configure: |config| {
        config.interrupts = Interrupts::Line;
        limit(config, LIMIT);
    },
    run: disturb_interrupts,
};

const UNPLUG: Scenario = Scenario {
    name: "unplug",
    about: "the card is pulled out at an access to it, and the system hears of it later",
    driver: Driver::Project,
    configure: |config| limit(config, LIMIT),
    run: |setting| {
        let access = 1 + setting.below(12) as u32;
        let fault = Fault::at(FaultKind::Unplug, Moment::Access(access));
        setting.machine.faults().arm(fault).expect("armed");
        drop(traffic::send(setting, GONE));
        setting.machine.faults().disarm();
        setting.machine.settle();
        setting.machine.finish_removals();
    },
};

const LINK_DOWN: Scenario = Scenario {
    name: "link-down",
    about: "the card does not answer any more, is reset in vain, and pulled out some time later",
    driver: Driver::Project,
    configure: |config| limit(config, LIMIT),
    run: |setting| {
        let handle = setting.open();
        let plan = Plan {
            allowed: Allowed::with(&[
                STATUS_IO_TIMEOUT,
                STATUS_IO_DEVICE_ERROR,
                STATUS_DEVICE_REMOVED,
                STATUS_CANCELLED,
                STATUS_INVALID_DEVICE_STATE,
                STATUS_DELETE_PENDING,
                STATUS_DEVICE_DOES_NOT_EXIST,
            ]),
            ..Plan::default()
        };
        let traffic = Traffic::start(setting, &handle, plan);
        setting.pause();
        faults(setting).set_link_down(true);
        for _ in 0..setting.below(3) {
            let time = setting.magnitude(u64::from(LIMIT) * 20_000_000);
            setting.machine.sleep(Duration::from_nanos(time));
        }
        setting.machine.surprise_remove().expect("pulled out");
        drop(traffic.join());
        drop(handle);
        setting.machine.finish_removals();
    },
};

const RESETS: Scenario = Scenario {
    name: "reset",
    about: "resets of a card that works, hangs or is stuck, with requests under way, some of them cancelled",
    driver: Driver::Project,
    configure: |config| limit(config, LIMIT),
    run: |setting| {
        let handle = setting.open();
        let hangs = hang_perhaps(setting);
        let plan = Plan {
            allowed: if hangs { CUT } else { CANCELLED },
            meanwhile: cancel_some,
        };
        let traffic = Traffic::start(setting, &handle, plan);
        for _ in 0..1 + setting.below(2) {
            setting.pause();
            setting.reset();
        }
        let mut lanes = traffic.join();
        faults(setting).disarm();
        drop(handle);
        setting.check(&mut lanes);
    },
};

const MIX: Scenario = Scenario {
    name: "mix",
    about: "cancelling, a card that hangs, resets, moderation, sleep and rebalance in any order",
    driver: Driver::Project,
    configure: |config| limit(config, LIMIT),
    run: |setting| {
        let handle = setting.open();
        let hangs = hang_perhaps(setting);
        let plan = Plan {
            allowed: if hangs { CUT } else { CANCELLED },
            meanwhile: cancel_some,
        };
        let traffic = Traffic::start(setting, &handle, plan);
        for _ in 0..1 + setting.below(3) {
            match setting.below(5) {
                0 => sleep_and_wake(setting),
                1 => setting.machine.rebalance().expect("rebalanced"),
                2 => setting.reset(),
                3 => moderate(setting),
                _ => setting.pause(),
            }
        }
        let mut lanes = traffic.join();
        faults(setting).disarm();
        drop(handle);
        setting.check(&mut lanes);
    },
};

pub(super) fn faults<'m>(setting: &Setting<'m>) -> &'m CardFaults {
    setting
        .machine
        .card_faults()
        .expect("the device is the card")
}

pub(super) fn channel(setting: &Setting<'_>) -> Direction {
    [ToCard, FromCard][setting.below(2) as usize]
}

/// Has a fault of the card strike at one of the next `within` opportunities.
pub(super) fn arm(setting: &Setting<'_>, fault: CardFault, within: u64) {
    faults(setting).arm_after(fault, setting.below(within) as u32);
}

/// Whether one of the next transfers never ends.
fn hang_perhaps(setting: &Setting<'_>) -> bool {
    let channel = channel(setting);
    match setting.below(4) {
        0 => arm(setting, CardFault::Hang(channel), 6),
        1 => arm(setting, CardFault::Stick(channel), 6),
        _ => return false,
    }
    true
}

/// Asks for another moderation of interrupts.
fn moderate(setting: &Setting<'_>) {
    let count = setting.below(6) as u16;
    let time = setting.magnitude(200) as u16;
    let handle = setting.open();
    let mut input = handle.process.buffer(4).expect("memory for a request");
    input[..2].copy_from_slice(&count.to_le_bytes());
    input[2..].copy_from_slice(&time.to_le_bytes());
    let completion = handle
        .file
        .control(SET_MODERATION, input, 0..4, 0..0)
        .wait();
    assert_eq!(completion.status, STATUS_SUCCESS, "moderation");
}

fn disturb_interrupts(setting: &Setting<'_>) {
    for _ in 0..1 + setting.below(3) {
        let time = setting.magnitude(30_000_000);
        let kind = match setting.below(6) {
            0 => FaultKind::DropInterrupt,
            1 => FaultKind::DelayInterrupt { by_ns: time },
            2 => FaultKind::DuplicateInterrupt { after_ns: time },
            3 => FaultKind::SpuriousInterrupt,
            own => {
                let fault = [CardFault::DropInterrupt, CardFault::DuplicateInterrupt];
                arm(setting, fault[own as usize - 4], 8);
                continue;
            }
        };
        let opportunity = 1 + setting.below(8) as u32;
        let fault = Fault::at(kind, Moment::Interrupt(opportunity));
        setting.machine.faults().arm(fault).expect("armed");
    }
    let mut lanes = traffic::send(setting, SUCCESS_ONLY);
    setting.machine.faults().disarm();
    faults(setting).disarm();
    setting.check(&mut lanes);
}
