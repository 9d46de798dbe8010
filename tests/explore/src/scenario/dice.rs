//! What a scenario's threads draw.

use std::time::Duration;

use machine::user::{relinquish, sleep};
use machine::{Draw, next_device_event};

/// How long a thread pauses, in nanoseconds.
#[derive(Clone, Copy)]
pub struct Pauses {
    /// At most: as long as a request with all its transfers.
    pub longest: u64,
    /// Before or after the device's next event.
    pub around: u64,
}

/// Random numbers of one thread.
pub struct Dice {
    draw: Draw,
    pauses: Pauses,
}

impl Dice {
    /// The sequence of `seed`.
    pub fn new(seed: u64, pauses: Pauses) -> Self {
        Self {
            draw: Draw::new(seed),
            pauses,
        }
    }

    /// Another sequence.
    pub fn fork(&mut self) -> Self {
        Self::new(self.number(), self.pauses)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.draw.number()
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw.below(bound)
    }

    /// A number up to `longest`, of any magnitude.
    pub fn magnitude(&mut self, longest: u64) -> u64 {
        self.draw.magnitude(longest)
    }

    /// Lets a moment pass: none, a few turns of others, any time, or until about when the device does something next,
    /// since that is where races are.
    pub fn pause(&mut self) {
        let Pauses { longest, around } = self.pauses;
        match self.below(5) {
            0 => {}
            1 => (0..self.below(40)).for_each(|_| relinquish()),
            2 => sleep(Duration::from_nanos(self.magnitude(longest))),
            _ => {
                let event = next_device_event().unwrap_or(0);
                let early = self.below(around);
                let late = self.below(around);
                sleep(Duration::from_nanos((event + late).saturating_sub(early)));
            }
        }
    }
}
