//! A program that keeps requests under way.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dmatest::Device;
use dmatest::machine_device::MachineDevice;
use machine::user::{Overlapped, UserBuffer, wait_any};

use crate::plan::{Cell, Direction};

/// What was done in one repetition.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) requests: u64,
    pub(crate) elapsed: Duration,
    /// From the call to when the program has seen the end, ns.
    pub(crate) latencies: Vec<u64>,
}

impl Done {
    pub(crate) fn requests_per_second(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }
}

/// Requests of one direction, which end in the order in which they were started.
struct Lane<'a> {
    device: &'a MachineDevice,
    direction: dmatest::Direction,
    cell: Cell,
    free: Vec<UserBuffer>,
    under_way: VecDeque<UnderWay>,
    started: u64,
}

struct UnderWay {
    since: Instant,
    offset: u64,
    request: Overlapped,
}

impl<'a> Lane<'a> {
    fn new(
        device: &'a MachineDevice,
        direction: dmatest::Direction,
        cell: Cell,
        free: Vec<UserBuffer>,
    ) -> Self {
        Self {
            device,
            direction,
            cell,
            free,
            under_way: VecDeque::new(),
            started: 0,
        }
    }

    /// Starts a request with every buffer that is free.
    fn fill(&mut self) {
        while let Some(buffer) = self.free.pop() {
            let size = self.cell.size;
            let offset = self.started % self.cell.places * size as u64;
            self.started += 1;
            let since = Instant::now();
            let request = self.device.start(self.direction, offset, buffer, 0..size);
            self.under_way.push_back(UnderWay {
                since,
                offset,
                request,
            });
        }
    }

    /// Waits for the oldest request.
    fn finish(&mut self, latencies: &mut Vec<u64>) -> Result<()> {
        let oldest = self.under_way.pop_front().context("nothing is under way")?;
        let done = self.device.wait(oldest.request);
        latencies.push(oldest.since.elapsed().as_nanos() as u64);
        let buffer = done.whole(self.direction, oldest.offset, self.cell.size)?;
        self.free.push(buffer);
        Ok(())
    }
}

/// Keeps `cell.depth` requests under way in each of its directions for at least `time`, beginning and ending with none,
/// and puts the buffers back.
pub(crate) fn run(
    device: &MachineDevice,
    cell: Cell,
    buffers: &mut Vec<UserBuffer>,
    time: Duration,
) -> Result<Done> {
    let directions: &[dmatest::Direction] = match cell.direction {
        Direction::Read => &[dmatest::Direction::Read],
        Direction::Write => &[dmatest::Direction::Write],
        Direction::Both => &[dmatest::Direction::Read, dmatest::Direction::Write],
    };
    let mut lanes: Vec<Lane<'_>> = directions
        .iter()
        .map(|&direction| {
            let own = buffers.split_off(buffers.len() - cell.depth);
            Lane::new(device, direction, cell, own)
        })
        .collect();
    let mut latencies = Vec::new();
    let start = Instant::now();
    loop {
        let goes_on = start.elapsed() < time;
        if goes_on {
            lanes.iter_mut().for_each(Lane::fill);
        }
        let Some(lane) = next(&lanes) else { break };
        lanes[lane].finish(&mut latencies)?;
    }
    let elapsed = start.elapsed();
    let requests = lanes.iter().map(|lane| lane.started).sum();
    for lane in lanes {
        buffers.extend(lane.free);
    }
    Ok(Done {
        requests,
        elapsed,
        latencies,
    })
}

/// The lane whose oldest request has ended, once one has; `None` when nothing is under way.
fn next(lanes: &[Lane<'_>]) -> Option<usize> {
    let fronts: Vec<(usize, &Overlapped)> = lanes
        .iter()
        .enumerate()
        .filter_map(|(index, lane)| Some((index, &lane.under_way.front()?.request)))
        .collect();
    match fronts[..] {
        [] => None,
        [(index, _)] => Some(index),
        _ => {
            let requests: Vec<&Overlapped> = fronts.iter().map(|(_, request)| *request).collect();
            Some(fronts[wait_any(&requests)].0)
        }
    }
}
