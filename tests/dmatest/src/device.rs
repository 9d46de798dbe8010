//! The seam between what the program does and the system it runs on.

use std::fmt;
use std::ops::{DerefMut, Range};
use std::time::Duration;

use abi::info::DeviceInfo;
use abi::ioctl;
use abi::statistics::Statistics;

use crate::error::{Error, Win32Error};

/// Which way the bytes go, as the program sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// `ReadFile`: from the device's memory into the buffer.
    Read,
    /// `WriteFile`: from the buffer into the device's memory.
    Write,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
        })
    }
}

/// How an overlapped request ended; the buffer is the program's again.
#[derive(Debug)]
pub struct Done<B> {
    /// Bytes transferred, or the error.
    pub result: Result<usize, Win32Error>,
    /// What was given to [`Device::start`].
    pub buffer: B,
}

impl<B> Done<B> {
    /// The buffer, if all `length` bytes at `offset` were moved.
    ///
    /// # Errors
    /// [`Error::Transfer`], [`Error::Short`].
    pub fn whole(self, direction: Direction, offset: u64, length: usize) -> Result<B, Error> {
        match self.result {
            Ok(moved) if moved == length => Ok(self.buffer),
            Ok(moved) => Err(Error::Short {
                direction,
                offset,
                length,
                moved,
            }),
            Err(error) => Err(Error::Transfer {
                direction,
                offset,
                length,
                error,
            }),
        }
    }
}

/// A device of the driver, opened for overlapped I/O: a handle. Dropped, it is closed, whatever is under way.
pub trait Device: Sized {
    /// Memory a request can use. Its first byte lies at the start of a page.
    type Buffer: DerefMut<Target = [u8]>;
    /// A request on its way. It owns its buffer: a request dropped before [`Device::wait`] is cancelled and waited
    /// for, since until then the hardware may still write there.
    type Pending;

    /// A buffer of `length` bytes with unspecified contents.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    fn buffer(&self, length: usize) -> Result<Self::Buffer, Error>;

    /// Starts a read or write of the bytes `range` of `buffer` at `offset` of the device's memory, and does not wait.
    /// An error at once is reported by [`wait`](Device::wait), as any other.
    ///
    /// # Panics
    /// If `range` does not lie in the buffer.
    fn start(
        &self,
        direction: Direction,
        offset: u64,
        buffer: Self::Buffer,
        range: Range<usize>,
    ) -> Self::Pending;

    /// Waits for the end of a request. Any handle will do, also when the one it was made by has been closed.
    fn wait(&self, pending: Self::Pending) -> Done<Self::Buffer>;

    /// Waits for the end of a request, but not for longer than `limit`; whether it has ended.
    fn wait_for(&self, pending: &Self::Pending, limit: Duration) -> bool;

    /// `CancelIoEx` for one request of this handle.
    ///
    /// # Errors
    /// [`Win32Error::NOT_FOUND`] if it has ended.
    fn cancel(&self, pending: &Self::Pending) -> Result<(), Win32Error>;

    /// `CancelIoEx` for all requests of this handle and its duplicates.
    ///
    /// # Errors
    /// [`Win32Error::NOT_FOUND`] if there is none.
    fn cancel_all(&self) -> Result<(), Win32Error>;

    /// Opens the device once more: another file object.
    ///
    /// # Errors
    /// [`Error::Open`].
    fn reopen(&self) -> Result<Self, Error>;

    /// `DuplicateHandle`: another handle of the same file object.
    ///
    /// # Errors
    /// [`Error::Open`].
    fn duplicate(&self) -> Result<Self, Error>;

    /// Runs `work` on `count` threads at once, each with its number from 0 on and a file object of its own, and returns
    /// their results in this order.
    ///
    /// # Errors
    /// As [`Device::reopen`]; no thread has run then.
    fn on_threads<T, W>(&self, count: usize, work: W) -> Result<Vec<T>, Error>
    where
        T: Send + 'static,
        W: Fn(usize, &Self) -> T + Send + Sync + 'static;

    /// Has another process open the device, start `reads` reads of `length` bytes at the start of the device's memory,
    /// and end without waiting for them. Returns when the process has ended.
    ///
    /// # Errors
    /// [`Error::Process`], and those of opening the device there.
    fn abandon(&self, reads: usize, length: usize) -> Result<(), Error>;

    /// Time since some moment before the device was opened: virtual where the machine's is.
    fn now(&self) -> Duration;

    /// Waits.
    fn sleep(&self, time: Duration);

    /// `DeviceIoControl`, waited for: the bytes returned into `output`.
    ///
    /// # Errors
    /// What the driver, or the system before it, answered.
    fn control(&self, code: u32, input: &[u8], output: &mut [u8]) -> Result<usize, Win32Error>;
}

/// Asks the device what it is.
///
/// # Errors
/// [`Error::Control`] if the driver refuses, [`Error::ShortAnswer`] if what it returns is no [`DeviceInfo`].
pub fn query_info<D: Device>(device: &D) -> Result<DeviceInfo, Error> {
    query(device, "GET_INFO", ioctl::GET_INFO, DeviceInfo::from_prefix)
}

/// Asks the driver what it has counted.
///
/// # Errors
/// As [`query_info`].
pub fn query_statistics<D: Device>(device: &D) -> Result<Statistics, Error> {
    query(
        device,
        "GET_STATISTICS",
        ioctl::GET_STATISTICS,
        Statistics::from_prefix,
    )
}

pub(crate) fn query<D: Device, T>(
    device: &D,
    name: &'static str,
    code: u32,
    parse: impl FnOnce(&[u8]) -> Option<T>,
) -> Result<T, Error> {
    // Room for a newer driver's longer answer; what this program knows is a prefix of it.
    let mut output = [0; 512];
    let length = device
        .control(code, &[], &mut output)
        .map_err(|error| Error::Control { name, error })?;
    parse(&output[..length]).ok_or(Error::ShortAnswer { name, length })
}
