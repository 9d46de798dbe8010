//! Armed faults, and whose moment has come.

use super::plan::{Fault, FaultKind, Moment};

/// How much has happened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Accesses to the function's registers.
    pub(super) accesses: u64,
    /// Commands the engine was given.
    pub(super) commands: u64,
    /// Interrupts of the function.
    pub(super) interrupts: u64,
    /// The board's time in nanoseconds.
    pub(super) now: u64,
}

#[derive(Debug)]
struct Armed {
    fault: Fault,
    /// What had happened when it was armed, or when it struck last.
    base: Counts,
    /// Opportunities to let pass.
    skip: u32,
    /// How often it still strikes.
    left: u32,
}

impl Armed {
    fn has_come(&self, counts: &Counts) -> bool {
        match self.fault.moment {
            Moment::Now => true,
            Moment::Nth(n) if self.fault.kind.needs_no_opportunity() => {
                counts.commands - self.base.commands >= n.into()
            }
            // These are skipped one by one.
            Moment::Nth(_) => true,
            Moment::Command(n) => counts.commands - self.base.commands >= n.into(),
            Moment::Interrupt(n) => counts.interrupts - self.base.interrupts >= n.into(),
            Moment::Access(n) => counts.accesses - self.base.accesses >= n.into(),
            Moment::After(time) => counts.now - self.base.now >= time,
        }
    }

    fn strike(&mut self) {
        if self.left != Fault::ALWAYS {
            self.left -= 1;
        }
    }
}

/// The faults that are armed.
#[derive(Debug, Default)]
pub(super) struct Arsenal {
    armed: Vec<Armed>,
    pub(super) counts: Counts,
}

impl Arsenal {
    pub(super) fn arm(&mut self, fault: Fault) {
        let skip = match fault.moment {
            Moment::Nth(n) => n - 1,
            _ => 0,
        };
        let once = fault.kind.needs_no_opportunity() && fault.moment == Moment::Now;
        self.armed.push(Armed {
            fault,
            base: self.counts,
            skip,
            left: if once { 1 } else { fault.times },
        });
    }

    pub(super) fn disarm(&mut self) {
        self.armed.clear();
    }

    /// How many are armed.
    pub(super) fn len(&self) -> usize {
        self.armed.len()
    }

    /// The faults that happen to an opportunity, which is one for those that `concerns` says.
    pub(super) fn at_opportunity(&mut self, concerns: impl Fn(&FaultKind) -> bool) -> Vec<Fault> {
        let counts = self.counts;
        let mut striking = Vec::new();
        for armed in &mut self.armed {
            if !concerns(&armed.fault.kind) || !armed.has_come(&counts) {
                continue;
            }
            if armed.skip > 0 {
                armed.skip -= 1;
                continue;
            }
            armed.strike();
            striking.push(armed.fault);
        }
        self.armed.retain(|armed| armed.left > 0);
        striking
    }

    /// The faults that need no opportunity and whose moment has come, as far as they are `possible`.
    pub(super) fn due(&mut self, possible: impl Fn(&FaultKind) -> bool) -> Vec<Fault> {
        let counts = self.counts;
        let mut striking = Vec::new();
        for armed in &mut self.armed {
            let kind = &armed.fault.kind;
            if kind.needs_no_opportunity() && possible(kind) && armed.has_come(&counts) {
                armed.strike();
                armed.base = counts;
                striking.push(armed.fault);
            }
        }
        self.armed.retain(|armed| armed.left > 0);
        striking
    }

    /// When time alone brings the next of those that need no opportunity, as far as they are `possible`.
    pub(super) fn next_time(&self, possible: impl Fn(&FaultKind) -> bool) -> Option<u64> {
        let times = self.armed.iter().filter_map(|armed| {
            let kind = &armed.fault.kind;
            match armed.fault.moment {
                Moment::After(time) if kind.needs_no_opportunity() && possible(kind) => {
                    Some(armed.base.now.saturating_add(time))
                }
                _ => None,
            }
        });
        times.min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DROP: FaultKind = FaultKind::DropInterrupt;

    fn arsenal(text: &str) -> Arsenal {
        let mut arsenal = Arsenal::default();
        arsenal.arm(text.parse().unwrap());
        arsenal
    }

    /// At which of ten opportunities a fault strikes.
    fn strikes(text: &str) -> Vec<u64> {
        let mut arsenal = arsenal(text);
        (1..=10)
            .filter(|&n| {
                arsenal.counts.interrupts = n;
                arsenal.counts.accesses = 3 * n;
                !arsenal.at_opportunity(|kind| *kind == DROP).is_empty()
            })
            .collect()
    }

    #[test]
    fn opportunities_are_counted() {
        assert_eq!(strikes("drop"), [1]);
        assert_eq!(strikes("drop@3"), [3]);
        assert_eq!(strikes("drop@3x2"), [3, 4]);
        assert_eq!(strikes("drop@9x*"), [9, 10]);
        assert_eq!(strikes("drop@interrupt:4"), [4]);
        assert_eq!(strikes("drop@access:7x2"), [3, 4]);
        assert_eq!(strikes("hang"), [0; 0]);
    }

    #[test]
    fn what_needs_no_opportunity_waits_for_its_moment() {
        let mut arsenal = arsenal("spurious@after:5nsx2");
        assert_eq!(arsenal.next_time(|_| true), Some(5));
        assert_eq!(arsenal.next_time(|_| false), None);
        arsenal.counts.now = 6;
        assert!(arsenal.due(|_| false).is_empty());
        assert_eq!(arsenal.due(|_| true).len(), 1);
        assert_eq!(arsenal.next_time(|_| true), Some(11));
        assert!(arsenal.due(|_| true).is_empty());
        arsenal.counts.now = 20;
        assert_eq!(arsenal.due(|_| true).len(), 1);
        assert_eq!(arsenal.len(), 0);
        arsenal.arm("unplug@2".parse().unwrap());
        arsenal.counts.commands = 1;
        assert!(arsenal.due(|_| true).is_empty());
        arsenal.counts.commands = 2;
        assert_eq!(arsenal.due(|_| true).len(), 1);
    }
}
