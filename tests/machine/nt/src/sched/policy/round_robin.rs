//! Round robin with stretches of random length.

use super::{Candidate, Draw, Policy};
use crate::sched::Point;

/// The default: goes on with what runs for a number of switch points drawn from a seed, then takes the next in turn;
/// of the ready threads that is the one that has been ready for longest.
#[derive(Debug)]
pub struct RoundRobin {
    draw: Draw,
    left: u32,
    turn: usize,
}

impl RoundRobin {
    /// Longest stretch of switch points without a switch.
    const QUANTUM: u64 = 64;

    /// The round robin of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            draw: Draw::new(seed),
            left: 8,
            turn: 0,
        }
    }
}

impl Policy for RoundRobin {
    fn choose(&mut self, point: Point, stay: bool, candidates: &[Candidate]) -> usize {
        if stay && !point.gives_way() && self.left > 0 {
            self.left -= 1;
            return 0;
        }
        self.left = self.draw.below(Self::QUANTUM) as u32 + 1;
        self.turn = self.turn.wrapping_add(1);
        let longest_ready = candidates.iter().find(|c| c.dispatch).map(|c| c.thread);
        let in_turn = |c: &&Candidate| !c.dispatch || Some(c.thread) == longest_ready;
        let first = usize::from(stay);
        let count = candidates.iter().take_while(in_turn).count() - first;
        match count {
            0 => 0,
            count => first + self.turn % count,
        }
    }
}
