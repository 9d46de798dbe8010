//! NTSTATUS to Win32 errors, as RtlNtStatusToDosError maps them.

use nt_sys::*;

/// A Win32 error code, as `GetLastError` returns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("Win32 error {0}")]
pub struct Win32Error(pub u32);

impl Win32Error {
    /// ERROR_FILE_NOT_FOUND.
    pub const FILE_NOT_FOUND: Self = Self(2);
    /// ERROR_ACCESS_DENIED.
    pub const ACCESS_DENIED: Self = Self(5);
    /// ERROR_INVALID_HANDLE.
    pub const INVALID_HANDLE: Self = Self(6);
    /// ERROR_MR_MID_NOT_FOUND: what a status without a mapping becomes.
    pub const MR_MID_NOT_FOUND: Self = Self(317);
    /// ERROR_OPERATION_ABORTED.
    pub const OPERATION_ABORTED: Self = Self(995);
    /// ERROR_IO_INCOMPLETE.
    pub const IO_INCOMPLETE: Self = Self(996);
    /// ERROR_NOT_FOUND.
    pub const NOT_FOUND: Self = Self(1168);

    /// The error that user mode sees for a status that is not a success.
    #[must_use]
    pub fn from_status(status: NTSTATUS) -> Self {
        Self(match status {
            STATUS_BUFFER_OVERFLOW => 234,
            STATUS_DEVICE_BUSY => 170,
            STATUS_NO_MORE_FILES => 18,
            STATUS_UNSUCCESSFUL => 31,
            STATUS_NOT_IMPLEMENTED | STATUS_INVALID_DEVICE_REQUEST => 1,
            STATUS_INFO_LENGTH_MISMATCH => 24,
            STATUS_ACCESS_VIOLATION => 998,
            STATUS_INVALID_HANDLE => 6,
            STATUS_INVALID_PARAMETER
            | STATUS_INVALID_PARAMETER_1
            | STATUS_INVALID_PARAMETER_2
            | STATUS_INVALID_PARAMETER_3
            | STATUS_INVALID_PARAMETER_4 => 87,
            STATUS_NO_SUCH_DEVICE | STATUS_NO_SUCH_FILE | STATUS_OBJECT_NAME_NOT_FOUND => 2,
            STATUS_OBJECT_PATH_NOT_FOUND => 3,
            STATUS_END_OF_FILE => 38,
            STATUS_NO_MEMORY => 8,
            STATUS_ACCESS_DENIED | STATUS_DELETE_PENDING => 5,
            STATUS_BUFFER_TOO_SMALL => 122,
            STATUS_DATA_ERROR | STATUS_CRC_ERROR | STATUS_DEVICE_DATA_ERROR => 23,
            STATUS_SHARING_VIOLATION => 32,
            STATUS_INSUFFICIENT_RESOURCES => 1450,
            STATUS_DEVICE_NOT_CONNECTED => 1167,
            STATUS_DEVICE_POWER_FAILURE | STATUS_DEVICE_NOT_READY => 21,
            STATUS_IO_TIMEOUT => 121,
            STATUS_NOT_SUPPORTED => 50,
            STATUS_DEVICE_DOES_NOT_EXIST => 55,
            STATUS_ADAPTER_HARDWARE_ERROR => 57,
            STATUS_INTERNAL_ERROR => 1359,
            STATUS_INVALID_USER_BUFFER | STATUS_INVALID_BUFFER_SIZE => 1784,
            STATUS_CANCELLED => 995,
            STATUS_INVALID_DEVICE_STATE => 22,
            STATUS_IO_DEVICE_ERROR | STATUS_DEVICE_PROTOCOL_ERROR => 1117,
            STATUS_NOT_FOUND => 1168,
            STATUS_DEVICE_REMOVED => 1617,
            _ => return Self::MR_MID_NOT_FOUND,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_answers_of_the_driver() {
        let map = |status| Win32Error::from_status(status).0;
        assert_eq!(map(STATUS_END_OF_FILE), 38);
        assert_eq!(map(STATUS_INVALID_BUFFER_SIZE), 1784);
        assert_eq!(map(STATUS_INVALID_PARAMETER), 87);
        assert_eq!(map(STATUS_INVALID_DEVICE_REQUEST), 1);
        assert_eq!(map(0xC000_FFFF_u32 as NTSTATUS), 317);
    }
}
