//! The user-mode program; see the library.

use std::process::ExitCode;

use clap::Parser;
use dmatest::cli::Cli;
#[cfg(windows)]
use dmatest::cli::Command;
use dmatest::{Error, exit};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dmatest: {error}");
            ExitCode::from(exit::code(&error))
        }
    }
}

#[cfg(windows)]
fn run(cli: &Cli) -> Result<(), Error> {
    let Command::Device(command) = &cli.command;
    let device = dmatest::windows::WindowsDevice::open()?;
    dmatest::cli::run(&device, command)
}

#[cfg(not(windows))]
fn run(cli: &Cli) -> Result<(), Error> {
    dmatest::machine_device::run(cli)
}
