//! cargo xtask: the project's commands.

mod bench;
mod ci;
mod ddi;
mod demo;
mod driver;
mod explore;
mod image;
mod inf;
mod packages;
mod process;
mod program;
mod project;
mod qemu;
mod requirements;
mod suite;
mod toolchain;

use std::process::ExitCode;

use clap::Parser;

/// The project's commands.
#[derive(Parser)]
#[command(name = "xtask", bin_name = "cargo xtask", version, about)]
enum Command {
    /// Copies a file through a device with the real driver, and compares what comes back.
    Demo(demo::Options),
    /// Runs all tests.
    Test(suite::Options),
    /// Runs the driver under many schedules, and repeats the one that fails.
    Explore(explore::Options),
    /// Measures the driver's throughput, latency and costs.
    Bench(bench::Options),
    /// Shows of every entry of the framework's function table which tests call it.
    Ddi(ddi::Options),
    /// Builds dmacard.sys and checks the image; its path is the last line printed.
    Driver(driver::Options),
    /// Checks the driver package's INF.
    Inf,
    /// Plugs the card into a QEMU over vfio-user, and drives it through qtest.
    QemuCheck(qemu::Options),
    /// Installs the Debian packages that all commands need.
    Setup,
    /// Format, lints, the driver for both processors: what is checked besides the tests.
    Ci,
}

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Demo(options) => demo::run(&options),
        Command::Test(options) => suite::run(&options),
        Command::Explore(options) => explore::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Ci => ci::run(),
        Command::Ddi(options) => ddi::run(&options),
        Command::Driver(options) => driver::run(&options),
        Command::Inf => inf::run(),
        Command::QemuCheck(options) => qemu::run(&options),
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
