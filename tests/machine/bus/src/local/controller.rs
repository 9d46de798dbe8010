//! The system DMA controller of the in-process board.

use std::collections::VecDeque;

use abi::fifo::controller::{SET_BURST, SET_PERIOD};

use crate::fifo::Faults;
use crate::platform::BusError;
use crate::system_dma::{DmaCapabilities, DmaEnd, DmaMode, DmaProgram, DmaStop};

/// Channels, request lines, address bits and ranges of the controller.
const CAPABILITIES: DmaCapabilities = DmaCapabilities {
    channels: 8,
    request_lines: 32,
    address_bits: 32,
    ranges: 16,
};

/// From a burst to the next one of the same channel, in nanoseconds.
const BURST_TIME: u64 = 200;

/// Bytes of a burst, unless software sets another number, and the most it may set.
const BURST: u64 = 64;
const LARGEST_BURST: u32 = 256;

/// What the controller reaches.
pub(super) trait Bus {
    fn requests(&self, line: u32) -> bool;
    fn read_device(&mut self, physical: u64, size: u8) -> Result<u64, BusError>;
    fn write_device(&mut self, physical: u64, size: u8, value: u64) -> Result<(), BusError>;
    fn read_memory(&mut self, channel: u32, logical: u64, bytes: &mut [u8])
    -> Result<(), BusError>;
    fn write_memory(&mut self, channel: u32, logical: u64, bytes: &[u8]) -> Result<(), BusError>;
}

/// The controller.
pub(super) struct Controller {
    channels: Vec<Channel>,
    ended: VecDeque<(u32, DmaEnd)>,
    faults: Faults,
}

struct Channel {
    burst: u64,
    period: u64,
    run: Option<Run>,
    /// Bytes that were left when the last transfer ended.
    left: u64,
}

/// A transfer.
struct Run {
    program: DmaProgram,
    total: u64,
    /// Bytes moved, of this round if it is looped.
    moved: u64,
    due: u64,
    /// It was stopped, and stops then.
    stops: Option<u64>,
}

impl Run {
    fn new(program: DmaProgram, now: u64) -> Self {
        let total = program.ranges.iter().map(|(_, length)| length).sum();
        Self {
            program,
            total,
            moved: 0,
            due: now + BURST_TIME,
            stops: None,
        }
    }

    /// Logical addresses and lengths of the next `length` bytes.
    fn next_bytes(&self, length: u64) -> Vec<(u64, u64)> {
        let (mut skip, mut wanted) = (self.moved, length);
        let mut parts = Vec::new();
        for &(start, bytes) in &self.program.ranges {
            if skip >= bytes {
                skip -= bytes;
                continue;
            }
            let taken = wanted.min(bytes - skip);
            parts.push((start + skip, taken));
            (skip, wanted) = (0, wanted - taken);
            if wanted == 0 {
                break;
            }
        }
        parts
    }

    /// One access to the data register.
    fn move_item(&self, channel: u32, bus: &mut dyn Bus) -> Result<(), BusError> {
        let DmaProgram { device, width, .. } = self.program;
        let mut bytes = [0; 8];
        let mut at = 0;
        let parts = self.next_bytes(width.into());
        if !self.program.to_device {
            bytes = bus.read_device(device, width)?.to_le_bytes();
        }
        for (logical, length) in parts {
            let part = &mut bytes[at..at + length as usize];
            at += length as usize;
            if self.program.to_device {
                bus.read_memory(channel, logical, part)?;
            } else {
                bus.write_memory(channel, logical, part)?;
            }
        }
        if self.program.to_device {
            bus.write_device(device, width, u64::from_le_bytes(bytes))?;
        }
        Ok(())
    }

    fn is_served(&self, requests: &dyn Fn(u32) -> bool) -> bool {
        self.program.mode == DmaMode::Block || requests(self.program.request_line)
    }
}

impl Controller {
    /// Idle; it fails as `faults` is told.
    pub(super) fn new(faults: Faults) -> Self {
        let channel = |_| Channel {
            burst: BURST,
            period: 0,
            run: None,
            left: 0,
        };
        Self {
            channels: (0..CAPABILITIES.channels).map(channel).collect(),
            ended: VecDeque::new(),
            faults,
        }
    }

    pub(super) fn capabilities(&self) -> DmaCapabilities {
        CAPABILITIES
    }

    fn channel(&mut self, channel: u32) -> &mut Channel {
        &mut self.channels[channel as usize]
    }

    pub(super) fn start(&mut self, channel: u32, program: DmaProgram, now: u64) {
        let channel = self.channel(channel);
        channel.left = 0;
        channel.run = Some(Run::new(program, now));
    }

