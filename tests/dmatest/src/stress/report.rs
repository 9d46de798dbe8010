//! What `stress` prints.

use std::io::{self, Write};
use std::time::Duration;

use abi::statistics::Statistics;
use serde::Serialize;

use crate::info::print_rows;
use crate::latency::Summary;
use crate::tally::Tally;

/// Widest bar of the histogram, characters.
const BAR: u64 = 40;

/// What `stress` shows; the names are those of the JSON object.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What decided sizes, places and data.
    pub seed: u64,
    /// Threads.
    pub threads: usize,
    /// Requests under way in each.
    pub depth: usize,
    /// Sizes of the requests.
    pub sizes: String,
    /// The requests; those by which each thread gives its memory known contents, and reads it at the end, are among them.
    #[serde(flatten)]
    pub tally: Tally,
    /// Resets made.
    pub resets: u64,
    /// A thread ended early, since nothing but failures came back.
    pub gave_up: bool,
    /// From the first request to the last, by the device's clock, s; virtual where the machine's is.
    pub seconds: f64,
    /// The same by the clock on the wall.
    pub real_seconds: f64,
    /// Latencies; those of the requests that succeeded.
    pub latency: Option<Summary>,
    /// What the driver counted meanwhile, if it still said so.
    pub driver: Option<Counted>,
    /// What it came to.
    pub verdict: String,
}

/// What the driver counted while requests were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// Requests it was given.
    pub requests: u64,
    /// Those that ended with success.
    pub completed: u64,
    /// Those that were cancelled.
    pub cancelled: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those of the failed ones that the hardware did not finish in time.
    pub timeouts: u64,
    /// Transfers.
    pub transfers: u64,
    /// Interrupts of the device.
    pub interrupts: u64,
}

impl Counted {
    /// The difference of two looks at the driver's counts.
    #[must_use]
    pub fn between(before: &Statistics, after: &Statistics) -> Self {
        let since = |count: fn(&Statistics) -> u64| count(after).wrapping_sub(count(before));
        Self {
            requests: since(|s| s.requests),
            completed: since(|s| s.completed),
            cancelled: since(|s| s.cancelled),
            failed: since(|s| s.failed),
            timeouts: since(|s| s.timeouts),
            transfers: since(|s| s.transfers),
            interrupts: since(|s| s.interrupts),
        }
    }
}

impl Report {
    /// Prints it, as a table or as one JSON object.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn print(&self, json: bool, out: &mut dyn Write) -> io::Result<()> {
        if json {
            serde_json::to_writer(&mut *out, self)?;
            return writeln!(out);
        }
        let tally = &self.tally;
        let per_second = |count: u64| format!("{:.1}", count as f64 / self.seconds.max(1e-9));
        let mut rows = vec![
            ("requests", tally.requests.to_string()),
            ("completed", tally.completed.to_string()),
            ("cancelled", tally.cancelled.to_string()),
            ("cancelled too late", tally.too_late.to_string()),
            ("failed", tally.failed.to_string()),
            ("resets", self.resets.to_string()),
            ("bytes read", tally.bytes_read.to_string()),
            ("bytes written", tally.bytes_written.to_string()),
            (
                "seconds",
                format!("{:.3} ({:.3} real)", self.seconds, self.real_seconds),
            ),
            ("requests/s", per_second(tally.requests)),
            (
                "bytes/s",
                per_second(tally.bytes_read + tally.bytes_written),
            ),
        ];
        if let Some(driver) = &self.driver {
            rows.push(("driver: requests", driver.requests.to_string()));
            rows.push(("driver: cancelled", driver.cancelled.to_string()));
            rows.push(("driver: timeouts", driver.timeouts.to_string()));
            rows.push(("driver: transfers", driver.transfers.to_string()));
            rows.push(("driver: interrupts", driver.interrupts.to_string()));
        }
        if let Some(latency) = &self.latency {
            rows.push(("latency, median", time(latency.median_us)));
            rows.push(("latency, 99 %", time(latency.percentile_99_us)));
            rows.push(("latency, longest", time(latency.most_us)));
        }
        rows.push(("verdict", self.verdict.clone()));
        print_rows(&rows, out)?;
        for line in tally.explain() {
            writeln!(out, "failed: {line}")?;
        }
        if self.gave_up {
            writeln!(out, "gave up: nothing but failures came back")?;
        }
        match &self.latency {
            Some(latency) => print_histogram(&latency.histogram, out),
            None => Ok(()),
        }
    }
}

fn print_histogram(rows: &[(u64, u64)], out: &mut dyn Write) -> io::Result<()> {
    let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(1);
    rows.iter().try_for_each(|(bound, count)| {
        let bar = "#".repeat((count * BAR).div_ceil(most) as usize);
        writeln!(out, "< {:>10} {count:>9} {bar}", time(*bound as f64))
    })
}

fn time(us: f64) -> String {
    format!("{:.1?}", Duration::from_secs_f64(us / 1e6))
}
