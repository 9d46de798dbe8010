//! Runs the driver under many schedules of one machine, and repeats the one that fails.

mod account;
mod campaign;
mod cli;
mod outcome;
mod report;
mod scenario;
mod worker;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;

use cli::Options;
use outcome::End;
use scenario::{Profile, Scenario};

/// Exit code when a schedule failed.
const FOUND: u8 = 1;
/// Exit code when nothing could be explored.
const BROKEN: u8 = 2;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FOUND),
        Err(error) => {
            eprintln!("explore: {error:#}");
            ExitCode::from(BROKEN)
        }
    }
}

/// Whether every schedule held.
fn run(options: &Options) -> Result<bool> {
    if options.list {
        let profile = Profile::of(options.device);
        for scenario in profile.scenarios.iter().chain(profile.planted) {
            println!("{:18} {}", scenario.name, scenario.about);
        }
        return Ok(true);
    }
    let scenarios = chosen(options)?;
    if options.worker {
        worker::run(options, one(&scenarios)?)?;
        return Ok(true);
    }
    if let Some(seed) = options.replay {
        let outcome = worker::replay(options, one(&scenarios)?, seed)?;
        report::print_replay(options, &outcome)?;
        return Ok(outcome.end == End::Held);
    }
    let mut findings = Vec::new();
    for scenario in scenarios {
        let progress = report::Progress::new(scenario, options);
        findings.push(campaign::explore(options, scenario, |so_far| {
            progress.show(so_far);
        })?);
        progress.finish();
    }
    report::print(options, &findings)?;
    Ok(findings.iter().all(|one| one.failures.is_empty()))
}

fn chosen(options: &Options) -> Result<Vec<&'static Scenario>> {
    let profile = Profile::of(options.device);
    let device = options.device.name();
    if options.plant {
        let planted = profile.planted.first();
        return Ok(vec![planted.with_context(|| {
            format!("there is no driver with a race for {device}")
        })?]);
    }
    if options.scenario.is_empty() {
        return Ok(profile.scenarios.iter().collect());
    }
    let find = |name: &String| {
        profile.find(name).with_context(|| {
            format!("there is no scenario {name:?} for {device}; --list shows them")
        })
    };
    options.scenario.iter().map(find).collect()
}

fn one(scenarios: &[&'static Scenario]) -> Result<&'static Scenario> {
    match scenarios {
        [scenario] => Ok(scenario),
        _ => bail!("name one scenario with --scenario"),
    }
}
