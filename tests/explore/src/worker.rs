//! A machine that is started once and forked for every schedule.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use machine::{Config, DriverSource, Forked, Machine, PolicyKind};

use crate::account::{self, Run};
use crate::cli::Options;
use crate::outcome::{End, Outcome};
use crate::scenario::{Driver, Profile, Scenario, Setting};

/// How often results are passed on.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// Runs the seeds that `options` ask for, and prints a line for each.
///
/// # Errors
/// The machine does not start, or the system refuses something.
pub fn run(options: &Options, scenario: &'static Scenario) -> Result<()> {
    let seeds = (options.first..options.first + options.seeds).step_by(options.stride as usize);
    let mut out = BufWriter::new(own_standard_output()?);
    let mut reported = Instant::now();
    each(options, scenario, seeds, move |outcome| {
        serde_json::to_writer(&mut out, &outcome)?;
        out.write_all(b"\n")?;
        if outcome.end != End::Held || reported.elapsed() > REPORT_INTERVAL {
            out.flush()?;
            reported = Instant::now();
        }
        Ok(())
    })
}

/// Runs one seed.
///
/// # Errors
/// As [`run`].
pub fn replay(options: &Options, scenario: &'static Scenario, seed: u64) -> Result<Outcome> {
    let (sender, receiver) = std::sync::mpsc::channel();
    each(options, scenario, std::iter::once(seed), move |outcome| {
        Ok(sender.send(outcome)?)
    })?;
    receiver.recv().context("the run said nothing")
}

/// Starts a machine and runs `seeds` in processes forked from it.
fn each(
    options: &Options,
    scenario: &'static Scenario,
    seeds: impl Iterator<Item = u64> + 'static,
    mut done: impl FnMut(Outcome) -> Result<()> + 'static,
) -> Result<()> {
    account::open()?;
    machine::trace::show(options.events);
    let mut config = Config::new(driver(options, scenario)?);
    let profile = Profile::of(options.device);
    (profile.configure)(&mut config);
    (scenario.configure)(&mut config);
    let options = options.clone();
    machine::run(config, move |machine| -> Result<()> {
        // Every worker would say the same, in between the others.
        machine::dbg::set_echo(false);
        machine.start()?;
        machine::dbg::set_echo(true);
        machine::bugcheck::register_dumper(
            "schedule",
            Box::new(|out| {
                account::close();
                let run = account::read();
                let _ = writeln!(
                    out,
                    "  {} choices, {} events",
                    run.course.choices.made, run.course.events.events
                );
            }),
        );
        let mut runner = Runner {
            machine,
            profile,
            scenario,
            options,
            output: memory_file()?,
            length: 0,
        };
        runner.length = runner.measure()?;
        for seed in seeds {
            done(runner.run(seed)?)?;
        }
        Ok(())
    })?
}

fn driver(options: &Options, scenario: &Scenario) -> Result<DriverSource> {
    match scenario.driver {
        Driver::Project => {
            let image = options.driver.clone();
            let image = image.context(
                "no driver: give --driver or set DMACARD_SYS to what `cargo xtask driver` printed",
            )?;
            Ok(DriverSource::Image(image))
        }
        Driver::Test(driver) => Ok(DriverSource::Test(driver())),
    }
}

struct Runner<'m> {
    machine: &'m Machine,
    profile: &'static Profile,
    scenario: &'static Scenario,
    options: Options,
    /// What runs print.
    output: File,
    /// Choices in a run, roughly.
    length: u64,
}

impl Runner<'_> {
    /// How many choices a run has. The same in every process, as a run is.
    fn measure(&mut self) -> Result<u64> {
        let (_, run) = self.fork(PolicyKind::RoundRobin, 0)?;
        Ok(run.course.choices.made)
    }

    fn run(&mut self, seed: u64) -> Result<Outcome> {
        let policy = self.options.policy_of(seed);
        let (end, run) = self.fork(policy.kind(seed, self.length), seed)?;
        let output = match end {
            End::Held => String::new(),
            _ => self.printed()?,
        };
        let Run { course, requests } = run;
        Ok(Outcome {
            seed,
            policy,
            end,
            choices: course.choices.made,
            schedule: course.choices.hash,
            events: course.events.events,
            trace: course.events.hash,
            requests,
            output,
        })
    }

    /// Runs one schedule in a process of its own.
    fn fork(&mut self, policy: PolicyKind, seed: u64) -> Result<(End, Run)> {
        account::clear();
        self.output.set_len(0)?;
        self.output.rewind()?;
        match self.machine.fork()? {
            Forked::Parent(child) => Ok((wait(child)?, account::read())),
            Forked::Child => self.live(policy, seed),
        }
    }

    /// The life of a forked process.
    fn live(&self, policy: PolicyKind, seed: u64) -> ! {
        for descriptor in [libc::STDOUT_FILENO, libc::STDERR_FILENO] {
            // SAFETY: both are open descriptors; what is printed from here on belongs to this run.
            unsafe { libc::dup2(self.output.as_raw_fd(), descriptor) };
        }
        // SAFETY: without a handler the signal ends the process, which is what is wanted.
        unsafe { libc::alarm(self.options.time_limit().as_secs() as u32) };
        self.machine
            .set_schedule(policy, seed, Some(self.options.limit));
        (self.scenario.run)(&Setting::new(self.machine, self.profile, seed));
        self.machine.shut_down();
        account::close();
        // SAFETY: ends the process without running what belongs to the one it was forked from.
        unsafe { libc::_exit(0) }
    }

    fn printed(&mut self) -> Result<String> {
        let mut text = Vec::new();
        self.output.rewind()?;
        self.output.read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

fn wait(child: u32) -> io::Result<End> {
    let mut status = 0;
    loop {
        // SAFETY: the status is a local.
        let waited = unsafe { libc::waitpid(child.cast_signed(), &raw mut status, 0) };
        if waited != -1 {
            return Ok(End::from_wait_status(status));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// A file in memory.
fn memory_file() -> io::Result<File> {
    // SAFETY: the name is a string with its zero.
    let descriptor = unsafe { libc::memfd_create(c"output".as_ptr(), libc::MFD_CLOEXEC) };
    owned(descriptor)
}

/// Standard output without the buffer that a fork would double.
fn own_standard_output() -> io::Result<File> {
    // SAFETY: takes no memory.
    let descriptor = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_DUPFD_CLOEXEC, 3) };
    owned(descriptor)
}

fn owned(descriptor: i32) -> io::Result<File> {
    if descriptor == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that belongs to nobody else.
    Ok(unsafe { File::from_raw_fd(descriptor) })
}
