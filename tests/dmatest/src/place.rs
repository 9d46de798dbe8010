//! Where a request goes: its part of the device's memory, and its part of a buffer with guard bytes around it.

use std::ops::Range;

use crate::device::{Device, Direction};
use crate::error::Error;
use crate::pattern;

/// Bytes before and after a request's part of a buffer that must not change, at least.
pub(crate) const GUARD: usize = 64;
/// What they hold.
const GUARD_BYTE: u8 = 0xc3;

/// A request's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Where in the device's memory.
    pub offset: u64,
    /// Bytes.
    pub length: usize,
    /// Where in a page the buffer starts, 0 to 4095, and beyond: pages skipped.
    pub shift: usize,
}

impl Place {
    /// `length` bytes at `offset`, the buffer on a page's start.
    #[must_use]
    pub fn new(offset: u64, length: usize) -> Self {
        Self {
            offset,
            length,
            shift: 0,
        }
    }

    /// The same with another alignment of the buffer.
    #[must_use]
    pub fn shifted(self, shift: usize) -> Self {
        Self { shift, ..self }
    }

    /// The bytes of the buffer.
    #[must_use]
    pub fn range(self) -> Range<usize> {
        self.shift..self.shift + self.length
    }

    /// The bytes of the device's memory; the place must have been checked to lie in it.
    pub(crate) fn memory(self) -> Range<usize> {
        self.offset as usize..self.offset as usize + self.length
    }

    /// Whether both have a byte of the device's memory.
    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.memory().start < other.memory().end && other.memory().start < self.memory().end
    }

    /// A buffer for the request, with guard bytes everywhere.
    pub(crate) fn buffer<D: Device>(self, device: &D) -> Result<D::Buffer, Error> {
        let mut buffer = device.buffer(self.range().end + GUARD)?;
        buffer.fill(GUARD_BYTE);
        Ok(buffer)
    }

    /// Compares a buffer with what it must be after the request.
    pub(crate) fn check(
        self,
        direction: Direction,
        expected: &[u8],
        found: &[u8],
    ) -> Result<(), Error> {
        match pattern::difference(expected, found) {
            None => Ok(()),
            Some(difference) => Err(self.mismatch(direction, &difference)),
        }
    }

    /// What was found wrong after the request.
    pub(crate) fn mismatch(self, direction: Direction, what: &str) -> Error {
        Error::Mismatch(format!(
            "after a {direction} of {} bytes at offset {} (buffer from byte {}), {what}",
            self.length, self.offset, self.shift
        ))
    }
}
