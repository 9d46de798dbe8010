//! The system sleeps, resources are taken away, the device is pulled out, with requests under way.

use machine::nt_sys::{
    STATUS_CANCELLED, STATUS_DELETE_PENDING, STATUS_DEVICE_DOES_NOT_EXIST, STATUS_DEVICE_REMOVED,
    STATUS_INVALID_DEVICE_STATE,
};

use super::lane::Allowed;
use super::traffic::{Plan, Traffic};
use super::{Driver, Scenario, Setting};

/// How requests may end whose device goes away: in its hands, in its queue, or on their way there.
pub(super) const GONE: Allowed = Allowed {
    statuses: &[
        STATUS_DEVICE_REMOVED,
        STATUS_CANCELLED,
        STATUS_INVALID_DEVICE_STATE,
        STATUS_DELETE_PENDING,
        STATUS_DEVICE_DOES_NOT_EXIST,
    ],
    cut_off: true,
    bounced: false,
};

pub(super) const SUSPEND: Scenario = Scenario {
    name: "suspend",
    about: "the system sleeps and wakes up with requests under way",
    driver: Driver::Project,
    configure: |_| {},
    run: |setting| {
        let traffic = Traffic::start(setting, &setting.open(), Plan::default());
        for _ in 0..1 + setting.below(2) {
            sleep_and_wake(setting);
        }
        let mut lanes = traffic.join();
        setting.check(&mut lanes);
    },
};

pub(super) const REBALANCE: Scenario = Scenario {
    name: "rebalance",
    about: "the device is stopped for other resources with requests under way",
    driver: Driver::Project,
    configure: |_| {},
    run: |setting| {
        let traffic = Traffic::start(setting, &setting.open(), Plan::default());
        for _ in 0..1 + setting.below(2) {
            setting.pause();
            setting.machine.rebalance().expect("rebalanced");
        }
        let mut lanes = traffic.join();
        setting.check(&mut lanes);
    },
};

pub(super) const SURPRISE_REMOVAL: Scenario = Scenario {
    name: "surprise-removal",
    about: "the device is pulled out with requests under way",
    driver: Driver::Project,
    configure: |_| {},
    run: |setting| {
        let handle = setting.open();
        let plan = Plan {
            allowed: GONE,
            ..Plan::default()
        };
        let traffic = Traffic::start(setting, &handle, plan);
        setting.pause();
        setting.machine.surprise_remove().expect("pulled out");
        drop(traffic.join());
        drop(handle);
        setting.machine.finish_removals();
    },
};

pub(super) fn sleep_and_wake(setting: &Setting<'_>) {
    setting.pause();
    setting.machine.suspend().expect("asleep");
    setting.pause();
    setting.machine.resume().expect("awake");
}
