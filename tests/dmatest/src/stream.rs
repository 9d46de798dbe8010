//! `stream FILE`: plays the file over and over through a looped transfer, for a chosen time, and checks every period that
//! comes back.

use std::collections::VecDeque;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use abi::fifo::LINE_BURST;
use abi::info::{DeviceInfo, DeviceKind};
use abi::ioctl::{STREAM_EXCHANGE, STREAM_POSITION, STREAM_START, STREAM_STOP};
use abi::stream::{LEAD, PERIOD, PERIODS, StreamState};
use clap::Args;
use demo_report::{Streamed, input};

use crate::device::{Device, query_info};
use crate::error::Error;
use crate::info::print_rows;
use crate::pattern;
use crate::progress::Progress;

/// Usual time between two bursts on the line, ns.
pub const LINE_PERIOD: u32 = 20_000;

/// Periods that differ are explained one by one, up to so many.
const SHOWN: u64 = 5;

/// Options of `stream`.
#[derive(Debug, Clone, Args)]
pub struct StreamOptions {
    /// The file to play, from its start again when it has ended.
    pub file: PathBuf,
    /// How long, ms, up to a day.
    #[arg(
        long,
        value_name = "MILLISECONDS",
        default_value_t = 500,
        value_parser = clap::value_parser!(u64).range(1..=86_400_000)
    )]
    pub time: u64,
    /// Time between two bursts of 16 bytes on the line, ns, at least 100.
    #[arg(
        long,
        value_name = "NANOSECONDS",
        default_value_t = LINE_PERIOD,
        value_parser = clap::value_parser!(u32).range(100..)
    )]
    pub line_period: u32,
}

/// Whether a device plays: it has a channel for each direction then.
#[must_use]
pub fn is_offered(info: &DeviceInfo) -> bool {
    info.device_kind == DeviceKind::Fifo as u32 && info.transfers_in_flight > 1
}

/// What a period takes.
#[must_use]
pub fn period_time(line_period: u32) -> Duration {
    Duration::from_nanos(u64::from(line_period) * (PERIOD / LINE_BURST as usize) as u64)
}

/// Plays the file and prints what came of it.
///
/// # Errors
/// Those of [`stream`]; [`Error::File`]; [`Error::NoStream`]; [`Error::Mismatch`] after the report was printed, if anything
/// was lost.
pub fn run<D: Device>(
    device: &D,
    options: &StreamOptions,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let mut song = Song::open(&options.file)?;
    if !is_offered(&query_info(device)?) {
        return Err(Error::NoStream);
    }
    let time = Duration::from_millis(options.time);
    let streamed = stream(device, &mut song, time, options.line_period)?;
    let rows = [
        ("file", options.file.display().to_string()),
        ("periods", streamed.periods.to_string()),
        ("missed", streamed.missed.to_string()),
        ("different", streamed.different.to_string()),
        ("glitches", streamed.glitches.to_string()),
    ];
    print_rows(&rows, out).map_err(Error::Output)?;
    if streamed.verified() {
        return Ok(());
    }
    Err(Error::Mismatch(format!(
        "of {} periods {} were missed and {} came back different, with {} glitches",
        streamed.periods + streamed.missed,
        streamed.missed,
        streamed.different,
        streamed.glitches
    )))
}

/// What is played: a file, over and over.
pub struct Song<R> {
    source: R,
    path: PathBuf,
}

impl Song<std::fs::File> {
    /// The file at `path`.
    ///
    /// # Errors
    /// [`Error::File`], also if it is empty.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let (file, length) = input::open(path).map_err(Error::file(path))?;
        let song = Self::new(file, path);
        if length > 0 {
            Ok(song)
        } else {
            Err(song.empty())
        }
    }
}

impl<R: Read + Seek> Song<R> {
    /// What `source` reads; errors name it `path`.
    pub fn new(source: R, path: &Path) -> Self {
        Self {
            source,
            path: path.to_owned(),
        }
    }

    fn empty(&self) -> Error {
        let text = "the file is empty: there is nothing to play";
        Error::file(&self.path)(io::Error::new(io::ErrorKind::InvalidInput, text))
    }

    /// The next period.
    fn period(&mut self) -> Result<Vec<u8>, Error> {
        let failed = Error::file(&self.path);
        let mut period = Vec::with_capacity(PERIOD);
        let mut rewound = false;
        while period.len() < PERIOD {
            let left = (PERIOD - period.len()) as u64;
            let more = self.source.by_ref().take(left).read_to_end(&mut period);
            let read = more.map_err(&failed)?;
            if read > 0 {
                rewound = false;
            } else if rewound {
                return Err(self.empty());
            } else {
                self.source.rewind().map_err(&failed)?;
                rewound = true;
            }
        }
        Ok(period)
    }
}

/// Plays `song` for `time`, by the device's clock, and shows how far it is on standard error.
///
/// # Errors
/// [`Error::Control`], [`Error::ShortAnswer`], [`Error::File`]. What was lost is said in the result.
pub fn stream<D: Device, R: Read + Seek>(
    device: &D,
    song: &mut Song<R>,
    time: Duration,
    line_period: u32,
) -> Result<Streamed, Error> {
    let input = line_period.to_le_bytes();
    control(device, "STREAM_START", STREAM_START, &input, &mut [])?;
    let periods = time.as_nanos() / period_time(line_period).as_nanos().max(1);
    let mut progress = Progress::periods("stream", periods as u64);
    let result = play(device, song, time, &mut progress);
    let stopped = control(device, "STREAM_STOP", STREAM_STOP, &[], &mut []);
    result.and_then(|streamed| stopped.map(|_| streamed))
}

fn play<D: Device, R: Read + Seek>(
    device: &D,
    song: &mut Song<R>,
    time: Duration,
    progress: &mut Progress,
) -> Result<Streamed, Error> {
    let mut streamed = Streamed::default();
    // What is to come back, with the number of its period.
    let mut played: VecDeque<(u64, Vec<u8>)> = (0..LEAD).map(|n| (n, vec![0; PERIOD])).collect();
    let mut answer = vec![0; StreamState::SIZE + PERIOD];
    let end = device.now() + time;
    while device.now() < end {
        let period = song.period()?;
        let state = exchange(device, &period, &mut answer)?;
        played.push_back((state.period + LEAD, period));
        // What is older has been missed.
        played.retain(|(number, _)| *number >= state.period);
        let due = played
            .front()
            .is_some_and(|(number, _)| *number == state.period);
        if due && let Some((_, wanted)) = played.pop_front() {
            if let Some(difference) = pattern::difference(&wanted, &answer[StreamState::SIZE..]) {
                streamed.different += 1;
                match streamed.different {
                    ..SHOWN => eprintln!("period {}: {difference}", state.period),
                    SHOWN => eprintln!("period {}: {difference}; and so on", state.period),
                    _ => {}
                }
            }
            streamed.periods += 1;
        }
        (streamed.missed, streamed.glitches) = (state.missed, state.glitches);
        progress.set(streamed.periods + streamed.missed);
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

#[cfg(test)]
mod tests;
