//! DMA transactions, a type per state.
//!
//! ```text
//!            initialize           execute                 program
//!     Idle ------------> Initialized -------> (framework) ---------> Executing
//!       ^                    |                    |          ^           |
//!       |                    |                    |          +-----------+ complete: continues
//!       |            abandon |            refused |                      |
//!       |                    v                    v                      | complete, finish: ended
//!       +--------------------+----- Ended <-------+----------------------+
//!         release
//! ```
//!
//! | type | states of the framework | who has it |
//! |---|---|---|
//! | [`Transaction<Idle>`] | Created, Released | the channel's slot |
//! | [`Transaction<Initialized>`] | Initialized | the request handler, for a moment |
//! | - | Transfer, not programmed | the framework: between transfers, or waiting for map registers |
//! | [`Transaction<Executing>`] | Transfer, programmed | the channel's slot, while the hardware works |
//! | [`Transaction<Ended>`] | TransferCompleted, TransferFailed | whoever ended it, for a moment |
//!
//! Programming the hardware is what makes an [`Executing`] transaction: the framework gives one to
//! [`DmaEvents::program`] for each transfer, and it is used up by reporting that transfer's end. So no transfer is
//! reported twice, and nothing can touch a transaction that has gone on to its next transfer (the framework calls
//! [`DmaEvents::program`] again before [`complete`](Transaction::complete) returns). What the framework answers with a
//! bug check (`fxdmatransactionbase.cpp`: Initialize, Execute, DmaCompleted in the wrong state) cannot be written.
//!
//! The request travels inside the transaction from [`initialize`](Transaction::initialize) to
//! [`release`](Transaction::release), so it cannot be completed while the framework holds its buffer.

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use wdk_sys::{
    BOOLEAN, PSCATTER_GATHER_LIST, PVOID, WDF_DMA_DIRECTION, WDFDEVICE, WDFDMATRANSACTION,
};

use super::Direction;
use super::scatter_gather::ScatterGather;
use crate::context::Home;
use crate::device::DeviceEvents;
use crate::request::CancelableRequest;
use crate::{NtStatus, ddi};

/// What a device does to move data.
pub trait DmaEvents: DeviceEvents {
    /// `EvtProgramDma`: tells the hardware about one transfer. DISPATCH_LEVEL.
    ///
    /// It may run before [`execute`](Transaction::execute) or the [`complete`](Transaction::complete) of the transfer
    /// before it returns, on the same or another processor. `word` is what was given to `execute`. `list` is valid for
    /// this call only.
    ///
    /// The channel is to be [told](super::Channel::arrive) first of all. Returns whether the hardware was told about the
    /// transfer. If not, it has been ended, or will be by the one who has it.
    fn program(
        &self,
        transfer: Transaction<Executing>,
        word: usize,
        direction: Direction,
        list: &ScatterGather<'_>,
    ) -> bool;
}

/// Nothing is going on.
#[derive(Debug)]
pub struct Idle(());

/// Prepared for a request's buffer.
#[derive(Debug)]
pub struct Initialized(());

/// The hardware is being told about a transfer, or works on it.
#[derive(Debug)]
pub struct Executing {
    /// No transfer of the transaction came before this one.
    first: bool,
}

/// No further transfer follows.
#[derive(Debug)]
pub struct Ended {
    status: NtStatus,
    /// All transfers were carried out.
    whole: bool,
}

/// What travels along with a transaction, so that nobody has to ask the framework for it: the context of its object, and
/// what it is executed with.
#[derive(Debug)]
pub(super) struct Errand {
    raw: WDFDMATRANSACTION,
    home: Home,
    /// The map registers that it reserves are there.
    pub(super) granted: AtomicBool,
    /// There from [`initialize`](Transaction::initialize) to [`release`](Transaction::release).
    request: UnsafeCell<MaybeUninit<CancelableRequest>>,
    word: AtomicUsize,
    /// A transfer has been given to [`DmaEvents::program`].
    begun: AtomicBool,
}

// SAFETY: the handle belongs to no thread.
unsafe impl Send for Errand {}

