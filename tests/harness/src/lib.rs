//! Runs each test in a process of its own and checks how that process ended.
//!
//! A machine owns its process: its kernel is global state, a bug check exits. So a test binary built on this
//! crate (`harness = false`) starts itself again once for every test, with the test's name as argument, and
//! looks at the child's exit code and output. The command line is libtest's: filters, `--list`, `--exact`,
//! `--nocapture`, `--test-threads` and so on.
//!
//! ```no_run
//! use harness::{Suite, bug_check};
//!
//! fn main() -> std::process::ExitCode {
//!     Suite::new()
//!         .passes("start_and_remove", || { /* asserts; a panic fails the test */ })
//!         .stops("completed_too_early", bug_check(0x10D).p1(3), || { /* must not come back */ })
//!         .main()
//! }
//! ```
//!
//! One test can be run under a debugger, in this process, with `BINARY --in-process NAME`.

mod child;
mod expect;
mod program;

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};

pub use expect::{BugCheck, Expectation, MachineStop, bug_check, machine_stop};
pub use program::built;

/// Exit code of a machine that stopped with a Windows bug check.
pub const BUG_CHECK_EXIT: i32 = 86;
/// Exit code of a machine that stopped for a reason Windows does not have: an unimplemented routine, a
/// deadlock, an error of its own.
pub const MACHINE_STOP_EXIT: i32 = 87;

/// First argument of a process that is to run one test itself; the second is the test's name.
pub(crate) const IN_PROCESS: &str = "--in-process";
/// How long a test may take unless [`Suite::limit`] says otherwise.
const DEFAULT_LIMIT: Duration = Duration::from_secs(60);

/// One test: what to run and how its process is to end.
struct Test {
    name: String,
    expectation: Expectation,
    limit: Duration,
    body: Box<dyn FnOnce()>,
}

/// The tests of one binary.
pub struct Suite {
    tests: Vec<Test>,
    limit: Duration,
}

impl Default for Suite {
    fn default() -> Self {
        Self::new()
    }
}

impl Suite {
    /// No tests yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            tests: Vec::new(),
            limit: DEFAULT_LIMIT,
        }
    }

    /// Time limit, in real time, of the tests added from here on.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// A test whose body must return.
    #[must_use]
    pub fn passes(self, name: impl Into<String>, body: impl FnOnce() + 'static) -> Self {
        self.expects(name, Expectation::Pass, body)
    }

    /// A test whose body must stop the machine as `expectation` says: see [`bug_check`], [`machine_stop`].
    #[must_use]
    pub fn stops(
        self,
        name: impl Into<String>,
        expectation: impl Into<Expectation>,
        body: impl FnOnce() + 'static,
    ) -> Self {
        self.expects(name, expectation.into(), body)
    }

    fn expects(
        mut self,
        name: impl Into<String>,
        expectation: Expectation,
        body: impl FnOnce() + 'static,
    ) -> Self {
        self.tests.push(Test {
            name: name.into(),
            expectation,
            limit: self.limit,
            body: Box::new(body),
        });
        self
    }

    /// Runs what the command line asks for: the whole suite, or in a child the one test it was started for.
    #[must_use]
    pub fn main(self) -> ExitCode {
        let mut arguments = env::args().skip(1);
        if arguments.next().as_deref() == Some(IN_PROCESS) {
            return self.run_one(&arguments.next().unwrap_or_default());
        }
        let arguments = Arguments::from_args();
        let show_output = arguments.nocapture;
        let trials = self
            .tests
            .into_iter()
            .map(|test| {
                let Test {
                    name,
                    expectation,
                    limit,
                    ..
                } = test;
                let child_name = name.clone();
                Trial::test(name, move || {
                    child::run(&child_name, &expectation, limit, show_output).map_err(Into::into)
                })
            })
            .collect();
        libtest_mimic::run(&arguments, trials).exit_code()
    }

    fn run_one(self, name: &str) -> ExitCode {
        let Some(test) = self.tests.into_iter().find(|test| test.name == name) else {
            eprintln!("no test is called {name:?}");
            return ExitCode::FAILURE;
        };
        (test.body)();
        ExitCode::SUCCESS
    }
}
