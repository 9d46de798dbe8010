//! The device on Windows: an interface of the driver, opened for overlapped I/O.

mod discovery;
mod handle;
mod overlapped;

use std::env;
use std::ops::{Deref, DerefMut, Range};
use std::os::windows::io::{FromRawHandle, OwnedHandle};
use std::process::Command;
use std::ptr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::{
    GENERIC_READ, GENERIC_WRITE, GetLastError, INVALID_HANDLE_VALUE,
};
use windows_sys::Win32::Storage::FileSystem::{
    CreateFileW, FILE_FLAG_OVERLAPPED, FILE_SHARE_READ, FILE_SHARE_WRITE, OPEN_EXISTING,
};

use crate::device::{Device, Direction, Done};
use crate::error::{Error, Win32Error};
use crate::thread;

use handle::Handle;
pub use overlapped::Pending;
use overlapped::Request;

/// Bytes of a page.
const PAGE: usize = 4096;

/// A device of the driver.
#[derive(Debug)]
pub struct WindowsDevice {
    handle: Arc<Handle>,
    path: Vec<u16>,
}

impl WindowsDevice {
    /// Opens the first device that is present and started.
    ///
    /// # Errors
    /// [`Error::NoDevice`]; [`Error::Open`], with access denied for a user who is not an administrator.
    pub fn open() -> Result<Self, Error> {
        let path = discovery::interfaces()
            .into_iter()
            .next()
            .ok_or(Error::NoDevice)?;
        Self::open_path(path)
    }

    fn open_path(path: Vec<u16>) -> Result<Self, Error> {
        // SAFETY: the path ends with a zero; the other pointers may be null.
        let handle = unsafe {
            CreateFileW(
                path.as_ptr(),
                GENERIC_READ | GENERIC_WRITE,
                FILE_SHARE_READ | FILE_SHARE_WRITE,
                ptr::null(),
                OPEN_EXISTING,
                FILE_FLAG_OVERLAPPED,
                ptr::null_mut(),
            )
        };
        if handle == INVALID_HANDLE_VALUE {
            return Err(Error::Open {
                path: discovery::text(&path),
                error: last_error(),
            });
        }
        // SAFETY: the handle has just been made and nobody else has it.
        let handle = unsafe { OwnedHandle::from_raw_handle(handle) };
        Ok(Self::new(handle, path))
    }

    fn new(handle: OwnedHandle, path: Vec<u16>) -> Self {
        Self {
            handle: Arc::new(Handle::new(handle)),
            path,
        }
    }
}

impl Drop for WindowsDevice {
    fn drop(&mut self) {
        // Requests under way share the handle, and must not keep it open.
        self.handle.close();
    }
}

/// Starts reads and ends the process without waiting for them.
///
/// # Errors
/// Those of getting memory.
pub(crate) fn abandon<D: Device>(device: &D, reads: usize, length: usize) -> Result<(), Error> {
    let buffers: Vec<D::Buffer> = (0..reads)
        .map(|_| device.buffer(length))
        .collect::<Result<_, _>>()?;
    let _pending: Vec<D::Pending> = buffers
        .into_iter()
        .map(|buffer| device.start(Direction::Read, 0, buffer, 0..length))
        .collect();
    // Nothing is dropped: Windows has to clean up.
    std::process::exit(0)
}

/// Bytes that start a page.
#[derive(Debug)]
pub struct Buffer {
    /// The bytes, with room to find a page's start in; never grown, so they do not move.
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl Buffer {
    fn new(length: usize) -> Result<Self, Error> {
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(length + PAGE)
            .map_err(|_| Error::OutOfMemory(length))?;
        bytes.resize(length + PAGE, 0);
        let start = bytes.as_ptr().align_offset(PAGE);
        Ok(Self {
            bytes,
            start,
            length,
        })
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }
}

impl Device for WindowsDevice {
    type Buffer = Buffer;
    type Pending = Pending;

    fn buffer(&self, length: usize) -> Result<Buffer, Error> {
        Buffer::new(length)
    }

    fn start(
        &self,
        direction: Direction,
        offset: u64,
        buffer: Buffer,
        range: Range<usize>,
    ) -> Pending {
        let request = match direction {
            Direction::Read => Request::Read,
            Direction::Write => Request::Write,
        };
        Pending::start(&self.handle, request, offset, buffer, range)
    }

    fn wait(&self, pending: Pending) -> Done<Buffer> {
        let (result, buffer) = pending.wait();
        Done { result, buffer }
    }

    fn wait_for(&self, pending: &Pending, limit: Duration) -> bool {
        pending.wait_for(limit)
    }

    fn cancel(&self, pending: &Pending) -> Result<(), Win32Error> {
        pending.cancel()
    }

    fn cancel_all(&self) -> Result<(), Win32Error> {
        self.handle.cancel(ptr::null())
    }

    fn reopen(&self) -> Result<Self, Error> {
        Self::open_path(self.path.clone())
    }

    fn duplicate(&self) -> Result<Self, Error> {
        match self.handle.duplicate() {
            Ok(handle) => Ok(Self::new(handle, self.path.clone())),
            Err(error) => Err(Error::Open {
                path: discovery::text(&self.path),
                error,
            }),
        }
    }

    fn on_threads<T, W>(&self, count: usize, work: W) -> Result<Vec<T>, Error>
    where
        T: Send + 'static,
        W: Fn(usize, &Self) -> T + Send + Sync + 'static,
    {
        let devices: Vec<Self> = (0..count)
            .map(|_| self.reopen())
            .collect::<Result<_, _>>()?;
        Ok(thread::in_parallel(devices, work))
    }

    fn abandon(&self, reads: usize, length: usize) -> Result<(), Error> {
        let failed = |what: &dyn std::fmt::Display| Error::Process(what.to_string());
        let program = env::current_exe().map_err(|error| failed(&error))?;
        let status = Command::new(program)
            .args(["abandon", &reads.to_string(), &length.to_string()])
            .status()
            .map_err(|error| failed(&error))?;
        if status.success() {
            Ok(())
        } else {
            Err(failed(&status))
        }
    }

    fn now(&self) -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn control(&self, code: u32, input: &[u8], output: &mut [u8]) -> Result<usize, Win32Error> {
        let answer = Buffer::new(output.len()).map_err(|_| Win32Error::NOT_ENOUGH_MEMORY)?;
        let request = Request::Control {
            code,
            input: input.to_vec(),
        };
        let range = 0..output.len();
        let (result, answer) = Pending::start(&self.handle, request, 0, answer, range).wait();
        let length = result?;
        output[..length].copy_from_slice(&answer[..length]);
        Ok(length)
    }
}

fn last_error() -> Win32Error {
    // SAFETY: takes nothing, returns a value of this thread.
    Win32Error(unsafe { GetLastError() })
}
