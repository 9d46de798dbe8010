//! How transfers end, and why channels stop.

/// How a transfer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TransferStatus {
    /// All bytes were moved.
    Success = 0,
    /// A bus address could not be accessed: nothing is mapped there, or bus mastering is off.
    BusError = 1,
    /// Part of a descriptor's range is beyond the card's memory. None of that descriptor was moved.
    OutOfRange = 2,
    /// Software asked for it to be given up.
    Aborted = 3,
    /// The card's memory could not be read correctly.
    DataError = 4,
    /// A descriptor has a length of zero or beyond the limit, an unknown flag, another tag than the first one of its
    /// transfer, or something in a reserved field. None of that descriptor was moved.
    InvalidDescriptor = 5,
}

impl TransferStatus {
    /// The status with this code, `None` for a code that no card sends.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Success,
            1 => Self::BusError,
            2 => Self::OutOfRange,
            3 => Self::Aborted,
            4 => Self::DataError,
            5 => Self::InvalidDescriptor,
            _ => return None,
        })
    }

    /// Its code.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// Why a channel has stopped and goes on only after it was disabled and enabled again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ChannelError {
    /// A descriptor could not be read from host memory.
    DescriptorFetch = 1,
    /// A completion could not be written to host memory.
    CompletionWrite = 2,
    /// The shadow block could not be read or written.
    Shadow = 3,
    /// The producer was moved by more than there is room in the ring, or backwards.
    Producer = 4,
    /// The producer ends within a transfer: the last descriptor has its chain flag set.
    TornTransfer = 5,
    /// The channel was enabled with a ring that is none: misaligned, or of a wrong number of entries.
    Configuration = 6,
}

impl ChannelError {
    /// The error with this code, `None` for a code that no card reports; 0 means that there is none.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::DescriptorFetch,
            2 => Self::CompletionWrite,
            3 => Self::Shadow,
            4 => Self::Producer,
            5 => Self::TornTransfer,
            6 => Self::Configuration,
            _ => return None,
        })
    }

    /// Its code, which is not 0.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_back() {
        for code in 0..=u8::MAX {
            assert!(TransferStatus::from_code(code).is_none_or(|status| status.code() == code));
            assert!(ChannelError::from_code(code).is_none_or(|error| error.code() == code));
        }
        assert_eq!(TransferStatus::from_code(6), None);
        assert_eq!(ChannelError::from_code(0), None);
    }
}
