//! Requests.

use core::cell::Cell;
use core::mem::ManuallyDrop;

use wdk_sys::{_WDF_REQUEST_TYPE, ULONG_PTR, WDF_REQUEST_PARAMETERS, WDFREQUEST};

use crate::device::DeviceEvents;
use crate::dma::Direction;
use crate::file::FileKey;
use crate::versioned::size;
use crate::{NtStatus, Queue, Result, ddi, queue};

/// What a device does when a request that it is working on is cancelled.
pub trait CancelEvents: DeviceEvents {
    /// `EvtRequestCancel`: a request that was [made cancelable](Request::mark_cancelable) has been cancelled.
    /// IRQL <= DISPATCH_LEVEL.
    ///
    /// It may run while the request is being completed, and even before making it cancelable has returned; then who
    /// completes it learns from [`CancelableRequest::unmark`] that this routine runs or will run.
    fn cancel(&self, request: RequestKey);
}

/// Which request: what can be compared, and nothing else. Another request may have the key once this one is completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestKey {
    raw: WDFREQUEST,
}

impl RequestKey {
    /// The key of a request. Nothing is asked of the request: it may have been completed meanwhile.
    pub(crate) const fn of(raw: WDFREQUEST) -> Self {
        Self { raw }
    }

    /// A number that no other request has at the same time, and that is not 0.
    pub(crate) fn number(self) -> usize {
        self.raw.addr()
    }
}

/// What a read or a write asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// A read moves from the device, a write to it.
    pub direction: Direction,
    /// Where in the file it begins; negative if the caller said so.
    pub offset: i64,
    /// Bytes.
    pub length: usize,
}

/// A request that the driver owns and has to complete.
///
/// Completing consumes it. One that is dropped instead is completed with `STATUS_INTERNAL_ERROR`: a defect of the
/// driver, but not a caller that waits for ever.
#[derive(Debug)]
#[must_use = "a request has to be completed"]
pub struct Request {
    raw: WDFREQUEST,
    /// Once it has been asked for.
    wanted: Cell<Option<Wanted>>,
}

// SAFETY: the framework lets any thread work on a request, and its owner is one at a time.
unsafe impl Send for Request {}

impl Request {
    /// # Safety
    ///
    /// `raw` is a valid request that the driver owns, and this is its only owner.
    pub(crate) const unsafe fn from_raw(raw: WDFREQUEST) -> Self {
        Self::new(raw, None)
    }

    const fn new(raw: WDFREQUEST, wanted: Option<Wanted>) -> Self {
        Self {
            raw,
            wanted: Cell::new(wanted),
        }
    }

    /// Gives up ownership without completing the request: whoever gets it, or the framework, has it now.
    pub(crate) fn into_raw(self) -> WDFREQUEST {
        ManuallyDrop::new(self).raw
    }

    /// Completes the request with a status and no data. IRQL <= DISPATCH_LEVEL.
    ///
    /// Whoever waits for it, and the framework that hands over the next one, may act before this returns: no lock may
    /// be held.
    pub fn complete(self, status: NtStatus) {
        self.finish(status, 0);
    }

    /// Completes the request with success and `bytes` moved. IRQL <= DISPATCH_LEVEL; as for
    /// [`complete`](Self::complete).
    pub fn complete_with_bytes(self, bytes: usize) {
        self.finish(NtStatus::SUCCESS, bytes);
    }

    fn finish(self, status: NtStatus, information: usize) {
        let raw = self.into_raw();
        // SAFETY: the request is valid and owned, and nobody else can complete it.
        unsafe {
            ddi::WdfRequestCompleteWithInformation(raw, status.code(), information as ULONG_PTR);
        }
    }

    /// Which request it is.
    #[must_use]
    pub const fn key(&self) -> RequestKey {
        RequestKey::of(self.raw)
    }

