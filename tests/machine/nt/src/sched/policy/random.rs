//! Random switches.

use super::{Candidate, Draw, Policy, any_duration};
use crate::sched::Point;

/// At every switch point another candidate may go on, each as likely as the next. How often that happens differs from
/// seed to seed: some races need many switches in a short time, others a long undisturbed stretch.
#[derive(Debug)]
pub struct Random {
    draw: Draw,
    /// Switches once in so many switch points.
    rarity: u64,
}

impl Random {
    /// The random schedule of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut draw = Draw::new(seed);
        let rarity = 2 << draw.below(6);
        Self { draw, rarity }
    }
}

impl Policy for Random {
    fn choose(&mut self, point: Point, stay: bool, candidates: &[Candidate]) -> usize {
        if stay && !point.gives_way() && self.draw.below(self.rarity) != 0 {
            return 0;
        }
        self.draw.below(candidates.len() as u64) as usize
    }

    fn route(&mut self, count: usize) -> usize {
        self.draw.below(count as u64) as usize
    }

    fn duration(&mut self, usual: u64) -> u64 {
        any_duration(&mut self.draw, usual)
    }
}
