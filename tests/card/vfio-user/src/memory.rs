//! The client's memory, as far as it has given it to us.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::atomic::Ordering;

use card::BusError;
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory, VolatileSlice};

/// Mapped ranges by bus address.
#[derive(Default)]
pub(crate) struct GuestMemory {
    ranges: BTreeMap<u64, Range>,
}

struct Range {
    region: MmapRegion,
    writable: bool,
}

/// Accesses up to this length are made in whole words, in the order of addresses.
const LONGEST_ENTRY: usize = 64;
const WORD: usize = size_of::<u64>();

impl GuestMemory {
    /// Maps a range. It replaces what it overlaps.
    ///
    /// # Errors
    /// The range is none, or the file cannot be mapped.
    pub(crate) fn map(
        &mut self,
        address: u64,
        length: u64,
        file: File,
        offset: u64,
        writable: bool,
    ) -> io::Result<()> {
        let size = usize::try_from(length).map_err(io::Error::other)?;
        if size == 0 || address.checked_add(length - 1).is_none() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let region =
            MmapRegion::from_file(FileOffset::new(file, offset), size).map_err(io::Error::other)?;
        self.unmap(address, length);
        self.ranges.insert(address, Range { region, writable });
        Ok(())
    }

    /// Takes all ranges away that overlap this one; there need not be any.
    pub(crate) fn unmap(&mut self, address: u64, length: u64) {
        let last = address.saturating_add(length.saturating_sub(1));
        self.ranges.retain(|&start, range| {
            let end = start.saturating_add(range.region.size() as u64 - 1);
            end < address || start > last
        });
    }

    /// Takes everything away.
    pub(crate) fn clear(&mut self) {
        self.ranges.clear();
    }

    /// The parts of a range, all of which are there.
    fn parts(
        &self,
        address: u64,
        length: usize,
        write: bool,
    ) -> Result<Vec<VolatileSlice<'_>>, BusError> {
        let mut parts = Vec::with_capacity(1);
        let (mut at, mut left) = (address, length);
        while left > 0 {
            let (start, range) = self.ranges.range(..=at).next_back().ok_or(BusError)?;
            let skip = usize::try_from(at - start).map_err(|_| BusError)?;
            let room = range.region.size().checked_sub(skip).ok_or(BusError)?;
            let part = room.min(left);
            if part == 0 || write && !range.writable {
                return Err(BusError);
            }
            parts.push(range.region.get_slice(skip, part).map_err(|_| BusError)?);
            left -= part;
            if left > 0 {
                at = at.checked_add(part as u64).ok_or(BusError)?;
            }
        }
        Ok(parts)
    }

    pub(crate) fn read(&self, address: u64, mut buffer: &mut [u8]) -> Result<(), BusError> {
        let in_words = is_entry(address, buffer.len());
        for slice in self.parts(address, buffer.len(), false)? {
            let (part, rest) = buffer.split_at_mut(slice.len());
            if in_words && part.len().is_multiple_of(WORD) {
                for (index, bytes) in part.chunks_exact_mut(WORD).enumerate() {
                    let word: u64 = slice
                        .load(index * WORD, Ordering::SeqCst)
                        .map_err(|_| BusError)?;
                    bytes.copy_from_slice(&word.to_ne_bytes());
                }
            } else {
                slice.copy_to(part);
            }
            buffer = rest;
        }
        Ok(())
    }

    pub(crate) fn write(&self, address: u64, mut bytes: &[u8]) -> Result<(), BusError> {
        let in_words = is_entry(address, bytes.len());
        for slice in self.parts(address, bytes.len(), true)? {
            let (part, rest) = bytes.split_at(slice.len());
            if in_words && part.len().is_multiple_of(WORD) {
                for (index, bytes) in part.as_chunks::<WORD>().0.iter().enumerate() {
                    let word = u64::from_ne_bytes(*bytes);
                    slice
                        .store(word, index * WORD, Ordering::SeqCst)
                        .map_err(|_| BusError)?;
                }
            } else {
                slice.copy_from(part);
            }
            bytes = rest;
        }
        Ok(())
    }

    pub(crate) fn load(&self, address: u64) -> Result<u32, BusError> {
        let parts = self.parts(address, 4, false)?;
        let [slice] = &parts[..] else {
            return Err(BusError);
        };
        slice.load(0, Ordering::SeqCst).map_err(|_| BusError)
    }

    pub(crate) fn store(&self, address: u64, value: u32) -> Result<(), BusError> {
        let parts = self.parts(address, 4, true)?;
        let [slice] = &parts[..] else {
            return Err(BusError);
        };
        slice
            .store(value, 0, Ordering::SeqCst)
            .map_err(|_| BusError)
    }
}

fn is_entry(address: u64, length: usize) -> bool {
    length <= LONGEST_ENTRY && length.is_multiple_of(WORD) && address.is_multiple_of(WORD as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: usize) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(bytes as u64).unwrap();
        file
    }

    #[test]
    fn an_access_may_go_over_several_ranges_and_not_over_a_hole() {
        let mut memory = GuestMemory::default();
        memory.map(0x1000, 0x1000, file(0x1000), 0, true).unwrap();
        memory
            .map(0x2000, 0x1000, file(0x2000), 0x1000, true)
            .unwrap();
        let bytes: Vec<u8> = (0..100).collect();
        memory.write(0x1fd0, &bytes).unwrap();
        let mut back = vec![0; 100];
        memory.read(0x1fd0, &mut back).unwrap();
        assert_eq!(back, bytes);
        assert_eq!(memory.read(0x2ff0, &mut [0; 17]), Err(BusError));
        assert_eq!(memory.read(0xfff, &mut [0; 2]), Err(BusError));
        assert_eq!(memory.load(0x1fd0), Ok(0x0302_0100));
        memory.store(0x1fd0, 7).unwrap();
        assert_eq!(memory.load(0x1fd0), Ok(7));
    }

    #[test]
    fn what_was_unmapped_or_is_read_only_cannot_be_written() {
        let mut memory = GuestMemory::default();
        memory.map(0x1000, 0x1000, file(0x1000), 0, false).unwrap();
        assert_eq!(memory.write(0x1000, &[1]), Err(BusError));
        assert_eq!(memory.read(0x1000, &mut [0]), Ok(()));
        memory.unmap(0x9000, 0x1000);
        memory.unmap(0x1000, 0x1000);
        assert_eq!(memory.read(0x1000, &mut [0]), Err(BusError));
        assert!(memory.map(u64::MAX, 2, file(0x1000), 0, true).is_err());
        assert!(memory.map(0, 0, file(0x1000), 0, true).is_err());
    }
}
