//! The card's memory: sparse, and with places that cannot be read.

use std::collections::BTreeSet;
use std::ops::Range;

use abi::card::{MEMORY_DEFAULT, MEMORY_LIMIT};
use thiserror::Error;

/// What memory is allocated in.
const CHUNK: usize = 64 << 10;

/// What is uncorrectable as a whole, and corrected by a write to any part.
const LINE: u64 = 64;

/// The card's memory. What was never written is zero and costs nothing.
pub struct Memory {
    size: u64,
    chunks: Vec<Option<Box<[u8]>>>,
    /// Lines that cannot be read.
    bad: BTreeSet<u64>,
}

/// A card with this much memory cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a card has a multiple of 64 KiB of memory, at most 4 GiB; not {0} bytes")]
pub struct SizeError(u64);

/// Part of a range cannot be read correctly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("uncorrectable memory error at {address:#x}")]
pub struct Uncorrectable {
    /// Where.
    pub address: u64,
}

static ZEROS: [u8; CHUNK] = [0; CHUNK];

impl Memory {
    pub(crate) fn new(size: u64) -> Result<Self, SizeError> {
        if size == 0 || size > MEMORY_LIMIT || !size.is_multiple_of(CHUNK as u64) {
            return Err(SizeError(size));
        }
        let count = (size / CHUNK as u64) as usize;
        Ok(Self {
            size,
            chunks: (0..count).map(|_| None).collect(),
            bad: BTreeSet::new(),
        })
    }

    /// Bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether a range lies in the memory.
    pub(crate) fn contains(&self, address: u64, length: u32) -> bool {
        address
            .checked_add(length.into())
            .is_some_and(|end| end <= self.size)
    }

    /// Bytes from an address on that can be accessed in one piece; 0 beyond the memory.
    pub(crate) fn piece(&self, address: u64) -> usize {
        if address < self.size {
            CHUNK - address as usize % CHUNK
        } else {
            0
        }
    }

    /// A range within one piece, to be read.
    pub(crate) fn get(&self, address: u64, length: usize) -> Result<&[u8], Uncorrectable> {
        if let Some(&line) = self.bad.range(lines(address, length)).next() {
            return Err(Uncorrectable {
                address: line * LINE,
            });
        }
        let start = address as usize % CHUNK;
        let chunk = self.chunks[address as usize / CHUNK].as_deref();
        Ok(&chunk.unwrap_or(&ZEROS)[start..start + length])
    }

    /// A range within one piece, to be written.
    pub(crate) fn get_mut(&mut self, address: u64, length: usize) -> &mut [u8] {
        if !self.bad.is_empty() {
            self.bad
                .retain(|line| !lines(address, length).contains(line));
        }
        let start = address as usize % CHUNK;
        let chunk = self.chunks[address as usize / CHUNK]
            .get_or_insert_with(|| vec![0; CHUNK].into_boxed_slice());
        &mut chunk[start..start + length]
    }

    /// Reads the memory, as a test does that looks into the card.
    ///
    /// # Errors
    /// Part of it is uncorrectable.
    ///
    /// # Panics
    /// If the range is not in the memory.
    pub fn peek(&self, mut address: u64, mut buffer: &mut [u8]) -> Result<(), Uncorrectable> {
        while !buffer.is_empty() {
            let (part, rest) = buffer.split_at_mut(self.piece(address).min(buffer.len()));
            part.copy_from_slice(self.get(address, part.len())?);
            address += part.len() as u64;
            buffer = rest;
        }
        Ok(())
    }

    /// Writes the memory, as a test does that reaches into the card.
    ///
    /// # Panics
    /// If the range is not in the memory.
    pub fn poke(&mut self, mut address: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(self.piece(address).min(bytes.len()));
            self.get_mut(address, part.len()).copy_from_slice(part);
            address += part.len() as u64;
            bytes = rest;
        }
    }

    /// Makes the lines of a range uncorrectable, until they are written.
    pub fn spoil(&mut self, address: u64, length: usize) {
        self.bad.extend(lines(address, length));
    }

    /// Bytes that are allocated.
    #[must_use]
    pub fn allocated(&self) -> u64 {
        self.chunks.iter().flatten().count() as u64 * CHUNK as u64
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(MEMORY_DEFAULT).expect("the default is a size")
    }
}

/// The lines that a range touches.
fn lines(address: u64, length: usize) -> Range<u64> {
    address / LINE..(address + length as u64).div_ceil(LINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_costs_what_was_written() {
        let mut memory = Memory::new(MEMORY_LIMIT).unwrap();
        let mut byte = [1];
        memory.peek(MEMORY_LIMIT - 1, &mut byte).unwrap();
        assert_eq!((byte, memory.allocated()), ([0], 0));
        memory.poke(CHUNK as u64 - 1, &[1, 2]);
        assert_eq!(memory.allocated(), 2 * CHUNK as u64);
        let mut bytes = [0; 4];
        memory.peek(CHUNK as u64 - 2, &mut bytes).unwrap();
        assert_eq!(bytes, [0, 1, 2, 0]);
    }

    #[test]
    fn sizes_are_whole_chunks_up_to_the_limit() {
        for size in [0, 1, CHUNK as u64 + 1, MEMORY_LIMIT + CHUNK as u64] {
            assert_eq!(Memory::new(size).err(), Some(SizeError(size)));
        }
    }

    #[test]
    fn a_spoiled_line_can_be_read_again_once_it_was_written() {
        let mut memory = Memory::default();
        memory.spoil(100, 1);
        assert!(memory.get(0, 64).is_ok());
        assert_eq!(memory.get(0, 65), Err(Uncorrectable { address: 64 }));
        memory.poke(127, &[1]);
        assert!(memory.get(0, 4096).is_ok());
    }

    #[test]
    fn a_range_is_in_the_memory_or_not() {
        let memory = Memory::default();
        assert!(memory.contains(0, u32::try_from(MEMORY_DEFAULT).unwrap()));
        assert!(!memory.contains(1, u32::try_from(MEMORY_DEFAULT).unwrap()));
        assert!(!memory.contains(u64::MAX, 2));
        assert_eq!(memory.piece(MEMORY_DEFAULT), 0);
    }
}
