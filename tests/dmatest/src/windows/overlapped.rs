//! One overlapped request: it owns all that the system and the device may still touch.

use std::cell::UnsafeCell;
use std::ops::Range;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle, RawHandle};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use windows_sys::Win32::Foundation::{
    ERROR_IO_PENDING, RtlNtStatusToDosError, TRUE, WAIT_OBJECT_0,
};
use windows_sys::Win32::Storage::FileSystem::{ReadFile, WriteFile};
use windows_sys::Win32::System::IO::{DeviceIoControl, OVERLAPPED};
use windows_sys::Win32::System::Threading::{CreateEventW, INFINITE, WaitForSingleObject};

use super::handle::Handle;
use super::{Buffer, last_error};
use crate::error::Win32Error;

/// What to ask for.
#[derive(Debug)]
pub(super) enum Request {
    Read,
    Write,
    Control { code: u32, input: Vec<u8> },
}

/// A request under way. Dropped, it is cancelled and waited for.
pub struct Pending {
    /// The handle it was made by, which may have been closed since.
    file: Arc<Handle>,
    /// On the heap, so that it stays where the system was told it is. Windows writes it when the request ends.
    overlapped: Box<UnsafeCell<OVERLAPPED>>,
    /// Set when the request ends. Overlapped requests of one file need an event each.
    event: Option<OwnedHandle>,
    /// What the request uses; its memory does not move. `None` once it is the program's again.
    buffer: Option<Buffer>,
    /// Memory of a control request's input.
    _request: Request,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Pending,
    /// It never came to the driver, or the driver refused it at once.
    Refused(Win32Error),
}

impl Pending {
    pub(super) fn start(
        file: &Arc<Handle>,
        request: Request,
        offset: u64,
        mut buffer: Buffer,
        range: Range<usize>,
    ) -> Self {
        // SAFETY: an all-zero OVERLAPPED is a valid one.
        let mut overlapped: OVERLAPPED = unsafe { std::mem::zeroed() };
        overlapped.Anonymous.Anonymous.Offset = offset as u32;
        overlapped.Anonymous.Anonymous.OffsetHigh = (offset >> 32) as u32;
        let event = event();
        if let Ok(event) = &event {
            overlapped.hEvent = event.as_raw_handle();
        }
        let overlapped = Box::new(UnsafeCell::new(overlapped));
        let started = event.as_ref().map_err(|error| *error).and_then(|_| {
            let bytes = &mut buffer[range];
            // SAFETY: buffer, OVERLAPPED and request live in what is returned until the request has ended.
            file.with(|handle| unsafe { issue(handle, &request, bytes, overlapped.get()) })
        });
        Self {
            file: Arc::clone(file),
            overlapped,
            event: event.ok(),
            buffer: Some(buffer),
            _request: request,
            state: match started {
                Ok(()) => State::Pending,
                Err(error) => State::Refused(error),
            },
        }
    }

    /// Waits for the end; the buffer is the caller's again.
    pub(super) fn wait(mut self) -> (Result<usize, Win32Error>, Buffer) {
        let result = self.end();
        let buffer = self.buffer.take().expect("taken here only");
        (result, buffer)
    }

    /// Waits for the end, but not for longer than `limit`; whether the request has ended.
    pub(super) fn wait_for(&self, limit: Duration) -> bool {
        let milliseconds = u32::try_from(limit.as_millis()).unwrap_or(INFINITE - 1);
        self.signaled(milliseconds.min(INFINITE - 1))
    }

    /// CancelIoEx for this request.
    pub(super) fn cancel(&self) -> Result<(), Win32Error> {
        self.file.cancel(self.overlapped.get())
    }

    fn signaled(&self, milliseconds: u32) -> bool {
        let State::Pending = self.state else {
            return true;
        };
        self.event.as_ref().is_none_or(|event| {
            // SAFETY: the event is open as long as `self`.
            let waited = unsafe { WaitForSingleObject(event.as_raw_handle(), milliseconds) };
            waited == WAIT_OBJECT_0
        })
    }

    /// What GetOverlappedResult does, but for a handle that may be closed by now: waits for the event, and takes status
    /// and length from the OVERLAPPED.
    fn end(&mut self) -> Result<usize, Win32Error> {
        if let State::Refused(error) = self.state {
            return Err(error);
        }
        while !self.signaled(INFINITE) {}
        // SAFETY: the event is set, so Windows has written the structure and has forgotten it.
        let overlapped = unsafe { &*self.overlapped.get() };
        let status = overlapped.Internal as i32;
        if status >= 0 {
            return Ok(overlapped.InternalHigh);
        }
        // SAFETY: takes and returns a number.
        Err(Win32Error(unsafe { RtlNtStatusToDosError(status) }))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.buffer.is_some() && !self.signaled(0) {
            // Failure means that the request has ended, or that its handle is closed: then there is only waiting.
            let _ = self.cancel();
            let _ = self.end();
        }
    }
}

fn event() -> Result<OwnedHandle, Win32Error> {
    // SAFETY: the pointers may be null: default security, no name.
    let event = unsafe { CreateEventW(ptr::null(), TRUE, 0, ptr::null()) };
    if event.is_null() {
        return Err(last_error());
    }
    // SAFETY: the event has just been made and nobody else owns it.
    Ok(unsafe { OwnedHandle::from_raw_handle(event) })
}

/// Makes the call. An error is one after which Windows does not touch anything any more.
///
/// # Safety
/// `bytes`, `overlapped` and the request's input stay as they are until the request has ended.
unsafe fn issue(
    handle: RawHandle,
    request: &Request,
    bytes: &mut [u8],
    overlapped: *mut OVERLAPPED,
) -> Result<(), Win32Error> {
    let (memory, length) = (bytes.as_mut_ptr(), bytes.len() as u32);
    let none = ptr::null_mut();
    let started = match request {
        // SAFETY: by the caller's promise.
        Request::Read => unsafe { ReadFile(handle, memory, length, none, overlapped) },
        // SAFETY: by the caller's promise.
        Request::Write => unsafe { WriteFile(handle, memory, length, none, overlapped) },
        Request::Control { code, input } => {
            let (input, input_length) = (input.as_ptr().cast(), input.len() as u32);
            // SAFETY: by the caller's promise.
            unsafe {
                DeviceIoControl(
                    handle,
                    *code,
                    input,
                    input_length,
                    memory.cast(),
                    length,
                    none,
                    overlapped,
                )
            }
        }
    };
    match (started, last_error()) {
        (0, error) if error.0 != ERROR_IO_PENDING => Err(error),
        _ => Ok(()),
    }
}
