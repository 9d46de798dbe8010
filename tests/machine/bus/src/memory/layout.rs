//! Where the parts of guest RAM are.

use super::{HIGH_START, MemoryError};

/// Which physical addresses are RAM, and where they are in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Bytes below the hole.
    pub(super) below: u64,
    /// Bytes in all.
    pub(super) total: u64,
}

impl Layout {
    pub(super) fn of(total: u64) -> Result<Self, MemoryError> {
        if total < 2 << 20 || !total.is_multiple_of(1 << 20) || total > 1 << 40 {
            return Err(MemoryError::BadSize { total });
        }
        let below = if total >= 0xb000_0000 { 2 << 30 } else { total };
        Ok(Self { below, total })
    }

    pub(super) fn offset(&self, physical: u64) -> Option<u64> {
        let offset = match physical.checked_sub(HIGH_START) {
            Some(high) => self.below + high,
            None if physical < self.below => physical,
            None => return None,
        };
        (offset < self.total).then_some(offset)
    }

    pub(super) fn offset_of_range(&self, physical: u64, length: usize) -> Option<u64> {
        let last = physical.checked_add((length as u64).saturating_sub(1))?;
        let (first_offset, last_offset) = (self.offset(physical)?, self.offset(last)?);
        (last_offset - first_offset == last - physical).then_some(first_offset)
    }

    pub(super) fn physical(&self, offset: u64) -> u64 {
        if offset < self.below {
            offset
        } else {
            HIGH_START + (offset - self.below)
        }
    }
}
