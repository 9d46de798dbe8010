//! `demo`: a file through the device, and what that took at every layer of the machine.

use std::io;
use std::path::PathBuf;
use std::time::Instant;

use abi::info::InterruptKind;
use abi::stream::{LEAD, PERIOD};
use clap::Args;
use demo_report::{Report, Streamed, input, print_json, print_table};
use machine::{Machine, counters};

use crate::copy;
use crate::device::{query_info, query_statistics};
use crate::error::Error;
use crate::machine_device::MachineDevice;
use crate::stream::{LINE_PERIOD, Song, is_offered, period_time, stream};

/// Options of `demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoOptions {
    /// The file to send.
    pub file: PathBuf,
    /// Print one JSON object on standard output, and nothing else.
    #[arg(long)]
    pub json: bool,
}

/// Copies the file and prints the report.
///
/// # Errors
/// Those of the copy; [`Error::Mismatch`] after the report was printed, if what came back is not what went out.
pub fn run(machine: &Machine, device: &MachineDevice, options: &DemoOptions) -> Result<(), Error> {
    let report = measure(machine, device, options)?;
    let out = &mut io::stdout().lock();
    let printed = if options.json {
        print_json(&report, out)
    } else {
        print_table(std::slice::from_ref(&report), out)
    };
    printed.map_err(Error::Output)?;
    if report.verified {
        Ok(())
    } else {
        Err(Error::Mismatch(
            "what came back is not what went out".to_owned(),
        ))
    }
}

/// Copies the file, and plays it if the device streams.
///
/// # Errors
/// Those of the copy and of the stream. That the data differs is said in the report.
pub fn measure(
    machine: &Machine,
    device: &MachineDevice,
    options: &DemoOptions,
) -> Result<Report, Error> {
    let (_, length) = input::open_for_demo(&options.file).map_err(Error::file(&options.file))?;
    let info = query_info(device)?;
    let name = machine.device().name();
    let before = Counts::now(device)?;
    let start = Instant::now();
    let copied = copy::copy_file(device, &info, &options.file, name)?;
    let seconds = start.elapsed().as_secs_f64();
    let counts = Counts::now(device)?.since(&before);
    let stream = if is_offered(&info) && length > 0 {
        Some(play(device, options, length)?)
    } else {
        None
    };
    Ok(Report {
        device: name.to_owned(),
        qemu_version: machine.qemu_version().map(str::to_owned),
        interrupt: InterruptKind::from_code(info.interrupt_kind)
            .map_or("unknown", InterruptKind::name)
            .to_owned(),
        file: options.file.clone(),
        bytes: copied.bytes,
        verified: copied.verified() && stream.is_none_or(|stream| stream.verified()),
        requests: copied.requests,
        sha256_written: copied.written,
        sha256_read: copied.read,
        transfers: counts.transfers,
        elements: counts.elements,
        descriptors: counts.descriptors,
        interrupts: counts.interrupts,
        dpcs: counts.dpcs,
        mmio_reads: counts.mmio_reads,
        mmio_writes: counts.mmio_writes,
        bounced_bytes: counts.bounced_bytes,
        seconds,
        stream,
    })
}

/// Plays the file of `length` bytes once, the start of a long one.
fn play(device: &MachineDevice, options: &DemoOptions, length: u64) -> Result<Streamed, Error> {
    const MOST: u64 = 100;
    let periods = length.div_ceil(PERIOD as u64).min(MOST) + LEAD;
    let time = period_time(LINE_PERIOD) * periods as u32;
    let mut song = Song::open(&options.file)?;
    stream(device, &mut song, time, LINE_PERIOD)
}

/// What the machine and the driver have counted of what the report shows.
struct Counts {
    transfers: u64,
    elements: u64,
    descriptors: u64,
    interrupts: u64,
    dpcs: u64,
    mmio_reads: u64,
    mmio_writes: u64,
    bounced_bytes: u64,
}

impl Counts {
    fn now(device: &MachineDevice) -> Result<Self, Error> {
        let descriptors = query_statistics(device)?.descriptors;
        let counters = counters();
        Ok(Self {
            transfers: counters.dma_transfers.get(),
            elements: counters.dma_elements.get(),
            descriptors,
            interrupts: counters.interrupts.get(),
            dpcs: counters.dpcs.get(),
            mmio_reads: counters.mmio_reads.get(),
            mmio_writes: counters.mmio_writes.get(),
            bounced_bytes: counters.bounced_bytes.get(),
        })
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            transfers: self.transfers - before.transfers,
            elements: self.elements - before.elements,
            descriptors: self.descriptors - before.descriptors,
            interrupts: self.interrupts - before.interrupts,
            dpcs: self.dpcs - before.dpcs,
            mmio_reads: self.mmio_reads - before.mmio_reads,
            mmio_writes: self.mmio_writes - before.mmio_writes,
            bounced_bytes: self.bounced_bytes - before.bounced_bytes,
        }
    }
}
