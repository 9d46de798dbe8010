//! Which pages of guest RAM are in use.

use std::collections::BTreeSet;
use std::ops::Range;

use super::layout::Layout;
use super::{HIGH_START, MemoryError, PAGE};

/// Pages below this are never handed out: firmware and legacy devices live there.
const FIRST: u64 = 1 << 20;

/// What a 28-bit device can reach.
const LOW_END: u64 = 1 << 28;

/// Where pages are taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// Between 1 MiB and 256 MiB, lowest first: what a device with 28 address bits can reach.
    Low,
    /// Scattered above 256 MiB: seven of eight above 4 GiB, and about one in four next to the one before, so that
    /// a buffer has elements of one and of several pages.
    High,
}

#[derive(Debug)]
pub(super) struct Allocator {
    layout: Layout,
    /// One bit a page of the file.
    used: Vec<u64>,
    allocated: usize,
    /// Pages that were allocated once and are free now.
    freed: BTreeSet<u64>,
    random: u64,
}

impl Allocator {
    pub(super) fn new(layout: Layout, seed: u64) -> Self {
        let pages = (layout.total / PAGE) as usize;
        Self {
            layout,
            used: vec![0; pages.div_ceil(64)],
            allocated: 0,
            freed: BTreeSet::new(),
            random: seed,
        }
    }

    pub(super) fn allocated(&self) -> usize {
        self.allocated
    }

    pub(super) fn freed(&self) -> impl Iterator<Item = u64> {
        self.freed.iter().copied()
    }

    /// Whether the page had been freed before; it counts as fresh from now on.
    pub(super) fn reuse(&mut self, physical: u64) -> bool {
        self.freed.remove(&physical)
    }

    /// Takes all of `count` pages or none.
    pub(super) fn take(&mut self, zone: Zone, count: usize) -> Option<Vec<u64>> {
        let mut taken = Vec::with_capacity(count);
        for _ in 0..count {
            let page = match zone {
                Zone::Low => self.find(FIRST..LOW_END.min(self.layout.below), None),
                Zone::High => self.find_scattered(taken.last().copied()),
            };
            match page {
                Some(page) => {
                    self.mark(page);
                    taken.push(page);
                }
                None => {
                    taken.into_iter().for_each(|page| self.unmark(page));
                    return None;
                }
            }
        }
        Some(taken)
    }

    /// Takes the lowest run of free pages that fits.
    pub(super) fn take_run(
        &mut self,
        count: usize,
        within: Range<u64>,
        alignment: u64,
        boundary: Option<u64>,
    ) -> Option<u64> {
        let length = u64::try_from(count)
            .ok()
            .filter(|&count| count > 0)?
            .checked_mul(PAGE)?;
        if boundary.is_some_and(|boundary| boundary < length) {
            return None;
        }
        let step = alignment.max(PAGE);
        for range in self.ram() {
            let end = range.end.min(within.end);
            let mut first = range.start.max(within.start).next_multiple_of(step);
            while first.checked_add(length).is_some_and(|last| last <= end) {
                let crosses = boundary.is_some_and(|b| first / b != (first + length - 1) / b);
                let busy = (first..first + length)
                    .step_by(PAGE as usize)
                    .filter(|&page| self.is_used(page))
                    .last();
                match busy {
                    None if !crosses => {
                        (first..first + length)
                            .step_by(PAGE as usize)
                            .for_each(|page| self.mark(page));
                        return Some(first);
                    }
                    Some(page) => first = (page + PAGE).next_multiple_of(step),
                    None => first += step,
                }
            }
        }
        None
    }

    pub(super) fn give_back(&mut self, physical: u64) -> Result<(), MemoryError> {
        if !physical.is_multiple_of(PAGE) {
            return Err(MemoryError::Unaligned { physical });
        }
        if self.layout.offset(physical).is_none() || !self.is_used(physical) {
            return Err(MemoryError::NotAllocated { physical });
        }
        self.unmark(physical);
        self.freed.insert(physical);
        Ok(())
    }

    fn find_scattered(&mut self, previous: Option<u64>) -> Option<u64> {
        let above = HIGH_START..HIGH_START + (self.layout.total - self.layout.below);
        let below = LOW_END.min(self.layout.below)..self.layout.below;
        let dice = self.next_random();
        if let Some(next) = previous.map(|page| page + PAGE)
            && dice.is_multiple_of(4)
            && (above.contains(&next) || below.contains(&next))
            && !self.is_used(next)
        {
            return Some(next);
        }
        let (first, second) = if (dice / 4).is_multiple_of(8) {
            (below, above)
        } else {
            (above, below)
        };
        let place = self.next_random();
        self.find(first, Some(place))
            .or_else(|| self.find(second, Some(place)))
    }

