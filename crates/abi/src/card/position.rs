//! Positions in a ring: free-running counts of 32 bits that wrap around.
//!
//! The entry at a position is the one at its remainder by the number of entries, a power of two. Because a count goes
//! on, an empty ring (producer = consumer) and a full one (producer = consumer + entries) differ.

/// The entry of a ring of `entries`, a power of two, at a position.
#[must_use]
pub const fn entry(position: u32, entries: u32) -> u32 {
    position & (entries - 1)
}

/// The phase that completions have in the round of a position: true in the first round, then alternating.
#[must_use]
pub const fn phase(position: u32, entries: u32) -> bool {
    position & entries == 0
}

/// Whether a count that has gone from `old` to `new` has gone past `event`: from not beyond it to beyond it.
///
/// This is how both sides tell whether the other one wants to be notified.
#[must_use]
pub const fn passes(event: u32, old: u32, new: u32) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phase_changes_with_every_round() {
        let phases = [0, 3, 4, 7, 8, u32::MAX].map(|position| phase(position, 4));
        assert_eq!(phases, [true, true, false, false, true, false]);
        assert_eq!(entry(u32::MAX, 4), 3);
    }

    #[test]
    fn an_event_is_passed_when_the_count_goes_beyond_it() {
        assert!(passes(0, 0, 1));
        assert!(passes(5, 3, 6));
        assert!(!passes(6, 3, 6));
        assert!(!passes(2, 3, 6));
        assert!(!passes(3, 3, 3));
    }

    #[test]
    fn counts_wrap_around() {
        assert!(passes(u32::MAX, u32::MAX, 0));
        assert!(passes(0, u32::MAX - 1, 1));
        assert!(!passes(1, u32::MAX, 1));
        assert!(!passes(u32::MAX - 1, u32::MAX, 2));
    }
}
