//! `cargo xtask explore`: the driver under many schedules.

use std::process::Command;

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    driver,
    packages::{self, Need},
    program,
    toolchain::Target,
};

/// What to explore.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct Options {
    /// Options of the program `explore`, which `--help` lists.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "OPTION"
    )]
    explore: Vec<String>,
}

/// Builds the driver and the program, and runs it. Standard output is the program's alone.
///
/// # Errors
/// A package is missing, something does not build, or a schedule failed.
pub fn run(options: &Options) -> Result<()> {
    packages::ensure(&[Need::DriverBuild, Need::Headers])?;
    let image = driver::build(&driver::Options::image(Target::X86_64))?;
    let status = Command::new(program::build("explore", "explore")?)
        .env("DMACARD_SYS", image)
        .args(&options.explore)
        .status()?;
    if !status.success() {
        bail!("exploring failed ({status})");
    }
    Ok(())
}
