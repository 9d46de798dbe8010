//! Who owns the transaction of a channel, decided by one atomic.
//!
//! A channel's transaction is either idle, or running (the hardware has been told), or in somebody's hands. It lies in
//! the channel's [`Slot`] while it is idle or running, and whoever takes it out owns it alone: the request handler that
//! starts a request takes it when idle, and whoever ends a transfer (the deferred call after an interrupt, a time-out,
//! a power transition, a removal) takes it when running. All of them compete by one compare-exchange, and the type of
//! what they get says what they may do with it.
//!
//! # The knock
//!
//! The hardware may finish, and the deferred call look for the transaction, before the processor that told the
//! hardware has put the transaction into the slot. Such a look finds nothing, but it leaves a knock, and the one who
//! then puts the running transaction in is told, and looks again himself. So a transaction is put in only after the
//! hardware has been told (never before: a stale interrupt could take a transfer for finished that has not begun),
//! and no completion is lost.

use crate::sync::{AtomicU8, Cell, Ordering};

/// Somebody owns what was in the slot.
const EMPTY: u8 = 0;
/// Somebody is putting something in or taking it out, a few instructions long.
const BUSY: u8 = 1;
/// Holds what is idle.
const IDLE: u8 = 2;
/// Holds what is running.
const RUNNING: u8 = 3;
/// With [`EMPTY`] and [`BUSY`]: somebody has looked for something running.
const KNOCK: u8 = 0x80;

/// Where the one `I` (idle) or `R` (running) of a channel is kept while nobody works on it.
///
/// Every operation is a handful of instructions and waits for nobody, so it may be called at any IRQL.
#[derive(Debug)]
pub struct Slot<I, R> {
    state: AtomicU8,
    contents: Cell<Contents<I, R>>,
}

#[derive(Debug)]
enum Contents<I, R> {
    Nothing,
    Idle(I),
    Running(R),
}

/// Whether somebody looked for what [`Slot::put_running`] put in before it was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "after a knock somebody has to look again"]
pub enum Knock {
    /// Nobody did.
    Quiet,
    /// Somebody did, in vain: whoever put it in has to see to it that somebody looks again.
    Knocked,
}

// SAFETY: the contents are reached by one at a time, whoever the state lets in; so they move between processors, and no
// two share them.
unsafe impl<I: Send, R: Send> Sync for Slot<I, R> {}

impl<I, R> Slot<I, R> {
    /// A slot that holds `idle`.
    pub fn new(idle: I) -> Self {
        Self {
            state: AtomicU8::new(IDLE),
            contents: Cell::new(Contents::Idle(idle)),
        }
    }

    /// Takes out what is idle. `None` if it is running or in somebody's hands.
    pub fn take_idle(&self) -> Option<I> {
        self.state
            .compare_exchange(IDLE, BUSY, Ordering::Acquire, Ordering::Relaxed)
            .ok()?;
        match self.take() {
            Contents::Idle(idle) => Some(idle),
            Contents::Nothing | Contents::Running(_) => None,
        }
    }