// SAFETY: the request is reached by the transaction's owner only, when it is idle or has ended.
unsafe impl Sync for Errand {}

crate::context_type!(Errand);

impl Errand {
    /// Of a transaction of the device whose context is at `home`.
    pub(super) const fn new(raw: WDFDMATRANSACTION, home: Home) -> Self {
        Self {
            raw,
            home,
            granted: AtomicBool::new(false),
            request: UnsafeCell::new(MaybeUninit::uninit()),
            word: AtomicUsize::new(0),
            begun: AtomicBool::new(false),
        }
    }
}

/// A transaction in the state `S`. The framework deletes it with its enabler.
#[derive(Debug)]
#[must_use = "a transaction that is lost is lost to its channel"]
pub struct Transaction<S> {
    /// The context of the transaction, which lives as long.
    errand: NonNull<Errand>,
    state: S,
    /// Neither copied nor shared.
    owner: PhantomData<*mut ()>,
}

// SAFETY: the framework lets any thread work on a transaction, and its owner is one at a time.
unsafe impl<S> Send for Transaction<S> {}

/// What did not come about: everything is as it was before.
#[derive(Debug)]
#[must_use = "the request has to be completed"]
pub struct Refused {
    /// Why.
    pub status: NtStatus,
    /// As it was, to be used again.
    pub transaction: Transaction<Idle>,
    /// To be completed.
    pub request: CancelableRequest,
}

/// What follows after a transfer.
#[derive(Debug)]
#[must_use = "an ended transaction has to be released and its request completed"]
pub enum Progress {
    /// The next transfer, which may have been programmed, and even have ended, already. There is nothing left to do
    /// and nothing left to touch.
    Continues,
    /// Nothing.
    Ended(Transaction<Ended>),
}

impl<S> Transaction<S> {
    pub(super) const fn raw(&self) -> WDFDMATRANSACTION {
        self.errand().raw
    }

    pub(super) const fn errand(&self) -> &Errand {
        // SAFETY: it lives as long as the transaction, and is only ever shared.
        unsafe { self.errand.as_ref() }
    }

    const fn new(errand: NonNull<Errand>, state: S) -> Self {
        Self {
            errand,
            state,
            owner: PhantomData,
        }
    }
}

/// A transaction that the framework has, for [withdrawing](Self::cancel) it.
#[derive(Debug)]
pub(super) struct Handle(AtomicPtr<Errand>);

impl Handle {
    /// Another transaction takes the place of this one, which nobody has.
    pub(super) fn exchange(&self, transaction: &Transaction<Idle>) {
        self.0.store(transaction.errand.as_ptr(), Ordering::Release);
    }

    /// The transaction in a state that the caller vouches for.
    fn with<S>(&self, state: S) -> Transaction<S> {
        // SAFETY: only what points to a transaction's context is ever stored.
        let errand = unsafe { NonNull::new_unchecked(self.0.load(Ordering::Acquire)) };
        Transaction::new(errand, state)
    }

    /// `WdfDmaTransactionCancel`: the transaction, if the framework still had it and gives it back. Otherwise it has been
    /// handed to [`DmaEvents::program`], or will be. IRQL <= DISPATCH_LEVEL.
    ///
    /// One that has its map registers already waits for none, so there is nothing to cancel; the HAL, which has been asked
    /// for nothing, would say that there was, while the framework is about to map the next transfer.
    ///
    /// # Safety
    ///
    /// The transaction has been executed, the function that did it has returned, and until this returns nobody reports
    /// the end of a transfer of it.
    pub(super) unsafe fn cancel(&self) -> Option<Transaction<Ended>> {
        let transaction = self.with(Ended::early(NtStatus::CANCELLED));
        if transaction.errand().granted.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: as the caller vouches for.
        let cancelled = unsafe { ddi::WdfDmaTransactionCancel(transaction.raw()) } != 0;
        cancelled.then_some(transaction)
    }