    /// The first free page of `range`, searched from its start or from a random place on, around its end.
    fn find(&self, range: Range<u64>, place: Option<u64>) -> Option<u64> {
        let pages = (range.end - range.start) / PAGE;
        let start = place.unwrap_or(0).checked_rem(pages)?;
        (start..pages)
            .chain(0..start)
            .map(|page| range.start + page * PAGE)
            .find(|&page| !self.is_used(page))
    }

    fn ram(&self) -> [Range<u64>; 2] {
        [
            FIRST..self.layout.below,
            HIGH_START..HIGH_START + (self.layout.total - self.layout.below),
        ]
    }

    /// The word and the bit of a page of RAM.
    fn position(&self, physical: u64) -> (usize, u64) {
        let page = self
            .layout
            .offset(physical)
            .expect("pages of the allocator are RAM")
            / PAGE;
        ((page / 64) as usize, 1 << (page % 64))
    }

    fn is_used(&self, physical: u64) -> bool {
        let (word, bit) = self.position(physical);
        self.used[word] & bit != 0
    }

    fn mark(&mut self, physical: u64) {
        let (word, bit) = self.position(physical);
        self.used[word] |= bit;
        self.allocated += 1;
    }

    fn unmark(&mut self, physical: u64) {
        let (word, bit) = self.position(physical);
        self.used[word] &= !bit;
        self.allocated -= 1;
    }

    /// SplitMix64.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allocator(total: u64) -> Allocator {
        Allocator::new(Layout::of(total).unwrap(), 7)
    }

    #[test]
    fn high_pages_are_scattered_and_repeatable() {
        let pages = allocator(6 << 30).take(Zone::High, 1000).unwrap();
        assert_eq!(pages, allocator(6 << 30).take(Zone::High, 1000).unwrap());
        assert!(pages.iter().all(|&page| page >= LOW_END));
        let above = pages.iter().filter(|&&page| page >= HIGH_START).count();
        assert!(
            (800..950).contains(&above),
            "{above} of 1000 pages above 4 GiB"
        );
        let adjacent = pages
            .windows(2)
            .filter(|pair| pair[1] == pair[0] + PAGE)
            .count();
        assert!(
            (150..350).contains(&adjacent),
            "{adjacent} of 1000 pages next to the one before"
        );
    }

    #[test]
    fn low_pages_avoid_the_first_megabyte_and_run_out() {
        let mut allocator = allocator(2 << 20);
        assert_eq!(allocator.take(Zone::Low, 257), None);
        assert_eq!(allocator.allocated(), 0);
        assert_eq!(allocator.take(Zone::Low, 256).unwrap()[0], FIRST);
        assert_eq!(allocator.take(Zone::High, 1), None);
        allocator.give_back(FIRST).unwrap();
        assert!(matches!(
            allocator.give_back(FIRST),
            Err(MemoryError::NotAllocated { .. })
        ));
        assert!(matches!(
            allocator.give_back(FIRST + 1),
            Err(MemoryError::Unaligned { .. })
        ));
        assert!(matches!(
            allocator.give_back(3 << 30),
            Err(MemoryError::NotAllocated { .. })
        ));
    }

    #[test]
    fn runs_keep_to_their_bounds() {
        let mut allocator = allocator(6 << 30);
        assert_eq!(
            allocator.take_run(3, 0..LOW_END, 0x1_0000, None),
            Some(0x10_0000)
        );
        assert_eq!(
            allocator.take_run(3, 0..LOW_END, 0, Some(0x4000)),
            Some(0x10_4000)
        );
        assert_eq!(allocator.take_run(2, 0x10_0000..0x10_4000, 0, None), None);
        assert_eq!(
            allocator.take_run(1, 0x10_0000..0x10_4000, 0, None),
            Some(0x10_3000)
        );
        assert_eq!(allocator.take_run(5, 0..u64::MAX, 0, Some(0x4000)), None);
        assert_eq!(
            allocator.take_run(1 << 18, HIGH_START..u64::MAX, 1 << 30, None),
            Some(HIGH_START)
        );
        assert_eq!(allocator.take_run(0, 0..u64::MAX, 0, None), None);
    }
}
