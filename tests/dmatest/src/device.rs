//! The seam between what the program does and the system it runs on.

use std::fmt;
use std::ops::{DerefMut, Range};

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

/// A device of the driver, opened for overlapped I/O.
pub trait Device {
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

    /// Waits for the end of a request.
    fn wait(&self, pending: Self::Pending) -> Done<Self::Buffer>;

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

fn query<D: Device, T>(
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