    /// The transaction as it was handed to [`DmaEvents::program`].
    ///
    /// # Safety
    ///
    /// The one whom it was handed to has given it up, and this is its only owner.
    pub(super) unsafe fn executing(&self) -> Transaction<Executing> {
        self.with(Executing { first: false })
    }
}

impl Transaction<Idle> {
    pub(super) const fn handle(&self) -> Handle {
        Handle(AtomicPtr::new(self.errand.as_ptr()))
    }

    /// # Safety
    ///
    /// `errand` is the context of a valid transaction, created or released, and this is its only owner.
    pub(super) const unsafe fn of(errand: &Errand) -> Self {
        Self::new(NonNull::from_ref(errand), Idle(()))
    }

    /// `WdfDmaTransactionInitializeUsingRequest`: prepares the transaction for the buffer of a read (from the device)
    /// or a write (to the device) to a device with the context `T`. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Errors
    ///
    /// `STATUS_WDF_TOO_FRAGMENTED` and others of the framework; a zero length is refused as well.
    pub fn initialize<T: DmaEvents>(
        self,
        request: CancelableRequest,
        direction: Direction,
    ) -> Result<Transaction<Initialized>, Refused> {
        // SAFETY: the transaction is created or released, the request is valid and owned.
        let status = unsafe {
            ddi::WdfDmaTransactionInitializeUsingRequest(
                self.raw(),
                request.raw(),
                Some(program::<T>),
                direction.raw(),
            )
        };
        match NtStatus::from_code(status).ok() {
            Ok(()) => {
                let place = self.errand().request.get();
                // SAFETY: the transaction was idle and is this caller's alone, so nobody else reaches the place.
                unsafe { place.write(MaybeUninit::new(request)) };
                Ok(Transaction::new(self.errand, Initialized(())))
            }
            Err(status) => Err(Refused {
                status,
                transaction: self,
                request,
            }),
        }
    }
}

impl Transaction<Initialized> {
    /// `WdfDmaTransactionExecute`: has the transfers carried out. IRQL <= DISPATCH_LEVEL.
    ///
    /// On success the transaction is the framework's, which gives it to [`DmaEvents::program`]; by the time this
    /// returns, everything may be over. `word` reaches every such call.
    ///
    /// # Errors
    ///
    /// `STATUS_INSUFFICIENT_RESOURCES` and others of the framework: the transaction has ended then.
    pub fn execute(self, word: usize) -> Result<(), Transaction<Ended>> {
        let errand = self.errand();
        // The framework orders these before its calls of `program`.
        errand.word.store(word, Ordering::Relaxed);
        errand.begun.store(false, Ordering::Relaxed);
        let context = self.errand.as_ptr().cast();
        // SAFETY: the transaction is initialised, and the context lives as long.
        let status = unsafe { ddi::WdfDmaTransactionExecute(self.raw(), context) };
        NtStatus::from_code(status)
            .ok()
            .map_err(|status| Transaction::new(self.errand, Ended::early(status)))
    }

    /// Does not execute it after all.
    pub fn abandon(self, status: NtStatus) -> Transaction<Ended> {
        Transaction::new(self.errand, Ended::early(status))
    }
}

impl Transaction<Executing> {
    /// Bytes that earlier transfers of the transaction moved: where this one begins. IRQL <= DISPATCH_LEVEL.
    #[must_use]
    pub fn bytes_transferred(&self) -> usize {
        if self.state.first {
            return 0;
        }
        // SAFETY: the transaction is valid and this its owner.
        unsafe { ddi::WdfDmaTransactionGetBytesTransferred(self.raw()) }
    }

    /// Bytes of this transfer. IRQL <= DISPATCH_LEVEL.
    #[must_use]
    pub fn length(&self) -> usize {
        // SAFETY: the transaction is valid and this its owner; it is in a transfer.
        unsafe { ddi::WdfDmaTransactionGetCurrentDmaTransferLength(self.raw()) }
    }

