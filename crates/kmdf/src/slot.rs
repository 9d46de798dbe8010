//! Who owns a request and its transaction, decided by one atomic.
//!
//! There is one slot for each request that a device can work on at a time. Everybody who may end the request competes
//! for it by compare-exchange: the deferred call after an interrupt, the cancel routine, a time-out, a reset, a power
//! transition, a removal. Who wins alone ends the transaction and completes the request; the others leave a mark and go.
//!
//! ```text
//!           take_idle          call              arrive             put_running
//!     IDLE -----------> OWNED -------> CALLING -----------> OWNED ---------------> RUNNING
//!       ^                 ^  ^            |                   ^                       |
//!       |                 |  | regain     | back              | arrive                | take_running
//!       |                 |  +------------+--> WAITING -------+                       v
//!       |                 |                      | cancel, stop                     OWNED
//!       |                 | withdrawn            v                                    |
//!       |                 +---------------- WITHDRAWING                               |
//!       | put_idle                               | arrive                             |
//!       +-------- OWNED <------------------- SURFACED                                 |
//!       |           not_withdrawn                                                     |
//!       | put_idle                                                   put_idle         |
//!       +-----------------------------------------------------------------------------+
//! ```
//!
//! | state | where the transaction is |
//! |---|---|
//! | IDLE | in the slot, nothing going on |
//! | OWNED | in somebody's hands |
//! | CALLING | the framework's; a function that may program the hardware has not returned yet |
//! | WAITING | the framework's, until it has map registers; it can be withdrawn |
//! | WITHDRAWING | the framework's, being withdrawn |
//! | SURFACED | programmed while it was being withdrawn: the withdrawer's, once he knows |
//! | RUNNING | in the slot; the hardware has been told |
//! | PARKED | in the slot; all is over, and the cancel routine has yet to come by |
//!
//! A transfer that somebody else works on as soon as it is mapped, a system DMA controller, has to be stopped before it can
//! end. So it does not surface: programmed while it is being withdrawn, it is put in as any other, and is only **held**, not
//! to be taken out, until the withdrawer is back, since it must not end, nor the slot be used again, while the framework is
//! being asked for it. The withdrawer then looks for it.
//!
//! Why a function that is under way is a state of its own: the framework may program the hardware, and everything may be
//! over and the next request begun, before the function returns; and until it has returned the transaction must not be
//! cancelled. Each such call has a number, so that who returns late does not take the next request's call for his own.
//!
//! # The marks
//!
//! The hardware may finish, and the deferred call look for the transaction, before the processor that told the hardware
//! has put the transaction into the slot. Such a look finds nothing, but it leaves a **knock**, and the one who then puts
//! the running transaction in is told, and looks again himself. So a transaction is put in only after the hardware has
//! been told (never before: a stale interrupt could take a transfer for finished that has not begun), and no completion is
//! lost.
//!
//! Who wants a request to end and cannot do it himself leaves a **stop**: no further transfer begins. Who only does not
//! want to wait while it waits leaves a **recall**: it is withdrawn when it waits, now or later, and goes on otherwise.
//!
//! The cancel routine leaves **met** as well. A request whose cancel routine runs or will run must not be completed before
//! it has come by, so the last of the two, routine and owner, completes it.

use crate::sync::{AtomicUsize, Cell, Ordering};

/// In somebody's hands. Zero, so that clearing the phase leads here.
const OWNED: usize = 0;
/// What lies in the slot is being put in or taken out, a few instructions long.
const MOVING: usize = 1;
const IDLE: usize = 2;
const CALLING: usize = 3;
const WAITING: usize = 4;
const WITHDRAWING: usize = 5;
const SURFACED: usize = 6;
const RUNNING: usize = 7;
const PARKED: usize = 8;
/// Of the state: which of the above.
const PHASE: usize = 0xf;

/// Somebody has looked for something running, or wants the owner to look around.
const KNOCK: usize = 0x10;
/// No further transfer shall begin.
const STOP: usize = 0x20;
/// The cancel routine has come by.
const MET: usize = 0x40;
/// The transaction shall not wait for map registers.
const RECALL: usize = 0x80;
/// The transaction was programmed while it is being withdrawn: it must not end before the withdrawer is back.
const HELD: usize = 0x100;
const MARKS: usize = KNOCK | STOP | MET | RECALL | HELD;

