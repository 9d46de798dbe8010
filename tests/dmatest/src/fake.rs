//! A device in memory, sound or faulty, for the tests of what the program does.

mod fault;
mod mode;
mod stream;

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use abi::info::{DeviceInfo, DeviceKind, InterruptKind};
use abi::ioctl;
use abi::statistics::Statistics;

use crate::device::{Device, Direction, Done};
use crate::error::{Error, Win32Error};
use crate::thread;
use crate::verify::expected_answer;

pub(crate) use fault::Fault;
use mode::Modes;
pub(crate) use stream::{StreamFault, Streams};

/// What a request takes of the fake's time.
const EACH: Duration = Duration::from_millis(1);

pub(crate) struct Fake {
    shared: Arc<Mutex<State>>,
    /// The file object this is a handle of.
    file: u64,
}

struct State {
    memory: Vec<u8>,
    maximum_request: u32,
    fault: Option<Fault>,
    modes: Modes,
    counted: Statistics,
    time: Duration,
    /// Handles by their file object.
    handles: HashMap<u64, usize>,
    /// Requests made so far; the number of the next.
    made: u64,
    /// In the order they were made; the first is in the hardware.
    queue: VecDeque<Queued>,
    ended: HashMap<u64, Done<Vec<u8>>>,
    lost: HashSet<u64>,
    /// The write that [`Fault::Reorder`] holds back.
    held: Option<(u64, Vec<u8>)>,
    /// Of a device that streams.
    streams: Option<Streams>,
}

struct Queued {
    number: u64,
    file: u64,
    direction: Direction,
    offset: u64,
    buffer: Vec<u8>,
    range: Range<usize>,
}

/// A request's number.
pub(crate) struct Pending(u64);

impl Fake {
    pub(crate) fn new(memory: usize, maximum_request: u32) -> Self {
        let state = State {
            memory: vec![0; memory],
            maximum_request,
            fault: None,
            modes: Modes::default(),
            counted: Statistics::new(),
            time: Duration::ZERO,
            handles: HashMap::from([(0, 1)]),
            made: 0,
            queue: VecDeque::new(),
            ended: HashMap::new(),
            lost: HashSet::new(),
            held: None,
            streams: None,
        };
        Self {
            shared: Arc::new(Mutex::new(state)),
            file: 0,
        }
    }

    pub(crate) fn with(self, fault: Fault) -> Self {
        self.state().fault = Some(fault);
        self
    }

    /// A device that plays as well.
    pub(crate) fn streaming(fault: Option<StreamFault>) -> Self {
        let fake = Self::new(4096, 4096);
        fake.state().streams = Some(Streams::new(fault));
        fake
    }

    /// What has been played.
    pub(crate) fn streams(&self) -> Streams {
        let mut state = self.state();
        state.streams.take().expect("a device that streams")
    }

    pub(crate) fn info(&self) -> DeviceInfo {
        self.state().info()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().expect("no thread panics with the state")
    }

    fn handle(&self, file: u64) -> Self {
        *self.state().handles.entry(file).or_default() += 1;
        Self {
            shared: Arc::clone(&self.shared),
            file,
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let Ok(mut state) = self.shared.lock() else {
            return;
        };
        let left = state.handles.get_mut(&self.file).expect("an open file");
        *left -= 1;
        let cancels = *left == 0 || state.fault == Some(Fault::CloseOfDuplicateCancels);
        if cancels {
            let file = self.file;
            state.cancel(|request| request.file == file);
        }
    }
}

impl State {
    fn info(&self) -> DeviceInfo {
        let (kind, in_flight) = match self.streams {
            Some(_) => (DeviceKind::Fifo, 2),
            None => (DeviceKind::Edu, 1),
        };
        DeviceInfo {
            device_kind: kind as u32,
            interrupt_kind: InterruptKind::Message as u32,
            memory_size: self.memory.len() as u64,
            maximum_request: self.maximum_request,
            maximum_transfer: self.maximum_request.div_ceil(4),
            transfers_in_flight: in_flight,
            ..DeviceInfo::new()
        }
    }

    /// Carries out the first request of the queue, if there is one; whether there was.
    fn step(&mut self) -> bool {
        let Some(mut request) = self.queue.pop_front() else {
            return false;
        };
        self.time += EACH;
        let number = request.number;
        match self.fault {
            Some(Fault::Lose(first)) if number >= first && self.lost.is_empty() => {
                self.lost.insert(number);
                return true;
            }
            Some(Fault::Stall(first)) if number >= first => {
                self.queue.push_front(request);
                return false;
            }
            _ => {}
        }
        let held = self.held.take();
        let (offset, range) = (request.offset, request.range.clone());
        let result = if self.fault == Some(Fault::Reorder)
            && request.direction == Direction::Write
            && held.is_none()
        {
            self.held = Some((offset, request.buffer[range.clone()].to_vec()));
            Ok(range.len())
        } else {
            self.transfer(request.direction, offset, &mut request.buffer, range)
        };
        let failing = match self.fault {
            Some(Fault::FailSome(error)) if number % 10 == 9 => Err(error),
            _ => result,
        };
        self.end(request, failing);
        if let Some((offset, mut late)) = held {
            let range = 0..late.len();
            let _ = self.transfer(Direction::Write, offset, &mut late, range);
        }
        true
    }

