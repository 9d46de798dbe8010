//! The whole measurement.

use std::time::Duration;

use abi::info::{DeviceInfo, InterruptKind};
use anyhow::{Result, ensure};
use dmatest::machine_device::MachineDevice;
use dmatest::pattern::{Pattern, difference};
use dmatest::{Device, query_info};
use machine::user::{Token, UserBuffer};
use machine::{Config, Machine};

use crate::counts::Counts;
use crate::limits;
use crate::load::{self, Done};
use crate::plan::{self, Cell, Plan};
use crate::report::{EmptyRequest, Latency, PerRequest, Report, Row};
use crate::statistics::{median_by, percentile};

/// Measures everything in a machine of this configuration, which should run freely; `tell` hears of each row once it is
/// there.
///
/// # Errors
/// The machine or the device does not start, or a request fails, or does not move what it should.
pub fn measure(config: Config, plan: Plan, mut tell: impl FnMut(&Row) + 'static) -> Result<Report> {
    machine::run(config, move |machine| {
        machine.start()?;
        let device = MachineDevice::open(machine, Token::Administrator)?;
        let report = on(machine, &device, plan, &mut tell);
        drop(device);
        machine.shut_down();
        report
    })?
}

fn on(
    machine: &Machine,
    device: &MachineDevice,
    plan: Plan,
    tell: &mut dyn FnMut(&Row),
) -> Result<Report> {
    let info = query_info(device)?;
    let cells = plan::cells(&info);
    let largest = cells.iter().map(|cell| cell.size).max().unwrap_or(0);
    let deepest = cells.iter().map(|cell| cell.depth).max().unwrap_or(0);
    let range = cells.iter().map(|cell| cell.places as usize * cell.size);
    let mut card = vec![0x5a; range.max().unwrap_or(0)];
    // Both directions at once have buffers of their own.
    let mut buffers = (0..2 * deepest)
        .map(|_| Ok(device.buffer(largest)?))
        .collect::<Result<Vec<UserBuffer>>>()?;
    check(device, &info, largest, &mut buffers)?;

    let empty_request = ask_for_nothing(device, &mut buffers, plan)?;
    let mut rows = Vec::new();
    for cell in cells {
        let row = row(device, cell, &mut buffers, &mut card, plan)?;
        tell(&row);
        rows.push(row);
    }
    Ok(Report {
        device: machine.device().name().to_owned(),
        interrupt: InterruptKind::from_code(info.interrupt_kind)
            .map_or("unknown", InterruptKind::name)
            .to_owned(),
        host_processors: std::thread::available_parallelism().map_or(1, usize::from),
        empty_request,
        rows,
    })
}

/// What is measured moves bytes: all memory that requests will go to is written, and what was written is read back. It
/// also has the memory there: none is touched for the first time later.
fn check(
    device: &MachineDevice,
    info: &DeviceInfo,
    size: usize,
    buffers: &mut [UserBuffer],
) -> Result<()> {
    for offset in (0..info.memory_size - size as u64 + 1)
        .step_by(size)
        .take(64)
    {
        let mut out = device.buffer(size)?;
        Pattern::Random(offset).fill(0, &mut out);
        let written = device.start(dmatest::Direction::Write, offset, out, 0..size);
        let out = device
            .wait(written)
            .whole(dmatest::Direction::Write, offset, size)?;
        let back = device.buffer(size)?;
        let read = device.start(dmatest::Direction::Read, offset, back, 0..size);
        let back = device
            .wait(read)
            .whole(dmatest::Direction::Read, offset, size)?;
        let different = difference(&out[..size], &back[..size]);
        ensure!(
            different.is_none(),
            "what was written at {offset:#x} does not come back"
        );
    }
    buffers.iter_mut().for_each(|buffer| buffer.fill(0xa5));
    Ok(())
}

fn row(
    device: &MachineDevice,
    cell: Cell,
    buffers: &mut Vec<UserBuffer>,
    card: &mut [u8],
    plan: Plan,
) -> Result<Row> {
    let mut copied = Vec::new();
    let mut copy = |buffers: &mut Vec<UserBuffer>, card: &mut [u8]| {
        copied.push(limits::copy(cell, buffers, card, plan.copy_time));
    };
    let measured = repeat(plan, |time| {
        // Beside each repetition, so that what slows the host down slows both down.
        copy(buffers, card);
        load::run(device, cell, buffers, time)
    })?;
    // The first was the warm-up.
    let copied = median_by(copied.split_off(1), |rate| *rate).unwrap_or(f64::NAN);
    let bytes_per_second = measured.requests_per_second * cell.size as f64;
    Ok(Row {
        size: cell.size,
        depth: cell.depth,
        direction: cell.direction,
        megabytes_per_second: bytes_per_second / 1e6,
        memcpy_megabytes_per_second: copied / 1e6,
        memcpy_ratio: bytes_per_second / copied,
        requests_per_second: measured.requests_per_second,
        requests: measured.requests,
        latency: measured.latency,
        per_request: measured.per_request,
    })
}

fn ask_for_nothing(
    device: &MachineDevice,
    buffers: &mut Vec<UserBuffer>,
    plan: Plan,
) -> Result<EmptyRequest> {
    let measured = repeat(plan, |time| limits::ask_for_nothing(device, buffers, time))?;
    Ok(EmptyRequest {
        requests_per_second: measured.requests_per_second,
        latency: measured.latency,
        per_request: measured.per_request,
    })
}

/// Repetitions, summed up.
struct Measured {
    /// The median.
    requests_per_second: f64,
    /// In all repetitions.
    requests: u64,
    latency: Latency,
    per_request: PerRequest,
}

/// Does it once to warm up, then as often as planned.
fn repeat(plan: Plan, mut once: impl FnMut(Duration) -> Result<Done>) -> Result<Measured> {
    once(plan.warm_up)?;
    let before = Counts::now();
    let mut done = (0..plan.repetitions)
        .map(|_| once(plan.time))
        .collect::<Result<Vec<Done>>>()?;
    let requests = done.iter().map(|done| done.requests).sum();
    let per_request = Counts::now().per_request(before, requests);
    let mut latencies: Vec<u64> = done
        .iter_mut()
        .flat_map(|done| std::mem::take(&mut done.latencies))
        .collect();
    let rates: Vec<f64> = done.iter().map(Done::requests_per_second).collect();
    Ok(Measured {
        requests_per_second: median_by(rates, |rate| *rate).unwrap_or(f64::NAN),
        requests,
        latency: Latency {
            median_us: percentile(&mut latencies, 50) as f64 / 1e3,
            p99_us: percentile(&mut latencies, 99) as f64 / 1e3,
        },
        per_request,
    })
}
