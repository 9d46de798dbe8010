//! Streams: a looped transfer in each direction, over common buffers, until it is stopped (see [`abi::stream`]).
//!
//! The control requests wait for what they ask for, in a queue that hands out one at a time while the device has power.
//! Reads and writes wait for the channels meanwhile.
//!
//! A stream belongs to the file that has started it, and ends with it. When it is closed, when the controller reports an
//! error, and when power goes, somebody else than the queue's handler ends a stream: a lock says who.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use abi::fifo::controller::SET_PERIOD;
use abi::ioctl::{STREAM_EXCHANGE, STREAM_POSITION, STREAM_START, STREAM_STOP};
use abi::stream::{LEAD, PERIOD, PERIODS, StreamState};
use kmdf::clock::Moment;
use kmdf::dma::{
    ChannelAdapter, Direction, LoopedEvents, LoopedTransfer, SystemEnabler, TransferEnd,
};
use kmdf::file::{FileEvents, FileKey};
use kmdf::log::{self, LogFailure};
use kmdf::spinlock::SpinLock;
use kmdf::work_item::WorkEvents;
use kmdf::{NtStatus, Request, Result, thread};

use super::registers::Registers;
use super::{Port, Started};

/// A stream that is played, or about to be.
pub(super) struct Playing {
    /// Whose it is.
    file: FileKey,
    /// The device's line has been told: both directions have had their channels.
    line: bool,
}

/// One direction of a stream.
struct Side {
    transfer: LoopedTransfer,
    /// Mapped, so that it moves as soon as the device asks.
    begun: AtomicBool,
    /// Periods moved since the start.
    periods: AtomicU64,
}

/// What a port has for streams while it is started. In this order it is dropped: the enabler last.
pub(super) struct Stream {
    read: Side,
    write: Side,
    /// The device's line plays. It is stopped before a channel is given up: who gets that then asks for data, which is
    /// not to be forgotten.
    line: SpinLock<bool>,
    /// The controller has reported an error since the start.
    failed: AtomicBool,
    /// The next period to be fetched.
    next: AtomicU64,
    missed: AtomicU64,
    glitches: AtomicU64,
    _enabler: SystemEnabler,
}

/// Bytes of each buffer.
pub(super) const BUFFER: usize = PERIOD * PERIODS;

/// Words of it, as a power of two.
const WORDS_LOG2: u32 = (BUFFER / size_of::<u32>()).ilog2();

impl Side {
    fn create(enabler: &SystemEnabler, direction: Direction) -> Result<Self> {
        Ok(Self {
            transfer: LoopedTransfer::create::<WORDS_LOG2>(enabler, direction)?,
            begun: AtomicBool::new(false),
            periods: AtomicU64::new(0),
        })
    }

    fn start(&self, direction: Direction) -> Result<()> {
        self.begun.store(false, Ordering::Release);
        self.periods.store(0, Ordering::Release);
        self.transfer
            .start::<Port>(Registers::data_offset(direction))
    }

    fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    fn periods(&self) -> u64 {
        self.periods.load(Ordering::Acquire)
    }
}

/// Where a period lies in its buffer.
const fn place(period: u64) -> u32 {
    (period % PERIODS as u64) as u32 * PERIOD as u32
}

impl Stream {
    pub(super) fn create(enabler: SystemEnabler) -> Result<Self> {
        Ok(Self {
            read: Side::create(&enabler, Direction::FromDevice)?,
            write: Side::create(&enabler, Direction::ToDevice)?,
            line: SpinLock::new(false),
            failed: AtomicBool::new(false),
            next: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            glitches: AtomicU64::new(0),
            _enabler: enabler,
        })
    }

