//! `stress`: random requests by several threads at once, every byte of which is verified.
//!
//! Each thread has a handle and a part of the device's memory of its own, so that what it reads is determined by what it
//! has written. Data that is wrong, a request that does not end and counts of the driver that do not add up are errors in
//! any case; requests that fail are, unless they are expected.

mod report;
mod worker;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use abi::info::DeviceInfo;
use abi::statistics::Statistics;
use clap::Args;

use crate::cli::Tolerance;
use crate::device::{Device, query_statistics};
use crate::error::Error;
use crate::latency::Latencies;
use crate::progress::Progress;
use crate::sizes::Sizes;
use crate::tally::Tally;

pub use report::{Counted, Report};
use worker::{Done, Plan, Together};

/// Requests made unless something else is asked for.
const REQUESTS: u64 = 1000;

/// Options of `stress`.
#[derive(Debug, Clone, Args)]
pub struct StressOptions {
    /// How requests get their map registers.
    #[command(flatten)]
    pub mode: crate::mode::ModeOptions,
    /// Requests to make, 1000 unless a duration is given.
    #[arg(long, value_name = "NUMBER", conflicts_with = "duration")]
    pub requests: Option<u64>,
    /// How long to make requests, s; of virtual time where the machine's is.
    #[arg(long, value_name = "SECONDS")]
    pub duration: Option<u32>,
    /// Requests under way in each thread.
    #[arg(long, value_name = "NUMBER", default_value_t = 8,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub depth: u16,
    /// Threads, each with a handle of its own.
    #[arg(long, value_name = "NUMBER", default_value_t = 4,
          value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: u16,
    /// Sizes of requests: numbers and ranges, as in 1-64,512,4095. A thread's part of the memory limits them.
    #[arg(long, value_name = "SIZES", default_value_t)]
    pub sizes: Sizes,
    /// How many of a hundred requests to cancel, at random moments.
    #[arg(long, value_name = "PERCENT", default_value_t = 0,
          value_parser = clap::value_parser!(u8).range(..=100))]
    pub cancel: u8,
    /// How many resets to make for a hundred requests.
    #[arg(long, value_name = "PERCENT", default_value_t = 0,
          value_parser = clap::value_parser!(u8).range(..=100))]
    pub reset: u8,
    /// Decides sizes, places, data and what is cancelled when.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub data_seed: u64,
    /// Print one JSON object on standard output, and nothing else.
    #[arg(long)]
    pub json: bool,
    /// What it puts up with.
    #[command(flatten)]
    pub tolerance: Tolerance,
}

/// Makes the requests and prints the report.
///
/// # Errors
/// [`Error::Mismatch`], [`Error::Hung`], [`Error::RequestsFailed`], and those of opening the device.
pub fn run<D: Device>(
    device: &D,
    info: &DeviceInfo,
    options: &StressOptions,
    out: &mut dyn io::Write,
) -> Result<(), Error> {
    let (report, verdict) = measure(device, info, options)?;
    report.print(options.json, out).map_err(Error::Output)?;
    options.tolerance.judge(verdict)
}

/// Makes the requests. What the requests came to is in the report, and whether that is an error is the second result.
///
/// # Errors
/// The requests could not be made at all.
pub fn measure<D: Device>(
    device: &D,
    info: &DeviceInfo,
    options: &StressOptions,
) -> Result<(Report, Result<(), Error>), Error> {
    let before = query_statistics(device)?;
    let (start, real_start) = (device.now(), Instant::now());
    let until = options
        .duration
        .map(|seconds| start + Duration::from_secs(seconds.into()));
    let progress = match (options.json, options.duration) {
        (true, _) => Progress::quiet(),
        (false, Some(seconds)) => Progress::seconds("stress", seconds.into()),
        (false, None) => Progress::requests("stress", options.requests.unwrap_or(REQUESTS)),
    };
    let plan = Plan {
        memory: info.memory_size as usize,
        largest: info.maximum_request as usize,
        threads: usize::from(options.threads).min(info.memory_size as usize),
        depth: options.depth.into(),
        sizes: options.sizes.clone(),
        cancel: options.cancel,
        reset: options.reset,
        seed: options.data_seed,
        start,
        until,
    };
    let budget = match until {
        Some(_) => u64::MAX,
        None => options.requests.unwrap_or(REQUESTS),
    };
    let together = Arc::new(Together::new(
        options.tolerance.shared(),
        budget,
        Mutex::new(progress),
    ));
    let threads = plan.threads;
    let shared = Arc::clone(&together);
    let work = move |number, device: &D| worker::work(number, device, &plan, &shared);
    let done = device.on_threads(threads, work)?;
    let seconds = device.now().saturating_sub(start).as_secs_f64();
    let real_seconds = real_start.elapsed().as_secs_f64();
    let sum = Sum::of(done);
    let after = match sum.error {
        // Whoever hangs keeps others from getting an answer.
        Some(Error::Hung(_)) => None,
        _ => Some(query_statistics(device)),
    };
    let driver = match &after {
        Some(Ok(after)) => Some(Counted::between(&before, after)),
        _ => None,
    };
    let mut report = Report {
        seed: options.data_seed,
        threads,
        depth: options.depth.into(),
        sizes: options.sizes.to_string(),
        tally: sum.tally.clone(),
        resets: sum.resets,
        gave_up: sum.gave_up,
        seconds,
        real_seconds,
        latency: sum.latencies.summary(),
        driver,
        verdict: String::new(),
    };
    let verdict = sum.verdict(&before, after);
    report.verdict = match &verdict {
        Ok(()) => "every byte verified".to_owned(),
        Err(error) => error.to_string(),
    };
    Ok((report, verdict))
}

/// What all threads did.
#[derive(Default)]
struct Sum {
    tally: Tally,
    latencies: Latencies,
    resets: u64,
    gave_up: bool,
    error: Option<Error>,
    reset_error: Option<Error>,
}

impl Sum {
    fn of(threads: Vec<Done>) -> Self {
        let mut sum = Self::default();
        for done in threads {
            sum.tally.merge(&done.tally);
            sum.latencies.merge(&done.latencies);
            sum.resets += done.resets;
            sum.gave_up |= done.gave_up;
            sum.error = sum.error.or(done.result.err());
            sum.reset_error = sum.reset_error.or(done.reset_error);
        }
        sum
    }

    /// The worst that has happened.
    fn verdict(
        self,
        before: &Statistics,
        after: Option<Result<Statistics, Error>>,
    ) -> Result<(), Error> {
        if let Some(error) = self.error {
            return Err(error);
        }
        if let Some(Ok(after)) = &after {
            self.tally.check(before, after)?;
        }
        self.tally.none_failed()?;
        if let Some(error) = self.reset_error {
            return Err(error);
        }
        after.transpose().map(drop)
    }
}

#[cfg(test)]
mod tests;
