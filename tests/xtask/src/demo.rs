//! `cargo xtask demo`: a file through a device and back, by the real driver.

use std::{path::PathBuf, process::Command};

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    driver,
    packages::{self, Need},
    program, project,
    toolchain::Target,
};

/// What to copy, and through what.
#[derive(Debug, Args)]
pub struct Options {
    /// The file to send; by default one of the repository.
    file: Option<PathBuf>,
    /// The device to put into the machine.
    #[arg(long, default_value = "edu")]
    device: String,
    /// Print one JSON object on standard output, and nothing else.
    #[arg(long)]
    json: bool,
    /// Further options of dmatest, such as the machine's: `dmatest --help` lists them.
    #[arg(last = true)]
    dmatest: Vec<String>,
}

/// Installs what is missing, builds the driver and dmatest, and runs its demo. Standard output is the demo's alone.
///
/// # Errors
/// A package is missing, something does not build, or the file did not come back as it went.
pub fn run(options: &Options) -> Result<()> {
    packages::ensure(&[Need::DriverBuild, Need::Headers, Need::Qemu])?;
    let image = driver::build(&driver::Options::image(Target::X86_64))?;
    let dmatest = program::build("dmatest", "dev")?;
    let file = match &options.file {
        Some(file) => file.clone(),
        None => project::sample(),
    };
    let mut demo = Command::new(dmatest);
    demo.env("DMACARD_SYS", image)
        .args(["--device", &options.device])
        .args(&options.dmatest)
        .arg("demo")
        .arg(file)
        .args(options.json.then_some("--json"));
    let status = demo.status()?;
    if !status.success() {
        bail!("the demo failed ({status})");
    }
    Ok(())
}
