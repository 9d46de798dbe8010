//! One overlapped request: it owns all that the system and the device may still touch.

use std::ops::Range;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr;
use std::sync::Arc;

use windows_sys::Win32::Foundation::{ERROR_IO_PENDING, TRUE};
use windows_sys::Win32::Storage::FileSystem::{ReadFile, WriteFile};
use windows_sys::Win32::System::IO::{
    CancelIoEx, DeviceIoControl, GetOverlappedResult, OVERLAPPED,
};
use windows_sys::Win32::System::Threading::CreateEventW;

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
    /// Keeps the file open until the request has ended.
    file: Arc<OwnedHandle>,
    /// On the heap, so that it stays where the system was told it is.
    overlapped: Box<OVERLAPPED>,
    /// Set when the request ends. Overlapped requests of one file need an event each.
    _event: Option<OwnedHandle>,
    /// What the request uses; its memory does not move. `None` once it is the program's again.
    buffer: Option<Buffer>,
    /// Memory of a control request's input.
    _request: Request,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Pending,
    Ended(Result<usize, Win32Error>),
}

impl Pending {
    pub(super) fn start(
        file: &Arc<OwnedHandle>,
        request: Request,
        offset: u64,
        mut buffer: Buffer,
        range: Range<usize>,
    ) -> Self {
        // SAFETY: an all-zero OVERLAPPED is a valid one.
        let mut overlapped: Box<OVERLAPPED> = Box::new(unsafe { std::mem::zeroed() });
        // SAFETY: the pointers may be null: default security, no name.
        let event = unsafe { CreateEventW(ptr::null(), TRUE, 0, ptr::null()) };
        if event.is_null() {
            return Self {
                file: Arc::clone(file),
                overlapped,
                _event: None,
                buffer: Some(buffer),
                _request: request,
                state: State::Ended(Err(last_error())),
            };
        }
        overlapped.hEvent = event;
        overlapped.Anonymous.Anonymous.Offset = offset as u32;
        overlapped.Anonymous.Anonymous.OffsetHigh = (offset >> 32) as u32;
        let bytes = &mut buffer[range];
        let (memory, length) = (bytes.as_mut_ptr(), bytes.len() as u32);
        let handle = file.as_raw_handle();
        let started = match &request {
            // SAFETY: buffer and OVERLAPPED live in what is returned until the request has ended.
            Request::Read => unsafe {
                ReadFile(
                    handle,
                    memory,
                    length,
                    ptr::null_mut(),
                    &raw mut *overlapped,
                )
            },
            // SAFETY: as for Read.
            Request::Write => unsafe {
                WriteFile(
                    handle,
                    memory,
                    length,
                    ptr::null_mut(),
                    &raw mut *overlapped,
                )
            },
            // SAFETY: as for Read; the input lives in `request`, which is kept likewise.
            Request::Control { code, input } => unsafe {
                DeviceIoControl(
                    handle,
                    *code,
                    input.as_ptr().cast(),
                    input.len() as u32,
                    memory.cast(),
                    length,
                    ptr::null_mut(),
                    &raw mut *overlapped,
                )
            },
        };
        let state = match (started, last_error()) {
            (0, error) if error.0 != ERROR_IO_PENDING => State::Ended(Err(error)),
            _ => State::Pending,
        };
        Self {
            file: Arc::clone(file),
            overlapped,
            // SAFETY: the event has just been made and nobody else owns it.
            _event: Some(unsafe { OwnedHandle::from_raw_handle(event) }),
            buffer: Some(buffer),
            _request: request,
            state,
        }
    }

    /// Waits for the end; the buffer is the caller's again.
    pub(super) fn wait(mut self) -> (Result<usize, Win32Error>, Buffer) {
        let result = self.end();
        let buffer = self.buffer.take().expect("taken here only");
        (result, buffer)
    }

    fn end(&mut self) -> Result<usize, Win32Error> {
        if let State::Ended(result) = self.state {
            return result;
        }
        let mut moved = 0;
        // SAFETY: the OVERLAPPED is that of a request started on this file.
        let done = unsafe {
            GetOverlappedResult(
                self.file.as_raw_handle(),
                &raw const *self.overlapped,
                &mut moved,
                TRUE,
            )
        };
        let result = if done == 0 {
            Err(last_error())
        } else {
            Ok(moved as usize)
        };
        self.state = State::Ended(result);
        result
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if matches!(self.state, State::Pending) {
            // SAFETY: the OVERLAPPED is that of a request started on this file. Failure means that it has ended.
            unsafe { CancelIoEx(self.file.as_raw_handle(), &raw const *self.overlapped) };
            let _ = self.end();
        }
    }
}
