//! What comes out: for scripts as JSON, for people as a table.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use crate::plan::Direction;

/// A measurement; the names are those of the JSON object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The device.
    pub device: String,
    /// How it interrupted: `message` or `line`.
    pub interrupt: String,
    /// Processors of the host. With one, the device and the driver take turns on it.
    pub host_processors: usize,
    /// A request that asks for nothing.
    pub empty_request: EmptyRequest,
    /// A row for every size, direction and depth.
    pub rows: Vec<Row>,
}

/// Requests of one size in one direction, `depth` of them under way at a time (in each direction).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Bytes of a request.
    pub size: usize,
    /// Requests under way, in each direction.
    pub depth: usize,
    /// Which way the bytes went.
    pub direction: Direction,
    /// Millions of bytes per second, both directions together: the median of all repetitions.
    pub megabytes_per_second: f64,
    /// The same of one thread that copies between the same buffers and as large a range of memory.
    pub memcpy_megabytes_per_second: f64,
    /// How much of that the requests reach.
    pub memcpy_ratio: f64,
    /// Requests per second: the median of all repetitions.
    pub requests_per_second: f64,
    /// Requests in all repetitions.
    pub requests: u64,
    /// How long a request took.
    #[serde(flatten)]
    pub latency: Latency,
    /// What a request cost.
    #[serde(flatten)]
    pub per_request: PerRequest,
}

/// A request that the driver refuses at once: what the way to it and back costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EmptyRequest {
    /// Requests per second, one at a time: the median of all repetitions.
    pub requests_per_second: f64,
    /// How long a request took.
    #[serde(flatten)]
    pub latency: Latency,
    /// What a request cost.
    #[serde(flatten)]
    pub per_request: PerRequest,
}

/// From the program's call to when it has seen the end.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Microseconds.
    #[serde(rename = "latency_median_us")]
    pub median_us: f64,
    /// Microseconds that all but one request in a hundred stay below.
    #[serde(rename = "latency_p99_us")]
    pub p99_us: f64,
}

/// Counts, divided by requests.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PerRequest {
    /// Register reads by the driver.
    #[serde(rename = "register_reads_per_request")]
    pub register_reads: f64,
    /// Register writes by the driver.
    #[serde(rename = "register_writes_per_request")]
    pub register_writes: f64,
    /// Interrupts delivered.
    #[serde(rename = "interrupts_per_request")]
    pub interrupts: f64,
    /// Deferred procedure calls run.
    #[serde(rename = "dpcs_per_request")]
    pub dpcs: f64,
    /// Calls of framework functions by the driver.
    #[serde(rename = "ddi_calls_per_request")]
    pub ddi_calls: f64,
    /// Locks that the driver took.
    #[serde(rename = "locks_per_request")]
    pub locks: f64,
    /// Blocks and objects that the driver had made for it.
    #[serde(rename = "allocations_per_request")]
    pub allocations: f64,
    /// DMA transfers that the request was split into.
    #[serde(rename = "transfers_per_request")]
    pub transfers: f64,
}

/// The table's first lines.
pub(crate) const HEADING: &str = "    size  way   depth      MB/s  memcpy  requests/s  median us     p99 us  reads writes   irqs   dpcs  calls  locks allocs";

impl Row {
    /// A line of the table.
    pub(crate) fn line(&self) -> String {
        format!(
            "{:>8}  {:5} {:>5} {:>9.1} {:>7.3} {:>11.0} {:>10.2} {:>10.2} {}",
            self.size,
            self.direction,
            self.depth,
            self.megabytes_per_second,
            self.memcpy_ratio,
            self.requests_per_second,
            self.latency.median_us,
            self.latency.p99_us,
            self.per_request.line(),
        )
    }
}

impl PerRequest {
    fn line(&self) -> String {
        format!(
            "{:>6.2} {:>6.2} {:>6.2} {:>6.2} {:>6.2} {:>6.2} {:>6.2}",
            self.register_reads,
            self.register_writes,
            self.interrupts,
            self.dpcs,
            self.ddi_calls,
            self.locks,
            self.allocations
        )
    }
}

impl Report {
    /// Prints the table: counts are per request, and `memcpy` is the share of what one copying thread gets done.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "{}, interrupts by {}, {} processors of the host",
            self.device, self.interrupt, self.host_processors
        )?;
        writeln!(out, "{HEADING}")?;
        for row in &self.rows {
            writeln!(out, "{}", row.line())?;
        }
        let empty = &self.empty_request;
        writeln!(
            out,
            "   empty              {:>9} {:>7} {:>11.0} {:>10.2} {:>10.2} {}",
            "",
            "",
            empty.requests_per_second,
            empty.latency.median_us,
            empty.latency.p99_us,
            empty.per_request.line(),
        )
    }

    /// Prints one JSON object.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn print_json(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }
}
