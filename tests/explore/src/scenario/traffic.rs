//! Requests of several threads, with nothing else going on.

use std::cell::RefCell;
use std::rc::Rc;

use machine::Draw;
use machine::user::Thread;

use super::lane::{Allowed, Handle, Lane, Pending, SUCCESS_ONLY};
use super::{Driver, MEMORY, Scenario, Setting, pause};

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
    pub(super) meanwhile: fn(&Handle, &[Pending], &mut Draw),
    /// Whether the device may lose power, and with it what it holds.
    pub(super) loses_power: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            allowed: SUCCESS_ONLY,
            meanwhile: |_, _, _| {},
            loses_power: false,
        }
    }
}

/// Threads that send requests.
pub(super) struct Traffic {
    threads: Vec<Thread>,
    lanes: Rc<RefCell<Vec<Lane>>>,
}

impl Traffic {
    /// Starts two threads, with one or two lanes each, that send requests through `handle`.
    pub(super) fn start(setting: &Setting<'_>, handle: &Handle, plan: Plan) -> Self {
        const THREADS: usize = 2;
        let each = 1 + setting.below(2) as usize;
        let rounds = 1 + setting.below(2);
        let mut free = Lane::split(MEMORY, THREADS * each);
        if plan.loses_power {
            free = free.into_iter().map(Lane::losing_power).collect();
        }
        let lanes = Rc::new(RefCell::new(Vec::new()));
        let threads = (0..THREADS)
            .map(|number| {
                let mut own = free.split_off(free.len() - each);
                let (handle, lanes) = (handle.clone(), Rc::clone(&lanes));
                let mut draw = setting.fork_draw();
                Thread::spawn(&format!("requests {number}"), move || {
                    for _ in 0..rounds {
                        round(&mut own, &handle, plan, &mut draw);
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

/// A request on every lane, all of them waited for.
fn round(lanes: &mut [Lane], handle: &Handle, plan: Plan, draw: &mut Draw) {
    if draw.below(2) == 0 {
        pause(draw);
    }
    let pending: Vec<Pending> = lanes.iter().map(|lane| lane.start(handle, draw)).collect();
    (plan.meanwhile)(handle, &pending, draw);
    for (lane, pending) in lanes.iter_mut().zip(pending) {
        lane.settle(pending, plan.allowed);
    }
}
