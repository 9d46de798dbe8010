//! Work that is done by one at a time, without waiting for it.
//!
//! Who comes while another is at it leaves a knock and goes, and the other one goes over it once more. So everything that
//! was there to be done before a call of [`Turn::take`] is done, by somebody, after it: a deferred call, a timer and a
//! thread may all drain a ring, no completion is handled twice, and no lock is held while the framework calls back.

use crate::sync::{AtomicUsize, Cell, Ordering};

const FREE: usize = 0;
const BUSY: usize = 1;
const KNOCKED: usize = 2;

/// A value that is worked on by one at a time.
#[derive(Debug)]
pub struct Turn<T> {
    state: AtomicUsize,
    value: Cell<T>,
}

// SAFETY: whoever made the state busy has the value alone.
unsafe impl<T: Send> Sync for Turn<T> {}

impl<T> Turn<T> {
    /// Nobody's turn.
    pub fn new(value: T) -> Self {
        Self {
            state: AtomicUsize::new(FREE),
            value: Cell::new(value),
        }
    }

    /// Does the work, and again as long as others come by meanwhile; or leaves it to the one who is at it. Any IRQL.
    ///
    /// Called within `work`, it does the same: the work is done once more afterwards.
    pub fn take(&self, mut work: impl FnMut(&mut T)) {
        if self.enter() != FREE {
            return;
        }
        loop {
            self.value.with_mut(|value| {
                // SAFETY: the state was free, and is not until this caller makes it so: nobody else reaches the value.
                work(unsafe { &mut *value });
            });
            if self.leave() {
                return;
            }
        }
    }

    fn enter(&self) -> usize {
        let next = |state| Some(if state == FREE { BUSY } else { KNOCKED });
        // Release as well as acquire: who goes over it again sees what there was before the knock.
        self.state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next)
            .unwrap_or(KNOCKED)
    }

    /// Whether nobody has knocked.
    fn leave(&self) -> bool {
        if self
            .state
            .compare_exchange(BUSY, FREE, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
        {
            return true;
        }
        self.state.swap(BUSY, Ordering::AcqRel);
        false
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn who_comes_meanwhile_has_the_work_done_again() {
        let turn = Turn::new(0);
        turn.take(|rounds| {
            *rounds += 1;
            if *rounds < 3 {
                turn.take(|_| panic!("it is not this one's turn"));
            }
        });
        turn.take(|rounds| assert_eq!(*rounds, 3));
    }
}

/// Every order in which the atomics of two threads can meet.
#[cfg(all(test, loom))]
mod explored {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicUsize as Work;
    use loom::thread;

    #[test]
    fn what_was_there_before_is_done() {
        loom::model(|| {
            let turn = Arc::new(Turn::new(0));
            let work = Arc::new(Work::new(0));
            let drain = |turn: &Turn<usize>, work: &Work| {
                work.fetch_add(1, Ordering::Release);
                turn.take(|done| *done += work.swap(0, Ordering::Acquire));
            };
            let other = {
                let (turn, work) = (Arc::clone(&turn), Arc::clone(&work));
                thread::spawn(move || drain(&turn, &work))
            };
            drain(&turn, &work);
            other.join().expect("no panic");
            turn.take(|done| assert_eq!(*done, 2));
        });
    }
}