    const fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::FromDevice => &self.read,
            Direction::ToDevice => &self.write,
        }
    }

    fn has_begun(&self) -> bool {
        self.read.has_begun() && self.write.has_begun()
    }

    /// Whether both directions go on, or wait for their channels.
    fn goes_on(&self) -> bool {
        !self.read.transfer.is_idle() && !self.write.transfer.is_idle()
    }

    /// What a request ends with that needs a stream when none goes on.
    fn why_not(&self) -> NtStatus {
        if self.failed.load(Ordering::Acquire) {
            NtStatus::IO_DEVICE_ERROR
        } else {
            NtStatus::INVALID_DEVICE_STATE
        }
    }

    /// Starts both directions; the device asks for nothing yet.
    fn start(&self) -> Result<()> {
        self.read.start(Direction::FromDevice)?;
        self.write.start(Direction::ToDevice)
    }

    fn start_line(&self, registers: &Registers, line_period: u32) {
        self.line.with(|line| {
            registers.begin_stream(line_period);
            *line = true;
        });
    }

    /// Once for each start. IRQL <= DISPATCH_LEVEL.
    fn stop_line(&self, registers: &Registers) {
        self.line.with(|line| {
            if core::mem::take(line) {
                registers.end_stream();
            }
        });
    }

    /// Ends both directions: afterwards nobody uses the buffers. Waits for the controller, which always answers.
    fn stop(&self) {
        self.read.transfer.stop();
        self.write.transfer.stop();
        while !self.read.transfer.is_idle() || !self.write.transfer.is_idle() {
            thread::pause();
        }
    }

    fn state(&self, registers: &Registers, period: u64) -> StreamState {
        if registers.has_glitched() {
            self.glitches.fetch_add(1, Ordering::Relaxed);
        }
        StreamState {
            played: self.write.periods(),
            received: self.read.periods(),
            period,
            missed: self.missed.load(Ordering::Relaxed),
            glitches: self.glitches.load(Ordering::Relaxed),
            left: self.write.transfer.left(),
            reserved: 0,
        }
    }
}