    pub(super) fn stop(&mut self, channel: u32, now: u64) -> DmaStop {
        let channel = &mut self.channels[channel as usize];
        let Some(run) = &mut channel.run else {
            return DmaStop::Idle;
        };
        if run.stops.is_some() {
            return DmaStop::Later;
        }
        if let Some(later) = self.faults.stops() {
            run.stops = Some(now + later);
            return DmaStop::Later;
        }
        channel.halt();
        DmaStop::Stopped
    }

    pub(super) fn is_running(&self, channel: u32) -> bool {
        self.channels[channel as usize].run.is_some()
    }

    pub(super) fn residue(&self, channel: u32) -> u64 {
        self.channels[channel as usize].residue()
    }

    pub(super) fn configure(&mut self, channel: u32, function: u32, value: u32) -> bool {
        let channel = self.channel(channel);
        match function {
            SET_BURST if (1..=LARGEST_BURST).contains(&value) => channel.burst = value.into(),
            SET_PERIOD => channel.period = value.into(),
            _ => return false,
        }
        true
    }

    pub(super) fn take_ended(&mut self) -> Vec<(u32, DmaEnd)> {
        self.ended.drain(..).collect()
    }

    pub(super) fn has_news(&self) -> bool {
        !self.ended.is_empty()
    }

    pub(super) fn next_event(&self, requests: &dyn Fn(u32) -> bool) -> Option<u64> {
        self.channels
            .iter()
            .filter_map(|channel| channel.run.as_ref())
            .flat_map(|run| {
                let burst = run.is_served(requests).then_some(run.due);
                burst.into_iter().chain(run.stops)
            })
            .min()
    }

    /// Gives every channel that is due a burst.
    pub(super) fn run(&mut self, now: u64, bus: &mut dyn Bus) {
        for (number, channel) in (0..).zip(&mut self.channels) {
            let Some(run) = &channel.run else { continue };
            if run.stops.is_some_and(|stops| stops <= now) {
                channel.halt();
                self.ended.push_back((number, DmaEnd::Stopped));
            } else if run.due <= now {
                channel.move_burst(number, now, bus, &mut self.ended);
            }
        }
    }
}

impl Channel {
    fn halt(&mut self) {
        self.left = self.residue();
        self.run = None;
    }

    fn residue(&self) -> u64 {
        self.run
            .as_ref()
            .map_or(self.left, |run| run.total - run.moved)
    }

