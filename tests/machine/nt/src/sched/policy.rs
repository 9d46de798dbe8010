//! Who goes on at a switch point.

use super::{Point, ThreadId};

/// Something that can go on at a switch point: a processor with the thread (or idle loop) on it, or a processor whose
/// thread gives way to a ready one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The processor that would run.
    pub processor: usize,
    /// The thread it would run.
    pub thread: ThreadId,
    /// The thread is not the one on the processor now: it is dispatched there.
    pub dispatch: bool,
}

/// A schedule. It is the only source of choice in the machine: the same policy in the same state makes the same run.
pub trait Policy: Send {
    /// Index in `candidates` (two or more) of what goes on. If `stay`, the first candidate is what runs now. Threads to
    /// dispatch come last, in the order in which they became ready.
    fn choose(&mut self, point: Point, stay: bool, candidates: &[Candidate]) -> usize;
}

/// The default: goes on with what runs for a number of switch points drawn from a seed, then takes the next in turn;
/// of the ready threads that is the one that has been ready for longest.
#[derive(Debug)]
pub struct RoundRobin {
    state: u64,
    left: u32,
    turn: usize,
}

impl RoundRobin {
    /// Longest stretch of switch points without a switch.
    const QUANTUM: u64 = 64;

    /// The round robin of `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            state: seed,
            left: 8,
            turn: 0,
        }
    }

    /// The next number of splitmix64, which is uniform for every seed.
    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl Policy for RoundRobin {
    fn choose(&mut self, point: Point, stay: bool, candidates: &[Candidate]) -> usize {
        let yields = matches!(point, Point::Spin | Point::Stall | Point::Yield);
        if stay && !yields && self.left > 0 {
            self.left -= 1;
            return 0;
        }
        self.left = (self.draw() % Self::QUANTUM) as u32 + 1;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_choices() {
        let candidates = [0, 1, 2].map(|processor| Candidate {
            processor,
            thread: ThreadId(processor as u32),
            dispatch: false,
        });
        let run = |seed| {
            let mut policy = RoundRobin::new(seed);
            (0..1000)
                .map(|_| policy.choose(Point::Routine, true, &candidates))
                .collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        assert!(run(1).contains(&2));
    }
}
