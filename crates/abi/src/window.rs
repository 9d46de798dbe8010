//! The device's memory as a file: which reads and writes are carried out, and how the others fail.
//!
//! Device memory is addressed by file offset, from 0 to [`DeviceInfo::memory_size`], exclusive. A request is carried
//! out in full or not at all:
//!
//! | request | status | Win32 error |
//! |---|---|---|
//! | of zero length, at any offset | success, 0 bytes | - |
//! | wholly inside the memory | success, all bytes | - |
//! | at a negative offset | `STATUS_INVALID_PARAMETER` | `ERROR_INVALID_PARAMETER` (87) |
//! | starting at the end of the memory or beyond | `STATUS_END_OF_FILE` | `ERROR_HANDLE_EOF` (38) |
//! | starting inside and reaching beyond the end | `STATUS_INVALID_BUFFER_SIZE` | `ERROR_INVALID_USER_BUFFER` (1784) |
//! | longer than [`DeviceInfo::maximum_request`] | `STATUS_INVALID_BUFFER_SIZE` | `ERROR_INVALID_USER_BUFFER` (1784) |
//!
//! The first line that applies counts. Reads and writes follow the same rule.
//!
//! [`DeviceInfo::memory_size`]: crate::info::DeviceInfo::memory_size
//! [`DeviceInfo::maximum_request`]: crate::info::DeviceInfo::maximum_request

use core::num::NonZeroU32;

/// Memory of a device, of so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    size: u64,
    limit: u32,
}

/// A part of a [`Window`], and never of anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    start: u32,
    length: NonZeroU32,
}

/// Why a request is not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The offset is negative.
    NegativeOffset,
    /// The request starts at the end of the memory or beyond.
    BeyondEnd,
    /// The request starts inside the memory and reaches beyond its end.
    AcrossEnd,
    /// The request is longer than one may be.
    TooLong,
}

impl Window {
    /// Memory of `size` bytes.
    #[must_use]
    pub const fn new(size: u32) -> Self {
        Self {
            size: size as u64,
            limit: size,
        }
    }

    /// Memory of `size` bytes, of which the driver reaches 4 GiB, in requests of at most `limit` bytes.
    #[must_use]
    pub const fn with_limit(size: u64, limit: u32) -> Self {
        const REACH: u64 = 1 << 32;
        let size = if size < REACH { size } else { REACH };
        let limit = if size < limit as u64 {
            size as u32
        } else {
            limit
        };
        Self { size, limit }
    }

    /// Bytes of the memory.
    #[must_use]
    pub const fn size(self) -> u64 {
        self.size
    }

    /// Bytes that a request may have at most.
    #[must_use]
    pub const fn limit(self) -> u32 {
        self.limit
    }

    /// The part of the memory that a request for `length` bytes at `offset` means; `None` if it asks for nothing.
    ///
    /// # Errors
    ///
    /// As the table of the [module](self) says.
    pub const fn span(self, offset: i64, length: usize) -> Result<Option<Span>, Refusal> {
        if length == 0 {
            return Ok(None);
        }
        if offset < 0 {
            return Err(Refusal::NegativeOffset);
        }
        if offset as u64 >= self.size {
            return Err(Refusal::BeyondEnd);
        }
        // The offset is now known to lie inside the memory, so it fits and the difference is at least 1.
        let start = offset as u32;
        if length as u64 > self.size - start as u64 {
            return Err(Refusal::AcrossEnd);
        }
        if length > self.limit as usize {
            return Err(Refusal::TooLong);
        }
        match NonZeroU32::new(length as u32) {
            Some(length) => Ok(Some(Span { start, length })),
            None => Ok(None),
        }
    }
}

impl Span {
    /// Offset of the first byte.
    #[must_use]
    pub const fn start(self) -> u32 {
        self.start
    }

    /// Number of bytes.
    #[must_use]
    pub const fn length(self) -> u32 {
        self.length.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window::new(4095);

    fn span(offset: i64, length: usize) -> Result<Option<(u32, u32)>, Refusal> {
        WINDOW
            .span(offset, length)
            .map(|span| span.map(|span| (span.start(), span.length())))
    }

    #[test]
    fn inside() {
        assert_eq!(span(0, 1), Ok(Some((0, 1))));
        assert_eq!(span(0, 4095), Ok(Some((0, 4095))));
        assert_eq!(span(4094, 1), Ok(Some((4094, 1))));
        assert_eq!(span(1, 4094), Ok(Some((1, 4094))));
    }

    #[test]
    fn nothing_is_asked_for() {
        for offset in [0, 1, 4095, -1, i64::MIN, i64::MAX] {
            assert_eq!(span(offset, 0), Ok(None));
        }
    }

    #[test]
    fn at_the_end_and_beyond() {
        assert_eq!(span(4095, 1), Err(Refusal::BeyondEnd));
        assert_eq!(span(1 << 32, 1), Err(Refusal::BeyondEnd));
        assert_eq!(span(i64::MAX, usize::MAX), Err(Refusal::BeyondEnd));
    }

    #[test]
    fn across_the_end() {
        assert_eq!(span(0, 4096), Err(Refusal::AcrossEnd));
        assert_eq!(span(4094, 2), Err(Refusal::AcrossEnd));
        assert_eq!(span(1, usize::MAX), Err(Refusal::AcrossEnd));
        // Truncated to 32 bits this length would fit.
        assert_eq!(span(0, (1 << 32) + 1), Err(Refusal::AcrossEnd));
    }

    #[test]
    fn longer_than_allowed() {
        let window = Window::with_limit(1 << 32, 1 << 30);
        let span = |offset, length| window.span(offset, length).map(|span| span.is_some());
        assert_eq!(span(3 << 30, 1 << 30), Ok(true));
        assert_eq!(span((3 << 30) + 1, 1 << 30), Err(Refusal::AcrossEnd));
        assert_eq!(span(1, (1 << 30) + 1), Err(Refusal::TooLong));
        assert_eq!(span(0, 1 << 32), Err(Refusal::TooLong));
        assert_eq!(span(1 << 32, 1), Err(Refusal::BeyondEnd));
        assert_eq!(span((1 << 32) - 1, 1), Ok(true));
        assert_eq!(Window::with_limit(u64::MAX, 7).size(), 1 << 32);
        assert_eq!(Window::with_limit(100, 1 << 30).limit(), 100);
    }

    #[test]
    fn negative() {
        assert_eq!(span(-1, 1), Err(Refusal::NegativeOffset));
        assert_eq!(span(i64::MIN, 4095), Err(Refusal::NegativeOffset));
    }

    #[test]
    fn a_span_never_leaves_the_window() {
        let window = Window::new(7);
        for offset in -2..12_i64 {
            for length in 0..12_usize {
                if let Ok(Some(span)) = window.span(offset, length) {
                    assert_eq!(i64::from(span.start()), offset);
                    assert_eq!(span.length() as usize, length);
                    assert!(u64::from(span.start()) + u64::from(span.length()) <= 7);
                }
            }
        }
    }
}
