//! `NTSTATUS` as a type.

use core::fmt::{self, Debug, Formatter};

/// What a kernel routine or a request ended with.
///
/// Equality is that of the code. The high bit tells errors and warnings from success and information.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct NtStatus(i32);

/// The outcome of what can fail with an [`NtStatus`]. The error is never a success code.
pub type Result<T, E = NtStatus> = core::result::Result<T, E>;

macro_rules! codes {
    ($($(#[$meta:meta])* $name:ident = $code:literal;)*) => {
        impl NtStatus {
            $($(#[$meta])* pub const $name: Self = Self($code as u32 as i32);)*
        }
    };
}

codes! {
    /// `STATUS_SUCCESS`.
    SUCCESS = 0x0000_0000;
    /// `STATUS_DEVICE_BUSY`.
    DEVICE_BUSY = 0x8000_0011;
    /// `STATUS_UNSUCCESSFUL`.
    UNSUCCESSFUL = 0xc000_0001;
    /// `STATUS_INVALID_PARAMETER`.
    INVALID_PARAMETER = 0xc000_000d;
    /// `STATUS_INVALID_DEVICE_REQUEST`: the device does not know this request.
    INVALID_DEVICE_REQUEST = 0xc000_0010;
    /// `STATUS_END_OF_FILE`.
    END_OF_FILE = 0xc000_0011;
    /// `STATUS_BUFFER_TOO_SMALL`.
    BUFFER_TOO_SMALL = 0xc000_0023;
    /// `STATUS_INSUFFICIENT_RESOURCES`.
    INSUFFICIENT_RESOURCES = 0xc000_009a;
    /// `STATUS_DEVICE_NOT_READY`.
    DEVICE_NOT_READY = 0xc000_00a3;
    /// `STATUS_IO_TIMEOUT`: the device did not finish in time.
    IO_TIMEOUT = 0xc000_00b5;
    /// `STATUS_NOT_SUPPORTED`.
    NOT_SUPPORTED = 0xc000_00bb;
    /// `STATUS_INTERNAL_ERROR`.
    INTERNAL_ERROR = 0xc000_00e5;
    /// `STATUS_CANCELLED`.
    CANCELLED = 0xc000_0120;
    /// `STATUS_DEVICE_CONFIGURATION_ERROR`: the device is not what it was taken for.
    DEVICE_CONFIGURATION_ERROR = 0xc000_0182;
    /// `STATUS_INVALID_DEVICE_STATE`.
    INVALID_DEVICE_STATE = 0xc000_0184;
    /// `STATUS_IO_DEVICE_ERROR`: the device contradicted itself.
    IO_DEVICE_ERROR = 0xc000_0185;
    /// `STATUS_INVALID_BUFFER_SIZE`.
    INVALID_BUFFER_SIZE = 0xc000_0206;
    /// `STATUS_DEVICE_REMOVED`.
    DEVICE_REMOVED = 0xc000_02b6;
}

impl NtStatus {
    /// The status with this code.
    #[must_use]
    pub const fn from_code(code: i32) -> Self {
        Self(code)
    }

    /// The code, as the framework and the kernel use it.
    #[must_use]
    pub const fn code(self) -> i32 {
        self.0
    }

    /// Whether this is a success or an informational code: the `NT_SUCCESS` macro.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.0 >= 0
    }

    /// Success as `Ok`, everything else as the error.
    ///
    /// # Errors
    ///
    /// `self`, when it is not a success code.
    pub const fn ok(self) -> Result<()> {
        if self.is_success() { Ok(()) } else { Err(self) }
    }
}

impl Debug for NtStatus {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "NtStatus({:#010x})", self.0)
    }
}

/// The status a callback returns for `outcome`.
impl From<Result<()>> for NtStatus {
    fn from(outcome: Result<()>) -> Self {
        outcome.err().unwrap_or(Self::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_and_information_are_no_errors() {
        assert_eq!(NtStatus::SUCCESS.ok(), Ok(()));
        assert_eq!(NtStatus::from_code(0x103).ok(), Ok(()));
        assert_eq!(NtStatus::from_code(0x4000_0000).ok(), Ok(()));
    }

    #[test]
    fn warnings_and_errors_are_errors() {
        let warning = NtStatus::from_code(0x8000_0005_u32 as i32);
        assert_eq!(warning.ok(), Err(warning));
        assert_eq!(
            NtStatus::END_OF_FILE.ok(),
            Err(NtStatus::from_code(-1_073_741_807))
        );
    }

    #[test]
    fn an_outcome_becomes_the_status_a_callback_returns() {
        assert_eq!(NtStatus::from(Ok(())), NtStatus::SUCCESS);
        assert_eq!(
            NtStatus::from(Err(NtStatus::DEVICE_REMOVED)),
            NtStatus::DEVICE_REMOVED
        );
    }
}
