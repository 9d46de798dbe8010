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

use core::marker::PhantomData;
use core::sync::atomic::{AtomicPtr, Ordering};

use wdk_sys::{
    BOOLEAN, NTSTATUS, PSCATTER_GATHER_LIST, PVOID, WDF_DMA_DIRECTION, WDFDEVICE,
    WDFDMATRANSACTION, WDFDMATRANSACTION__,
};

use super::Direction;
use super::scatter_gather::ScatterGather;
use crate::device::{self, DeviceEvents};
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
pub struct Executing(());

/// No further transfer follows.
#[derive(Debug)]
pub struct Ended {
    status: NtStatus,
}

/// A transaction in the state `S`. The framework deletes it with its enabler.
#[derive(Debug)]
#[must_use = "a transaction that is lost is lost to its channel"]
pub struct Transaction<S> {
    raw: WDFDMATRANSACTION,
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
        self.raw
    }

    const fn new(raw: WDFDMATRANSACTION, state: S) -> Self {
        Self {
            raw,
            state,
            owner: PhantomData,
        }
    }
}

/// A transaction that the framework has, for [withdrawing](Self::cancel) it.
#[derive(Debug)]
pub(super) struct Handle(AtomicPtr<WDFDMATRANSACTION__>);

impl Handle {
    /// Another transaction takes the place of this one, which nobody has.
    pub(super) fn exchange(&self, transaction: &Transaction<Idle>) {
        self.0.store(transaction.raw, Ordering::Release);
    }

    fn raw(&self) -> WDFDMATRANSACTION {
        self.0.load(Ordering::Acquire)
    }

    /// `WdfDmaTransactionCancel`: the transaction, if the framework still had it and gives it back. Otherwise it has been
    /// handed to [`DmaEvents::program`], or will be. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Safety
    ///
    /// The transaction has been executed, the function that did it has returned, and until this returns nobody reports
    /// the end of a transfer of it.
    pub(super) unsafe fn cancel(&self) -> Option<Transaction<Ended>> {
        // SAFETY: as the caller vouches for.
        let cancelled = unsafe { ddi::WdfDmaTransactionCancel(self.raw()) } != 0;
        cancelled.then(|| {
            let status = NtStatus::CANCELLED;
            Transaction::new(self.raw(), Ended { status })
        })
    }

    /// The transaction as it was handed to [`DmaEvents::program`].
    ///
    /// # Safety
    ///
    /// The one whom it was handed to has given it up, and this is its only owner.
    pub(super) unsafe fn executing(&self) -> Transaction<Executing> {
        Transaction::new(self.raw(), Executing(()))
    }
}

impl Transaction<Idle> {
    pub(super) const fn handle(&self) -> Handle {
        Handle(AtomicPtr::new(self.raw))
    }

