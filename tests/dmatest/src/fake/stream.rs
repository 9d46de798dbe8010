//! The fake's looped transfer: what is played comes back [`LEAD`] periods later.

use std::collections::HashMap;
use std::time::Duration;

use abi::fifo::LINE_BURST;
use abi::ioctl::{STREAM_EXCHANGE, STREAM_POSITION, STREAM_START, STREAM_STOP};
use abi::stream::{LEAD, PERIOD, PERIODS, StreamState};

use crate::error::Win32Error;

/// How a faulty stream is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamFault {
    /// A bit of this period is wrong.
    Flip(u64),
    /// This period and the one after it are over before anybody asks.
    Miss(u64),
    /// In this period the device runs out of data.
    Glitch(u64),
    /// The device is gone when this period is asked for.
    Gone(u64),
    /// Exchanges return a byte too few.
    Short,
    /// More has been received than played.
    Position,
}

/// The streams of a device, of which one goes on at a time.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    fault: Option<StreamFault>,
    /// Everything that was given to be played, by all of them.
    pub(crate) heard: Vec<u8>,
    /// Those that were started, and those that were stopped.
    pub(crate) started: u32,
    pub(crate) stopped: u32,
    now: Option<Stream>,
}

#[derive(Debug)]
struct Stream {
    period_time: Duration,
    next: u64,
    missed: u64,
    glitches: u64,
    played: HashMap<u64, Vec<u8>>,
}

impl Streams {
    pub(super) fn new(fault: Option<StreamFault>) -> Self {
        Self {
            fault,
            ..Self::default()
        }
    }

    /// Answers a control request; None if it is none about streams. Time passes while it waits.
    pub(super) fn control(
        &mut self,
        code: u32,
        input: &[u8],
        output: &mut [u8],
        time: &mut Duration,
    ) -> Option<Result<usize, Win32Error>> {
        Some(match code {
            STREAM_START => self.start(input),
            STREAM_EXCHANGE => self.exchange(input, output, time),
            STREAM_POSITION => self.position(output),
            STREAM_STOP => {
                self.stopped += u32::from(self.now.take().is_some());
                Ok(0)
            }
            _ => return None,
        })
    }

    fn start(&mut self, input: &[u8]) -> Result<usize, Win32Error> {
        let line_period = u32::from_le_bytes(*input.first_chunk().expect("four bytes"));
        assert!(self.now.is_none() && line_period > 0);
        let bursts = (PERIOD / LINE_BURST as usize) as u32;
        self.started += 1;
        self.now = Some(Stream {
            period_time: Duration::from_nanos(line_period.into()) * bursts,
            next: 0,
            missed: 0,
            glitches: 0,
            played: HashMap::new(),
        });
        Ok(0)
    }

    fn exchange(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        time: &mut Duration,
    ) -> Result<usize, Win32Error> {
        let stream = self.now.as_mut().ok_or(Win32Error::BAD_COMMAND)?;
        assert_eq!(
            (input.len(), output.len()),
            (PERIOD, StreamState::SIZE + PERIOD)
        );
        *time += stream.period_time;
        match self.fault {
            Some(StreamFault::Gone(at)) if at == stream.next => {
                return Err(Win32Error::DEVICE_REMOVED);
            }
            Some(StreamFault::Miss(at)) if at == stream.next => {
                stream.next += 2;
                stream.missed += 2;
            }
            Some(StreamFault::Glitch(at)) if at == stream.next => stream.glitches += 1,
            _ => {}
        }
        let period = stream.next;
        stream.next += 1;
        self.heard.extend_from_slice(input);
        stream.played.insert(period + LEAD, input.to_vec());
        let (head, data) = output.split_at_mut(StreamState::SIZE);
        match stream.played.remove(&period) {
            Some(played) => data.copy_from_slice(&played),
            None => data.fill(0),
        }
        if self.fault == Some(StreamFault::Flip(period)) {
            data[PERIOD - 1] ^= 0x10;
        }
        head.copy_from_slice(stream.state(period).as_bytes());
        match self.fault {
            Some(StreamFault::Short) => Ok(output.len() - 1),
            _ => Ok(output.len()),
        }
    }

    fn position(&mut self, output: &mut [u8]) -> Result<usize, Win32Error> {
        let stream = self.now.as_ref().ok_or(Win32Error::BAD_COMMAND)?;
        let mut state = stream.state(stream.next);
        if self.fault == Some(StreamFault::Position) {
            state.received = state.played + 1;
        }
        output.copy_from_slice(state.as_bytes());
        Ok(output.len())
    }
}

impl Stream {
    fn state(&self, period: u64) -> StreamState {
        StreamState {
            played: self.next,
            received: self.next,
            period,
            missed: self.missed,
            glitches: self.glitches,
            left: (PERIOD * PERIODS) as u32,
            reserved: 0,
        }
    }
}
