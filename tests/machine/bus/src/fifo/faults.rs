//! What goes wrong with the peripheral, and with the controller that serves it, on command.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A side of the peripheral.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The transmit FIFO.
    Transmit,
    /// The receive FIFO.
    Receive,
}

/// Something that a broken peripheral or controller does. Each happens once, at its next opportunity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Once so many more bytes have passed the side's data register, an access to it is answered with a bus error. That
    /// is an error of the controller's transfer.
    BusError(Way, u32),
    /// The side says that it is done when the first bytes of many have passed, while the controller is at work on the
    /// others, and does not say so when it is.
    EarlyDone(Way),
    /// A channel of the controller that is stopped goes on for so many nanoseconds before it stops.
    SlowStop(u64),
}

/// The handle by which a peripheral is broken. Clones are of the same peripheral.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    armed: Vec<Fault>,
    struck: Vec<Fault>,
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Arms a fault for its next opportunity.
    pub fn arm(&self, fault: Fault) {
        self.lock().armed.push(fault);
    }

    /// Takes back what has not struck.
    pub fn disarm(&self) {
        self.lock().armed.clear();
    }

    /// The faults that have struck, the oldest first.
    #[must_use]
    pub fn struck(&self) -> Vec<Fault> {
        self.lock().struck.clone()
    }

    /// `bytes` pass a data register: whether the access fails.
    pub(super) fn passes(&self, way: Way, bytes: u8) -> bool {
        let mut state = self.lock();
        let mut due = None;
        for (index, fault) in state.armed.iter_mut().enumerate() {
            if let Fault::BusError(of, left) = fault
                && *of == way
            {
                match left.checked_sub(bytes.into()) {
                    Some(rest) => *left = rest,
                    None => due = due.or(Some(index)),
                }
            }
        }
        state.strike(due)
    }

    /// Some bytes have passed, and more are to come: whether the side says that it is done.
    pub(super) fn is_early(&self, way: Way) -> bool {
        let mut state = self.lock();
        let due = state
            .armed
            .iter()
            .position(|fault| *fault == Fault::EarlyDone(way));
        state.strike(due)
    }

    /// A channel that runs is stopped: how much later it does.
    pub(crate) fn stops(&self) -> Option<u64> {
        let mut state = self.lock();
        let found = state.armed.iter().enumerate();
        let (index, later) = found
            .filter_map(|(index, fault)| match fault {
                Fault::SlowStop(later) => Some((index, *later)),
                _ => None,
            })
            .next()?;
        state.strike(Some(index)).then_some(later)
    }
}

impl State {
    fn strike(&mut self, due: Option<usize>) -> bool {
        let Some(index) = due else { return false };
        let fault = self.armed.remove(index);
        self.struck.push(fault);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_once_and_its_own_side() {
        let faults = Faults::default();
        faults.arm(Fault::BusError(Way::Receive, 6));
        faults.arm(Fault::EarlyDone(Way::Transmit));
        assert!(!faults.passes(Way::Transmit, 8));
        assert!(!faults.passes(Way::Receive, 4));
        assert!(faults.passes(Way::Receive, 4));
        assert!(!faults.passes(Way::Receive, 4));
        assert!(!faults.is_early(Way::Receive));
        assert!(faults.is_early(Way::Transmit));
        assert!(!faults.is_early(Way::Transmit));
        assert_eq!(faults.struck().len(), 2);
        faults.arm(Fault::EarlyDone(Way::Receive));
        faults.disarm();
        assert!(!faults.is_early(Way::Receive));
        faults.arm(Fault::SlowStop(7));
        assert_eq!((faults.stops(), faults.stops()), (Some(7), None));
    }
}
