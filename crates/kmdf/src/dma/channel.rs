//! A request and the transaction that carries it out, from one end to the other.
//!
//! A [`Channel`] brings together what may be done with a [`Transaction`] in which state, and the [`Slot`] that decides
//! who does it. A device has one for each request that it can work on at a time. The driver tells the channel what has
//! happened (a request has come, a transfer is to be programmed or has ended, somebody wants the request to end) and is
//! told what to do; when it is given [`Concluded`], the request is its alone, and to be completed.

use core::sync::atomic::{AtomicUsize, Ordering};

use super::reserve::Resources;
use super::shape::Shape;
use super::transaction::{
    DmaEvents, Ended, Executing, Handle, Idle, Initialized, Progress, Refused, Transaction,
};
use crate::request::{
    CancelEvents, CancelableRequest, CancelledRequest, Request, RequestKey, Unmarked,
};
use crate::slot::{Arrival, Back, Call, Ending, Kept, Knock, Slot};
use crate::{NtStatus, Result, log};

/// One request at a time, and its transaction. `R` is what the driver keeps about a transfer that the hardware works on.
#[derive(Debug)]
pub struct Channel<R> {
    pub(super) slot: Slot<Transaction<Idle>, R, (CancelledRequest, Outcome)>,
    pub(super) handle: Handle,
    pub(super) resources: Resources,
    /// How they are split into transfers.
    shape: Shape,
    /// The request that is being worked on, 0 if there is none.
    request: AtomicUsize,
}

/// How a request ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome {
    status: Result<()>,
    moved: usize,
    recalled: bool,
}

/// A request that is over, the caller's to complete; the channel is ready for the next one.
#[derive(Debug)]
#[must_use = "the request has to be completed"]
pub struct Concluded {
    /// To be completed.
    pub request: Request,
    /// `Ok` if everything was moved. `STATUS_CANCELLED` if the request was stopped before.
    pub status: Result<()>,
    /// Bytes moved, by all of its transfers that were reported as done.
    pub moved: usize,
    /// It was [recalled](Channel::recall): it is to be [handed back](Request::hand_back) instead of completed.
    pub recalled: bool,
}

/// What to do about a transfer that the framework has handed over.
#[derive(Debug)]
#[must_use]
pub enum Attempt {
    /// Tell the hardware, and then [put](Channel::put_running) it into the channel; or end it.
    Go(Transaction<Executing>),
    /// Nothing: it was ended, or will be. If it was the caller who ended it, the request is the caller's to complete.
    Over(Option<Concluded>),
}

/// What has become of a request that somebody wanted to end.
#[derive(Debug)]
#[must_use]
pub enum Stopped {
    /// Whoever has it ends it, or nobody has any.
    Noted,
    /// The hardware works on it. It ends after the transfer.
    Running,
    /// It is over.
    Concluded(Concluded),
}

impl<R> Channel<R> {
    /// A channel that works with `transaction`.
    pub fn new(transaction: Transaction<Idle>) -> Self {
        let handle = transaction.handle();
        Self {
            slot: Slot::new(transaction),
            handle,
            resources: Resources::default(),
            shape: Shape::default(),
            request: AtomicUsize::new(0),
        }
    }

    /// The same with requests that are split another way.
    #[must_use]
    pub fn shaped(self, shape: Shape) -> Self {
        Self { shape, ..self }
    }

    /// Whether no request is being worked on. Any IRQL.
    pub fn is_idle(&self) -> bool {
        self.slot.is_idle()
    }

    /// Whether this is the request that is being worked on. Any IRQL.
    ///
    /// When the cancel routine of a request or its queue's stop asks, the answer does not change until the request has
    /// ended: one channel has it.
    pub fn has(&self, request: RequestKey) -> bool {
        self.request.load(Ordering::Acquire) == request.number()
    }

