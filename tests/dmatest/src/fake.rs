//! A device in memory, sound or faulty, for the tests of what the program does.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use abi::info::{DeviceInfo, DeviceKind, InterruptKind};
use abi::ioctl;
use abi::statistics::Statistics;

use crate::device::{Device, Direction, Done};
use crate::error::{Error, Win32Error};
use crate::verify::expected_answer;

/// How a faulty device is wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// The byte at this place of the memory is written wrong.
    FlipBit { at: usize },
    /// Reads report success and move nothing.
    ReadNothing,
    /// Writes put one byte more than they should.
    OneMore,
    /// Reads put one byte more into the buffer than they should.
    ReadOneMore,
    /// Requests beyond the end are cut short instead of refused.
    Truncate,
    /// The offset's upper half is ignored.
    WrapOffset,
    /// Requests are carried out in the reverse order, two by two.
    Reorder,
    /// Every request fails.
    Fail(Win32Error),
}

pub(crate) struct Fake {
    memory: RefCell<Vec<u8>>,
    maximum_request: u32,
    fault: Option<Fault>,
    counted: Cell<Statistics>,
    /// The write that [`Fault::Reorder`] holds back.
    held: RefCell<Option<(u64, Vec<u8>)>>,
}

impl Fake {
    pub(crate) fn new(memory: usize, maximum_request: u32) -> Self {
        Self {
            memory: RefCell::new(vec![0; memory]),
            maximum_request,
            fault: None,
            counted: Cell::new(Statistics::new()),
            held: RefCell::new(None),
        }
    }

    pub(crate) fn with(self, fault: Fault) -> Self {
        Self {
            fault: Some(fault),
            ..self
        }
    }

    pub(crate) fn info(&self) -> DeviceInfo {
        DeviceInfo {
            device_kind: DeviceKind::Edu as u32,
            interrupt_kind: InterruptKind::Message as u32,
            memory_size: self.memory.borrow().len() as u64,
            maximum_request: self.maximum_request,
            maximum_transfer: self.maximum_request.div_ceil(4),
            transfers_in_flight: 1,
            ..DeviceInfo::new()
        }
    }

    fn transfer(
        &self,
        direction: Direction,
        offset: u64,
        buffer: &mut [u8],
        range: Range<usize>,
    ) -> Result<usize, Win32Error> {
        let mut memory = self.memory.borrow_mut();
        let length = range.len();
        let offset = match self.fault {
            Some(Fault::Fail(error)) => return Err(error),
            Some(Fault::WrapOffset) => offset & 0xffff_ffff,
            _ => offset,
        };
        let mut moved = expected_answer(offset, length as u64, memory.len() as u64);
        if matches!(self.fault, Some(Fault::Truncate)) && offset < memory.len() as u64 {
            moved = Ok((length as u64).min(memory.len() as u64 - offset));
        }
        let moved = moved? as usize;
        if moved == 0 {
            return Ok(0);
        }
        let place = offset as usize..offset as usize + moved;
        let range = range.start..range.start + moved;
        match direction {
            Direction::Read if matches!(self.fault, Some(Fault::ReadNothing)) => {}
            Direction::Read => {
                buffer[range.clone()].copy_from_slice(&memory[place]);
                if matches!(self.fault, Some(Fault::ReadOneMore)) && range.end < buffer.len() {
                    buffer[range.end] ^= 1;
                }
            }
            Direction::Write => {
                let last = place.end;
                memory[place.clone()].copy_from_slice(&buffer[range]);
                match self.fault {
                    Some(Fault::FlipBit { at }) if place.contains(&at) => memory[at] ^= 4,
                    Some(Fault::OneMore) if last < memory.len() => memory[last] ^= 1,
                    _ => {}
                }
            }
        }
        Ok(moved)
    }
}

impl Fake {
    fn count(&self, direction: Direction, result: Result<usize, Win32Error>) {
        let mut counted = self.counted.get();
        counted.requests += 1;
        match (result, direction) {
            (Err(_), _) => counted.failed += 1,
            (Ok(length), Direction::Read) => counted.bytes_read += length as u64,
            (Ok(length), Direction::Write) => counted.bytes_written += length as u64,
        }
        if let Ok(length) = result {
            counted.completed += 1;
            counted.transfers += (length as u64).div_ceil(u64::from(self.info().maximum_transfer));
        }
        self.counted.set(counted);
    }
}

impl Device for Fake {
    type Buffer = Vec<u8>;
    type Pending = Done<Vec<u8>>;

    fn buffer(&self, length: usize) -> Result<Vec<u8>, Error> {
        Ok(vec![0xdd; length])
    }

    fn start(
        &self,
        direction: Direction,
        offset: u64,
        mut buffer: Vec<u8>,
        range: Range<usize>,
    ) -> Self::Pending {
        let held = self.held.take();
        if matches!(self.fault, Some(Fault::Reorder))
            && direction == Direction::Write
            && held.is_none()
        {
            self.held
                .replace(Some((offset, buffer[range.clone()].to_vec())));
            return Done {
                result: Ok(range.len()),
                buffer,
            };
        }
        let result = self.transfer(direction, offset, &mut buffer, range);
        self.count(direction, result);
        if let Some((offset, mut late)) = held {
            let range = 0..late.len();
            let _ = self.transfer(Direction::Write, offset, &mut late, range);
        }
        Done { result, buffer }
    }

    fn wait(&self, pending: Self::Pending) -> Done<Vec<u8>> {
        pending
    }

    fn control(&self, code: u32, _input: &[u8], output: &mut [u8]) -> Result<usize, Win32Error> {
        let statistics = self.counted.get();
        let info = self.info();
        let answer = match code {
            ioctl::GET_INFO => info.as_bytes(),
            ioctl::GET_STATISTICS => statistics.as_bytes(),
            _ => return Err(Win32Error::INVALID_FUNCTION),
        };
        let output = output
            .get_mut(..answer.len())
            .ok_or(Win32Error::INSUFFICIENT_BUFFER)?;
        output.copy_from_slice(answer);
        Ok(answer.len())
    }
}
