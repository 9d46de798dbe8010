//! Every order in which the atomics of a few threads can meet.

use super::*;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize as Count};
use loom::thread;

/// With several threads the number of orders explodes; few preemptions are enough for any known kind of race.
fn few(test: impl Fn() + Sync + Send + 'static) {
    let mut few = loom::model::Builder::new();
    few.preemption_bound = Some(3);
    few.check(test);
}

#[test]
fn of_several_contenders_one_gets_the_transfer() {
    few(|| {
        let slot: Arc<Slot<(), u32, ()>> = Arc::new(Slot::new(()));
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
        let slot: Arc<Slot<(), u32, ()>> = Arc::new(Slot::new(()));
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

/// One request in a slot, with the framework's part of it: when a request is cancelable, and who gets map registers.
struct Request {
    slot: Slot<(), (), ()>,
    /// Unmarked by the driver, or its cancel routine called: only the first of the two takes place.
    cancelable: AtomicBool,
    /// The framework will program the transaction, or has cancelled it: only the first of the two takes place.
    pending: AtomicBool,
    /// The framework is being asked for the transaction, which must not end meanwhile.
    asked: AtomicBool,
    /// A controller has the transfer when the driver hears of it, so it is stopped before it ends.
    mapped: bool,
    completed: Count,
}

impl Request {
    fn new() -> Arc<Self> {
        Self::of(false)
    }

    fn of(mapped: bool) -> Arc<Self> {
        Arc::new(Self {
            slot: Slot::new(()),
            cancelable: AtomicBool::new(true),
            pending: AtomicBool::new(true),
            asked: AtomicBool::new(false),
            mapped,
            completed: Count::new(0),
        })
    }

    /// The transaction has been ended and released by the one who has it.
    fn settle(&self) {
        assert!(!self.asked.load(Ordering::Acquire));
        if self.cancelable.swap(false, Ordering::AcqRel) {
            self.complete();
        } else if self.slot.park((), ()).is_err() {
            self.complete();
        }
    }

    fn complete(&self) {
        assert_eq!(self.slot.put_idle(()), Ok(()));
        self.completed.fetch_add(1, Ordering::Relaxed);
    }

    fn withdraw(&self) {
        self.asked.store(true, Ordering::Release);
        let given_up = self.pending.swap(false, Ordering::AcqRel);
        self.asked.store(false, Ordering::Release);
        if given_up {
            assert!(self.slot.withdrawn());
            return self.settle();
        }
        match self.slot.not_withdrawn() {
            Kept::Waits => {}
            Kept::Surfaced => {
                assert!(!self.mapped);
                self.settle();
            }
            Kept::GoesOn => self.drain(),
        }
    }

    /// `EvtRequestCancel`, if the request can still be cancelled.
    fn cancel(&self) {
        if self.cancelable.swap(false, Ordering::AcqRel) {
            self.end(self.slot.cancel());
        }
    }

    fn end(&self, ending: Ending<(), ()>) {
        match ending {
            Ending::Running if self.mapped => self.drain(),
            Ending::Noted | Ending::Running => {}
            Ending::Withdraw => self.withdraw(),
            Ending::Complete((), ()) => self.complete(),
        }
    }

    /// The framework gets map registers for the transaction.
    fn grant(&self) {
        if !self.pending.swap(false, Ordering::AcqRel) {
            return;
        }
        if self.mapped {
            assert!(self.slot.arrive_mapped());
            let knock = self.slot.put_running(()).expect("it is ours");
            if knock == Knock::Knocked || self.slot.is_stopping() {
                self.drain();
            }
            return;
        }
        match self.slot.arrive() {
            Arrival::Go => {
                if self.slot.put_running(()).expect("it is ours") == Knock::Knocked {
                    self.drain();
                }
            }
            Arrival::Stop => self.settle(),
            Arrival::Leave => {}
        }
    }

    /// The hardware has finished, or is stopped.
    fn drain(&self) {
        if self.slot.take_running().is_some() {
            self.settle();
        }
    }

    /// The request handler; the framework grants map registers at once or later.
    fn begin(&self) {
        let Some(call) = self.slot.call() else {
            return self.settle();
        };
        if self.slot.back(call) == Back::Withdraw {
            self.withdraw();
        }
    }

    fn check(&self) {
        assert_eq!(self.completed.load(Ordering::Relaxed), 1);
        assert!(self.slot.is_idle());
    }
}

fn spawn(request: &Arc<Request>, body: fn(&Request)) -> thread::JoinHandle<()> {
    let request = Arc::clone(request);
    thread::spawn(move || body(&request))
}

#[test]
fn cancelled_at_any_moment_of_its_beginning_it_completes_once() {
    few(|| {
        let request = Request::new();
        request.slot.take_idle().expect("it is idle");
        let cancelling = spawn(&request, Request::cancel);
        request.begin();
        request.grant();
        cancelling.join().expect("no panic");
        request.drain();
        request.check();
    });
}

#[test]
fn cancelled_and_granted_map_registers_at_once_it_completes_once() {
    few(|| {
        let request = Request::new();
        request.slot.take_idle().expect("it is idle");
        request.begin();
        let cancelling = spawn(&request, Request::cancel);
        let granting = spawn(&request, Request::grant);
        cancelling.join().expect("no panic");
        granting.join().expect("no panic");
        request.drain();
        request.check();
    });
}

#[test]
fn cancelled_and_finished_at_once_it_completes_once() {
    few(|| {
        let request = Request::new();
        request.slot.take_idle().expect("it is idle");
        request.begin();
        request.grant();
        let cancelling = spawn(&request, Request::cancel);
        let timing_out = spawn(&request, Request::drain);
        request.drain();
        cancelling.join().expect("no panic");
        timing_out.join().expect("no panic");
        request.check();
    });
}

#[test]
fn cancelled_and_stopped_at_once_it_completes_once() {
    few(|| {
        let request = Request::new();
        request.slot.take_idle().expect("it is idle");
        request.begin();
        let cancelling = spawn(&request, Request::cancel);
        let stopping = spawn(&request, |request| request.end(request.slot.stop()));
        request.grant();
        cancelling.join().expect("no panic");
        stopping.join().expect("no panic");
        request.drain();
        request.check();
    });
}

#[test]
fn granted_before_the_call_returns_it_completes_once() {
    few(|| {
        let request = Request::new();
        request.slot.take_idle().expect("it is idle");
        let call = request.slot.call().expect("nobody stops it");
        let cancelling = spawn(&request, Request::cancel);
        let granting = spawn(&request, Request::grant);
        if request.slot.back(call) == Back::Withdraw {
            request.withdraw();
        }
        cancelling.join().expect("no panic");
        granting.join().expect("no panic");
        request.drain();
        request.check();
    });
}

#[test]
fn recalled_and_granted_map_registers_at_once_it_completes_once() {
    few(|| {
        let request = Request::new();
        request.slot.take_idle().expect("it is idle");
        let recalling = spawn(&request, |request| request.end(request.slot.recall()));
        let cancelling = spawn(&request, Request::cancel);
        request.begin();
        request.grant();
        recalling.join().expect("no panic");
        cancelling.join().expect("no panic");
        request.drain();
        request.check();
    });
}

/// Nobody looks for it in the end: it is stopped by who stops it, or who hears of it.
#[test]
fn stopped_and_mapped_at_once_it_completes_once() {
    few(|| {
        let request = Request::of(true);
        request.slot.take_idle().expect("it is idle");
        request.begin();
        let cancelling = spawn(&request, Request::cancel);
        let granting = spawn(&request, Request::grant);
        cancelling.join().expect("no panic");
        granting.join().expect("no panic");
        request.check();
    });
}

#[test]
fn stopped_and_mapped_before_the_call_returns_it_completes_once() {
    few(|| {
        let request = Request::of(true);
        request.slot.take_idle().expect("it is idle");
        let call = request.slot.call().expect("nobody stops it");
        let cancelling = spawn(&request, Request::cancel);
        let granting = spawn(&request, Request::grant);
        if request.slot.back(call) == Back::Withdraw {
            request.withdraw();
        }
        cancelling.join().expect("no panic");
        granting.join().expect("no panic");
        request.check();
    });
}

/// The look that comes while it is held is in vain: the withdrawer looks again.
#[test]
fn recalled_and_finished_at_once_it_completes_once() {
    few(|| {
        let request = Request::of(true);
        request.slot.take_idle().expect("it is idle");
        request.begin();
        let recalling = spawn(&request, |request| request.end(request.slot.recall()));
        let granting = spawn(&request, |request| {
            request.grant();
            request.drain();
        });
        recalling.join().expect("no panic");
        granting.join().expect("no panic");
        request.check();
    });
}
