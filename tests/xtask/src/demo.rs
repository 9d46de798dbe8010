//! `cargo xtask demo`: a file through devices and back, by the real driver.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use demo_report::{Comparison, Report, input, print_json, print_table};

use crate::{
    driver,
    packages::{self, Need},
    process, program, project,
    toolchain::Target,
};

/// What to copy, and through what.
#[derive(Debug, Args)]
pub struct Options {
    /// The file to send; by default one of the repository.
    file: Option<PathBuf>,
    /// Only this device, for instance edu, card, or fifo, which is two: with an interrupt and without. All that there
    /// are: `dmatest --help`.
    #[arg(long)]
    device: Option<String>,
    /// Print one JSON object on standard output, and nothing else.
    #[arg(long)]
    json: bool,
    /// Show what the driver and the framework print to the debugger.
    #[arg(long)]
    debug_output: bool,
    /// Further options of dmatest, such as the machine's: `dmatest --help` lists them.
    #[arg(last = true)]
    dmatest: Vec<String>,
}

/// Installs what is missing, builds the driver and dmatest, and runs its demo for each device. Standard output is the
/// demo's alone.
///
/// # Errors
/// The file cannot be read, a package is missing, something does not build, or the file did not come back as it went.
pub fn run(options: &Options) -> Result<()> {
    let file = file(options)?;
    packages::ensure(&[Need::DriverBuild, Need::Headers, Need::Qemu])?;
    let image = driver::build(&driver::Options::image(Target::X86_64))?;
    let dmatest = program::build("dmatest", "dev")?;
    let devices = devices(options.device.as_deref());
    let runs: Vec<Result<Run>> = devices
        .iter()
        .map(|device| {
            eprintln!("{device}: copying {} there and back", file.display());
            let mut demo = Command::new(&dmatest);
            demo.env("DMACARD_SYS", &image)
                .args(["--device", device])
                .args((!options.debug_output).then_some("--quiet"))
                .args(&options.dmatest)
                .args(["demo", "--json"])
                .arg(&file);
            measure(device, &mut demo)
        })
        .collect();
    conclude(runs, options.json, &mut io::stdout().lock())
}

/// The file to send, looked at before anything is built: as it is seen from here.
fn file(options: &Options) -> Result<PathBuf> {
    let file = match &options.file {
        Some(file) => file.clone(),
        None => project::sample(),
    };
    input::open_for_demo(&file).with_context(|| format!("cannot send {}", file.display()))?;
    let here = env::current_dir()?;
    Ok(file.strip_prefix(here).map_or(file.clone(), Path::to_owned))
}

/// The devices that `--device` means.
fn devices(option: Option<&str>) -> Vec<&str> {
    match option {
        None => vec!["edu", "card"],
        Some("fifo") => vec!["fifo", "fifo-no-interrupt"],
        Some(device) => vec![device],
    }
}

/// What a device's demo has given.
#[derive(Debug)]
struct Run {
    report: Report,
    /// It ended with exit code 0.
    succeeded: bool,
}

/// Runs a device's demo.
///
/// # Errors
/// It made no report; it has said why itself.
fn measure(device: &str, demo: &mut Command) -> Result<Run> {
    let (status, output) = process::captured(demo)?;
    match serde_json::from_str(&output) {
        Ok(report) => Ok(Run {
            report,
            succeeded: status.success(),
        }),
        Err(_) => bail!("the demo of {device} failed ({status})"),
    }
}

/// Prints what there is: one device's report, or those of several beside each other.
///
/// # Errors
/// Not every device gave back what it was given.
fn conclude(runs: Vec<Result<Run>>, json: bool, out: &mut dyn io::Write) -> Result<()> {
    let wanted = runs.len();
    let mut reports = Vec::new();
    let mut failed = Vec::new();
    for run in runs {
        match run {
            Ok(Run { report, succeeded }) => {
                if !(succeeded && report.verified) {
                    failed.push(format!(
                        "{}: the file did not come back as it went",
                        report.device
                    ));
                }
                reports.push(report);
            }
            Err(error) => failed.push(format!("{error:#}")),
        }
    }
    match &reports[..] {
        _ if !json => print_table(&reports, out)?,
        [report] if wanted == 1 => print_json(report, out)?,
        [] if wanted == 1 => {}
        _ => print_json(
            &Comparison {
                verified: failed.is_empty(),
                devices: reports,
            },
            out,
        )?,
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("; "));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