    /// `WdfDmaTransactionDmaCompleted`: the hardware has moved the whole transfer and let go of the buffer.
    /// IRQL <= DISPATCH_LEVEL; no lock may be held that [`DmaEvents::program`] takes.
    pub fn complete(self) -> Progress {
        let mut status = NtStatus::SUCCESS.code();
        // SAFETY: the transaction is in a transfer, and this its owner, so the transfer is reported once.
        let ended = unsafe { ddi::WdfDmaTransactionDmaCompleted(self.raw(), &raw mut status) };
        if ended == 0 {
            return Progress::Continues;
        }
        let status = NtStatus::from_code(status);
        let whole = status.is_success();
        Progress::Ended(Transaction::new(self.errand, Ended { status, whole }))
    }

    /// `WdfDmaTransactionDmaCompletedFinal`: the hardware has let go of the buffer after `length` bytes of the
    /// transfer, and nothing more is to be moved. IRQL <= DISPATCH_LEVEL.
    pub fn finish(self, length: usize) -> Transaction<Ended> {
        let mut status = NtStatus::SUCCESS.code();
        // SAFETY: the transaction is in a transfer, and this its owner, so the transfer is reported once. The result is
        // always that it has ended (fxdmatransactionbase.cpp).
        unsafe { ddi::WdfDmaTransactionDmaCompletedFinal(self.raw(), length, &raw mut status) };
        Transaction::new(self.errand, Ended::early(NtStatus::from_code(status)))
    }
}

impl Ended {
    /// Before all was moved, as far as is known.
    const fn early(status: NtStatus) -> Self {
        Self {
            status,
            whole: false,
        }
    }
}

impl Transaction<Ended> {
    /// How it ended. An error does not mean that nothing was moved.
    #[must_use]
    pub const fn status(&self) -> NtStatus {
        self.state.status
    }

    /// Bytes moved. IRQL <= DISPATCH_LEVEL.
    #[must_use]
    pub fn bytes_transferred(&self) -> usize {
        if self.state.whole {
            return self.request().wanted().length;
        }
        // SAFETY: the transaction is valid and this its owner; the count is kept until the release.
        unsafe { ddi::WdfDmaTransactionGetBytesTransferred(self.raw()) }
    }

    /// `WdfDmaTransactionRelease`: makes the transaction ready for the next request, and gives back the one it had.
    /// IRQL <= DISPATCH_LEVEL.
    pub fn release(self) -> (Transaction<Idle>, CancelableRequest) {
        // SAFETY: the transaction is in no transfer. The result is always success (fxdmatransactionapi.cpp).
        let _ = unsafe { ddi::WdfDmaTransactionRelease(self.raw()) };
        let request = self.errand().request.get();
        // SAFETY: nobody else reaches the place; the copy left in it is overwritten before it is used.
        let request = unsafe { request.read() };
        // SAFETY: `initialize` has put it there.
        let request = unsafe { request.assume_init() };
        (Transaction::new(self.errand, Idle(())), request)
    }

    fn request(&self) -> &CancelableRequest {
        let request = self.errand().request.get();
        // SAFETY: the transaction is this caller's alone, and so is the place.
        let request = unsafe { &*request };
        // SAFETY: `initialize` has put it there.
        unsafe { request.assume_init_ref() }
    }
}

unsafe extern "C" fn program<T: DmaEvents>(
    _transaction: WDFDMATRANSACTION,
    _device: WDFDEVICE,
    errand: PVOID,
    direction: WDF_DMA_DIRECTION,
    list: PSCATTER_GATHER_LIST,
) -> BOOLEAN {
    let Some(errand) = NonNull::new(errand.cast::<Errand>()) else {
        return 0;
    };
    let mut transfer = Transaction::new(errand, Executing { first: false });
    let errand = transfer.errand();
    // SAFETY: the device is valid during its callback.
    let Some(context) = (unsafe { errand.home.get::<T>() }) else {
        return 0;
    };
    let word = errand.word.load(Ordering::Relaxed);
    transfer.state.first = !errand.begun.swap(true, Ordering::Relaxed);
    // SAFETY: the list is valid during this callback.
    let list = unsafe { ScatterGather::from_raw(list) };
    BOOLEAN::from(context.program(transfer, word, Direction::from_raw(direction), &list))
}
