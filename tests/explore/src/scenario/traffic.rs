//! Requests of several threads, with nothing else going on.

use std::cell::RefCell;
use std::rc::Rc;

use machine::user::Thread;

use super::lane::{Allowed, Handle, Lane, Pending, SUCCESS_ONLY};
use super::{Dice, Driver, Load, Scenario, Setting};

pub(super) const TWO_PROCESSORS: Scenario = Scenario {
    name: "two-processors",
    about: "requests of two threads at once, on two processors",
    driver: Driver::Project,
    configure: |_| {},
    run: |setting| {
        let traffic = Traffic::start(setting, &setting.open(), Plan::default());
        let mut lanes = traffic.join();
        setting.check(&mut lanes);
    },
};

/// What threads do.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    /// How requests may end.
    pub(super) allowed: Allowed,
    /// What happens while a thread has requests under way.
    pub(super) meanwhile: fn(&Handle, &[Pending], &mut Dice),
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            allowed: SUCCESS_ONLY,
            meanwhile: |_, _, _| {},
        }
    }
}

/// Threads that send requests.
pub(super) struct Traffic {
    threads: Vec<Thread>,
    lanes: Rc<RefCell<Vec<Lane>>>,
}

impl Traffic {
    /// Starts two threads that send requests through `handle`, each to lanes of its own.
    pub(super) fn start(setting: &Setting<'_>, handle: &Handle, plan: Plan) -> Self {
        const THREADS: usize = 2;
        let Load { requests, rounds } = (setting.profile.load)(&mut setting.dice.borrow_mut());
        let mut free = setting.profile.lanes(THREADS * requests);
        let lanes = Rc::new(RefCell::new(Vec::new()));
        let threads = (0..THREADS)
            .map(|number| {
                let mut own = free.split_off(free.len() - requests);
                let (handle, lanes) = (handle.clone(), Rc::clone(&lanes));
                let mut dice = setting.dice();
                Thread::spawn(&format!("requests {number}"), move || {
                    for _ in 0..rounds {
                        round(&mut own, &handle, plan, &mut dice);
                    }
                    lanes.borrow_mut().append(&mut own);
                })
            })
            .collect();
        Self { threads, lanes }
    }

    /// Waits for the threads' ends; their lanes.
    pub(super) fn join(self) -> Vec<Lane> {
        self.threads.into_iter().for_each(Thread::join);
        self.lanes.take()
    }
}

/// Sends requests through a handle, and returns their lanes when all have ended.
pub(super) fn send(setting: &Setting<'_>, allowed: Allowed) -> Vec<Lane> {
    let plan = Plan {
        allowed,
        ..Plan::default()
    };
    Traffic::start(setting, &setting.open(), plan).join()
}

/// A request on every lane, all of them waited for.
fn round(lanes: &mut [Lane], handle: &Handle, plan: Plan, dice: &mut Dice) {
    if dice.below(2) == 0 {
        dice.pause();
    }
    let pending: Vec<Pending> = lanes.iter().map(|lane| lane.start(handle, dice)).collect();
    (plan.meanwhile)(handle, &pending, dice);
    for (lane, pending) in lanes.iter_mut().zip(pending) {
        lane.settle(pending, plan.allowed);
    }
}