    /// Begins a request, to be moved in the direction that it asks for itself. `word` reaches every
    /// [`DmaEvents::program`]. IRQL <= DISPATCH_LEVEL.
    ///
    /// `Some` if it is over already, and the caller's to complete; otherwise there is nothing left to touch.
    pub fn begin<T: DmaEvents + CancelEvents>(
        &self,
        request: Request,
        word: usize,
    ) -> Option<Concluded> {
        self.begin_prepared::<T>(request, word, |_| ())
    }

    /// As [`begin`](Self::begin), with what `prepare` does to the transaction before it is executed.
    pub(super) fn begin_prepared<T: DmaEvents + CancelEvents>(
        &self,
        request: Request,
        word: usize,
        prepare: impl FnOnce(&Transaction<Initialized>),
    ) -> Option<Concluded> {
        let (key, direction) = (request.key(), request.wanted().direction);
        let Some(transaction) = self.slot.take_idle() else {
            return Some(Concluded::refused(request, NtStatus::INTERNAL_ERROR));
        };
        // The cancel routine may run at once, and looks for it.
        self.request.store(key.number(), Ordering::Release);
        let request = match request.mark_cancelable::<T>() {
            Ok(request) => request,
            Err((request, status)) => {
                self.put_idle(transaction);
                return Some(Concluded::refused(request, status));
            }
        };
        self.shape.require(&transaction);
        match transaction.initialize::<T>(request, direction) {
            Ok(transaction) => {
                self.shape.limit(&transaction);
                self.resources.prepare(&transaction);
                prepare(&transaction);
                self.execute(transaction, word)
            }
            Err(Refused {
                status,
                transaction,
                request,
            }) => {
                let outcome = Outcome {
                    status: Err(status),
                    moved: 0,
                    recalled: false,
                };
                self.settle(transaction, request, outcome)
            }
        }
    }

    fn execute(&self, transaction: Transaction<Initialized>, word: usize) -> Option<Concluded> {
        let Some(call) = self.slot.call() else {
            return self.conclude(transaction.abandon(NtStatus::CANCELLED), Ok(()));
        };
        match transaction.execute(word) {
            Ok(()) => self.returned(call),
            Err(ended) => self.regain(call, ended),
        }
    }

    /// To be called first of all in [`DmaEvents::program`]. DISPATCH_LEVEL.
    pub fn arrive(&self, transfer: Transaction<Executing>) -> Attempt {
        match self.slot.arrive() {
            Arrival::Go => Attempt::Go(transfer),
            Arrival::Stop => Attempt::Over(self.fail(transfer, NtStatus::CANCELLED)),
            // Whoever withdraws the transaction makes this value anew.
            Arrival::Leave => Attempt::Over(None),
        }
    }

    /// As [`arrive`](Self::arrive), of a transfer that somebody else has been told about already, a system DMA controller:
    /// it goes on even if the request is to end, since it has to be stopped first. It is to be
    /// [put](Self::put_running) into the channel, and taken out again to be stopped. `None` if it is not the channel's, a
    /// defect. DISPATCH_LEVEL.
    pub(super) fn arrive_mapped(
        &self,
        transfer: Transaction<Executing>,
    ) -> Option<Transaction<Executing>> {
        self.slot.arrive_mapped().then_some(transfer)
    }

    /// Puts in a transfer that the hardware has been told about, or is still at work on. IRQL <= DISPATCH_LEVEL.
    pub fn put_running(&self, transfer: R) -> Knock {
        self.slot.put_running(transfer).unwrap_or_else(|_| {
            log::failure(c"keeping a transfer", NtStatus::INTERNAL_ERROR);
            Knock::Quiet
        })
    }

    /// Takes out the transfer that the hardware is at work on: it is the caller's alone. `None` if there is none, or
    /// somebody else has it, who then [learns](Knock) of it. Any IRQL.
    pub fn take_running(&self) -> Option<R> {
        self.slot.take_running()
    }

