//! The policy at work: what it is asked, what it chose so far, and how far a run may go.

use super::Point;
use super::policy::{Candidate, Policy};
use crate::digest::Digest;

/// What a policy has chosen since it was set. Two runs with the same numbers went the same way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Choices {
    /// Choices between two or more candidates.
    pub made: u64,
    /// Hash of everything chosen, in order.
    pub hash: u64,
}

/// A policy, and an account of its choices.
pub(crate) struct Chooser {
    policy: Box<dyn Policy>,
    made: u64,
    digest: Digest,
    /// Switch points passed.
    pub(super) passed: u64,
    /// Switch points after which the run is taken for one that does not end.
    pub(super) limit: Option<u64>,
}

impl Chooser {
    pub(super) fn new(policy: Box<dyn Policy>, limit: Option<u64>) -> Self {
        Self {
            policy,
            made: 0,
            digest: Digest::default(),
            passed: 0,
            limit,
        }
    }

    /// Index of what goes on, of two or more candidates.
    pub(super) fn choose(&mut self, point: Point, stay: bool, candidates: &[Candidate]) -> usize {
        let index = self.policy.choose(point, stay, candidates);
        let index = index.min(candidates.len() - 1);
        let chosen = candidates[index];
        self.note(chosen.processor as u64);
        self.digest.add(u64::from(chosen.thread.0));
        index
    }

    /// One of the processors that `allowed` has a bit for.
    pub(super) fn route(&mut self, allowed: u64) -> usize {
        let count = allowed.count_ones() as usize;
        if count < 2 {
            return allowed.trailing_zeros() as usize;
        }
        let index = self.policy.route(count).min(count - 1);
        self.note(index as u64);
        let rest = (0..index).fold(allowed, |rest, _| rest & (rest - 1));
        rest.trailing_zeros() as usize
    }

    pub(super) fn duration(&mut self, usual: u64) -> u64 {
        let duration = self.policy.duration(usual);
        self.note(duration);
        duration
    }

    pub(super) fn choices(&self) -> Choices {
        Choices {
            made: self.made,
            hash: self.digest.value(),
        }
    }

    fn note(&mut self, value: u64) {
        self.made += 1;
        self.digest.add(value);
    }
}
