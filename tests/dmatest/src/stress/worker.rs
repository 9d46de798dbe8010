//! One thread of `stress`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;

use crate::device::{Device, Direction};
use crate::error::Error;
use crate::fleet::{Fleet, Landed, Shared, Ticket};
use crate::latency::Latencies;
use crate::pattern::Pattern;
use crate::progress::Progress;
use crate::shadow::Shadow;
use crate::sizes::Sizes;
use crate::tally::{End, Tally};

/// So many failures without any success between them, and a thread gives up.
const HOPELESS: u64 = 100;
/// One of so many cancellations is of all requests of the thread.
const CANCEL_ALL: u32 = 16;

/// What each thread does.
pub(super) struct Plan {
    /// Bytes of the device's memory.
    pub memory: usize,
    /// Longest request.
    pub largest: usize,
    /// Threads, at most as many as bytes.
    pub threads: usize,
    /// Requests under way in each.
    pub depth: usize,
    /// Their sizes.
    pub sizes: Sizes,
    /// Percent of requests to cancel.
    pub cancel: u8,
    /// Resets to a hundred requests.
    pub reset: u8,
    /// Decides everything random.
    pub seed: u64,
    /// When it began, by the device's clock.
    pub start: Duration,
    /// When to stop, if it is time that decides.
    pub until: Option<Duration>,
}

/// What the threads have in common.
pub(super) struct Together {
    shared: Shared,
    /// Requests that may still be made.
    budget: AtomicU64,
    /// Something is wrong: no more requests.
    stop: AtomicBool,
    progress: Mutex<Progress>,
}

impl Together {
    pub(super) fn new(shared: Shared, budget: u64, progress: Mutex<Progress>) -> Self {
        Self {
            shared,
            budget: AtomicU64::new(budget),
            stop: AtomicBool::new(false),
            progress,
        }
    }

    /// Takes one request of the budget.
    fn take(&self) -> bool {
        let less = |left: u64| left.checked_sub(1);
        let taken = self
            .budget
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        taken.is_ok()
    }
}

/// What a thread did.
pub(super) struct Done {
    pub tally: Tally,
    pub latencies: Latencies,
    pub resets: u64,
    pub gave_up: bool,
    pub reset_error: Option<Error>,
    pub result: Result<(), Error>,
}

/// Does what the plan says, as thread `number`.
pub(super) fn work<D: Device>(number: usize, device: &D, plan: &Plan, together: &Together) -> Done {
    let part = |number| plan.memory * number / plan.threads;
    let shadow = Shadow::unknown(part(number)..part(number + 1));
    let mut worker = Worker {
        device,
        plan,
        together,
        fleet: Fleet::new(shadow, &together.shared),
        rng: Rng::with_seed(plan.seed.wrapping_add((number as u64) << 32)),
        doomed: Vec::new(),
        latencies: Latencies::default(),
        typical: Duration::ZERO,
        failures: 0,
        resets: 0,
        reset_error: None,
    };
    let result = worker.run();
    if result.is_err() {
        together.stop.store(true, Ordering::Relaxed);
    }
    let Worker {
        fleet,
        latencies,
        failures,
        resets,
        reset_error,
        ..
    } = worker;
    Done {
        tally: fleet.tally().clone(),
        latencies,
        resets,
        gave_up: failures >= HOPELESS,
        reset_error,
        result,
    }
}

struct Worker<'w, D: Device> {
    device: &'w D,
    plan: &'w Plan,
    together: &'w Together,
    fleet: Fleet<'w, D>,
    rng: Rng,
    /// Requests to be cancelled, and when.
    doomed: Vec<(Duration, Ticket)>,
    latencies: Latencies,
    /// How long requests took lately.
    typical: Duration,
    /// Failures since the last success.
    failures: u64,
    resets: u64,
    reset_error: Option<Error>,
}

impl<D: Device> Worker<'_, D> {
    fn run(&mut self) -> Result<(), Error> {
        let seed = self.rng.u64(..);
        self.fleet.prime(self.device, self.plan.largest, seed)?;
        loop {
            self.fill()?;
            if self.fleet.is_empty() {
                break;
            }
            self.wait()?;
        }
        if self.together.stop.load(Ordering::Relaxed) {
            // Another thread has found what there is to say.
            return Ok(());
        }
        self.fleet.read_back(self.device, self.plan.largest)
    }

    /// Starts as many requests as may be under way and find a place.
    fn fill(&mut self) -> Result<(), Error> {
        while self.fleet.len() < self.plan.depth && self.goes_on() {
            let direction = if self.rng.bool() {
                Direction::Read
            } else {
                Direction::Write
            };
            let sizes = &self.plan.sizes;
            let largest = self.plan.largest;
            let Some(place) = self
                .fleet
                .find_place(&mut self.rng, direction, sizes, largest)
            else {
                break;
            };
            if !self.together.take() {
                break;
            }
            let pattern = Pattern::Random(self.rng.u64(..));
            let ticket = self.fleet.start(self.device, direction, place, pattern)?;
            if self.chance(self.plan.cancel) {
                let moment = self.typical.mul_f64(1.2 * self.rng.f64());
                self.doomed.push((self.device.now() + moment, ticket));
            }
            if self.chance(self.plan.reset) {
                self.reset();
            }
        }
        Ok(())
    }

    fn goes_on(&self) -> bool {
        let late = self
            .plan
            .until
            .is_some_and(|until| self.device.now() >= until);
        !late && self.failures < HOPELESS && !self.together.stop.load(Ordering::Relaxed)
    }

    fn chance(&mut self, percent: u8) -> bool {
        self.rng.u8(..100) < percent
    }

    fn reset(&mut self) {
        self.resets += 1;
        if let Err(error) = self.together.shared.reset(self.device) {
            self.reset_error.get_or_insert(error);
        }
    }

    /// Waits until a request ends or one is to be cancelled, and does what there is to do then.
    fn wait(&mut self) -> Result<(), Error> {
        let now = self.device.now();
        self.doomed.sort_unstable();
        match self.doomed.first() {
            None => {
                let landed = self.fleet.land(self.device, 0)?;
                self.ended(landed);
            }
            Some(&(moment, ticket)) if moment <= now => {
                self.doomed.remove(0);
                if self.rng.u32(..CANCEL_ALL) == 0 {
                    self.fleet.cancel_all(self.device)?;
                } else {
                    self.fleet.cancel(self.device, ticket)?;
                }
            }
            Some(&(moment, _)) => self.fleet.wait_oldest(self.device, moment - now),
        }
        for landed in self.fleet.land_ended(self.device)? {
            self.ended(landed);
        }
        Ok(())
    }

    fn ended(&mut self, landed: Landed) {
        match landed.end {
            End::Done => {
                self.failures = 0;
                self.latencies.add(landed.latency);
                self.typical = (self.typical * 7 + landed.latency) / 8;
            }
            End::Cancelled => self.failures = 0,
            End::Failed(_) => self.failures += 1,
        }
        let mut progress = self
            .together
            .progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match self.plan.until {
            None => progress.advance(1),
            Some(_) => progress.set((self.device.now() - self.plan.start).as_secs()),
        }
    }
}
