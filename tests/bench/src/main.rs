//! `cargo xtask bench` runs this, built for speed.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use bench::{Plan, measure, plot};
use clap::{Parser, ValueEnum};
use machine::{Config, Device, DriverSource, Interrupts};

/// How fast the driver is.
#[derive(Parser)]
#[command(name = "bench", version, about)]
struct Options {
    /// The device to measure.
    #[arg(long, value_enum, default_value_t = DeviceOption::Card)]
    device: DeviceOption,
    /// Have it interrupt by its line.
    #[arg(long)]
    line: bool,
    /// The driver's image.
    #[arg(long, env = "DMACARD_SYS", value_name = "PATH")]
    driver: PathBuf,
    /// Measure for some seconds only.
    #[arg(long)]
    quick: bool,
    /// Print one JSON object on standard output, and nothing else.
    #[arg(long)]
    json: bool,
    /// Draw a picture of the result, as SVG.
    #[arg(long, value_name = "PATH")]
    plot: Option<PathBuf>,
}

/// The devices there are in this process.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum DeviceOption {
    /// The card, which takes no time beyond the copying.
    Card,
    /// Edu's twin, with transfers that take no time beyond the copying.
    EduTwin,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let mut config = Config::new(DriverSource::Image(options.driver.clone())).free_running();
    config.device = match options.device {
        DeviceOption::Card => Device::Card,
        DeviceOption::EduTwin => Device::EduTwin,
    };
    if options.line {
        config.interrupts = Interrupts::Line;
    }
    let plan = if options.quick {
        Plan::QUICK
    } else {
        Plan::FULL
    };
    let report = measure(config, plan, |row| {
        eprintln!("{} {} at depth {}", row.size, row.direction, row.depth);
    })?;
    if let Some(path) = &options.plot {
        plot(&report, path)?;
    }
    let mut out = io::stdout().lock();
    if options.json {
        report.print_json(&mut out)?;
    } else {
        report.print(&mut out)?;
    }
    Ok(())
}