    /// Takes out what is running. `None` if it is idle or in somebody's hands; in the latter case a knock is left.
    pub fn take_running(&self) -> Option<R> {
        // Release as well: who is told of the knock sees what this processor did before it.
        let found =
            self.state
                .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |state| match state {
                    RUNNING => Some(BUSY),
                    EMPTY | BUSY => Some(state | KNOCK),
                    _ => None,
                });
        if found != Ok(RUNNING) {
            return None;
        }
        match self.take() {
            Contents::Running(running) => Some(running),
            Contents::Nothing | Contents::Idle(_) => None,
        }
    }

    /// Puts in what is idle now.
    ///
    /// # Errors
    ///
    /// `idle`, if the slot is not empty. It is, for whoever took its contents out.
    pub fn put_idle(&self, idle: I) -> Result<(), I> {
        if !self.open() {
            return Err(idle);
        }
        self.fill(Contents::Idle(idle), IDLE);
        Ok(())
    }

    /// Puts in what is running now; the hardware has been told.
    ///
    /// # Errors
    ///
    /// `running`, if the slot is not empty. It is, for whoever took its contents out.
    pub fn put_running(&self, running: R) -> Result<Knock, R> {
        if !self.open() {
            return Err(running);
        }
        if self.fill(Contents::Running(running), RUNNING) & KNOCK == 0 {
            Ok(Knock::Quiet)
        } else {
            Ok(Knock::Knocked)
        }
    }

    /// Makes the empty slot this caller's to fill; `false` if it is not empty.
    fn open(&self) -> bool {
        self.state
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |state| {
                (state & !KNOCK == EMPTY).then_some(state | BUSY)
            })
            .is_ok()
    }

    /// Fills the slot that [`open`](Self::open) made this caller's, and returns the state it had.
    fn fill(&self, contents: Contents<I, R>, state: u8) -> u8 {
        self.contents.with_mut(|place| {
            // SAFETY: the slot is busy on this caller's account, so nobody else reaches the contents.
            unsafe { place.write(contents) };
        });
        // Acquire as well: who knocked has done something before it that whoever looks again must see.
        self.state.swap(state, Ordering::AcqRel)
    }

    /// Empties the slot that has become busy on this caller's account.
    fn take(&self) -> Contents<I, R> {
        let contents = self.contents.with_mut(|place| {
            // SAFETY: the slot is busy on this caller's account, so nobody else reaches the contents.
            unsafe { place.replace(Contents::Nothing) }
        });
        self.state.fetch_and(!BUSY, Ordering::Release);
        contents
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_request_from_beginning_to_end() {
        let slot: Slot<&str, u32> = Slot::new("transaction");
        assert_eq!(slot.take_running(), None);
        let idle = slot.take_idle().expect("it is idle");
        assert_eq!(slot.take_idle(), None);
        assert_eq!(slot.put_running(1), Ok(Knock::Quiet));
        assert_eq!(slot.take_idle(), None);
        assert_eq!(slot.take_running(), Some(1));
        assert_eq!(slot.take_running(), None);
        assert_eq!(slot.put_idle(idle), Ok(()));
        assert_eq!(slot.take_idle(), Some("transaction"));
    }

    #[test]
    fn who_comes_too_early_leaves_a_knock() {
        let slot: Slot<(), u32> = Slot::new(());
        slot.take_idle().expect("it is idle");
        assert_eq!(slot.take_running(), None);
        assert_eq!(slot.put_running(1), Ok(Knock::Knocked));
        assert_eq!(slot.take_running(), Some(1));
        assert_eq!(slot.put_running(2), Ok(Knock::Quiet));
    }

    #[test]
    fn a_knock_does_not_outlive_the_request() {
        let slot: Slot<(), u32> = Slot::new(());
        slot.take_idle().expect("it is idle");
        assert_eq!(slot.take_running(), None);
        assert_eq!(slot.put_idle(()), Ok(()));
        slot.take_idle().expect("it is idle");
        assert_eq!(slot.put_running(1), Ok(Knock::Quiet));
    }

    #[test]
    fn looking_into_an_idle_slot_leaves_nothing() {
        let slot: Slot<(), u32> = Slot::new(());
        assert_eq!(slot.take_running(), None);
        slot.take_idle().expect("it is idle");
        assert_eq!(slot.put_running(1), Ok(Knock::Quiet));
    }

    #[test]
    fn what_does_not_belong_in_a_full_slot_comes_back() {
        let slot: Slot<u8, u32> = Slot::new(7);
        assert_eq!(slot.put_idle(8), Err(8));
        assert_eq!(slot.put_running(9), Err(9));
        assert_eq!(slot.take_idle(), Some(7));
    }
}

/// Every order in which the atomics of a few threads can meet.
#[cfg(all(test, loom))]
mod explored {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicBool;
    use loom::thread;

    #[test]
    fn of_several_contenders_one_gets_the_transfer() {
        // With this many the number of orders explodes; few preemptions are enough for any known kind of race.
        let mut few = loom::model::Builder::new();
        few.preemption_bound = Some(3);
        few.check(|| {
            let slot: Arc<Slot<(), u32>> = Arc::new(Slot::new(()));
            slot.take_idle().expect("it is idle");
            assert_eq!(slot.put_running(1), Ok(Knock::Quiet));
            let others: [_; 2] = core::array::from_fn(|_| {
                let slot = Arc::clone(&slot);
                thread::spawn(move || slot.take_running())
            });
            let mut winners = usize::from(slot.take_running().is_some());
            for other in others {
                winners += usize::from(other.join().expect("no panic").is_some());
            }
            assert_eq!(winners, 1);
        });
    }

    #[test]
    fn a_completion_is_never_lost() {
        loom::model(|| {
            let slot: Arc<Slot<(), u32>> = Arc::new(Slot::new(()));
            let finished = Arc::new(AtomicBool::new(false));
            slot.take_idle().expect("it is idle");
            // The hardware has been told; it finishes, and the deferred call looks, at any time from here on.
            let deferred = {
                let (slot, finished) = (Arc::clone(&slot), Arc::clone(&finished));
                thread::spawn(move || {
                    finished.store(true, Ordering::Relaxed);
                    slot.take_running().is_some()
                })
            };
            let knock = slot.put_running(1).expect("the slot is empty");
            let seen_after_a_knock = match knock {
                Knock::Quiet => false,
                Knock::Knocked => {
                    assert!(finished.load(Ordering::Relaxed));
                    slot.take_running().is_some()
                }
            };
            let seen_by_the_deferred_call = deferred.join().expect("no panic");
            assert!(seen_by_the_deferred_call != seen_after_a_knock);
        });
    }
}
