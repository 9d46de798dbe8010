//! `cargo xtask bench`: how fast the driver is.

use std::process::Command;

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    driver,
    packages::{self, Need},
    program, project,
    toolchain::Target,
};

/// What to measure.
#[derive(Debug, Args)]
pub struct Options {
    /// The device to measure.
    #[arg(long, default_value = "card")]
    device: String,
    /// Print one JSON object on standard output, and nothing else.
    #[arg(long)]
    json: bool,
    /// Measure for some seconds only, and leave the picture in docs/ as it is.
    #[arg(long)]
    quick: bool,
    /// Further options of the program: `-- --help` lists them.
    #[arg(last = true)]
    bench: Vec<String>,
}

/// Builds the driver and the program for speed, runs it, and has the picture in docs/ drawn anew. Standard output is the
/// program's alone.
///
/// # Errors
/// A package is missing, something does not build, or a request fails.
pub fn run(options: &Options) -> Result<()> {
    packages::ensure(&[Need::DriverBuild, Need::Headers])?;
    let image = driver::build(&driver::Options::image(Target::X86_64))?;
    let mut bench = Command::new(program::build("bench", "release")?);
    bench
        .env("DMACARD_SYS", image)
        .args(["--device", &options.device])
        .args(options.json.then_some("--json"))
        .args(&options.bench);
    if options.quick {
        bench.arg("--quick");
    } else {
        let picture = format!("docs/bench-{}.svg", options.device);
        bench.arg("--plot").arg(project::root().join(picture));
    }
    let status = bench.status()?;
    if !status.success() {
        bail!("the measurement failed ({status})");
    }
    Ok(())
}