    /// What a read or a write asks for; for other requests it means nothing. IRQL <= DISPATCH_LEVEL.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        self.wanted.get().unwrap_or_else(|| {
            let wanted = wanted(self.raw);
            self.wanted.set(Some(wanted));
            wanted
        })
    }

    /// Where in its first page the buffer of a read or a write begins. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Errors
    ///
    /// What `WdfRequestRetrieveInputWdmMdl` and its relative return.
    pub fn page_offset(&self) -> Result<u32> {
        let mut mdl = core::ptr::null_mut();
        let status = match self.wanted().direction {
            // SAFETY: the request is valid and owned.
            Direction::FromDevice => unsafe {
                ddi::WdfRequestRetrieveOutputWdmMdl(self.raw, &raw mut mdl)
            },
            // SAFETY: as above.
            Direction::ToDevice => unsafe {
                ddi::WdfRequestRetrieveInputWdmMdl(self.raw, &raw mut mdl)
            },
        };
        NtStatus::from_code(status).ok()?;
        // SAFETY: the list lives as long as the request, and nobody changes it.
        let mdl = unsafe { mdl.as_ref() }.ok_or(NtStatus::INTERNAL_ERROR)?;
        Ok(mdl.ByteOffset)
    }

    /// `WdfRequestMarkCancelableEx`: has the device told when the request is cancelled. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Errors
    ///
    /// The request, with `STATUS_CANCELLED` if it has been cancelled already: it is to be completed so.
    pub fn mark_cancelable<T: CancelEvents>(self) -> Result<CancelableRequest, (Self, NtStatus)> {
        // SAFETY: the request is valid, owned and not cancelable yet.
        let status = unsafe { ddi::WdfRequestMarkCancelableEx(self.raw, Some(cancel::<T>)) };
        match NtStatus::from_code(status).ok() {
            Ok(()) => Ok(CancelableRequest {
                wanted: self.wanted.get(),
                raw: self.into_raw(),
            }),
            Err(status) => Err((self, status)),
        }
    }

    /// `WdfRequestStopAcknowledge`: gives the request back to its queue, which is being stopped and waits for it; it comes
    /// again when the queue is started, or is cancelled there. IRQL <= DISPATCH_LEVEL; only after
    /// [`TransferEvents::stop`](crate::queue::TransferEvents::stop) has been called for it.
    pub fn hand_back(self) {
        let raw = self.into_raw();
        // SAFETY: the request is valid, owned and not cancelable.
        unsafe { ddi::WdfRequestStopAcknowledge(raw, 1) };
    }

    /// `WdfRequestForwardToIoQueue`: gives the request to another queue of the device. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Errors
    ///
    /// The request, with the reason: the queue takes none at present.
    pub fn forward(self, queue: &Queue) -> Result<(), (Self, NtStatus)> {
        // SAFETY: the request is valid, owned and not cancelable, and the queue is one of its device.
        let status = unsafe { ddi::WdfRequestForwardToIoQueue(self.raw, queue.raw()) };
        match NtStatus::from_code(status).ok() {
            Ok(()) => {
                // It is the queue's now.
                self.into_raw();
                Ok(())
            }
            Err(status) => Err((self, status)),
        }
    }

    /// The first bytes of the input buffer of a buffered control request. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Errors
    ///
    /// `STATUS_BUFFER_TOO_SMALL` if the buffer is shorter.
    pub fn read_input<const LENGTH: usize>(&self) -> Result<[u8; LENGTH]> {
        let mut buffer = core::ptr::null_mut();
        // SAFETY: the request is valid; the length is not asked for.
        let status = unsafe {
            ddi::WdfRequestRetrieveInputBuffer(
                self.raw,
                LENGTH,
                &raw mut buffer,
                core::ptr::null_mut(),
            )
        };
        NtStatus::from_code(status).ok()?;
        // SAFETY: success means a buffer of the system's of at least that many bytes, which is the request's alone.
        Ok(unsafe { buffer.cast::<[u8; LENGTH]>().read_unaligned() })
    }

    /// Reads the first `length` bytes of the input of a buffered control request. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Errors
    ///
    /// `STATUS_BUFFER_TOO_SMALL` if there are fewer.
    pub fn with_input<R>(&mut self, length: usize, read: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let mut buffer = core::ptr::null_mut();
        // SAFETY: the request is valid; the length is not asked for.
        let status = unsafe {
            ddi::WdfRequestRetrieveInputBuffer(
                self.raw,
                length,
                &raw mut buffer,
                core::ptr::null_mut(),
            )
        };
        NtStatus::from_code(status).ok()?;
        // SAFETY: success means a buffer of the system's of at least that many bytes, which nobody else uses now.
        Ok(read(unsafe {
            core::slice::from_raw_parts(buffer.cast(), length)
        }))
    }

    /// The file it was sent by. IRQL <= DISPATCH_LEVEL.
    #[must_use]
    pub fn file(&self) -> FileKey {
        // SAFETY: the request is valid.
        FileKey::of(unsafe { ddi::WdfRequestGetFileObject(self.raw) })
    }

    /// Whether somebody wants it cancelled: for a handler that waits. IRQL <= DISPATCH_LEVEL.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        // SAFETY: the request is valid and owned, and has not been made cancelable.
        unsafe { ddi::WdfRequestIsCanceled(self.raw) != 0 }
    }

    /// Fills the first `length` bytes of the output of a buffered control request; what it was given is overwritten.
    /// IRQL <= DISPATCH_LEVEL.
    ///
    /// # Errors
    ///
    /// `STATUS_BUFFER_TOO_SMALL` if there is less room.
    pub fn with_output<R>(
        &mut self,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> R,
    ) -> Result<R> {
        let mut buffer = core::ptr::null_mut();
        // SAFETY: the request is valid; the length is not asked for.
        let status = unsafe {
            ddi::WdfRequestRetrieveOutputBuffer(
                self.raw,
                length,
                &raw mut buffer,
                core::ptr::null_mut(),
            )
        };
        NtStatus::from_code(status).ok()?;
        // SAFETY: as for the input. The system has written to all of it that is longer than the input.
        Ok(fill(unsafe {
            core::slice::from_raw_parts_mut(buffer.cast(), length)
        }))
    }

    /// Copies `bytes` into the output buffer of a buffered control request. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Errors
    ///
    /// `STATUS_BUFFER_TOO_SMALL` if the buffer is shorter; nothing is copied then.
    pub fn write_output(&self, bytes: &[u8]) -> Result<()> {
        let mut buffer = core::ptr::null_mut();
        // SAFETY: the request is valid; the length is not asked for.
        let status = unsafe {
            ddi::WdfRequestRetrieveOutputBuffer(
                self.raw,
                bytes.len(),
                &raw mut buffer,
                core::ptr::null_mut(),
            )
        };
        NtStatus::from_code(status).ok()?;
        // SAFETY: success means a buffer of the system's of at least that many bytes, which is the request's alone.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), buffer.cast(), bytes.len()) };
        Ok(())
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        // SAFETY: the request is valid and owned, and nobody else can complete it.
        unsafe {
            ddi::WdfRequestCompleteWithInformation(self.raw, NtStatus::INTERNAL_ERROR.code(), 0);
        }
    }
}

