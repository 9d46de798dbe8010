//! Start and end of the machine, and the loop that resumes fibers.

use super::choices::Chooser;
use super::fiber::{Fiber, Outcome};
use super::policy::{Policy, RoundRobin};
use super::processor::Processor;
use super::state::{self, Kernel, Kind, State, ThreadId, with};
use super::time::Clock;
use super::watchdog::Watchdog;
use super::{Point, fiber, idle, service};
use crate::bugcheck::{self, Stop, code, stop_machine};
use crate::ke::thread;
use crate::mode::{self, Mode};
use nt_sys::STATUS_SUCCESS;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::panic::PanicHookInfo;
use std::rc::Rc;
use std::time::Duration;

/// How the machine runs.
pub struct Config {
    /// Number of simulated processors.
    pub processors: usize,
    /// How time passes and how much is checked.
    pub mode: Mode,
    /// Who goes on at switch points.
    pub policy: Box<dyn Policy>,
    /// How long an external board may be silent, with nothing else to happen, before the machine stops.
    pub idle_limit: Duration,
    /// How long a processor may be kept from its threads.
    pub watchdog: Watchdog,
    /// Bytes of host stack for each fiber: much more than a kernel stack, since frames of the host are larger.
    pub fiber_stack: usize,
    /// Bytes of kernel stack that driver code may use; Windows has 24 KiB. Frames of the machine are not counted.
    pub kernel_stack: usize,
}

impl Config {
    /// The default round robin with this seed.
    pub fn with_seed(seed: u64) -> Self {
        Self {
            policy: Box::new(RoundRobin::new(seed)),
            ..Self::default()
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::Deterministic,
            processors: 2,
            policy: Box::new(RoundRobin::new(1)),
            idle_limit: Duration::from_secs(30),
            watchdog: Watchdog::default(),
            fiber_stack: 1 << 20,
            kernel_stack: 24 << 10,
        }
    }
}

thread_local! {
    /// Fibers that do not run now, by thread.
    static FIBERS: RefCell<BTreeMap<ThreadId, Fiber>> = const { RefCell::new(BTreeMap::new()) };
}

/// A panic is the machine's or a test's own mistake, except in a driver: there it is the bug check that wdk-panic makes
/// of it, with the place in the source as its parameters.
fn panicked(info: &PanicHookInfo<'_>) {
    if !crate::ke::stack::in_driver() {
        stop_machine(Stop::Internal, info);
    }
    let parameters = info.location().map_or([0; 4], |place| {
        let file = place.file();
        [
            file.as_ptr().addr() as u64,
            file.len() as u64,
            place.line().into(),
            place.column().into(),
        ]
    });
    bugcheck::stop(code::RUST_PANIC, parameters, info)
}

/// Runs a machine: starts processors and a first user thread that calls `f`, and returns when that thread ends.
/// One machine per process.
///
/// A panic on any fiber is a machine stop: nothing may unwind through driver code.
pub fn run<R: 'static>(config: Config, f: impl FnOnce() -> R + 'static) -> R {
    std::panic::set_hook(Box::new(panicked));
    crate::ke::stack::set_limit(config.kernel_stack);
    mode::set(config.mode);
    state::install(Some(Kernel {
        processors: Vec::new(),
        threads: Vec::new(),
        ready: VecDeque::new(),
        waiters: Vec::new(),
        timers: BTreeMap::new(),
        current: 0,
        clock: Clock::new(config.mode),
        chooser: Chooser::new(config.policy, None),
        source: None,
        polling: false,
        polls_skipped: 0,
        idle_limit: config.idle_limit,
        watchdog: config.watchdog,
        idle_for: Duration::ZERO,
        last_thread: 0,
        fiber_stack: config.fiber_stack,
        unbroken: 0,
        scratch: Vec::new(),
        chosen: None,
    }));
    for index in 0..config.processors.max(1) {
        let id = create(
            format!("idle {index}"),
            Kind::Idle,
            State::Running,
            idle_loop,
        );
        with(|k| k.processors.push(Processor::new(id)));
        thread::add_object(id);
    }
    let result = Rc::new(RefCell::new(None));
    let slot = result.clone();
    let (_, main) = thread::create("main", Kind::User, move || {
        let value = f();
        *slot.borrow_mut() = Some(value);
    });
    resume_until_end_of(main);
    FIBERS.with_borrow_mut(BTreeMap::clear);
    state::install(None);
    let _ = std::panic::take_hook();
    match result.take() {
        Some(value) => value,
        None => stop_machine(Stop::Internal, "the first thread was terminated"),
    }
}

/// Makes a thread that will run `f`. It is ready; it does not run before the next switch point.
pub(crate) fn start_thread(name: &str, kind: Kind, f: impl FnOnce() + 'static) -> ThreadId {
    let id = create(name.to_owned(), kind, State::Ready, move || {
        service();
        f();
        thread::terminate(STATUS_SUCCESS);
    });
    with(|k| k.make_ready(id));
    id
}

fn create(name: String, kind: Kind, state: State, body: impl FnOnce() + 'static) -> ThreadId {
    let (id, size) = with(|k| (k.add_thread(name, kind, state), k.fiber_stack));
    match Fiber::new(size, body) {
        Ok(fiber) => FIBERS.with_borrow_mut(|fibers| fibers.insert(id, fiber)),
        Err(error) => stop_machine(Stop::Internal, format!("no stack for a thread: {error}")),
    };
    id
}

/// Ends the current thread from within, leaving what is on its stack.
pub(crate) fn abandon_current() -> ! {
    fiber::suspend();
    stop_machine(Stop::Internal, "a terminated thread was resumed")
}

fn idle_loop() {
    loop {
        service();
        if with(|k| k.decide(Point::Yield)) {
            fiber::suspend();
        }
    }
}

fn resume_until_end_of(main: ThreadId) {
    loop {
        let Some(id) = with(Kernel::next) else {
            idle::idle();
            continue;
        };
        let Some(mut fiber) = FIBERS.with_borrow_mut(|fibers| fibers.remove(&id)) else {
            stop_machine(Stop::Internal, format!("t{} has no fiber", id.0));
        };
        let outcome = fiber.resume();
        let terminated = with(|k| k.thread(id).state == State::Terminated);
        if outcome == Outcome::Suspended && !terminated {
            FIBERS.with_borrow_mut(|fibers| fibers.insert(id, fiber));
        }
        if id == main && terminated {
            return;
        }
    }
}