    /// Whether [`begin`](Self::begin) or [`complete`](Self::complete) may have left a transfer that goes on, and that
    /// nobody could [take out](Self::take_running) until it returned.
    pub(super) fn is_wanted_back(&self) -> bool {
        self.slot.is_wanted_back()
    }

    /// Whether the request is to end. To be asked by whoever has the transfer. Any IRQL.
    pub fn is_stopping(&self) -> bool {
        self.slot.is_stopping()
    }

    /// The hardware has moved a whole transfer and let go of the buffer. IRQL <= DISPATCH_LEVEL; no lock may be held that
    /// [`DmaEvents::program`] takes.
    ///
    /// `Some` if the request is over; otherwise the next transfer follows, or has followed already.
    pub fn complete(&self, transfer: Transaction<Executing>) -> Option<Concluded> {
        let Some(call) = self.slot.call() else {
            let length = transfer.length();
            return self.conclude(transfer.finish(length), Ok(()));
        };
        match transfer.complete() {
            Progress::Continues => self.returned(call),
            Progress::Ended(ended) => self.regain(call, ended),
        }
    }

    /// The hardware has let go of the buffer, and nothing can be said about what the transfer has moved: the request
    /// ends with `status`. IRQL <= DISPATCH_LEVEL. `Some`, unless its cancel routine completes it.
    pub fn fail(&self, transfer: Transaction<Executing>, status: NtStatus) -> Option<Concluded> {
        self.fail_after(transfer, 0, status)
    }

    /// The hardware has let go of the buffer after the first `moved` bytes of the transfer, which are no more than it
    /// has: the request ends with `status`. IRQL <= DISPATCH_LEVEL. `Some`, unless its cancel routine completes it.
    pub fn fail_after(
        &self,
        transfer: Transaction<Executing>,
        moved: usize,
        status: NtStatus,
    ) -> Option<Concluded> {
        self.conclude(transfer.finish(moved), Err(status))
    }

    /// The framework could not map a transfer, and says so by a callback: the request ends with `status`. `None` if the
    /// transaction is not the framework's, so that what is said is about a transfer that was programmed.
    pub(super) fn unmapped(&self, status: NtStatus) -> Option<Option<Concluded>> {
        match self.slot.surrender()? {
            Arrival::Leave => Some(None),
            Arrival::Go | Arrival::Stop => {
                // SAFETY: the slot has just made it the caller's.
                let transfer = unsafe { self.handle.executing() };
                Some(self.fail(transfer, status))
            }
        }
    }

    /// The request's cancel routine runs. IRQL <= DISPATCH_LEVEL.
    pub fn cancel(&self) -> Stopped {
        self.end(self.slot.cancel())
    }

    /// Somebody else wants the request to end. IRQL <= DISPATCH_LEVEL.
    pub fn stop(&self) -> Stopped {
        self.end(self.slot.stop())
    }

    /// The request's queue is being stopped and waits for it. If it waits for map registers, it is withdrawn, and to be
    /// [handed back](Request::hand_back) to its queue; otherwise it goes on. IRQL <= DISPATCH_LEVEL; in
    /// [`TransferEvents::stop`](crate::queue::TransferEvents::stop) only.
    pub fn recall(&self) -> Stopped {
        self.end(self.slot.recall())
    }

    fn end(&self, ending: Ending<Transaction<Idle>, (CancelledRequest, Outcome)>) -> Stopped {
        match ending {
            Ending::Noted => Stopped::Noted,
            Ending::Running => Stopped::Running,
            Ending::Withdraw => self.withdraw(),
            Ending::Complete(transaction, (request, outcome)) => {
                self.put_idle(transaction);
                Stopped::Concluded(outcome.of(request.met()))
            }
        }
    }

    fn returned(&self, call: Call) -> Option<Concluded> {
        match self.slot.back(call) {
            Back::Elsewhere => None,
            Back::Withdraw => match self.withdraw() {
                Stopped::Noted | Stopped::Running => None,
                Stopped::Concluded(concluded) => Some(concluded),
            },
        }
    }