    fn end(&mut self, request: Queued, result: Result<usize, Win32Error>) {
        self.count(request.direction, result);
        let buffer = request.buffer;
        self.ended.insert(request.number, Done { result, buffer });
    }

    fn transfer(
        &mut self,
        direction: Direction,
        offset: u64,
        buffer: &mut [u8],
        range: Range<usize>,
    ) -> Result<usize, Win32Error> {
        let length = range.len();
        let offset = match self.fault {
            Some(Fault::Fail(error)) => return Err(error),
            Some(Fault::WrapOffset) => offset & 0xffff_ffff,
            _ => offset,
        };
        let memory = &mut self.memory;
        let mut moved = expected_answer(offset, length as u64, memory.len() as u64);
        if self.fault == Some(Fault::Truncate) && offset < memory.len() as u64 {
            moved = Ok((length as u64).min(memory.len() as u64 - offset));
        }
        let moved = moved? as usize;
        if moved == 0 {
            return Ok(0);
        }
        let place = offset as usize..offset as usize + moved;
        let range = range.start..range.start + moved;
        match direction {
            Direction::Read if self.fault == Some(Fault::ReadNothing) => {}
            Direction::Read => {
                buffer[range.clone()].copy_from_slice(&memory[place]);
                if self.fault == Some(Fault::ReadOneMore) && range.end < buffer.len() {
                    buffer[range.end] ^= 1;
                }
            }
            Direction::Write => {
                let last = place.end;
                memory[place.clone()].copy_from_slice(&buffer[range]);
                match self.fault {
                    Some(Fault::FlipBit { at }) if place.contains(&at) => memory[at] ^= 4,
                    Some(Fault::ReservedMovesLess) if self.modes.is_reserved() => {
                        memory[last - 1] ^= 1;
                    }
                    Some(Fault::OneMore) if last < memory.len() => memory[last] ^= 1,
                    _ => {}
                }
            }
        }
        Ok(moved)
    }

    fn count(&mut self, direction: Direction, result: Result<usize, Win32Error>) {
        let largest = u64::from(self.info().maximum_transfer);
        let counted = &mut self.counted;
        counted.requests += 1;
        match (result, direction) {
            (Err(_), _) => counted.failed += 1,
            (Ok(length), Direction::Read) => counted.bytes_read += length as u64,
            (Ok(length), Direction::Write) => counted.bytes_written += length as u64,
        }
        if let Ok(length) = result {
            counted.completed += 1;
            counted.transfers += (length as u64).div_ceil(largest);
        }
    }

    /// Cancels requests: those that wait have not reached the driver, the one in the hardware is half done. Whether there
    /// was any.
    fn cancel(&mut self, chosen: impl Fn(&Queued) -> bool) -> bool {
        let in_hardware = self.queue.front().map(|request| request.number);
        let queue = std::mem::take(&mut self.queue);
        let (cancelled, left): (VecDeque<_>, VecDeque<_>) =
            queue.into_iter().partition(|request| chosen(request));
        self.queue = left;
        let any = !cancelled.is_empty();
        for request in cancelled {
            if Some(request.number) == in_hardware {
                self.abort(request);
            } else {
                let aborted = Err(Win32Error::OPERATION_ABORTED);
                let buffer = request.buffer;
                let done = Done {
                    result: aborted,
                    buffer,
                };
                self.ended.insert(request.number, done);
            }
        }
        any
    }

    /// Stops the request in the hardware half way.
    fn abort(&mut self, mut request: Queued) {
        let half = request.range.start..request.range.start + request.range.len() / 2;
        let moved = self.transfer(
            request.direction,
            request.offset,
            &mut request.buffer,
            half.clone(),
        );
        let (end, place) = (request.range.end, request.offset as usize);
        let mut result = Err(Win32Error::OPERATION_ABORTED);
        match (self.fault, request.direction) {
            (Some(Fault::CancelledShort), _) => result = moved,
            (Some(Fault::CancelledSpills), Direction::Read) if end < request.buffer.len() => {
                request.buffer[end] ^= 1;
            }
            (Some(Fault::CancelledReadsWrong), Direction::Read) => request.buffer[end - 1] ^= 0x81,
            (Some(Fault::CancelledScribbles), Direction::Write) => self.memory[place] ^= 0x81,
            _ => {}
        }
        let counted = &mut self.counted;
        counted.requests += 1;
        match self.fault {
            Some(Fault::CancelUncounted) => {}
            Some(Fault::CancelCountedAsDone) => counted.completed += 1,
            _ if result.is_ok() => counted.completed += 1,
            _ => counted.cancelled += 1,
        }
        let buffer = request.buffer;
        self.ended.insert(request.number, Done { result, buffer });
    }
}

impl Device for Fake {
    type Buffer = Vec<u8>;
    type Pending = Pending;

