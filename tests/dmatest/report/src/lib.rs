//! What the demo shows: of each device a [`Report`], several beside each other in one table, or as JSON.
//!
//! `dmatest demo` makes the report of one device, in a process of its own since that is a machine's; `cargo xtask demo`
//! puts those of several together.

pub mod input;
mod table;

use std::io::{self, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use table::print_rows;

/// A file's way through one device. The names are those of the JSON object; every device has all of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Which device, as `--device` calls it.
    pub device: String,
    /// Version of the QEMU that ran the device, if one did.
    pub qemu_version: Option<String>,
    /// How the device interrupted: `message`, `line` or `none`.
    pub interrupt: String,
    /// The file.
    pub file: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of what was written to the device.
    pub sha256_written: String,
    /// SHA-256 of what was read back.
    pub sha256_read: String,
    /// Whether both are the same, and no stream has lost anything.
    pub verified: bool,
    /// ReadFile and WriteFile calls.
    pub requests: u64,
    /// Transfers the HAL mapped for the device.
    pub transfers: u64,
    /// Elements of their scatter/gather lists, all together.
    pub elements: u64,
    /// Descriptors that the driver gave the device; a device without a ring gets none.
    pub descriptors: u64,
    /// Interrupts delivered to a processor.
    pub interrupts: u64,
    /// Deferred procedure calls run.
    pub dpcs: u64,
    /// Register reads by the driver.
    pub mmio_reads: u64,
    /// Register writes by the driver.
    pub mmio_writes: u64,
    /// Bytes copied through bounce pages, since the device cannot reach where the buffers lie.
    pub bounced_bytes: u64,
    /// Real time of the copy, s.
    pub seconds: f64,
    /// The file played through a looped transfer, by a device that can.
    pub stream: Option<Streamed>,
}

/// What a stream did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streamed {
    /// Periods that were checked.
    pub periods: u64,
    /// Periods that nobody fetched or filled in time.
    pub missed: u64,
    /// Times that the device had run out of data, or of room.
    pub glitches: u64,
    /// Periods that came back different.
    pub different: u64,
}

impl Streamed {
    /// Whether there was something, and nothing of it was lost.
    #[must_use]
    pub fn verified(&self) -> bool {
        self.periods > 0 && self.missed + self.glitches + self.different == 0
    }
}

/// The same file's way through several devices. The names are those of the JSON object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Whether every device that was asked for gave back what it was given.
    pub verified: bool,
    /// Those that gave anything back, in the order in which they were asked for.
    pub devices: Vec<Report>,
}

/// Prints a JSON object and the end of the line.
///
/// # Errors
/// Those of `out`.
pub fn print_json<T: Serialize>(object: &T, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, object)?;
    writeln!(out)
}

/// Prints reports of the same file as one table, a column each.
///
/// # Errors
/// Those of `out`.
pub fn print_table(reports: &[Report], out: &mut dyn Write) -> io::Result<()> {
    table::print(reports, out)
}

#[cfg(test)]
mod tests;
