//! The command line.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use abi::info::DeviceInfo;
use clap::{Args, Parser, Subcommand};

use crate::copy;
use crate::device::{Device, query_info, query_statistics};
use crate::error::Error;
use crate::fleet::Shared;
use crate::info::{print_info, print_rows, print_statistics};
use crate::mode::ModeOptions;
use crate::stream::{self, StreamOptions};
use crate::stress::{self, StressOptions};
use crate::verify::{self, Outcome};

/// Uses a dmacard device as any program would: by ReadFile, WriteFile and DeviceIoControl.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES)]
pub struct Cli {
    /// Which machine to start; there is none on Windows.
    #[cfg(not(windows))]
    #[command(flatten)]
    pub machine: crate::machine_device::MachineOptions,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done and verified, 1 data differs, a check failed or a request did not end, 2 wrong command line, \
3 no device, 4 access denied, 5 a request failed (0 with --expect-failures), 6 the surroundings failed (file, memory, machine), \
86 bug check, 87 stop of the machine.";

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// What needs nothing but a device.
    #[command(flatten)]
    Device(DeviceCommand),
    /// Send a file through the device and show what that took, at every layer.
    #[cfg(not(windows))]
    Demo(crate::demo::DemoOptions),
}

/// What to do with a device.
#[derive(Debug, Clone, Subcommand)]
pub enum DeviceCommand {
    /// Say what the device is.
    Info,
    /// Say what the driver has counted since the device was started.
    Stats,
    /// Send a file through the device's memory and compare what comes back.
    Copy(CopyOptions),
    /// Play a file through a looped transfer of the FIFO peripheral, and check every period.
    ///
    /// The counts are printed at the end, and the exit code is 1 if a period was missed or came back different, or if the
    /// device ran out of data. Interrupted from the keyboard, it ends at once and prints nothing.
    Stream(StreamOptions),
    /// Check everything the driver promises.
    Verify(VerifyOptions),
    /// Make random requests by several threads at once, cancel some, and verify every byte.
    Stress(StressOptions),
    /// Start reads and end without waiting for them: what `verify --cancel` starts as a process of its own.
    #[cfg(windows)]
    #[command(hide = true)]
    Abandon {
        /// Reads to start.
        reads: usize,
        /// Bytes of each.
        length: usize,
    },
}

/// Options of `copy`.
#[derive(Debug, Clone, Args)]
pub struct CopyOptions {
    /// The file to send.
    pub file: PathBuf,
    /// How requests get their map registers.
    #[command(flatten)]
    pub mode: ModeOptions,
}

/// Options of `verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyOptions {
    /// Varies the data; the same seed makes the same requests.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub data_seed: u64,
    /// Afterwards, cancel requests at random moments: one by one, all at once, by closing their handle, by the end of a
    /// process.
    #[arg(long)]
    pub cancel: bool,
    /// How requests get their map registers.
    #[command(flatten)]
    pub mode: ModeOptions,
    /// What it puts up with.
    #[command(flatten)]
    pub tolerance: Tolerance,
}

/// What a command puts up with.
#[derive(Debug, Clone, Args)]
pub struct Tolerance {
    /// Exit with 0 although requests failed, if nothing else is wrong.
    #[arg(long)]
    pub expect_failures: bool,
    /// Longest time without the end of any request, s, while some are waited for.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub limit: u32,
}

impl Tolerance {
    /// The limit, as the checks take it.
    #[must_use]
    pub fn shared(&self) -> Shared {
        Shared::new(Duration::from_secs(self.limit.into()))
    }

    /// A command's result, without the failures that are expected.
    ///
    /// # Errors
    /// The others.
    pub fn judge(&self, result: Result<(), Error>) -> Result<(), Error> {
        match result {
            Err(error) if self.expect_failures && error.is_of_device() => {
                eprintln!("dmatest: expected: {error}");
                Ok(())
            }
            result => result,
        }
    }
}

/// Carries out a command.
///
/// # Errors
/// Those of the command; see [`crate::exit`].
pub fn run<D: Device>(device: &D, command: &DeviceCommand) -> Result<(), Error> {
    let info = query_info(device)?;
    let out = &mut io::stdout().lock();
    match command {
        DeviceCommand::Info => print_info(&info, out).map_err(Error::Output),
        DeviceCommand::Stats => {
            print_statistics(&query_statistics(device)?, out).map_err(Error::Output)
        }
        DeviceCommand::Copy(options) => options
            .mode
            .during(device, || copy_file(device, &info, options, out)),
        DeviceCommand::Stream(options) => stream::run(device, options, out),
        DeviceCommand::Verify(options) => options
            .mode
            .during(device, || verify_all(device, &info, options, out)),
        DeviceCommand::Stress(options) => options
            .mode
            .during(device, || stress::run(device, &info, options, out)),
        #[cfg(windows)]
        DeviceCommand::Abandon { reads, length } => {
            crate::windows::abandon(device, *reads, *length)
        }
    }
}

fn copy_file<D: Device>(
    device: &D,
    info: &DeviceInfo,
    options: &CopyOptions,
    out: &mut dyn io::Write,
) -> Result<(), Error> {
    let copied = copy::copy_file(device, info, &options.file, "copy")?;
    let rows = [
        ("file", options.file.display().to_string()),
        ("bytes", copied.bytes.to_string()),
        ("requests", copied.requests.to_string()),
        ("SHA-256 out", copied.written.clone()),
        ("SHA-256 back", copied.read.clone()),
    ];
    print_rows(&rows, out).map_err(Error::Output)?;
    copied.into_verified().map(drop)
}

fn verify_all<D: Device>(
    device: &D,
    info: &DeviceInfo,
    options: &VerifyOptions,
    out: &mut dyn io::Write,
) -> Result<(), Error> {
    let mut output = Ok(());
    let mut report = |outcome: &Outcome| {
        let line = print_outcome(outcome, out);
        if output.is_ok() {
            output = line;
        }
    };
    let mut verdict = verify::verify(device, info, options.data_seed, &mut report);
    if options.cancel && verdict.as_ref().err().is_none_or(Error::is_of_device) {
        let shared = options.tolerance.shared();
        let cancelled =
            verify::verify_cancel(device, info, options.data_seed, &shared, &mut report).and_then(
                |tally| {
                    tally
                        .explain()
                        .for_each(|line| eprintln!("dmatest: {line}"));
                    tally.none_failed()
                },
            );
        verdict = match cancelled {
            // Worse than any failed request.
            Err(error) if !error.is_of_device() => Err(error),
            cancelled => verdict.and(cancelled),
        };
    }
    output.map_err(Error::Output)?;
    options.tolerance.judge(verdict)
}

fn print_outcome(outcome: &Outcome, out: &mut dyn io::Write) -> io::Result<()> {
    let Outcome {
        name,
        requests,
        cancelled,
        result,
    } = outcome;
    match (result, cancelled) {
        (Ok(()), 0) => writeln!(out, "ok      {name:11} {requests} requests"),
        (Ok(()), _) => writeln!(
            out,
            "ok      {name:11} {requests} requests, {cancelled} cancelled"
        ),
        (Err(error), _) => writeln!(out, "FAILED  {name:11} {error}"),
    }
}