/// The number of the latest call lies above the rest.
const ONE_CALL: usize = 0x200;

/// Where one request's transaction is: `I` when idle, `R` when running, `P` with what is left of the request when parked.
///
/// Every operation is a handful of instructions and waits for nobody, so it may be called at any IRQL.
#[derive(Debug)]
pub struct Slot<I, R, P> {
    state: AtomicUsize,
    contents: Cell<Contents<I, R, P>>,
}

#[derive(Debug)]
enum Contents<I, R, P> {
    Nothing,
    Idle(I),
    Running(R),
    Parked(I, P),
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

/// A call of the framework that may program the hardware before it returns.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the slot has to be told when the call returns"]
pub struct Call(usize);

/// Where the transaction is when a call has returned without ending it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Back {
    /// With others, or it waits for map registers.
    Elsewhere,
    /// It waits, and somebody wants it stopped or recalled: the caller has to withdraw it now.
    Withdraw,
}

/// What the one has to do whom the framework hands the transaction to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Arrival {
    /// Program the hardware.
    Go,
    /// End the transaction: it was stopped.
    Stop,
    /// Nothing: it belongs to the one who is withdrawing it.
    Leave,
}

/// Where the transaction is that the framework does not give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Kept {
    /// The framework still has it: it will arrive, and is ended then.
    Waits,
    /// It has arrived, and is in the caller's hands.
    Surfaced,
    /// It has arrived and goes on. Until now nobody could take it out, so the caller has to look whether it is running.
    GoesOn,
}

/// What the one has to do who wants a request to end.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Ending<I, P> {
    /// Nothing: whoever has the request ends it, and has been told.
    Noted,
    /// The hardware is at work: it may be made to stop, and otherwise is waited for.
    Running,
    /// Withdraw the transaction.
    Withdraw,
    /// Put back what is idle and complete the request.
    Complete(I, P),
}

// SAFETY: the contents are reached by one at a time, whoever the state lets in; so they move between processors, and no
// two share them.
unsafe impl<I: Send, R: Send, P: Send> Sync for Slot<I, R, P> {}

impl<I, R, P> Slot<I, R, P> {
    /// A slot that holds `idle`.
    pub fn new(idle: I) -> Self {
        Self {
            state: AtomicUsize::new(IDLE),
            contents: Cell::new(Contents::Idle(idle)),
        }
    }

    /// Takes out what is idle, for a new request. `None` if another is being worked on.
    pub fn take_idle(&self) -> Option<I> {
        self.change(|state| (state & PHASE == IDLE).then_some(state & !(PHASE | MARKS) | MOVING))
            .ok()?;
        match self.take() {
            Contents::Idle(idle) => Some(idle),
            _ => None,
        }
    }

    /// Takes out what is running. `None` if nothing is, or it is held; a knock is left if it is in somebody's hands.
    pub fn take_running(&self) -> Option<R> {
        let found = self.change(|state| match state & PHASE {
            RUNNING if state & HELD == 0 => Some(state & !PHASE | MOVING),
            OWNED | MOVING => Some(state | KNOCK),
            _ => None,
        });
        if found.ok()? & PHASE != RUNNING {
            return None;
        }
        match self.take() {
            Contents::Running(running) => Some(running),
            _ => None,
        }
    }

    /// Puts in what is idle now: the request has ended, and nobody will come for it any more.
    ///
    /// # Errors
    ///
    /// `idle`, if the slot is not in the hands of the caller, or what it has is held.
    pub fn put_idle(&self, idle: I) -> Result<(), I> {
        if self.open(HELD).is_none() {
            return Err(idle);
        }
        self.fill(Contents::Idle(idle));
        self.settle(|state| state & !(PHASE | MARKS) | IDLE);
        Ok(())
    }

