//! Data whose every byte tells where it belongs.

use std::fmt;

/// What to fill a buffer with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// Every byte the same.
    Constant(u8),
    /// A single set bit, walking.
    WalkingBit,
    /// Each byte from its position: a transfer that lands elsewhere does not look right.
    Position,
    /// Pseudo-random from a seed: no two requests carry the same data.
    Random(u64),
}

/// Every pattern that is the same each time.
pub const FIXED: [Pattern; 5] = [
    Pattern::Constant(0x00),
    Pattern::Constant(0xff),
    Pattern::Constant(0xa5),
    Pattern::WalkingBit,
    Pattern::Position,
];

impl Pattern {
    /// Fills `bytes`, the first of which stands at `position` of the device's memory.
    pub fn fill(self, position: u64, bytes: &mut [u8]) {
        let mut state = self.seed();
        for (position, byte) in (position..).zip(bytes) {
            *byte = match self {
                Self::Constant(value) => value,
                Self::WalkingBit => 1 << (position % 8),
                Self::Position => (position ^ (position >> 8) ^ (position >> 16)) as u8,
                Self::Random(_) => next(&mut state),
            };
        }
    }

    fn seed(self) -> u64 {
        match self {
            Self::Random(seed) => seed,
            _ => 0,
        }
    }
}

/// One byte of SplitMix64 (Steele, Lea and Flood, 2014): any seed will do, 0 included.
fn next(state: &mut u64) -> u8 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) as u8
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(value) => write!(f, "all {value:#04x}"),
            Self::WalkingBit => f.write_str("walking bit"),
            Self::Position => f.write_str("position"),
            Self::Random(seed) => write!(f, "random {seed:#x}"),
        }
    }
}

/// Where two byte strings first differ, for a message; `None` if they do not.
#[must_use]
pub fn difference(expected: &[u8], found: &[u8]) -> Option<String> {
    let index = expected
        .iter()
        .zip(found)
        .position(|(expected, found)| expected != found)?;
    let count = expected
        .iter()
        .zip(found)
        .filter(|(expected, found)| expected != found)
        .count();
    Some(format!(
        "{count} of {} bytes differ, the first at {index}: {:#04x} instead of {:#04x}",
        expected.len(),
        found[index],
        expected[index]
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_continues_where_it_was_cut() {
        for pattern in [Pattern::WalkingBit, Pattern::Position, Pattern::Constant(7)] {
            let mut whole = [0; 600];
            pattern.fill(100, &mut whole);
            let mut part = [0; 300];
            pattern.fill(400, &mut part);
            assert_eq!(whole[300..], part, "{pattern}");
        }
    }

    #[test]
    fn random_data_differs_by_seed_and_repeats() {
        let fill = |seed| {
            let mut bytes = [0; 64];
            Pattern::Random(seed).fill(0, &mut bytes);
            bytes
        };
        assert_eq!(fill(1), fill(1));
        assert_ne!(fill(1), fill(2));
        assert_ne!(fill(0), [0; 64]);
    }

    #[test]
    fn the_first_difference_is_named() {
        assert_eq!(difference(&[1, 2, 3], &[1, 2, 3]), None);
        let text = difference(&[1, 2, 3], &[1, 9, 9]).expect("they differ");
        assert!(
            text.starts_with("2 of 3 bytes differ, the first at 1: 0x09"),
            "{text}"
        );
    }
}
