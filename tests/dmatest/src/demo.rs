//! `demo`: a file through the device, and what that took at every layer of the machine.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use abi::info::{DeviceInfo, DeviceKind, InterruptKind};
use clap::Args;
use machine::{Machine, counters};
use serde::Serialize;

use crate::copy;
use crate::device::query_info;
use crate::error::Error;
use crate::info::print_rows;
use crate::machine_device::MachineDevice;
use crate::stream::{Streamed, stream};

/// Options of `demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoOptions {
    /// The file to send.
    pub file: PathBuf,
    /// Print one JSON object on standard output, and nothing else.
    #[arg(long)]
    pub json: bool,
}

/// What the demo shows; the names are those of the JSON object.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Which device, as `--device` calls it.
    pub device: String,
    /// Version of the QEMU that ran the device, if one did.
    pub qemu_version: Option<String>,
    /// How the device interrupted: `message` or `line`.
    pub interrupt: String,
    /// The file.
    pub file: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of what was written to the device.
    pub sha256_written: String,
    /// SHA-256 of what was read back.
    pub sha256_read: String,
    /// Whether both are the same.
    pub verified: bool,
    /// ReadFile and WriteFile calls.
    pub requests: u64,
    /// Transfers the HAL mapped for the device.
    pub transfers: u64,
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

/// Copies the file and prints the report.
///
/// # Errors
/// Those of the copy; [`Error::Mismatch`] after the report was printed, if what came back is not what went out.
pub fn run(machine: &Machine, device: &MachineDevice, options: &DemoOptions) -> Result<(), Error> {
    let report = measure(machine, device, options)?;
    print(&report, options.json, &mut io::stdout().lock()).map_err(Error::Output)?;
    if report.verified {
        Ok(())
    } else {
        Err(Error::Mismatch(
            "what came back is not what went out".to_owned(),
        ))
    }
}

/// Copies the file.
///
/// # Errors
/// Those of the copy. That the data differs is said in the report.
pub fn measure(
    machine: &Machine,
    device: &MachineDevice,
    options: &DemoOptions,
) -> Result<Report, Error> {
    let info = query_info(device)?;
    let before = Counts::now();
    let start = Instant::now();
    let copied = copy::copy_file(device, &info, &options.file, options.json)?;
    let seconds = start.elapsed().as_secs_f64();
    let counts = Counts::now().since(&before);
    Ok(Report {
        device: machine.device().name().to_owned(),
        qemu_version: machine.qemu_version().map(str::to_owned),
        interrupt: InterruptKind::from_code(info.interrupt_kind)
            .map_or("unknown", InterruptKind::name)
            .to_owned(),
        file: options.file.clone(),
        bytes: copied.bytes,
        verified: copied.verified(),
        requests: copied.requests,
        sha256_written: copied.written,
        sha256_read: copied.read,
        transfers: counts.transfers,
        interrupts: counts.interrupts,
        dpcs: counts.dpcs,
        mmio_reads: counts.mmio_reads,
        mmio_writes: counts.mmio_writes,
        bounced_bytes: counts.bounced_bytes,
        seconds,
        stream: play(device, &info, options)?,
    })
}

/// Plays the file, if the device streams: it has a channel for each direction then.
fn play(
    device: &MachineDevice,
    info: &DeviceInfo,
    options: &DemoOptions,
) -> Result<Option<Streamed>, Error> {
    const TIME: Duration = Duration::from_millis(50);
    const LINE_PERIOD: u32 = 20_000;
    let streams = info.device_kind == DeviceKind::Fifo as u32 && info.transfers_in_flight > 1;
    if !streams {
        return Ok(None);
    }
    let data = std::fs::read(&options.file).map_err(|error| Error::File {
        path: options.file.clone(),
        error,
    })?;
    stream(device, &data, TIME, LINE_PERIOD)?
        .into_verified()
        .map(Some)
}

fn print(report: &Report, json: bool, out: &mut dyn Write) -> io::Result<()> {
    if json {
        serde_json::to_writer(&mut *out, report)?;
        return writeln!(out);
    }
    let version = report.qemu_version.as_deref().unwrap_or("not used");
    let verdict = if report.verified {
        "the same"
    } else {
        "DIFFERENT"
    };
    let mut rows = vec![
        ("file", report.file.display().to_string()),
        ("bytes", report.bytes.to_string()),
        ("SHA-256 out", report.sha256_written.clone()),
        ("SHA-256 back", report.sha256_read.clone()),
        ("verdict", verdict.to_owned()),
        (
            "device",
            format!("{}, interrupt by {}", report.device, report.interrupt),
        ),
        ("QEMU", version.to_owned()),
        ("requests", report.requests.to_string()),
        ("DMA transfers", report.transfers.to_string()),
        ("interrupts", report.interrupts.to_string()),
        ("DPCs", report.dpcs.to_string()),
        ("register reads", report.mmio_reads.to_string()),
        ("register writes", report.mmio_writes.to_string()),
        ("bytes bounced", report.bounced_bytes.to_string()),
        ("seconds", format!("{:.3}", report.seconds)),
    ];
    if let Some(stream) = &report.stream {
        let text = format!("{} periods, none missed or different", stream.periods);
        rows.push(("stream", text));
    }
    print_rows(&rows, out)
}

/// The machine's counters that the report shows.
struct Counts {
    transfers: u64,
    interrupts: u64,
    dpcs: u64,
    mmio_reads: u64,
    mmio_writes: u64,
    bounced_bytes: u64,
}

impl Counts {
    fn now() -> Self {
        let counters = counters();
        Self {
            transfers: counters.dma_transfers.get(),
            interrupts: counters.interrupts.get(),
            dpcs: counters.dpcs.get(),
            mmio_reads: counters.mmio_reads.get(),
            mmio_writes: counters.mmio_writes.get(),
            bounced_bytes: counters.bounced_bytes.get(),
        }
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            transfers: self.transfers - before.transfers,
            interrupts: self.interrupts - before.interrupts,
            dpcs: self.dpcs - before.dpcs,
            mmio_reads: self.mmio_reads - before.mmio_reads,
            mmio_writes: self.mmio_writes - before.mmio_writes,
            bounced_bytes: self.bounced_bytes - before.bounced_bytes,
        }
    }
}
