//! Requests.

use core::mem::ManuallyDrop;

use wdk_sys::{ULONG_PTR, WDF_REQUEST_PARAMETERS, WDFREQUEST};

use crate::versioned::size;
use crate::{NtStatus, Result, ddi};

/// A request that the driver owns and has to complete.
///
/// Completing consumes it. One that is dropped instead is completed with `STATUS_INTERNAL_ERROR`: a defect of the
/// driver, but not a caller that waits for ever.
#[derive(Debug)]
#[must_use = "a request has to be completed"]
pub struct Request {
    raw: WDFREQUEST,
}

// SAFETY: the framework lets any thread work on a request, and its owner is one at a time.
unsafe impl Send for Request {}

impl Request {
    /// # Safety
    ///
    /// `raw` is a valid request that the driver owns, and this is its only owner.
    pub(crate) const unsafe fn from_raw(raw: WDFREQUEST) -> Self {
        Self { raw }
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

    /// Where in the file a read or a write begins; negative if the caller said so. For other requests the value means
    /// nothing. IRQL <= DISPATCH_LEVEL.
    #[must_use]
    pub fn file_offset(&self) -> i64 {
        let mut parameters = WDF_REQUEST_PARAMETERS {
            // Of 16 bits here, unlike anywhere else.
            Size: size::<WDF_REQUEST_PARAMETERS>() as _,
            ..WDF_REQUEST_PARAMETERS::default()
        };
        // SAFETY: the request is valid, and the structure has its size set.
        unsafe { ddi::WdfRequestGetParameters(self.raw, &raw mut parameters) };
        // SAFETY: reads and writes are laid out alike, and every bit pattern is a valid one.
        let read = unsafe { parameters.Parameters.Read };
        read.DeviceOffset
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
