//! cargo xtask: the project's commands.

mod driver;
mod image;
mod packages;
mod process;
mod project;
mod requirements;
mod toolchain;

use std::process::ExitCode;

use clap::Parser;

/// The project's commands.
#[derive(Parser)]
#[command(name = "xtask", bin_name = "cargo xtask", version, about)]
enum Command {
    /// Builds dmacard.sys and checks the image; its path is the last line printed.
    Driver(driver::Options),
    /// Installs the Debian packages that all commands need.
    Setup,
}

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Driver(options) => driver::run(&options),
        Command::Setup => packages::ensure(&packages::Need::ALL),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
