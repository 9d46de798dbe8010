//! Logical addresses for boards with an IOMMU.

use std::collections::BTreeMap;
use std::ops::Range;

use machine_bus::PAGE_SIZE;

const PAGE: u64 = PAGE_SIZE as u64;

/// Where logical addresses begin for a device of up to 32 address bits: not at zero, so that a device that loses
/// upper bits does not hit a mapping by chance.
const LOW: u64 = 16 << 20;

/// Where they begin for wider devices: a logical address cut to 32 bits is then always wrong.
const HIGH: u64 = (1 << 32) + (16 << 20);

/// No platform has more address bits than this.
const WIDEST: u8 = 48;

/// Hands out ranges of logical addresses. A range is not used again before all others have been, and between two
/// ranges there is at least one page that is never mapped.
#[derive(Debug)]
pub struct Iova {
    next: [u64; 2],
    live: BTreeMap<u64, u64>,
}

impl Default for Iova {
    fn default() -> Self {
        Self {
            next: [LOW, HIGH],
            live: BTreeMap::new(),
        }
    }
}

impl Iova {
    /// A page-aligned range of at least `length` bytes that a device of `width` address bits reaches; `None` if all
    /// are in use.
    pub fn allocate(&mut self, length: u64, width: u8) -> Option<u64> {
        let wide = usize::from(width > 32);
        let within = [LOW, HIGH][wide]..1 << width.min(WIDEST);
        let size = length.next_multiple_of(PAGE) + PAGE;
        let start = self
            .find(self.next[wide]..within.end, size)
            .or_else(|| self.find(within, size))?;
        self.live.insert(start, size);
        self.next[wide] = start + size;
        Some(start)
    }

    /// Gives back the range that `address` lies in the first page of.
    pub fn free(&mut self, address: u64) {
        self.live.remove(&(address - address % PAGE));
    }

    fn find(&self, within: Range<u64>, size: u64) -> Option<u64> {
        let mut start = within.start;
        while start + size <= within.end {
            match self.live.range(..start + size).next_back() {
                Some((&other, &length)) if other + length > start => start = other + length,
                _ => return Some(start),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_apart_and_come_back_last() {
        let mut iova = Iova::default();
        let a = iova.allocate(1, 25).unwrap();
        let b = iova.allocate(PAGE, 25).unwrap();
        assert!(b >= a + 2 * PAGE);
        iova.free(a + 5);
        let rest = (1 << 25) - (b + 2 * PAGE) - PAGE;
        assert_eq!(iova.allocate(rest, 25), Some(b + 2 * PAGE));
        assert_eq!(iova.allocate(1, 25), Some(a));
        assert_eq!(iova.allocate(1, 25), None);
    }

    #[test]
    fn wide_devices_get_addresses_above_4_gib() {
        assert!(Iova::default().allocate(1, 64).unwrap() > u64::from(u32::MAX));
        assert!(Iova::default().allocate(1, 32).unwrap() < 1 << 32);
    }
}
