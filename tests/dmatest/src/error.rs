//! What can go wrong, in the terms of the program's user.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::device::Direction;

/// A Win32 error code, as `GetLastError` returns it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Win32Error(pub u32);

macro_rules! win32_errors {
    ($($name:ident = $code:literal, $text:literal;)*) => {
        impl Win32Error {
            $(#[doc = concat!($text, ".")] pub const $name: Self = Self($code);)*

            /// The constant's name without its prefix `ERROR_`, and its meaning; `None` for a code this program has
            /// no use for.
            fn known(self) -> Option<(&'static str, &'static str)> {
                match self {
                    $(Self::$name => Some((stringify!($name), $text)),)*
                    _ => None,
                }
            }
        }
    };
}

win32_errors! {
    INVALID_FUNCTION = 1, "the driver does not know the request";
    FILE_NOT_FOUND = 2, "there is no such device";
    ACCESS_DENIED = 5, "access is denied";
    NOT_ENOUGH_MEMORY = 8, "not enough memory";
    BAD_COMMAND = 22, "the device is not in a state for this";
    GEN_FAILURE = 31, "the device does not work";
    HANDLE_EOF = 38, "past the end of the device's memory";
    NOT_SUPPORTED = 50, "not supported";
    INVALID_PARAMETER = 87, "a parameter is not valid";
    SEM_TIMEOUT = 121, "the device did not finish in time";
    INSUFFICIENT_BUFFER = 122, "the buffer is too small";
    BUSY = 170, "the device is busy";
    MORE_DATA = 234, "more data is available";
    OPERATION_ABORTED = 995, "cancelled";
    NOT_FOUND = 1168, "there is nothing to cancel";
    IO_DEVICE = 1117, "the device reported an error";
    DEVICE_REMOVED = 1617, "the device is gone";
    DEVICE_NOT_CONNECTED = 1167, "the device is not connected";
    INVALID_USER_BUFFER = 1784, "the request reaches beyond the end of the device's memory";
    NO_SYSTEM_RESOURCES = 1450, "not enough system resources";
}

impl fmt::Display for Win32Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known() {
            Some((name, text)) => write!(f, "{text} (ERROR_{name}, {})", self.0),
            None => write!(f, "error {}", self.0),
        }
    }
}

impl fmt::Debug for Win32Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known() {
            Some((name, _)) => write!(f, "ERROR_{name}"),
            None => write!(f, "Win32Error({})", self.0),
        }
    }
}

impl std::error::Error for Win32Error {}

/// Why a subcommand did not succeed. [`crate::exit::code`] gives each its exit code.
#[derive(Debug, Error)]
pub enum Error {
    /// No device of the driver is present and started.
    #[error("no dmacard device is present, or none has started")]
    NoDevice,
    /// The device exists and cannot be opened.
    #[error("{path} cannot be opened: {error}")]
    Open {
        /// The device interface.
        path: String,
        /// Why not; [`Win32Error::ACCESS_DENIED`] for a user who is not an administrator.
        error: Win32Error,
    },
    /// A request the program relies on failed.
    #[error("{direction} of {length} bytes at offset {offset} failed: {error}")]
    Transfer {
        /// Which way.
        direction: Direction,
        /// Where in the device's memory.
        offset: u64,
        /// Bytes wanted.
        length: usize,
        /// The answer.
        error: Win32Error,
    },
    /// A request moved fewer bytes than wanted.
    #[error("{direction} at offset {offset} moved {moved} of {length} bytes")]
    Short {
        /// Which way.
        direction: Direction,
        /// Where in the device's memory.
        offset: u64,
        /// Bytes wanted.
        length: usize,
        /// Bytes moved.
        moved: usize,
    },
    /// A control request failed.
    #[error("{name} failed: {error}")]
    Control {
        /// The control code's name.
        name: &'static str,
        /// The answer.
        error: Win32Error,
    },
    /// A control request returned too little to be what it should be.
    #[error("{name} returned {length} bytes, too few")]
    ShortAnswer {
        /// The control code's name.
        name: &'static str,
        /// Bytes returned.
        length: usize,
    },
    /// A request did not end in time.
    #[error("{0}")]
    Hung(String),
    /// Requests failed that should not have; each kind has been reported.
    #[error("{failed} of {requests} requests failed")]
    RequestsFailed {
        /// Those that failed.
        failed: u64,
        /// All of them.
        requests: u64,
    },
    /// Another process of this program did not do what it was started for.
    #[error("a process of this program: {0}")]
    Process(String),
    /// What came back is not what went out.
    #[error("{0}")]
    Mismatch(String),
    /// Checks of `verify` failed; each has been reported.
    #[error("{0} of the checks failed")]
    ChecksFailed(usize),
    /// The device does not stream.
    #[error(
        "this device does not stream: only a FIFO peripheral with a channel for each direction does"
    )]
    NoStream,
    /// The system has no memory for buffers.
    #[error("no memory for a buffer of {0} bytes")]
    OutOfMemory(usize),
    /// The file to send cannot be read, or is not one to send.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The result cannot be written.
    #[error("standard output: {0}")]
    Output(#[source] io::Error),
    /// The machine could not be put together or the driver not loaded.
    #[cfg(not(windows))]
    #[error("{0}")]
    Machine(String),
}

impl Error {
    /// What makes an error of the file at `path` of one of the system.
    pub fn file(path: &Path) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::File {
            path: path.clone(),
            error,
        }
    }

    /// Whether what driver and framework have printed to the debugger may say why.
    #[cfg(not(windows))]
    pub(crate) fn has_reason_in_driver(&self) -> bool {
        matches!(
            self,
            Self::NoDevice
                | Self::Open { .. }
                | Self::Transfer { .. }
                | Self::Control { .. }
                | Self::RequestsFailed { .. }
                | Self::Hung(_)
                | Self::Machine(_)
        )
    }

    /// Whether it is a device that fails requests, or is not there any more; and nothing worse. What it reports as success
    /// must be one.
    #[must_use]
    pub fn is_of_device(&self) -> bool {
        !matches!(self, Self::Short { .. } | Self::ShortAnswer { .. })
            && matches!(
                crate::exit::code(self),
                crate::exit::REQUEST | crate::exit::NO_DEVICE
            )
    }
}