    /// # Safety
    ///
    /// `raw` is a valid transaction, created or released, and this is its only owner.
    pub(crate) const unsafe fn from_raw(raw: WDFDMATRANSACTION) -> Self {
        Self::new(raw, Idle(()))
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
        let request = request.into_raw();
        // SAFETY: the transaction is created or released, the request is valid and owned.
        let status = unsafe {
            ddi::WdfDmaTransactionInitializeUsingRequest(
                self.raw,
                request,
                Some(program::<T>),
                direction.raw(),
            )
        };
        match NtStatus::from_code(status).ok() {
            Ok(()) => Ok(Transaction::new(self.raw, Initialized(()))),
            Err(status) => Err(Refused {
                status,
                transaction: self,
                // SAFETY: the framework keeps no hold on a request it did not take.
                request: unsafe { CancelableRequest::from_raw(request) },
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
        // SAFETY: the transaction is initialised. The context is a number that nobody takes for an address.
        let status = unsafe {
            ddi::WdfDmaTransactionExecute(self.raw, core::ptr::without_provenance_mut(word))
        };
        NtStatus::from_code(status)
            .ok()
            .map_err(|status| Transaction::new(self.raw, Ended { status }))
    }

    /// Does not execute it after all.
    pub fn abandon(self, status: NtStatus) -> Transaction<Ended> {
        Transaction::new(self.raw, Ended { status })
    }
}

impl Transaction<Executing> {
    /// Bytes that earlier transfers of the transaction moved: where this one begins. IRQL <= DISPATCH_LEVEL.
    #[must_use]
    pub fn bytes_transferred(&self) -> usize {
        // SAFETY: the transaction is valid and this its owner.
        unsafe { ddi::WdfDmaTransactionGetBytesTransferred(self.raw) }
    }

    /// Bytes of this transfer. IRQL <= DISPATCH_LEVEL.
    #[must_use]
    pub fn length(&self) -> usize {
        // SAFETY: the transaction is valid and this its owner; it is in a transfer.
        unsafe { ddi::WdfDmaTransactionGetCurrentDmaTransferLength(self.raw) }
    }

    /// `WdfDmaTransactionDmaCompleted`: the hardware has moved the whole transfer and let go of the buffer.
    /// IRQL <= DISPATCH_LEVEL; no lock may be held that [`DmaEvents::program`] takes.
    pub fn complete(self) -> Progress {
        let mut status = NtStatus::SUCCESS.code();
        // SAFETY: the transaction is in a transfer, and this its owner, so the transfer is reported once.
        let ended = unsafe { ddi::WdfDmaTransactionDmaCompleted(self.raw, &raw mut status) };
        self.progress(ended, status)
    }

    /// `WdfDmaTransactionDmaCompletedFinal`: the hardware has let go of the buffer after `length` bytes of the
    /// transfer, and nothing more is to be moved. IRQL <= DISPATCH_LEVEL.
    pub fn finish(self, length: usize) -> Transaction<Ended> {
        let mut status = NtStatus::SUCCESS.code();
        // SAFETY: the transaction is in a transfer, and this its owner, so the transfer is reported once. The result is
        // always that it has ended (fxdmatransactionbase.cpp).
        unsafe { ddi::WdfDmaTransactionDmaCompletedFinal(self.raw, length, &raw mut status) };
        self.ended(status)
    }

    fn progress(self, ended: BOOLEAN, status: NTSTATUS) -> Progress {
        if ended == 0 {
            Progress::Continues
        } else {
            Progress::Ended(self.ended(status))
        }
    }

    fn ended(self, status: NTSTATUS) -> Transaction<Ended> {
        let status = NtStatus::from_code(status);
        Transaction::new(self.raw, Ended { status })
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
        // SAFETY: the transaction is valid and this its owner; the count is kept until the release.
        unsafe { ddi::WdfDmaTransactionGetBytesTransferred(self.raw) }
    }

    /// `WdfDmaTransactionRelease`: makes the transaction ready for the next request, and gives back the one it had.
    /// IRQL <= DISPATCH_LEVEL.
    pub fn release(self) -> (Transaction<Idle>, CancelableRequest) {
        // SAFETY: the transaction is valid and this its owner; the request is known until the release.
        let request = unsafe { ddi::WdfDmaTransactionGetRequest(self.raw) };
        // SAFETY: the transaction is in no transfer. The result is always success (fxdmatransactionapi.cpp).
        let _ = unsafe { ddi::WdfDmaTransactionRelease(self.raw) };
        (
            Transaction::new(self.raw, Idle(())),
            // SAFETY: `initialize` gave its ownership to the transaction, which has no hold on it any more.
            unsafe { CancelableRequest::from_raw(request) },
        )
    }
}

unsafe extern "C" fn program<T: DmaEvents>(
    transaction: WDFDMATRANSACTION,
    device: WDFDEVICE,
    word: PVOID,
    direction: WDF_DMA_DIRECTION,
    list: PSCATTER_GATHER_LIST,
) -> BOOLEAN {
    // SAFETY: the device is valid during its callback.
    let Some(context) = (unsafe { device::context::<T>(device) }) else {
        return 0;
    };
    let transfer = Transaction::new(transaction, Executing(()));
    // SAFETY: the list is valid during this callback.
    let list = unsafe { ScatterGather::from_raw(list) };
    BOOLEAN::from(context.program(transfer, word.addr(), Direction::from_raw(direction), &list))
}