impl LoopedEvents for Port {
    fn looped(&self, direction: Direction, end: TransferEnd) {
        let Some(started) = self.started.enter() else {
            return;
        };
        let Some(stream) = &started.stream else {
            return;
        };
        let side = stream.side(direction);
        if end == TransferEnd::Error {
            log::failure(c"streaming", NtStatus::IO_DEVICE_ERROR);
            self.counters.hardware_errors.increment();
            stream.failed.store(true, Ordering::Release);
            stream.stop_line(&started.registers);
            self.broken.queue();
        }
        if side.transfer.heard(end) {
            side.periods.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn configure_looped(&self, channel: &ChannelAdapter) {
        let _ = channel
            .configure(SET_PERIOD, PERIOD as u32)
            .or_log(c"configuring the period");
    }

    fn looped_begins(&self, direction: Direction) {
        if let Some(started) = self.started.enter()
            && let Some(stream) = &started.stream
        {
            stream.side(direction).begun.store(true, Ordering::Release);
        }
    }
}

/// All at PASSIVE_LEVEL.
impl Port {
    pub(super) fn serve_stream(&self, request: &mut Request, code: u32) -> Result<usize> {
        let started = self.started.enter().ok_or(NtStatus::DEVICE_NOT_READY)?;
        // One channel cannot do both at once.
        let stream = started.stream.as_ref().ok_or(NtStatus::NOT_SUPPORTED)?;
        match code {
            STREAM_START => {
                let line_period = request.with_input(4, |input| {
                    input.first_chunk().copied().map_or(0, u32::from_le_bytes)
                })?;
                self.start_stream(&started, stream, request, line_period)
                    .map(|()| 0)
            }
            STREAM_STOP => {
                self.stop_stream(&started);
                stream.failed.store(false, Ordering::Release);
                Ok(0)
            }
            STREAM_POSITION if stream.goes_on() => {
                let next = stream.next.load(Ordering::Relaxed);
                let state = stream.state(&started.registers, next);
                request.write_output(state.as_bytes())?;
                Ok(StreamState::SIZE)
            }
            STREAM_EXCHANGE => self.exchange(&started, stream, request),
            STREAM_POSITION => Err(stream.why_not()),
            _ => Err(NtStatus::INVALID_DEVICE_REQUEST),
        }
    }

    /// Waits until `done`, but not for longer than the time limit, nor if the request is to be cancelled.
    fn wait_until(&self, request: &Request, done: impl Fn() -> bool) -> Result<()> {
        let since = Moment::now();
        while !done() {
            if request.is_cancelled() {
                return Err(NtStatus::CANCELLED);
            }
            if since.elapsed_ms() >= self.limit.into() {
                return Err(NtStatus::IO_TIMEOUT);
            }
            thread::pause();
        }
        Ok(())
    }

    fn start_stream(
        &self,
        started: &Started,
        stream: &Stream,
        request: &Request,
        line_period: u32,
    ) -> Result<()> {
        if line_period == 0 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        self.streaming.with(|playing| {
            if playing.is_some() || started.has_reserved() {
                return Err(NtStatus::INVALID_DEVICE_STATE);
            }
            stream.failed.store(false, Ordering::Release);
            for counter in [&stream.next, &stream.missed, &stream.glitches] {
                counter.store(0, Ordering::Relaxed);
            }
            stream.start().inspect_err(|_| stream.stop())?;
            *playing = Some(Playing {
                file: request.file(),
                line: false,
            });
            Ok(())
        })?;
        let outcome = self.wait_until(request, || stream.has_begun() || !stream.goes_on());
        self.streaming.with(|playing| match playing {
            Some(mine) if outcome.is_ok() && stream.goes_on() => {
                stream.start_line(&started.registers, line_period);
                mine.line = true;
                Ok(())
            }
            Some(_) => {
                self.end_stream(started, stream, playing);
                outcome.and(Err(NtStatus::IO_DEVICE_ERROR))
            }
            // Its file has been closed.
            None => Err(NtStatus::CANCELLED),
        })
    }

    /// Ends the stream that is played, with the lock held.
    fn end_stream(&self, started: &Started, stream: &Stream, playing: &mut Option<Playing>) {
        stream.stop_line(&started.registers);
        stream.stop();
        // Before the line was told, the device was asking for the data of transfers, and still is.
        if playing.take().is_some_and(|playing| playing.line) {
            started.registers.connect(started.interrupts);
        }
    }

    /// Whether there is a stream, or one is about to start. PASSIVE_LEVEL.
    pub(super) fn is_streaming(&self) -> bool {
        self.streaming.with(|playing| playing.is_some())
    }

    /// Ends a stream if there is one. PASSIVE_LEVEL.
    pub(super) fn stop_stream(&self, started: &Started) {
        self.stop_stream_if(started, |_, _| true);
    }

    fn stop_stream_if(&self, started: &Started, condition: impl Fn(&Stream, FileKey) -> bool) {
        let Some(stream) = &started.stream else {
            return;
        };
        self.streaming.with(|playing| {
            if matches!(playing, Some(whose) if condition(stream, whose.file)) {
                self.end_stream(started, stream, playing);
            }
        });
    }

    fn file_is_gone(&self, file: FileKey) {
        if let Some(started) = self.started.enter() {
            self.stop_stream_if(&started, |_, of| of == file);
        }
    }

    /// Waits for the next period, returns it, and takes the data of one to come.
    fn exchange(&self, started: &Started, stream: &Stream, request: &mut Request) -> Result<usize> {
        let next = stream.next.load(Ordering::Relaxed);
        self.wait_until(request, || {
            stream.read.periods() > next || !stream.goes_on()
        })?;
        if !stream.goes_on() {
            return Err(stream.why_not());
        }
        // The period after the last one received is being received now, over what was received a round ago.
        let received = stream.read.periods();
        let oldest = received.saturating_sub(PERIODS as u64 - 1);
        let period = next.max(oldest);
        let target = period.saturating_add(LEAD);
        request.with_input(PERIOD, |input| {
            stream.write.transfer.buffer().write(place(target), input);
        })?;
        // Its turn had come before it was filled.
        let late = u64::from(stream.write.periods() >= target);
        stream.missed.fetch_add(
            period.saturating_sub(next).saturating_add(late),
            Ordering::Relaxed,
        );
        let state = stream.state(&started.registers, period);
        request.with_output(StreamState::SIZE + PERIOD, |output| {
            if let Some((head, data)) = output.split_at_mut_checked(StreamState::SIZE) {
                head.copy_from_slice(state.as_bytes());
                stream.read.transfer.buffer().read(place(period), data);
            }
        })?;
        stream
            .next
            .store(period.saturating_add(1), Ordering::Relaxed);
        Ok(StreamState::SIZE + PERIOD)
    }
}

impl FileEvents for Port {
    fn cleanup(&self, file: FileKey) {
        self.file_is_gone(file);
    }

    /// What it has sent may have started a stream since.
    fn close(&self, file: FileKey) {
        self.file_is_gone(file);
    }
}

impl WorkEvents for Port {
    /// A stream of which one direction has failed is no more: the other direction is stopped, and the channels are free.
    fn work(&self) {
        if let Some(started) = self.started.enter() {
            self.stop_stream_if(&started, |stream, _| stream.failed.load(Ordering::Acquire));
        }
    }
}