    /// Puts in what is running now; the hardware has been told.
    ///
    /// # Errors
    ///
    /// `running`, if the slot is not in the hands of the caller.
    pub fn put_running(&self, running: R) -> Result<Knock, R> {
        if self.open(0).is_none() {
            return Err(running);
        }
        self.fill(Contents::Running(running));
        let state = self.settle(|state| state & !(PHASE | KNOCK) | RUNNING);
        Ok(if state & KNOCK == 0 {
            Knock::Quiet
        } else {
            Knock::Knocked
        })
    }

    /// Whether the request is to end: no further transfer shall begin. To be asked by whoever has it.
    pub fn is_stopping(&self) -> bool {
        self.state.load(Ordering::Acquire) & STOP != 0
    }

    /// Whether somebody has wanted the request to end or the transaction back, so that it may have been withdrawn, or
    /// [held](Kept::GoesOn).
    pub fn is_wanted_back(&self) -> bool {
        self.state.load(Ordering::Acquire) & (STOP | RECALL) != 0
    }

    /// Whether no request is being worked on.
    pub fn is_idle(&self) -> bool {
        self.state.load(Ordering::Acquire) & PHASE == IDLE
    }

    /// Goes before a call of the framework that may program the hardware. `None` if the request is to end: the call
    /// must not be made.
    pub fn call(&self) -> Option<Call> {
        let before = self
            .change(|state| (state & (PHASE | STOP) == OWNED).then(|| calling(state)))
            .ok()?;
        Some(Call(calling(before) & !(PHASE | MARKS)))
    }

    /// Takes the transaction back after a call that ended it, or did not begin it. `false` if it is not there, a defect.
    pub fn regain(&self, call: Call) -> bool {
        self.change(|state| call.is(state).then_some(state & !PHASE))
            .is_ok()
    }

    /// A call has returned, and the transaction goes on.
    pub fn back(&self, call: Call) -> Back {
        let found = self.change(|state| {
            call.is(state).then_some(if state & (STOP | RECALL) == 0 {
                state & !PHASE | WAITING
            } else {
                state & !PHASE | WITHDRAWING
            })
        });
        match found {
            Ok(state) if state & (STOP | RECALL) != 0 => Back::Withdraw,
            _ => Back::Elsewhere,
        }
    }

    /// The framework hands over the transaction, to have the hardware programmed.
    pub fn arrive(&self) -> Arrival {
        // If nobody has executed it, it is nobody's to end.
        self.surrender().unwrap_or(Arrival::Leave)
    }

    /// As [`arrive`](Self::arrive), of a transaction of which it is not known whether it has arrived already: `None` if
    /// the framework does not have it.
    pub fn surrender(&self) -> Option<Arrival> {
        let found = self.change(|state| match state & PHASE {
            CALLING | WAITING => Some(state & !PHASE),
            WITHDRAWING => Some(state & !PHASE | SURFACED),
            _ => None,
        });
        Some(match found.ok()? {
            state if state & PHASE == WITHDRAWING => Arrival::Leave,
            state if state & STOP != 0 => Arrival::Stop,
            _ => Arrival::Go,
        })
    }

    /// As [`arrive`](Self::arrive), of a transfer that somebody else works on already: whoever wants the request to end,
    /// it is to be [put in](Self::put_running), to be stopped then, and not to be ended before. `false` if nobody has
    /// executed it.
    pub fn arrive_mapped(&self) -> bool {
        self.change(|state| match state & PHASE {
            CALLING | WAITING => Some(state & !PHASE),
            WITHDRAWING => Some(state & !PHASE | HELD),
            _ => None,
        })
        .is_ok()
    }

    /// The framework has given the transaction up: it is in the caller's hands, and does not arrive any more. `false` if
    /// it was not being withdrawn, a defect.
    pub fn withdrawn(&self) -> bool {
        self.change(|state| (state & PHASE == WITHDRAWING).then_some(state & !PHASE))
            .is_ok()
    }

    /// The framework does not give the transaction up.
    pub fn not_withdrawn(&self) -> Kept {
        let found = self.change(|state| match state & PHASE {
            WITHDRAWING => Some(state & !PHASE | WAITING),
            SURFACED => Some(state & !PHASE),
            _ if state & HELD != 0 => Some(state & !HELD),
            _ => None,
        });
        match found {
            Ok(state) if state & PHASE == SURFACED => Kept::Surfaced,
            Ok(state) if state & HELD != 0 => Kept::GoesOn,
            _ => Kept::Waits,
        }
    }

