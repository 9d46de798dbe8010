//! Priorities that change at few points: probabilistic concurrency testing.
//!
//! Burckhardt, Kothari, Musuvathi, Nagarakatti, "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs"
//! (2010): with n threads, k steps and a race that shows when d steps come in the right order, one run finds it with a
//! probability of at least 1 / (n * k^(d-1)).

use std::collections::BTreeMap;

use super::{Candidate, Draw, Policy, any_duration};
use crate::sched::{Point, ThreadId};

/// Every thread has a random priority, and the one with the highest goes on. At `depth - 1` points, drawn over the
/// expected length of the run, the thread that goes on falls behind all others. So does one that waits by spinning,
/// stalling or yielding, since what it waits for must come about.
///
/// A processor without a thread has the priority of its idle thread: it is what delays interrupts and DPCs there.
#[derive(Debug)]
pub struct Pct {
    draw: Draw,
    /// The higher, the sooner.
    priorities: BTreeMap<ThreadId, i64>,
    /// Given to the next thread that falls behind: below every priority there is.
    lowest: i64,
    /// Choices made.
    made: u64,
    /// The choices at which what goes on falls behind, in descending order.
    changes: Vec<u64>,
}

impl Pct {
    /// The schedule of `seed` for races of `depth` steps in runs of about `length` choices.
    #[must_use]
    pub fn new(seed: u64, depth: u32, length: u64) -> Self {
        let mut draw = Draw::new(seed);
        let mut changes: Vec<u64> = (1..depth).map(|_| draw.below(length.max(1))).collect();
        changes.sort_unstable_by_key(|&choice| std::cmp::Reverse(choice));
        Self {
            draw,
            priorities: BTreeMap::new(),
            lowest: 0,
            made: 0,
            changes,
        }
    }

    fn priority(&mut self, thread: ThreadId) -> i64 {
        let draw = &mut self.draw;
        *self
            .priorities
            .entry(thread)
            .or_insert_with(|| draw.below(1 << 32) as i64)
    }

    fn fall_behind(&mut self, thread: ThreadId) {
        self.lowest -= 1;
        self.priorities.insert(thread, self.lowest);
    }

    /// The thread with the highest priority; on a processor that has it, else on any that takes it.
    fn foremost(&mut self, candidates: &[Candidate]) -> usize {
        let foremost = (0..candidates.len())
            .max_by_key(|&index| {
                let thread = candidates[index].thread;
                (self.priority(thread), std::cmp::Reverse(index))
            })
            .unwrap_or(0);
        let thread = candidates[foremost].thread;
        let places = candidates[foremost..]
            .iter()
            .take_while(|candidate| candidate.thread == thread)
            .count();
        foremost + self.draw.below(places as u64) as usize
    }
}

impl Policy for Pct {
    fn choose(&mut self, point: Point, stay: bool, candidates: &[Candidate]) -> usize {
        self.made += 1;
        if stay && point.gives_way() {
            self.fall_behind(candidates[0].thread);
        }
        while self.changes.pop_if(|choice| *choice < self.made).is_some() {
            let foremost = self.foremost(candidates);
            self.fall_behind(candidates[foremost].thread);
        }
        self.foremost(candidates)
    }

    fn route(&mut self, count: usize) -> usize {
        self.draw.below(count as u64) as usize
    }

    fn duration(&mut self, usual: u64) -> u64 {
        any_duration(&mut self.draw, usual)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::run;
    use super::*;

    /// Between the points of change the same thread goes on.
    #[test]
    fn preemptions_are_as_few_as_asked_for() {
        for depth in 1..5 {
            for seed in 0..100 {
                let threads = run(&mut Pct::new(seed, depth, 2000), Point::Routine);
                let switches = threads.windows(2).filter(|pair| pair[0] != pair[1]).count();
                assert!(
                    switches < depth as usize,
                    "seed {seed}: {switches} switches"
                );
            }
        }
    }

    #[test]
    fn every_thread_comes_first_for_some_seed() {
        let mut first = [0_u32; 6];
        for seed in 0..400 {
            let threads = run(&mut Pct::new(seed, 1, 1), Point::Routine);
            first[threads[0].0 as usize] += 1;
        }
        assert!(first[2..].iter().all(|&times| times > 50), "{first:?}");
    }
}