    fn move_burst(
        &mut self,
        number: u32,
        now: u64,
        bus: &mut dyn Bus,
        ended: &mut VecDeque<(u32, DmaEnd)>,
    ) {
        let Some(run) = &mut self.run else { return };
        let mut moved = 0;
        while moved < self.burst && run.is_served(&|line| bus.requests(line)) {
            if run.move_item(number, bus).is_err() {
                self.left = run.total - run.moved;
                self.run = None;
                ended.push_back((number, DmaEnd::Error));
                return;
            }
            let width = u64::from(run.program.width);
            moved += width;
            run.moved += width;
            if run.moved >= run.total {
                if !run.program.looped {
                    self.left = 0;
                    self.run = None;
                    ended.push_back((number, DmaEnd::Complete));
                    return;
                }
                run.moved = 0;
            }
            let period = if self.period == 0 {
                run.total
            } else {
                self.period
            };
            if run.program.looped && run.moved.is_multiple_of(period) {
                ended.push_back((number, DmaEnd::Period));
            }
        }
        if moved > 0 {
            run.due = now + BURST_TIME;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fifo::Fault;

    /// A device that counts up on reads and keeps what is written, and memory of 64 bytes at address 0.
    #[derive(Default)]
    struct Rig {
        requests: bool,
        next: u64,
        written: Vec<u64>,
        memory: Vec<u8>,
        fails: bool,
    }

    impl Rig {
        fn new(requests: bool) -> Self {
            let memory = (0..64).collect();
            Self {
                requests,
                memory,
                ..Self::default()
            }
        }
    }

    impl Bus for Rig {
        fn requests(&self, _: u32) -> bool {
            self.requests
        }

        fn read_device(&mut self, _: u64, _: u8) -> Result<u64, BusError> {
            self.next += 1;
            if self.fails {
                Err(BusError)
            } else {
                Ok(self.next)
            }
        }

        fn write_device(&mut self, _: u64, _: u8, value: u64) -> Result<(), BusError> {
            self.written.push(value);
            Ok(())
        }

        fn read_memory(&mut self, _: u32, logical: u64, bytes: &mut [u8]) -> Result<(), BusError> {
            let start = logical as usize;
            bytes.copy_from_slice(&self.memory[start..start + bytes.len()]);
            Ok(())
        }

        fn write_memory(&mut self, _: u32, logical: u64, bytes: &[u8]) -> Result<(), BusError> {
            let start = logical as usize;
            self.memory[start..start + bytes.len()].copy_from_slice(bytes);
            Ok(())
        }
    }

    fn program(to_device: bool, mode: DmaMode, looped: bool, ranges: &[(u64, u64)]) -> DmaProgram {
        DmaProgram {
            request_line: 3,
            device: 0x40,
            width: 4,
            to_device,
            mode,
            looped,
            ranges: ranges.to_vec(),
        }
    }

    #[test]
    fn demand_mode_waits_for_the_request_line() {
        let (mut controller, mut rig) = (Controller::new(Faults::default()), Rig::new(false));
        let ranges = [(8, 6), (32, 2)];
        controller.start(2, program(true, DmaMode::Demand, false, &ranges), 0);
        controller.run(1000, &mut rig);
        assert_eq!(controller.residue(2), 8);
        assert_eq!(controller.next_event(&|_| false), None);
        rig.requests = true;
        controller.run(1000, &mut rig);
        assert_eq!(rig.written, [0x0B0A_0908, 0x2120_0D0C], "over two ranges");
        assert_eq!(controller.take_ended(), [(2, DmaEnd::Complete)]);
        assert!(!controller.is_running(2));
    }

    #[test]
    fn block_mode_does_not_look_at_the_request_line() {
        let (mut controller, mut rig) = (Controller::new(Faults::default()), Rig::new(false));
        controller.start(0, program(false, DmaMode::Block, false, &[(0, 8)]), 0);
        controller.run(BURST_TIME, &mut rig);
        assert_eq!(rig.memory[..8], [1, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(controller.take_ended(), [(0, DmaEnd::Complete)]);
    }

    #[test]
    fn a_looped_transfer_reports_periods_until_it_is_stopped() {
        let (mut controller, mut rig) = (Controller::new(Faults::default()), Rig::new(true));
        assert!(controller.configure(1, SET_BURST, 12));
        assert!(controller.configure(1, SET_PERIOD, 8));
        assert!(!controller.configure(1, SET_BURST, 0));
        assert!(!controller.configure(1, 77, 0));
        controller.start(1, program(true, DmaMode::Demand, true, &[(0, 16)]), 0);
        for burst in 1..=4 {
            controller.run(burst * BURST_TIME, &mut rig);
        }
        assert_eq!(rig.written.len(), 12);
        assert_eq!(rig.written[0], rig.written[4]);
        assert_eq!(controller.take_ended(), [(1, DmaEnd::Period); 6]);
        controller.run(5 * BURST_TIME, &mut rig);
        assert_eq!(controller.residue(1), 4);
        assert_eq!(controller.stop(1, 1000), DmaStop::Stopped);
        assert_eq!(controller.stop(1, 1000), DmaStop::Idle);
        assert_eq!(controller.residue(1), 4, "kept after the end");
    }

    #[test]
    fn a_channel_that_stops_slowly_goes_on_and_says_so_in_the_end() {
        let faults = Faults::default();
        faults.arm(Fault::SlowStop(3 * BURST_TIME));
        let (mut controller, mut rig) = (Controller::new(faults), Rig::new(true));
        controller.start(0, program(true, DmaMode::Demand, true, &[(0, 16)]), 0);
        assert_eq!(controller.stop(0, 0), DmaStop::Later);
        controller.run(BURST_TIME, &mut rig);
        assert!(!rig.written.is_empty() && controller.is_running(0));
        rig.requests = false;
        assert_eq!(controller.next_event(&|_| false), Some(3 * BURST_TIME));
        controller.take_ended();
        controller.run(3 * BURST_TIME, &mut rig);
        assert_eq!(controller.take_ended(), [(0, DmaEnd::Stopped)]);
        assert!(!controller.is_running(0));
    }

    #[test]
    fn an_error_of_the_device_ends_a_transfer() {
        let (mut controller, mut rig) = (Controller::new(Faults::default()), Rig::new(true));
        rig.fails = true;
        controller.start(0, program(false, DmaMode::Demand, false, &[(0, 8)]), 0);
        controller.run(BURST_TIME, &mut rig);
        assert_eq!(controller.take_ended(), [(0, DmaEnd::Error)]);
        assert_eq!(controller.residue(0), 8);
    }
}
