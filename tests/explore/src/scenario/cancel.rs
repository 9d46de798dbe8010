//! Requests that their owner no longer wants.

use std::rc::Rc;

use super::lane::{CANCELLED, Handle, Pending};
use super::traffic::{Plan, Traffic};
use super::{Dice, Driver, Scenario, Setting};

pub(super) const CANCEL_IO: Scenario = Scenario {
    name: "cancel-io",
    about: "CancelIoEx for one request or all, by the threads that wait for them",
    driver: Driver::Project,
    configure: |_| {},
    run: |setting| {
        let plan = Plan {
            allowed: CANCELLED,
            meanwhile: cancel_some,
        };
        let traffic = Traffic::start(setting, &setting.open(), plan);
        let mut lanes = traffic.join();
        setting.check(&mut lanes);
    },
};

pub(super) const CLOSE_HANDLE: Scenario = Scenario {
    name: "close-handle",
    about: "CloseHandle with requests under way",
    driver: Driver::Project,
    configure: |_| {},
    run: |setting| {
        abandon(setting, |handle| {
            let Handle { file, process } = handle;
            drop(file);
            process
        });
    },
};

pub(super) const PROCESS_EXIT: Scenario = Scenario {
    name: "process-exit",
    about: "a process ends with requests under way, while another works",
    driver: Driver::Project,
    configure: |_| {},
    run: |setting| {
        abandon(setting, |handle| {
            handle.process.exit();
            handle.process
        });
    },
};

pub(super) fn cancel_some(handle: &Handle, pending: &[Pending], dice: &mut Dice) {
    for _ in 0..1 + dice.below(2) {
        dice.pause();
        // Nothing to cancel is no error: it may be over.
        let _ = match dice.below(3) {
            0 => handle.file.cancel_all(),
            _ => {
                let index = dice.below(pending.len() as u64) as usize;
                pending[index].overlapped.cancel()
            }
        };
    }
}

/// Has requests of one handle under way when `leave` gives it up, while another process goes on.
fn abandon<K>(setting: &Setting<'_>, leave: fn(Handle) -> Rc<K>) {
    let each = 1 + (setting.profile.load)(&mut setting.dice.borrow_mut()).requests;
    let mut lanes = setting.profile.lanes(2 * each);
    let others = lanes.split_off(each);
    let other = setting.open();
    let mut dice = setting.dice();
    let theirs: Vec<Pending> = others
        .iter()
        .map(|lane| lane.start(&other, &mut dice))
        .collect();
    let handle = setting.open();
    let pending: Vec<Pending> = lanes
        .iter()
        .map(|lane| lane.start(&handle, &mut dice))
        .collect();
    setting.pause();
    let process = leave(handle);
    for (lane, pending) in lanes.iter_mut().zip(pending) {
        lane.settle(pending, CANCELLED);
    }
    drop(process);
    for (mut lane, pending) in others.into_iter().zip(theirs) {
        lane.settle(pending, super::lane::SUCCESS_ONLY);
        lanes.push(lane);
    }
    drop(other);
    setting.check(&mut lanes);
}
