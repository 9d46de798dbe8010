//! What the requests are compared with: copying without a device, and asking the driver for nothing.

use std::hint::black_box;
use std::time::{Duration, Instant};

use abi::ioctl::{Access, DEVICE_TYPE, Method, ctl_code};
use anyhow::{Result, ensure};
use dmatest::Win32Error;
use dmatest::machine_device::MachineDevice;
use machine::user::UserBuffer;

use crate::load::Done;
use crate::plan::{Cell, Direction};

const PAGE: usize = 4096;

/// A control code that the driver does not know: the way there and back is all it costs.
const NOTHING: u32 = ctl_code(DEVICE_TYPE, 0xfff, Method::Buffered, Access::Any);

/// Copies for at least `time` what the requests of `cell` move, on one thread: the same buffers, page by page, and a range
/// of memory as large as the one they go to. Bytes per second.
pub(crate) fn copy(cell: Cell, buffers: &mut [UserBuffer], card: &mut [u8], time: Duration) -> f64 {
    let start = Instant::now();
    let mut copied = 0_u64;
    let mut round = 0;
    while start.elapsed() < time {
        // The clock is not looked at more than once in some 64 KiB.
        for _ in 0..(1_usize << 16).div_ceil(cell.size) {
            let to_card = match cell.direction {
                Direction::Write => true,
                Direction::Read => false,
                Direction::Both => round % 2 == 0,
            };
            let place = round % cell.places as usize * cell.size;
            let buffer = &mut buffers[round % cell.depth][..cell.size];
            let range = &mut card[place..place + cell.size];
            for (page, part) in buffer.chunks_mut(PAGE).zip(range.chunks_mut(PAGE)) {
                if to_card {
                    part.copy_from_slice(page);
                } else {
                    page.copy_from_slice(part);
                }
            }
            black_box((buffer, range));
            copied += cell.size as u64;
            round += 1;
        }
    }
    copied as f64 / start.elapsed().as_secs_f64()
}

/// Asks the driver for nothing, one request after the other, for at least `time`.
pub(crate) fn ask_for_nothing(
    device: &MachineDevice,
    buffers: &mut Vec<UserBuffer>,
    time: Duration,
) -> Result<Done> {
    let mut latencies = Vec::new();
    let start = Instant::now();
    while start.elapsed() < time {
        let since = Instant::now();
        let Some(buffer) = buffers.pop() else { break };
        let done = device.file().control(NOTHING, buffer, 0..0, 0..0).wait();
        latencies.push(since.elapsed().as_nanos() as u64);
        let refused = done.result == Err(machine::user::Win32Error(Win32Error::INVALID_FUNCTION.0));
        ensure!(refused, "an unknown request ended with {:?}", done.result);
        buffers.push(done.buffer);
    }
    Ok(Done {
        requests: latencies.len() as u64,
        elapsed: start.elapsed(),
        latencies,
    })
}
