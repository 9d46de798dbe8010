//! `cargo xtask explore`: the driver under many schedules.

use std::{path::PathBuf, process::Command};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

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
    /// The driver's image: as shipped, or with every atomic operation as a switch point. Comes first.
    #[arg(long, value_enum, default_value = "plain")]
    image: Image,
    /// Options of the program `explore`, which `--help` lists.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "OPTION"
    )]
    explore: Vec<String>,
}

/// The images of the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Image {
    Plain,
    Instrumented,
}

impl Image {
    fn build(self) -> Result<PathBuf> {
        driver::build(&match self {
            Self::Plain => driver::Options::image(Target::X86_64),
            Self::Instrumented => driver::Options::instrumented(),
        })
    }

    /// The command that explores this image, for repeating a run.
    fn command(self) -> &'static str {
        match self {
            Self::Plain => "cargo xtask explore",
            Self::Instrumented => "cargo xtask explore --image instrumented",
        }
    }
}

/// Builds the driver and the program, and runs it. Standard output is the program's alone.
///
/// # Errors
/// A package is missing, something does not build, or a schedule failed.
pub fn run(options: &Options) -> Result<()> {
    packages::ensure(&[Need::DriverBuild, Need::Headers])?;
    let image = options.image.build()?;
    let status = Command::new(program::build("explore", "explore")?)
        .env("DMACARD_SYS", image)
        .args(["--command", options.image.command()])
        .args(&options.explore)
        .status()?;
    if !status.success() {
        bail!("exploring failed ({status})");
    }
    Ok(())
}
