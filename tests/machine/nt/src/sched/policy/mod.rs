//! Who goes on at a switch point, and whatever else may turn out one way or another.

mod pct;
mod random;
mod round_robin;

pub use pct::Pct;
pub use random::Random;
pub use round_robin::RoundRobin;

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

    /// Which of the first `count` processors that may take an interrupt takes it.
    fn route(&mut self, count: usize) -> usize {
        let _ = count;
        0
    }

    /// How long (ns) a device takes for what usually takes it `usual`.
    fn duration(&mut self, usual: u64) -> u64 {
        usual
    }
}

/// Random numbers: splitmix64, which is uniform for every seed.
#[derive(Debug, Clone)]
pub struct Draw(u64);

impl Draw {
    /// The sequence of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }

    /// Up to `longest`, every order of magnitude as likely as the next.
    pub fn magnitude(&mut self, longest: u64) -> u64 {
        let bits = self.below(u64::from(u64::BITS - longest.leading_zeros()) + 1);
        let bound = 1_u64.checked_shl(bits as u32).unwrap_or(u64::MAX);
        self.below(bound).min(longest)
    }
}

/// How long a device takes in an explored run: as usual, or anything shorter, since what a driver may rely on is the
/// order of things and not how long they take. Often a round time, give or take a little, since timers are set for those.
fn any_duration(draw: &mut Draw, usual: u64) -> u64 {
    const ROUND: u64 = 10_000_000;
    const AROUND: u64 = 8_000;
    match draw.below(4) {
        0 => usual,
        1 if usual > ROUND => {
            let round = (1 + draw.below(usual / ROUND)) * ROUND;
            (round + draw.below(AROUND)).saturating_sub(draw.below(AROUND))
        }
        _ => draw.magnitude(usual),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// Who runs at 2000 points of one kind, on two processors that four threads share.
    pub(super) fn run(policy: &mut dyn Policy, point: Point) -> Vec<ThreadId> {
        let mut on = [ThreadId(2), ThreadId(3)];
        let mut ready = VecDeque::from([ThreadId(4), ThreadId(5)]);
        let mut current = 0;
        let step = |_| {
            let processors = [current, 1 - current];
            let running = processors.map(|processor| (processor, on[processor], false));
            let waiting = ready
                .iter()
                .flat_map(|&thread| processors.map(|processor| (processor, thread, true)));
            let candidates: Vec<Candidate> = running
                .into_iter()
                .chain(waiting)
                .map(|(processor, thread, dispatch)| Candidate {
                    processor,
                    thread,
                    dispatch,
                })
                .collect();
            let chosen = candidates[policy.choose(point, true, &candidates)];
            current = chosen.processor;
            if chosen.dispatch {
                ready.retain(|&thread| thread != chosen.thread);
                ready.push_back(std::mem::replace(&mut on[current], chosen.thread));
            }
            chosen.thread
        };
        (0..2000).map(step).collect()
    }

    type Make = fn(u64) -> Box<dyn Policy>;
    const ALL: [Make; 3] = [
        |seed| Box::new(RoundRobin::new(seed)),
        |seed| Box::new(Random::new(seed)),
        |seed| Box::new(Pct::new(seed, 3, 2000)),
    ];

    #[test]
    fn a_seed_is_a_schedule() {
        for make in ALL {
            let seeded = |seed| {
                let mut policy = make(seed);
                let threads = run(&mut *policy, Point::Routine);
                let routes: Vec<_> = (0..50).map(|_| policy.route(4)).collect();
                let durations: Vec<_> = (0..50).map(|_| policy.duration(1 << 20)).collect();
                (threads, routes, durations)
            };
            assert_eq!(seeded(1), seeded(1));
            assert_ne!(seeded(1), seeded(2));
        }
    }

    /// Whoever waits for another thread by spinning, stalling or yielding lets every other one run.
    #[test]
    fn who_waits_starves_nobody() {
        for make in ALL {
            for seed in 0..50 {
                for point in [Point::Spin, Point::Stall, Point::Yield] {
                    let ran = run(&mut *make(seed), point);
                    for thread in [2, 3, 4, 5].map(ThreadId) {
                        assert!(ran.contains(&thread), "seed {seed}: {thread:?} never runs");
                    }
                }
            }
        }
    }

    #[test]
    fn magnitudes_reach_from_nothing_to_the_longest() {
        let mut draw = Draw::new(7);
        let drawn: Vec<u64> = (0..4000).map(|_| draw.magnitude(100_000_000)).collect();
        assert!(drawn.iter().all(|&time| time <= 100_000_000));
        assert!(drawn.iter().any(|&time| time < 100));
        assert!(drawn.iter().any(|&time| time > 50_000_000));
    }
}
