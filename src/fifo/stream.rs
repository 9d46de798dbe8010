//! Streams: a looped transfer in each direction, over common buffers, until it is stopped (see [`abi::stream`]).
//!
//! The control requests wait for what they ask for, in a queue that hands out one at a time while the device has power.
//! Reads and writes wait for the channels meanwhile.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use abi::fifo::controller::SET_PERIOD;
use abi::ioctl::{STREAM_EXCHANGE, STREAM_POSITION, STREAM_START, STREAM_STOP};
use abi::stream::{LEAD, PERIOD, PERIODS, StreamState};
use kmdf::clock::Moment;
use kmdf::dma::{
    ChannelAdapter, Direction, LoopBuffer, LoopedEvents, LoopedTransfer, SystemEnabler, TransferEnd,
};
use kmdf::log::LogFailure;
use kmdf::{NtStatus, Request, Result, thread};

use super::registers::Registers;
use super::{Port, Started};

/// One direction of a stream.
struct Side {
    transfer: LoopedTransfer,
    buffer: LoopBuffer,
    /// Mapped, so that it moves as soon as the device asks.
    begun: AtomicBool,
    /// Periods moved since the start.
    periods: AtomicU64,
}

/// What a port has for streams while it is started. In this order it is dropped: the enabler last.
pub(super) struct Stream {
    read: Side,
    write: Side,
    /// The next period to be fetched.
    next: AtomicU64,
    missed: AtomicU64,
    glitches: AtomicU64,
    _enabler: SystemEnabler,
}

impl Side {
    fn create(enabler: &SystemEnabler, direction: Direction) -> Result<Self> {
        Ok(Self {
            transfer: LoopedTransfer::create(enabler, direction)?,
            buffer: LoopBuffer::create(enabler, BUFFER as u32)?,
            begun: AtomicBool::new(false),
            periods: AtomicU64::new(0),
        })
    }

    fn start(&self, direction: Direction) -> Result<()> {
        self.begun.store(false, Ordering::Release);
        self.periods.store(0, Ordering::Release);
        self.buffer.clear();
        self.transfer
            .start::<Port>(&self.buffer, Registers::data_offset(direction))
    }

    fn periods(&self) -> u64 {
        self.periods.load(Ordering::Acquire)
    }
}

/// Bytes of each buffer.
pub(super) const BUFFER: usize = PERIOD * PERIODS;

/// Where a period lies in its buffer.
const fn place(period: u64) -> usize {
    (period % PERIODS as u64) as usize * PERIOD
}

impl Stream {
    pub(super) fn create(enabler: SystemEnabler) -> Result<Self> {
        Ok(Self {
            read: Side::create(&enabler, Direction::FromDevice)?,
            write: Side::create(&enabler, Direction::ToDevice)?,
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

    pub(super) fn is_idle(&self) -> bool {
        self.read.transfer.is_idle() && self.write.transfer.is_idle()
    }

    fn has_begun(&self) -> bool {
        self.read.begun.load(Ordering::Acquire) && self.write.begun.load(Ordering::Acquire)
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
        if let Some(started) = self.started.enter()
            && let Some(stream) = &started.stream
        {
            let side = stream.side(direction);
            if side.transfer.heard(end) {
                side.periods.fetch_add(1, Ordering::AcqRel);
            }
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
                self.start_stream(&started, stream, line_period).map(|()| 0)
            }
            STREAM_STOP => {
                self.stop_stream(&started);
                Ok(0)
            }
            STREAM_POSITION if !stream.is_idle() => {
                let next = stream.next.load(Ordering::Relaxed);
                let state = stream.state(&started.registers, next);
                request.write_output(state.as_bytes())?;
                Ok(StreamState::SIZE)
            }
            STREAM_EXCHANGE => self.exchange(&started, stream, request),
            STREAM_POSITION => Err(NtStatus::INVALID_DEVICE_STATE),
            _ => Err(NtStatus::INVALID_DEVICE_REQUEST),
        }
    }

    /// Waits until `done`, but not for longer than the time limit.
    fn wait_until(&self, done: impl Fn() -> bool) -> Result<()> {
        let since = Moment::now();
        while !done() {
            if since.elapsed_ms() >= self.limit.into() {
                return Err(NtStatus::IO_TIMEOUT);
            }
            thread::pause();
        }
        Ok(())
    }

    fn start_stream(&self, started: &Started, stream: &Stream, line_period: u32) -> Result<()> {
        if line_period == 0 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        if !stream.is_idle() || started.has_reserved() {
            return Err(NtStatus::INVALID_DEVICE_STATE);
        }
        for counter in [&stream.next, &stream.missed, &stream.glitches] {
            counter.store(0, Ordering::Relaxed);
        }
        // The device asks for nothing yet.
        let outcome = stream
            .read
            .start(Direction::FromDevice)
            .and_then(|()| stream.write.start(Direction::ToDevice))
            .and_then(|()| self.wait_until(|| stream.has_begun() || stream.is_idle()));
        if outcome.is_ok() && stream.has_begun() {
            started.registers.begin_stream(line_period);
            return Ok(());
        }
        self.stop_stream(started);
        outcome.and(Err(NtStatus::IO_DEVICE_ERROR))
    }

    /// Ends a stream if there is one: afterwards nobody uses its buffers. Waits for the controller, which always answers.
    pub(super) fn stop_stream(&self, started: &Started) {
        let Some(stream) = &started.stream else {
            return;
        };
        if stream.is_idle() {
            return;
        }
        started.registers.end_stream();
        stream.read.transfer.stop();
        stream.write.transfer.stop();
        while !stream.is_idle() {
            thread::pause();
        }
        started.registers.connect(started.interrupts);
    }

    /// Waits for the next period, returns it, and takes the data of one to come.
    fn exchange(&self, started: &Started, stream: &Stream, request: &mut Request) -> Result<usize> {
        let next = stream.next.load(Ordering::Relaxed);
        self.wait_until(|| stream.read.periods() > next || stream.is_idle())?;
        if stream.is_idle() {
            return Err(NtStatus::INVALID_DEVICE_STATE);
        }
        // The period after the last one received is being received now, over what was received a round ago.
        let received = stream.read.periods();
        let oldest = received.saturating_sub(PERIODS as u64 - 1);
        let period = next.max(oldest);
        let target = period.saturating_add(LEAD);
        request.with_input(PERIOD, |input| {
            stream.write.buffer.write(place(target), input);
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
                stream.read.buffer.read(place(period), data);
            }
        })?;
        stream
            .next
            .store(period.saturating_add(1), Ordering::Relaxed);
        Ok(StreamState::SIZE + PERIOD)
    }
}
