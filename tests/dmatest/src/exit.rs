//! Exit codes.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done; for `copy`, `stream`, `demo`, `verify` and `stress`: and every byte came back as it went out |
//! | 1 | data differs, a check failed, or a request did not end |
//! | 2 | the command line is wrong |
//! | 3 | no device, or the device has not started |
//! | 4 | access denied: the device is for administrators and the system |
//! | 5 | a request failed that should not have; 0 with `--expect-failures` |
//! | 6 | the surroundings failed: the file, memory, the machine |
//! | 86 | the machine stopped with a bug check (not on Windows) |
//! | 87 | the machine stopped for a reason Windows does not have (not on Windows) |

use crate::error::{Error, Win32Error};

/// Data differs, or a check failed.
pub const DIFFERENT: u8 = 1;
/// No device.
pub const NO_DEVICE: u8 = 3;
/// Access denied.
pub const DENIED: u8 = 4;
/// A request failed.
pub const REQUEST: u8 = 5;
/// The surroundings failed.
pub const SURROUNDINGS: u8 = 6;

/// The exit code for `error`.
#[must_use]
pub fn code(error: &Error) -> u8 {
    match error {
        Error::Mismatch(_) | Error::Hung(_) | Error::ChecksFailed(_) => DIFFERENT,
        Error::NoDevice => NO_DEVICE,
        Error::Open { error, .. } if *error == Win32Error::ACCESS_DENIED => DENIED,
        Error::Open { .. } => NO_DEVICE,
        Error::Transfer { .. }
        | Error::Short { .. }
        | Error::Control { .. }
        | Error::RequestsFailed { .. }
        | Error::NoStream
        | Error::ShortAnswer { .. } => REQUEST,
        Error::OutOfMemory(_) | Error::Process(_) | Error::File { .. } | Error::Output(_) => {
            SURROUNDINGS
        }
        #[cfg(not(windows))]
        Error::Machine(_) => SURROUNDINGS,
    }
}