/// What the request, which is valid and owned, asks for.
fn wanted(request: WDFREQUEST) -> Wanted {
    let mut parameters = WDF_REQUEST_PARAMETERS {
        // Of 16 bits here, unlike anywhere else.
        Size: size::<WDF_REQUEST_PARAMETERS>() as _,
        ..WDF_REQUEST_PARAMETERS::default()
    };
    // SAFETY: the request is valid, and the structure has its size set.
    unsafe { ddi::WdfRequestGetParameters(request, &raw mut parameters) };
    // SAFETY: reads and writes are laid out alike, and every bit pattern is a valid one.
    let read = unsafe { parameters.Parameters.Read };
    Wanted {
        direction: match parameters.Type {
            _WDF_REQUEST_TYPE::WdfRequestTypeWrite => Direction::ToDevice,
            _ => Direction::FromDevice,
        },
        offset: read.DeviceOffset,
        length: read.Length,
    }
}

/// A request that the driver works on, and of whose cancellation it is told.
///
/// It cannot be completed as it is: [`unmark`](Self::unmark) says who does that. One that is dropped instead stays
/// pending for ever: completing it could race with its cancel routine.
#[derive(Debug)]
#[must_use = "a request has to be completed"]
pub struct CancelableRequest {
    raw: WDFREQUEST,
    wanted: Option<Wanted>,
}

/// Who completes a request that was cancelable.
#[derive(Debug)]
#[must_use]
pub enum Unmarked {
    /// The caller: its cancel routine will not run.
    Ours(Request),
    /// The last of the two, the caller and the cancel routine, which is running, or will run, or has run.
    Shared(CancelledRequest),
}

/// A request whose cancel routine runs, will run or has run.
#[derive(Debug)]
#[must_use = "a request has to be completed"]
pub struct CancelledRequest {
    raw: WDFREQUEST,
    wanted: Option<Wanted>,
}

// SAFETY: the framework lets any thread work on a request, and its owner is one at a time.
unsafe impl Send for CancelableRequest {}

// SAFETY: as above.
unsafe impl Send for CancelledRequest {}

impl CancelableRequest {
    /// What it asks for. IRQL <= DISPATCH_LEVEL.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        self.wanted.unwrap_or_else(|| wanted(self.raw))
    }

    pub(crate) const fn raw(&self) -> WDFREQUEST {
        self.raw
    }

    /// `WdfRequestUnmarkCancelable`: the request is about to be completed. IRQL <= DISPATCH_LEVEL.
    pub fn unmark(self) -> Unmarked {
        // SAFETY: the request is valid, owned and cancelable.
        let status = unsafe { ddi::WdfRequestUnmarkCancelable(self.raw) };
        if NtStatus::from_code(status).is_success() {
            // It is still this owner's, and nobody will cancel it any more.
            Unmarked::Ours(Request::new(self.raw, self.wanted))
        } else {
            Unmarked::Shared(CancelledRequest {
                raw: self.raw,
                wanted: self.wanted,
            })
        }
    }
}

impl CancelledRequest {
    /// The request, for the last of its owner and its cancel routine: the other one does not touch it any more.
    pub fn met(self) -> Request {
        // Only one has this value, and the framework keeps a reference while its cancel routine runs.
        Request::new(self.raw, self.wanted)
    }
}

unsafe extern "C" fn cancel<T: CancelEvents>(request: WDFREQUEST) {
    // SAFETY: the request is not completed before this routine has been called.
    let queue = unsafe { ddi::WdfRequestGetIoQueue(request) };
    // SAFETY: the queue that the request came from outlives it.
    if let Some(context) = unsafe { queue::context_of::<T>(queue) } {
        context.cancel(RequestKey::of(request));
    }
}
