//! A simulated processor: IRQL, the thread on it, interrupts and DPCs waiting for it.

use super::ThreadId;
use super::watchdog::Busy;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

/// IRQL at which threads run.
pub const PASSIVE_LEVEL: u8 = 0;
/// IRQL at which asynchronous procedure calls are held off.
pub const APC_LEVEL: u8 = 1;
/// IRQL of the dispatcher: no other thread gets the processor.
pub const DISPATCH_LEVEL: u8 = 2;
/// Highest IRQL.
pub const HIGH_LEVEL: u8 = 15;

/// An interrupt for a processor: what runs at which IRQL.
#[derive(Clone)]
pub struct Interrupt {
    /// The IRQL it runs at (DIRQL): above DISPATCH_LEVEL.
    pub irql: u8,
    /// Identifies the source: the same source pending twice is delivered once.
    pub vector: u64,
    /// Runs at `irql` on the stack of whatever the processor was doing; must return at the same IRQL.
    pub service: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vector {:#x} at IRQL {}", self.vector, self.irql)
    }
}

/// What a processor has to do before it goes on with what it was doing.
#[derive(Debug)]
pub(super) enum Work {
    Interrupt(Interrupt),
    Dispatch,
}

/// A deferred procedure call in a processor's queue.
pub(crate) struct Dpc {
    /// Address of its KDPC.
    pub(crate) object: usize,
    /// Calls the deferred routine.
    pub(crate) run: Box<dyn FnOnce() + Send>,
}

impl fmt::Debug for Dpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KDPC {:#x}", self.object)
    }
}

#[derive(Debug)]
pub(crate) struct Processor {
    pub(crate) irql: u8,
    /// The thread on the processor: its idle thread if there is no other.
    pub(crate) current: ThreadId,
    pub(crate) idle: ThreadId,
    /// DPCs in the order in which they run.
    pub(crate) dpcs: VecDeque<Dpc>,
    /// Address of the KDPC that runs now.
    pub(crate) active_dpc: Option<usize>,
    /// Spin lock (address) for which the processor spins.
    pub(crate) spinning_on: Option<usize>,
    /// How long it has been kept from its threads.
    pub(super) busy: Busy,
    pending: Vec<Interrupt>,
}

impl Processor {
    pub(super) fn new(idle: ThreadId) -> Self {
        Self {
            irql: PASSIVE_LEVEL,
            current: idle,
            idle,
            dpcs: VecDeque::new(),
            active_dpc: None,
            spinning_on: None,
            busy: Busy::default(),
            pending: Vec::new(),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.current == self.idle && self.irql == PASSIVE_LEVEL
    }

    /// Makes an interrupt pending; one that already is stays as it was.
    pub(super) fn request(&mut self, interrupt: Interrupt) {
        if self.pending.iter().all(|p| p.vector != interrupt.vector) {
            self.pending.push(interrupt);
        }
    }

    pub(super) fn has_interrupt(&self) -> bool {
        self.pending.iter().any(|p| p.irql > self.irql)
    }

    /// The deliverable interrupt with the highest IRQL, the oldest among equals.
    pub(super) fn take_interrupt(&mut self) -> Option<Interrupt> {
        let deliverable = self
            .pending
            .iter()
            .enumerate()
            .filter(|(_, p)| p.irql > self.irql);
        let (index, _) = deliverable.rev().max_by_key(|(_, p)| p.irql)?;
        Some(self.pending.remove(index))
    }

    pub(super) fn pending(&self) -> &[Interrupt] {
        &self.pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interrupt(irql: u8, vector: u64) -> Interrupt {
        Interrupt {
            irql,
            vector,
            service: Arc::new(|| {}),
        }
    }

    #[test]
    fn highest_first_oldest_among_equals_once_each() {
        let mut processor = Processor::new(ThreadId(0));
        for (irql, vector) in [(5, 1), (7, 2), (7, 3), (5, 1)] {
            processor.request(interrupt(irql, vector));
        }
        let order: Vec<_> = std::iter::from_fn(|| processor.take_interrupt())
            .map(|i| i.vector)
            .collect();
        assert_eq!(order, [2, 3, 1]);
    }

    #[test]
    fn held_off_by_irql() {
        let mut processor = Processor::new(ThreadId(0));
        processor.irql = 7;
        processor.request(interrupt(7, 1));
        assert!(!processor.has_interrupt());
        processor.irql = 6;
        assert!(processor.has_interrupt());
    }
}
