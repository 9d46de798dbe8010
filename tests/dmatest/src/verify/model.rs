//! The device's memory as it must be, and requests that are held against it.

use abi::info::DeviceInfo;

use crate::device::{Device, Direction, Done};
use crate::error::{Error, Win32Error};
use crate::pattern::Pattern;
use crate::place::{GUARD, Place};

/// A request under way, with what is needed to judge it.
pub struct Underway<D: Device> {
    direction: Direction,
    place: Place,
    pending: D::Pending,
    /// The whole buffer as it was given away.
    before: Vec<u8>,
}

/// Bytes of a large memory that are looked at: its last ones.
const TESTED: u64 = 4 << 20;

/// The device, and what its memory must hold: all of it, or the end of it if it is large. Places count from there.
pub struct Model<'d, D: Device> {
    device: &'d D,
    info: DeviceInfo,
    base: u64,
    memory: Vec<u8>,
    seed: u64,
    requests: u64,
}

impl<'d, D: Device> Model<'d, D> {
    /// Gives the device's memory known contents.
    ///
    /// # Errors
    /// Those of the requests.
    pub fn new(device: &'d D, info: &DeviceInfo, seed: u64) -> Result<Self, Error> {
        let mut model = Self {
            device,
            info: *info,
            base: info.memory_size.saturating_sub(TESTED),
            memory: vec![0; info.memory_size.min(TESTED) as usize],
            seed,
            requests: 0,
        };
        model.prime()?;
        Ok(model)
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &'d D {
        self.device
    }

    /// What the device says it is.
    #[must_use]
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// Bytes one request may have.
    #[must_use]
    pub fn largest(&self) -> usize {
        self.memory.len().min(self.info.maximum_request as usize)
    }

    /// Bytes of memory that are looked at.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.memory.len() as u64
    }

    /// Requests made so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// A random pattern not used before.
    pub fn fresh(&mut self) -> Pattern {
        self.seed = self.seed.wrapping_add(1);
        Pattern::Random(self.seed)
    }

    /// Writes the whole memory, so that its contents are known again.
    ///
    /// # Errors
    /// Those of the requests.
    pub fn prime(&mut self) -> Result<(), Error> {
        let pattern = self.fresh();
        self.write_all(pattern)
    }

    /// Writes the whole memory with `pattern`, in requests as large as they may be.
    ///
    /// # Errors
    /// Those of the requests.
    pub fn write_all(&mut self, pattern: Pattern) -> Result<(), Error> {
        for place in self.pieces() {
            self.write(place, pattern)?;
        }
        Ok(())
    }

    /// Reads the whole memory.
    ///
    /// # Errors
    /// Those of the requests, [`Error::Mismatch`].
    pub fn check_all(&mut self) -> Result<(), Error> {
        self.pieces()
            .into_iter()
            .try_for_each(|place| self.read(place))
    }

    /// Writes and waits.
    ///
    /// # Errors
    /// Those of the request, [`Error::Mismatch`] if it changed the buffer.
    pub fn write(&mut self, place: Place, pattern: Pattern) -> Result<(), Error> {
        let underway = self.start_write(place, pattern)?;
        self.finish(underway)
    }

    /// Reads and waits.
    ///
    /// # Errors
    /// Those of the request, [`Error::Mismatch`].
    pub fn read(&mut self, place: Place) -> Result<(), Error> {
        let underway = self.start_read(place)?;
        self.finish(underway)
    }

    /// Reads `place` and up to [`GUARD`] bytes on either side of it.
    ///
    /// # Errors
    /// As [`Model::read`].
    pub fn read_around(&mut self, place: Place) -> Result<(), Error> {
        let start = place.memory().start.saturating_sub(GUARD);
        let end = (place.memory().end + GUARD)
            .min(self.memory.len())
            .min(start + self.largest());
        self.read(Place::new(start as u64, end - start).shifted(place.shift))
    }

    /// Starts a write; the model's memory changes at once.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn start_write(&mut self, place: Place, pattern: Pattern) -> Result<Underway<D>, Error> {
        let mut buffer = place.buffer(self.device)?;
        pattern.fill(place.offset, &mut buffer[place.range()]);
        self.memory[place.memory()].copy_from_slice(&buffer[place.range()]);
        Ok(self.start(Direction::Write, place, buffer))
    }

    /// Starts a read, to be held against what the model's memory is now.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn start_read(&mut self, place: Place) -> Result<Underway<D>, Error> {
        let mut buffer = place.buffer(self.device)?;
        for (byte, expected) in buffer[place.range()]
            .iter_mut()
            .zip(&self.memory[place.memory()])
        {
            // No byte may look read that was not.
            *byte = !expected;
        }
        Ok(self.start(Direction::Read, place, buffer))
    }

    /// Waits for a request and judges it.
    ///
    /// # Errors
    /// Those of the request, [`Error::Mismatch`].
    pub fn finish(&mut self, underway: Underway<D>) -> Result<(), Error> {
        let Underway {
            direction,
            place,
            pending,
            mut before,
        } = underway;
        let buffer = self
            .device
            .wait(pending)
            .whole(direction, place.offset, place.length)?;
        if direction == Direction::Read {
            // The complement that start_read put there is what must be there now.
            before[place.range()]
                .iter_mut()
                .for_each(|byte| *byte = !*byte);
        }
        place.check(direction, &before, &buffer)
    }

    /// Makes a request that must get `answer` and change nothing; its place counts from the start of the device's memory.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if it does not.
    pub fn answered(
        &mut self,
        direction: Direction,
        place: Place,
        answer: Result<usize, Win32Error>,
    ) -> Result<(), Error> {
        let buffer = place.buffer(self.device)?;
        let Underway {
            pending, before, ..
        } = self.start_at(direction, place.offset, place, buffer);
        let Done { result, buffer } = self.device.wait(pending);
        if result != answer {
            return Err(Error::Mismatch(format!(
                "{direction} of {} bytes at offset {:#x}: {result:?} instead of {answer:?}",
                place.length, place.offset
            )));
        }
        place.check(direction, &before, &buffer)
    }

    fn start(&mut self, direction: Direction, place: Place, buffer: D::Buffer) -> Underway<D> {
        self.start_at(direction, self.base + place.offset, place, buffer)
    }

    fn start_at(
        &mut self,
        direction: Direction,
        offset: u64,
        place: Place,
        buffer: D::Buffer,
    ) -> Underway<D> {
        self.requests += 1;
        let before = buffer.to_vec();
        let pending = self.device.start(direction, offset, buffer, place.range());
        Underway {
            direction,
            place,
            pending,
            before,
        }
    }

    /// The whole memory in requests as large as they may be.
    fn pieces(&self) -> Vec<Place> {
        (0..self.memory.len())
            .step_by(self.largest())
            .map(|offset| {
                Place::new(
                    offset as u64,
                    self.largest().min(self.memory.len() - offset),
                )
            })
            .collect()
    }
}
