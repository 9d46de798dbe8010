//! `stream FILE`: plays the file over and over through a looped transfer, for a chosen time, and checks every period that
//! comes back.

use std::collections::VecDeque;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use abi::ioctl::{STREAM_EXCHANGE, STREAM_POSITION, STREAM_START, STREAM_STOP};
use abi::stream::{LEAD, PERIOD, PERIODS, StreamState};
use clap::Args;
use serde::Serialize;

use crate::device::Device;
use crate::error::Error;
use crate::info::print_rows;
use crate::pattern;

/// Options of `stream`.
#[derive(Debug, Clone, Args)]
pub struct StreamOptions {
    /// The file to play.
    pub file: PathBuf,
    /// How long, ms.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 500)]
    pub time: u64,
    /// Time between two bursts of 16 bytes on the line, ns.
    #[arg(long, value_name = "NANOSECONDS", default_value_t = 20_000)]
    pub line_period: u32,
}

/// What a stream did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
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
    /// Itself, if nothing was lost.
    ///
    /// # Errors
    /// [`Error::Mismatch`].
    pub fn into_verified(self) -> Result<Self, Error> {
        if self.periods > 0 && self.missed + self.glitches + self.different == 0 {
            Ok(self)
        } else {
            Err(Error::Mismatch(format!(
                "of {} periods {} were missed and {} came back different, with {} glitches",
                self.periods, self.missed, self.different, self.glitches
            )))
        }
    }
}

/// Plays the file and prints what came of it.
///
/// # Errors
/// Those of [`stream`]; [`Error::File`]; [`Error::Mismatch`] after the report was printed, if anything was lost.
pub fn run<D: Device>(
    device: &D,
    options: &StreamOptions,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let data = std::fs::read(&options.file).map_err(|error| Error::File {
        path: options.file.clone(),
        error,
    })?;
    let time = Duration::from_millis(options.time);
    let streamed = stream(device, &data, time, options.line_period)?;
    let rows = [
        ("file", options.file.display().to_string()),
        ("periods", streamed.periods.to_string()),
        ("missed", streamed.missed.to_string()),
        ("different", streamed.different.to_string()),
        ("glitches", streamed.glitches.to_string()),
    ];
    print_rows(&rows, out).map_err(Error::Output)?;
    streamed.into_verified().map(drop)
}

/// Plays `data` for `time`.
///
/// # Errors
/// [`Error::Control`], [`Error::ShortAnswer`]. What was lost is said in the result.
pub fn stream<D: Device>(
    device: &D,
    data: &[u8],
    time: Duration,
    line_period: u32,
) -> Result<Streamed, Error> {
    control(
        device,
        "STREAM_START",
        STREAM_START,
        &line_period.to_le_bytes(),
        &mut [],
    )?;
    let result = play(device, data, time);
    let stopped = control(device, "STREAM_STOP", STREAM_STOP, &[], &mut []);
    result.and_then(|streamed| stopped.map(|_| streamed))
}

fn play<D: Device>(device: &D, data: &[u8], time: Duration) -> Result<Streamed, Error> {
    let mut streamed = Streamed::default();
    let mut source = data.iter().copied().cycle();
    // What is to come back, with the number of its period.
    let mut played: VecDeque<(u64, Vec<u8>)> = (0..LEAD).map(|n| (n, vec![0; PERIOD])).collect();
    let mut answer = vec![0; StreamState::SIZE + PERIOD];
    let end = device.now() + time;
    while device.now() < end {
        let mut period: Vec<u8> = source.by_ref().take(PERIOD).collect();
        period.resize(PERIOD, 0);
        let state = exchange(device, &period, &mut answer)?;
        while played
            .front()
            .is_some_and(|(number, _)| *number < state.period)
        {
            played.pop_front();
        }
        played.push_back((state.period + LEAD, period));
        let due = played
            .front()
            .is_some_and(|(number, _)| *number == state.period);
        if due
            && let Some((_, wanted)) = played.pop_front()
            && let Some(difference) = pattern::difference(&wanted, &answer[StreamState::SIZE..])
        {
            eprintln!("period {}: {difference}", state.period);
            streamed.different += 1;
        }
        streamed.periods += 1;
        (streamed.missed, streamed.glitches) = (state.missed, state.glitches);
    }
    let state = position(device)?;
    if state.left as usize > PERIOD * PERIODS || state.played < state.received {
        return Err(Error::Mismatch(format!(
            "a position that cannot be: {state:?}"
        )));
    }
    Ok(streamed)
}

fn exchange<D: Device>(device: &D, period: &[u8], answer: &mut [u8]) -> Result<StreamState, Error> {
    let name = "STREAM_EXCHANGE";
    let length = control(device, name, STREAM_EXCHANGE, period, answer)?;
    match StreamState::from_prefix(answer) {
        Some(state) if length == answer.len() => Ok(state),
        _ => Err(Error::ShortAnswer { name, length }),
    }
}

/// How the stream is doing.
///
/// # Errors
/// As [`stream`].
pub fn position<D: Device>(device: &D) -> Result<StreamState, Error> {
    let name = "STREAM_POSITION";
    let mut answer = [0; StreamState::SIZE];
    let length = control(device, name, STREAM_POSITION, &[], &mut answer)?;
    StreamState::from_prefix(&answer[..length]).ok_or(Error::ShortAnswer { name, length })
}

fn control<D: Device>(
    device: &D,
    name: &'static str,
    code: u32,
    input: &[u8],
    output: &mut [u8],
) -> Result<usize, Error> {
    device
        .control(code, input, output)
        .map_err(|error| Error::Control { name, error })
}
