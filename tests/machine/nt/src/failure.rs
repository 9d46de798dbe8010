//! Failures on demand: what may fail for want of resources fails when a test says so.

use std::sync::Mutex;

/// What can be made to fail, always with STATUS_INSUFFICIENT_RESOURCES.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// The creation of an object of the framework by the driver.
    Object,
    /// The initialisation of a DMA transaction.
    Initialize,
    /// The allocation of an adapter channel, in version 3.
    Channel,
    /// The mapping of a transfer through it, in version 3.
    Mapping,
    /// The making of a scatter/gather list, in version 3.
    List,
}

const POINTS: usize = 5;

#[derive(Debug, Clone, Copy)]
struct Armed {
    /// How often it still succeeds.
    pass: u64,
    /// How often it fails then.
    fail: u64,
}

struct State {
    armed: [Armed; POINTS],
    struck: u64,
}

static STATE: Mutex<State> = Mutex::new(State {
    armed: [Armed { pass: 0, fail: 0 }; POINTS],
    struck: 0,
});

fn with<R>(f: impl FnOnce(&mut State) -> R) -> R {
    f(&mut STATE.lock().expect("not held across a panic"))
}

/// Lets the `n`-th use of `point` from now on fail (1 is the next one), and those after it, `times` in all.
pub fn fail(point: Point, n: u64, times: u64) {
    let pass = n.saturating_sub(1);
    with(|state| state.armed[point as usize] = Armed { pass, fail: times });
}

/// Lets everything succeed again; returns how often something has failed since the last call.
pub fn disarm() -> u64 {
    with(|state| {
        state.armed = [Armed { pass: 0, fail: 0 }; POINTS];
        std::mem::take(&mut state.struck)
    })
}

/// Whether this use of `point` is to fail. Asked by whoever implements it.
pub fn strikes(point: Point) -> bool {
    with(|state| {
        let armed = &mut state.armed[point as usize];
        if armed.fail == 0 {
            return false;
        }
        if armed.pass > 0 {
            armed.pass -= 1;
            return false;
        }
        armed.fail -= 1;
        state.struck += 1;
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nth_use_fails_and_as_many_as_were_asked_for() {
        fail(Point::Mapping, 3, 2);
        let uses: Vec<bool> = (0..6).map(|_| strikes(Point::Mapping)).collect();
        assert_eq!(uses, [false, false, true, true, false, false]);
        assert!(!strikes(Point::Object));
        fail(Point::Mapping, 1, u64::MAX);
        assert!(strikes(Point::Mapping));
        assert_eq!(disarm(), 3);
        assert!(!strikes(Point::Mapping));
        assert_eq!(disarm(), 0);
    }
}
