//! Workers side by side, and what they find.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::account::Requests;
use crate::cli::Options;
use crate::outcome::{End, Outcome};
use crate::scenario::Scenario;

/// What was found out about a scenario.
#[derive(Debug, Default, Serialize)]
pub struct Findings {
    /// Its name.
    pub scenario: &'static str,
    /// Schedules that were run.
    pub schedules: u64,
    /// Those of them that differ.
    pub distinct: u64,
    /// Choices between two or more candidates, in all of them.
    pub choices: u64,
    /// Events, in all of them.
    pub events: u64,
    /// What became of requests.
    pub requests: Requests,
    /// Real time in seconds, with the start of the machines.
    pub seconds: f64,
    /// Processor time in seconds, of all processors together.
    pub processor_seconds: f64,
    /// Runs that failed, in the order of their seeds.
    pub failures: Vec<Failure>,
}

/// A run that failed.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// The command that repeats it.
    pub command: String,
    /// Why it stopped.
    pub reason: String,
    /// The run.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Findings {
    /// Schedules a second.
    pub fn rate(&self) -> f64 {
        self.schedules as f64 / self.seconds.max(1e-6)
    }

    fn add(&mut self, outcome: Outcome, schedules: &mut HashSet<u64>, options: &Options) {
        self.schedules += 1;
        schedules.insert(outcome.schedule);
        self.distinct = schedules.len() as u64;
        self.choices += outcome.choices;
        self.events += outcome.events;
        self.requests.add(outcome.requests);
        if outcome.end != End::Held {
            self.failures.push(Failure {
                command: format!(
                    "{} {}",
                    options.command,
                    outcome.arguments(options.device, self.scenario)
                ),
                reason: outcome.reason().to_owned(),
                outcome,
            });
        }
    }
}

/// Runs a scenario under all seeds; `progress` is called now and then.
///
/// # Errors
/// A worker does not start, or does not come to its end.
pub fn explore(
    options: &Options,
    scenario: &'static Scenario,
    mut progress: impl FnMut(&Findings),
) -> Result<Findings> {
    /// Between two calls of `progress`.
    const INTERVAL: Duration = Duration::from_millis(100);

    let started = Instant::now();
    let before = processor_seconds();
    let (sender, outcomes) = mpsc::channel();
    let mut workers = Workers::start(options, scenario, &sender)?;
    drop(sender);
    let mut findings = Findings {
        scenario: scenario.name,
        ..Findings::default()
    };
    let mut schedules = HashSet::new();
    let mut shown = started;
    for outcome in &outcomes {
        findings.add(outcome?, &mut schedules, options);
        findings.seconds = started.elapsed().as_secs_f64();
        if shown.elapsed() > INTERVAL {
            progress(&findings);
            shown = Instant::now();
        }
        if !findings.failures.is_empty() && !options.keep_going {
            workers.end();
            break;
        }
    }
    workers.wait(&outcomes)?;
    findings.processor_seconds = processor_seconds() - before;
    findings
        .failures
        .sort_by_key(|failure| failure.outcome.seed);
    progress(&findings);
    Ok(findings)
}

/// Processor time of all workers so far that have ended, and of the runs they waited for.
fn processor_seconds() -> f64 {
    // SAFETY: all zeroes are a valid value of this plain structure.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is a local. The call cannot fail with these arguments.
    unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) };
    [usage.ru_utime, usage.ru_stime]
        .iter()
        .map(|time| time.tv_sec as f64 + time.tv_usec as f64 / 1e6)
        .sum()
}

/// The worker processes of one scenario.
struct Workers {
    children: Vec<Child>,
    ended: bool,
}

impl Workers {
    fn start(
        options: &Options,
        scenario: &Scenario,
        sender: &Sender<Result<Outcome>>,
    ) -> Result<Self> {
        let program = std::env::current_exe()?;
        let count = (options.jobs() as u64).min(options.seeds.max(1));
        let mut workers = Self {
            children: Vec::new(),
            ended: false,
        };
        for index in 0..count {
            let arguments = options.worker_arguments(scenario.name, options.first + index, count);
            let mut child = Command::new(&program)
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .context("cannot start a worker")?;
            let output = child.stdout.take().context("a worker has no output")?;
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(output).lines() {
                    let outcome = line
                        .map_err(anyhow::Error::from)
                        .and_then(|line| Ok(serde_json::from_str(&line)?));
                    if sender.send(outcome).is_err() {
                        return;
                    }
                }
            });
            workers.children.push(child);
        }
        Ok(workers)
    }

    /// Ends them at once.
    fn end(&mut self) {
        self.ended = true;
        for child in &mut self.children {
            // One that has ended by itself is no error.
            let _ = child.kill();
        }
    }

    /// Waits for their ends; what they still say is of no interest.
    fn wait(&mut self, outcomes: &Receiver<Result<Outcome>>) -> Result<()> {
        for child in &mut self.children {
            let status = child.wait()?;
            if !status.success() && !self.ended {
                bail!("a worker failed ({status})");
            }
        }
        self.children.clear();
        outcomes.iter().for_each(drop);
        Ok(())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.end();
    }
}
