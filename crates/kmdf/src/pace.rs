//! How many completions to be told of at a time.
//!
//! A device that finishes a transfer before the processor has begun the next one never has more than one under way, be it
//! that its user waits for each, or that he keeps many going. An interrupt for each costs the second user most of his
//! time; having them gathered costs the first one a wait. They differ only in what happens when an interrupt is held back:
//! either further completions come, or none.
//!
//! So that is tried now and then. A [`Pace`] asks for a batch of completions and is told how many there were at each
//! interrupt. After some batches it asks for four times as many: if there are as many, twice the batch is gathered from
//! now on, which leaves half of them under way meanwhile; if not, the next trial comes after twice as many batches, so
//! that a user who waits for each request pays next to nothing.

/// Batches before the next trial, at least and at most.
const SHORTEST: u32 = 4;
const LONGEST: u32 = 256;

/// How many completions to be told of at a time; whoever takes them has it.
#[derive(Debug, Clone)]
pub struct Pace {
    batch: u32,
    most: u32,
    /// Four times as many are asked for at present.
    trial: bool,
    /// Batches since the last trial, and how many there have to be before the next.
    batches: u32,
    patience: u32,
}

impl Pace {
    /// One at a time to begin with, and never more than half of `in_flight`, the most transfers under way.
    #[must_use]
    pub const fn new(in_flight: u32) -> Self {
        Self {
            batch: 1,
            most: in_flight / 2,
            trial: false,
            batches: 0,
            patience: SHORTEST,
        }
    }

    /// How many completions to ask for.
    #[must_use]
    pub const fn asked(&self) -> u32 {
        if self.trial {
            4 * self.batch
        } else {
            self.batch
        }
    }

    /// So many have been taken since they were last asked for.
    pub fn found(&mut self, count: u32) {
        let filled = count >= self.asked();
        if core::mem::take(&mut self.trial) {
            self.batches = 0;
            if filled {
                self.patience = SHORTEST;
                self.batch = (2 * self.batch).min(self.most);
                return;
            }
            self.patience = (2 * self.patience).min(LONGEST);
        }
        if count / 2 < self.batch && !filled {
            self.batch = (self.batch / 2).max(1);
        }
        self.batches += 1;
        self.trial = self.batches >= self.patience && self.batch < self.most;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has a user keep `depth` requests under way for so many interrupts, each of which finds what was asked for or all that
    /// there are. How many completions there were, and how often there were too few.
    fn run(pace: &mut Pace, depth: u32, interrupts: u32) -> (u32, u32) {
        let mut completions = 0;
        let mut waits = 0;
        for _ in 0..interrupts {
            let found = pace.asked().min(depth);
            waits += u32::from(found < pace.asked());
            completions += found;
            pace.found(found);
        }
        (completions, waits)
    }

    #[test]
    fn who_waits_for_each_request_hardly_waits_for_more() {
        let mut pace = Pace::new(32);
        let (completions, waits) = run(&mut pace, 1, 10_000);
        assert_eq!(completions, 10_000);
        assert!(waits <= 10_000 / LONGEST + 8, "{waits} waits");
        assert!(!pace.trial && pace.asked() == 1);
    }

    #[test]
    fn half_of_what_is_kept_under_way_is_gathered() {
        for (depth, batch) in [(1, 1), (2, 1), (4, 2), (8, 4), (31, 8), (32, 16), (100, 16)] {
            let mut pace = Pace::new(32);
            run(&mut pace, depth, 100);
            assert_eq!(pace.batch, batch, "of {depth}");
        }
    }

    #[test]
    fn a_deep_queue_is_learned_of_in_a_few_interrupts() {
        let mut pace = Pace::new(32);
        run(&mut pace, 1, 10_000);
        run(&mut pace, 32, LONGEST);
        let (completions, waits) = run(&mut pace, 32, 100);
        assert_eq!((completions, waits), (1600, 0));
    }

    #[test]
    fn when_fewer_come_fewer_are_asked_for() {
        let mut pace = Pace::new(32);
        run(&mut pace, 32, 100);
        let (_, waits) = run(&mut pace, 1, 5);
        assert_eq!(waits, 4);
        assert_eq!(pace.asked(), 1);
    }
}