    /// The cancel routine comes by. At most once a request.
    pub fn cancel(&self) -> Ending<I, P> {
        self.end(STOP | MET)
    }

    /// Somebody else wants the request to end.
    pub fn stop(&self) -> Ending<I, P> {
        self.end(STOP)
    }

    /// The request shall not wait for map registers: it ends if it does, and goes on otherwise.
    pub fn recall(&self) -> Ending<I, P> {
        self.end(RECALL)
    }

    fn end(&self, marks: usize) -> Ending<I, P> {
        let found = self.change(|state| match state & PHASE {
            IDLE => None,
            PARKED if marks & MET != 0 => Some(state & !PHASE | MOVING | marks),
            WAITING => Some(state & !PHASE | WITHDRAWING | marks),
            OWNED | MOVING if marks & STOP != 0 => Some(state | KNOCK | marks),
            _ => Some(state | marks),
        });
        match found.unwrap_or(IDLE) & PHASE {
            RUNNING => Ending::Running,
            WAITING => Ending::Withdraw,
            PARKED if marks & MET != 0 => match self.take() {
                Contents::Parked(idle, parked) => Ending::Complete(idle, parked),
                _ => Ending::Noted,
            },
            _ => Ending::Noted,
        }
    }

    /// All is over, but the cancel routine runs or will run: leaves the rest to it.
    ///
    /// # Errors
    ///
    /// `idle` and `parked`, if it has come by already: the caller completes the request.
    pub fn park(&self, idle: I, parked: P) -> Result<(), (I, P)> {
        if self.open(MET).is_none() {
            return Err((idle, parked));
        }
        self.fill(Contents::Parked(idle, parked));
        let before = self.settle(|state| {
            if state & MET == 0 {
                state & !PHASE | PARKED
            } else {
                state
            }
        });
        if before & MET == 0 {
            return Ok(());
        }
        match self.take() {
            Contents::Parked(idle, parked) => Err((idle, parked)),
            // It has just been put in.
            _ => Ok(()),
        }
    }

    fn change(&self, next: impl FnMut(usize) -> Option<usize>) -> Result<usize, usize> {
        // Release as well as acquire, everywhere: who finds a mark sees what was done before it was left.
        self.state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next)
    }

    /// As [`change`](Self::change), of a state that allows it always. Returns the one before.
    fn settle(&self, mut next: impl FnMut(usize) -> usize) -> usize {
        let changed = self.change(|state| Some(next(state)));
        changed.unwrap_or_else(|state| state)
    }

    /// Makes the slot, which is in this caller's hands, this caller's to fill; `None` if it is not, or has one of `marks`.
    fn open(&self, marks: usize) -> Option<usize> {
        self.change(|state| (state & (PHASE | marks) == OWNED).then_some(state | MOVING))
            .ok()
    }

    fn fill(&self, contents: Contents<I, R, P>) {
        self.contents.with_mut(|place| {
            // SAFETY: the slot is moving on this caller's account, so nobody else reaches the contents.
            unsafe { place.write(contents) };
        });
    }

    /// Empties the slot that is moving on this caller's account; it is in the caller's hands then.
    fn take(&self) -> Contents<I, R, P> {
        let contents = self.contents.with_mut(|place| {
            // SAFETY: the slot is moving on this caller's account, so nobody else reaches the contents.
            unsafe { place.replace(Contents::Nothing) }
        });
        self.settle(|state| state & !PHASE);
        contents
    }
}

/// The state in which the call after those of `state` is under way.
const fn calling(state: usize) -> usize {
    (state & !PHASE).wrapping_add(ONE_CALL) | CALLING
}

impl Call {
    /// Whether this is the call that is under way.
    const fn is(&self, state: usize) -> bool {
        state & !MARKS == self.0 | CALLING
    }
}

#[cfg(all(test, not(loom)))]
#[path = "slot/tests.rs"]
mod tests;

#[cfg(all(test, loom))]
#[path = "slot/explored.rs"]
mod explored;