    fn buffer(&self, length: usize) -> Result<Vec<u8>, Error> {
        Ok(vec![0xdd; length])
    }

    fn start(
        &self,
        direction: Direction,
        offset: u64,
        buffer: Vec<u8>,
        range: Range<usize>,
    ) -> Pending {
        let mut state = self.state();
        let number = state.made;
        state.made += 1;
        state.queue.push_back(Queued {
            number,
            file: self.file,
            direction,
            offset,
            buffer,
            range,
        });
        Pending(number)
    }

    fn wait(&self, pending: Pending) -> Done<Vec<u8>> {
        let mut state = self.state();
        loop {
            if let Some(done) = state.ended.remove(&pending.0) {
                return done;
            }
            assert!(state.step(), "waits for a request that does not end");
        }
    }

    fn wait_for(&self, pending: &Pending, limit: Duration) -> bool {
        let mut state = self.state();
        let until = state.time.saturating_add(limit);
        loop {
            if state.ended.contains_key(&pending.0) {
                return true;
            }
            if state.time >= until {
                return false;
            }
            if !state.step() {
                state.time = until;
            }
        }
    }

    fn cancel(&self, pending: &Pending) -> Result<(), Win32Error> {
        let mut state = self.state();
        let found = state.cancel(|request| request.number == pending.0);
        // The driver has a lost request, which therefore is found.
        if found || state.lost.contains(&pending.0) {
            Ok(())
        } else {
            Err(Win32Error::NOT_FOUND)
        }
    }

    fn cancel_all(&self) -> Result<(), Win32Error> {
        let mut state = self.state();
        let others = state.fault == Some(Fault::CancelsOthers);
        if state.cancel(|request| others || request.file == self.file) {
            Ok(())
        } else {
            Err(Win32Error::NOT_FOUND)
        }
    }

    fn reopen(&self) -> Result<Self, Error> {
        let file = self.state().handles.keys().max().map_or(0, |file| file + 1);
        Ok(self.handle(file))
    }

    fn duplicate(&self) -> Result<Self, Error> {
        Ok(self.handle(self.file))
    }

    fn on_threads<T, W>(&self, count: usize, work: W) -> Result<Vec<T>, Error>
    where
        T: Send + 'static,
        W: Fn(usize, &Self) -> T + Send + Sync + 'static,
    {
        let devices: Vec<Self> = (0..count)
            .map(|_| self.reopen())
            .collect::<Result<_, _>>()?;
        Ok(thread::in_parallel(devices, work))
    }

    fn abandon(&self, reads: usize, length: usize) -> Result<(), Error> {
        let other = self.reopen()?;
        for _ in 0..reads {
            other.start(Direction::Read, 0, vec![0; length], 0..length);
        }
        drop(other);
        let mut state = self.state();
        if state.fault == Some(Fault::AbandonedForGood) {
            state.fault = Some(Fault::Stall(state.made));
        }
        Ok(())
    }

    fn now(&self) -> Duration {
        self.state().time
    }

    fn sleep(&self, time: Duration) {
        let mut state = self.state();
        let until = state.time + time;
        while state.time < until && state.step() {}
        state.time = state.time.max(until);
    }

    fn control(&self, code: u32, input: &[u8], output: &mut [u8]) -> Result<usize, Win32Error> {
        let mut state = self.state();
        let State { streams, time, .. } = &mut *state;
        if let Some(streams) = streams
            && let Some(answer) = streams.control(code, input, output, time)
        {
            return answer;
        }
        if code == ioctl::RESET {
            let in_hardware = state.queue.front().map(|request| request.number);
            state.cancel(|request| Some(request.number) == in_hardware);
            return Ok(0);
        }
        let modes = state.fault != Some(Fault::NoModes);
        if code == ioctl::SET_DMA_MODE && modes {
            let fault = state.fault;
            return state.modes.set(input, fault).map(|()| 0);
        }
        let (info, mode) = (state.info(), state.modes.state());
        let answer = match code {
            ioctl::GET_INFO => info.as_bytes(),
            ioctl::GET_DMA_MODE if modes => mode.as_bytes(),
            ioctl::GET_STATISTICS => state.counted.as_bytes(),
            _ => return Err(Win32Error::INVALID_FUNCTION),
        };
        let output = output
            .get_mut(..answer.len())
            .ok_or(Win32Error::INSUFFICIENT_BUFFER)?;
        output.copy_from_slice(answer);
        Ok(answer.len())
    }
}