    fn regain(&self, call: Call, ended: Transaction<Ended>) -> Option<Concluded> {
        if !self.slot.regain(call) {
            log::failure(c"taking a transaction back", NtStatus::INTERNAL_ERROR);
        }
        self.conclude(ended, Ok(()))
    }

    /// Takes the transaction back from the framework, if that is still possible. The slot says that this is the
    /// caller's to do.
    fn withdraw(&self) -> Stopped {
        // SAFETY: the slot allows it only after Execute or DmaCompleted has returned, and until it is told of the outcome
        // whoever the transaction is handed to leaves it alone, or puts it in, and nobody takes it out.
        let concluded = if let Some(ended) = unsafe { self.handle.cancel() } {
            if !self.slot.withdrawn() {
                log::failure(c"withdrawing a transaction", NtStatus::INTERNAL_ERROR);
            }
            self.conclude_withdrawn(ended)
        } else {
            match self.slot.not_withdrawn() {
                Kept::Waits => None,
                Kept::GoesOn => return Stopped::Running,
                Kept::Surfaced => {
                    // SAFETY: it was handed over, and left to this caller.
                    let transfer = unsafe { self.handle.executing() };
                    self.conclude_withdrawn(transfer.finish(0))
                }
            }
        };
        concluded.map_or(Stopped::Noted, Stopped::Concluded)
    }

    /// As [`conclude`](Self::conclude), of a transaction that was withdrawn: its request was stopped, or only recalled.
    fn conclude_withdrawn(&self, ended: Transaction<Ended>) -> Option<Concluded> {
        let moved = ended.bytes_transferred();
        let recalled = !self.slot.is_stopping();
        let (transaction, request) = ended.release();
        let outcome = Outcome {
            status: Err(NtStatus::CANCELLED),
            moved,
            recalled,
        };
        self.settle(transaction, request, outcome)
    }

    /// The end of a transaction that is the caller's. `status` is why it had to end, if there is a reason.
    fn conclude(&self, ended: Transaction<Ended>, status: Result<()>) -> Option<Concluded> {
        let moved = ended.bytes_transferred();
        let status = status.and(ended.status().ok());
        let (transaction, request) = ended.release();
        let status = status.and_then(|()| {
            // Stopped after the last transfer, it is done all the same.
            if moved == request.wanted().length {
                Ok(())
            } else {
                Err(NtStatus::CANCELLED)
            }
        });
        let outcome = Outcome {
            status,
            moved,
            recalled: false,
        };
        self.settle(transaction, request, outcome)
    }

    /// The request is over, and either the caller's to complete or its cancel routine's.
    fn settle(
        &self,
        transaction: Transaction<Idle>,
        request: CancelableRequest,
        mut outcome: Outcome,
    ) -> Option<Concluded> {
        let (transaction, request) = match request.unmark() {
            Unmarked::Ours(request) => (transaction, request),
            Unmarked::Shared(request) => {
                // It has been cancelled, and is not handed back any more.
                outcome.recalled = false;
                let (transaction, (request, _)) =
                    self.slot.park(transaction, (request, outcome)).err()?;
                (transaction, request.met())
            }
        };
        self.put_idle(transaction);
        Some(outcome.of(request))
    }

    /// Before the request is completed, which may bring the next one at once.
    pub(super) fn put_idle(&self, transaction: Transaction<Idle>) {
        self.request.store(0, Ordering::Release);
        if self.slot.put_idle(transaction).is_err() {
            log::failure(c"putting a transaction back", NtStatus::INTERNAL_ERROR);
        }
    }
}

impl Outcome {
    const fn of(self, request: Request) -> Concluded {
        Concluded {
            request,
            status: self.status,
            moved: self.moved,
            recalled: self.recalled,
        }
    }
}

impl Concluded {
    /// A request that nothing was done for.
    const fn refused(request: Request, status: NtStatus) -> Self {
        Self {
            request,
            status: Err(status),
            moved: 0,
            recalled: false,
        }
    }
}
