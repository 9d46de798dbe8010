//! The ring card, when it does not tell the truth.
//!
//! Whatever it says, every request ends once and is counted once, one that ends with success has moved what it should,
//! and once the card is honest again it works.

use std::time::Duration;

use abi::card::Direction;
use machine::nt_sys::{
    STATUS_CANCELLED, STATUS_DELETE_PENDING, STATUS_DEVICE_DOES_NOT_EXIST, STATUS_DEVICE_REMOVED,
    STATUS_INVALID_DEVICE_STATE, STATUS_IO_DEVICE_ERROR, STATUS_IO_TIMEOUT,
};
use machine::{CardFault, Config};

use super::cancel::cancel_some;
use super::card::{LIMIT, arm, channel, faults};
use super::lane::{Allowed, Lane};
use super::power::sleep_and_wake;
use super::traffic::{self, Plan, Traffic};
use super::{Driver, Scenario, Setting, limit};

/// Of requests whose card has lied, and is reset.
const LIED: Allowed = Allowed::with(&[STATUS_IO_DEVICE_ERROR, STATUS_IO_TIMEOUT]);

/// The same, if somebody cancels as well.
const LIED_OR_CANCELLED: Allowed =
    Allowed::with(&[STATUS_IO_DEVICE_ERROR, STATUS_IO_TIMEOUT, STATUS_CANCELLED]);

pub(super) const COMPLETIONS: Scenario = Scenario {
    name: "lies-number",
    about: "completions that are not written, twice, or with the phase of the round before",
    driver: Driver::Project,
    configure,
    run: |setting| {
        lie(setting, |setting, channel| match setting.below(3) {
            0 => CardFault::DropCompletion(channel),
            1 => CardFault::DuplicateCompletion(channel),
            _ => CardFault::Phase(channel),
        });
    },
};

pub(super) const FIELDS: Scenario = Scenario {
    name: "lies-fields",
    about: "completions with a wrong tag, count, status or consumer",
    driver: Driver::Project,
    configure,
    run: |setting| lie(setting, wrong_field),
};

pub(super) const LATE: Scenario = Scenario {
    name: "lies-late",
    about: "a card that writes to memory after it has said that it had finished",
    driver: Driver::Project,
    configure: |config| {
        configure(config);
        // As an IOMMU does. No address is used again so soon.
        config.hal.stray_dma_is_blocked = true;
    },
    run: |setting| {
        lie(setting, |setting, _| CardFault::LateWrite {
            after: setting.magnitude(100_000),
        });
    },
};

pub(super) const FAILS: Scenario = Scenario {
    name: "lies-reset",
    about: "a card that has lied and does not come out of its own reset: the bus resets it, or the device fails",
    driver: Driver::Project,
    configure,
    run: |setting| {
        const FAILED: Allowed = Allowed::with(&[
            STATUS_IO_DEVICE_ERROR,
            STATUS_IO_TIMEOUT,
            STATUS_CANCELLED,
            STATUS_DEVICE_REMOVED,
            STATUS_INVALID_DEVICE_STATE,
            STATUS_DELETE_PENDING,
            STATUS_DEVICE_DOES_NOT_EXIST,
        ]);
        for _ in 0..1 + setting.below(2) {
            faults(setting).arm(CardFault::EndlessReset);
        }
        let lie = wrong_field(setting, channel(setting));
        arm(setting, lie, 8);
        drop(traffic::send(setting, FAILED));
        setting.machine.settle();
        setting.machine.finish_removals();
    },
};

pub(super) const MIX: Scenario = Scenario {
    name: "lies-mix",
    about: "a card that lies, with requests that are cancelled, resets, sleep and rebalance",
    driver: Driver::Project,
    configure,
    run: |setting| {
        for _ in 0..1 + setting.below(3) {
            let channel = channel(setting);
            let lie = match setting.below(4) {
                0 => CardFault::DropCompletion(channel),
                1 => CardFault::DuplicateCompletion(channel),
                _ => wrong_field(setting, channel),
            };
            arm(setting, lie, 12);
        }
        let handle = setting.open();
        let plan = Plan {
            allowed: LIED_OR_CANCELLED,
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
        drop(handle);
        settle(setting, &mut lanes);
    },
};

fn configure(config: &mut Config) {
    limit(config, LIMIT);
}

fn wrong_field(setting: &Setting<'_>, channel: Direction) -> CardFault {
    let bits = setting.magnitude(u32::MAX.into()) as u32;
    match setting.below(4) {
        0 => CardFault::Tag(channel, bits.max(1)),
        1 => {
            let wrong = i64::from(bits.max(1));
            CardFault::Count(channel, [wrong, -wrong][setting.below(2) as usize])
        }
        2 => CardFault::Outcome(channel, bits.max(1)),
        _ => CardFault::Consumer(channel, bits.max(1).cast_signed()),
    }
}

/// Sends requests to a card that lies about some of them.
fn lie(setting: &Setting<'_>, draw: fn(&Setting<'_>, Direction) -> CardFault) {
    for _ in 0..1 + setting.below(3) {
        let fault = draw(setting, channel(setting));
        arm(setting, fault, 12);
    }
    let mut lanes = traffic::send(setting, LIED);
    settle(setting, &mut lanes);
}

/// From now on the card is honest. A lie may not have been noticed yet: that costs those who come next.
fn settle(setting: &Setting<'_>, lanes: &mut [Lane]) {
    /// Longer than any step of a recovery may take.
    const RECOVERY: Duration = Duration::from_secs(1);
    faults(setting).disarm();
    let handle = setting.open();
    for lane in &mut *lanes {
        let pending = lane.start(&handle, &mut setting.dice.borrow_mut());
        lane.settle(pending, LIED);
    }
    drop(handle);
    setting.machine.sleep(RECOVERY);
    setting.check(lanes);
}
