//! What is shown: progress, a table, failures, or JSON.

use std::io::{self, Write};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::campaign::{Failure, Findings};
use crate::cli::Options;
use crate::outcome::{End, Outcome};
use crate::scenario::Scenario;

/// The progress of one scenario, on standard error if that is a terminal.
pub struct Progress(ProgressBar);

impl Progress {
    /// For so many schedules.
    pub fn new(scenario: &Scenario, options: &Options) -> Self {
        let target = if options.json {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let style = ProgressStyle::with_template("{prefix:18} {wide_bar} {pos}/{len} {msg} {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(options.seeds), target)
            .with_style(style)
            .with_prefix(scenario.name);
        Self(bar)
    }

    /// Shows how far it is.
    pub fn show(&self, findings: &Findings) {
        self.0.set_position(findings.schedules);
        let (rate, distinct) = (findings.rate(), findings.distinct);
        self.0
            .set_message(format!("{rate:.0}/s, {distinct} distinct"));
    }

    /// It is over.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// Everything that was found out.
#[derive(Serialize)]
struct Report<'a> {
    device: &'static str,
    seeds: u64,
    first: u64,
    policies: Vec<&'static str>,
    scenarios: &'a [Findings],
}

/// Prints the findings as JSON or for people.
///
/// # Errors
/// Standard output cannot be written.
pub fn print(options: &Options, findings: &[Findings]) -> Result<()> {
    let mut out = io::stdout().lock();
    if options.json {
        let report = Report {
            device: options.device.name(),
            seeds: options.seeds,
            first: options.first,
            policies: options.policy.iter().map(|policy| policy.name()).collect(),
            scenarios: findings,
        };
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
        return Ok(());
    }
    for failure in findings.iter().flat_map(|findings| &findings.failures) {
        print_failure(&mut out, failure)?;
    }
    table(&mut out, findings)
}

fn print_failure(out: &mut dyn Write, failure: &Failure) -> Result<()> {
    let Failure {
        command, outcome, ..
    } = failure;
    writeln!(out, "seed {}: {}", outcome.seed, outcome.end)?;
    writeln!(out, "{}", outcome.output.trim_end())?;
    writeln!(out, "repeat it with: {command}")?;
    writeln!(out)?;
    Ok(())
}

fn table(out: &mut dyn Write, findings: &[Findings]) -> Result<()> {
    writeln!(
        out,
        "{:18} {:>9} {:>9} {:>7} {:>8} {:>8} {:>9} {:>9} {:>8} {:>7}",
        "scenario",
        "schedules",
        "distinct",
        "a sec.",
        "choices",
        "events",
        "succeeded",
        "cancelled",
        "failed",
        "stops"
    )?;
    for one in findings {
        let runs = one.schedules.max(1);
        writeln!(
            out,
            "{:18} {:>9} {:>9} {:>7.0} {:>8} {:>8} {:>9} {:>9} {:>8} {:>7}",
            one.scenario,
            one.schedules,
            one.distinct,
            one.rate(),
            one.choices / runs,
            one.events / runs,
            one.requests.succeeded,
            one.requests.cancelled,
            one.requests.failed,
            one.failures.len()
        )?;
    }
    let sum = |part: fn(&Findings) -> u64| findings.iter().map(part).sum::<u64>();
    let seconds: f64 = findings.iter().map(|one| one.seconds).sum();
    let processor: f64 = findings.iter().map(|one| one.processor_seconds).sum();
    writeln!(
        out,
        "{} schedules, {} distinct, {} stops, in {seconds:.1} s ({processor:.1} s of processor time)",
        sum(|one| one.schedules),
        sum(|one| one.distinct),
        sum(|one| one.failures.len() as u64),
    )?;
    Ok(())
}

/// Prints a run that was repeated.
///
/// # Errors
/// Standard output cannot be written.
pub fn print_replay(options: &Options, outcome: &Outcome) -> Result<()> {
    let mut out = io::stdout().lock();
    if options.json {
        serde_json::to_writer_pretty(&mut out, outcome)?;
        writeln!(out)?;
        return Ok(());
    }
    write!(out, "{}", outcome.output)?;
    let (seed, policy, end) = (outcome.seed, outcome.policy.name(), outcome.end);
    writeln!(
        out,
        "seed {seed}, {policy}: {end}; {} choices, schedule {:#018x}; {} events, trace {:#018x}",
        outcome.choices, outcome.schedule, outcome.events, outcome.trace
    )?;
    if end == End::Held {
        writeln!(out, "{:?}", outcome.requests)?;
    }
    Ok(())
}
