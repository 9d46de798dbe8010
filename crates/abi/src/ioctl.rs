//! The device's control codes.

/// How the caller's buffers reach the driver: the low two bits of a control code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Copied through a system buffer.
    Buffered = 0,
    /// The second buffer is locked and read by the driver.
    InDirect = 1,
    /// The second buffer is locked and written by the driver.
    OutDirect = 2,
    /// User addresses are handed over as they are.
    Neither = 3,
}

/// The access a handle must have been opened with for the I/O manager to let a control code pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Any handle will do.
    Any = 0,
    /// `FILE_READ_DATA`.
    Read = 1,
    /// `FILE_WRITE_DATA`.
    Write = 2,
    /// Both.
    ReadWrite = 3,
}

/// `FILE_DEVICE_UNKNOWN`, the device type of the driver's devices.
pub const DEVICE_TYPE: u16 = 0x22;

/// The `CTL_CODE` macro of the Windows headers. Functions from 0x800 on are free for vendors' use.
///
/// # Panics
///
/// When `function` does not fit in its 12 bits; in a constant that is a compile error.
#[must_use]
pub const fn ctl_code(device_type: u16, function: u16, method: Method, access: Access) -> u32 {
    assert!(function < 0x1000, "a function number has 12 bits");
    (device_type as u32) << 16 | (access as u32) << 14 | (function as u32) << 2 | method as u32
}

/// Returns a [`DeviceInfo`](crate::info::DeviceInfo). No input.
pub const GET_INFO: u32 = ctl_code(DEVICE_TYPE, 0x800, Method::Buffered, Access::Read);

/// Returns a [`Statistics`](crate::statistics::Statistics). No input.
pub const GET_STATISTICS: u32 = ctl_code(DEVICE_TYPE, 0x801, Method::Buffered, Access::Read);

/// Stops the engine and starts afresh. Neither input nor output. Needs access for writing.
///
/// A transfer under way is cut off from the bus, and its request ends with `STATUS_CANCELLED`; what it has moved is
/// unspecified. Requests that still wait are carried out afterwards. A [stream](crate::stream) ends. Ends with success when the engine is idle and can
/// be used again, and with an error if it cannot be brought to that: the device has failed then.
pub const RESET: u32 = ctl_code(DEVICE_TYPE, 0x802, Method::Buffered, Access::Write);

/// Sets how a card gathers completions into interrupts. Input: a count of completions and a time in microseconds, 16 bits
/// each, as [`register::Moderation`](crate::card::register::Moderation) describes them; no output. Needs access for
/// writing. A device without moderation refuses it. Both 0, as it is by default: the driver finds out what is best.
///
/// It counts at once, and until the device is removed.
pub const SET_MODERATION: u32 = ctl_code(DEVICE_TYPE, 0x810, Method::Buffered, Access::Write);

/// Sets how requests get their map registers. Input: a [`ModeChange`](crate::mode::ModeChange); no output. Needs access
/// for writing. Answered with `STATUS_INVALID_DEVICE_REQUEST` by a device whose transfers are lists: the framework reserves
/// for packets and for system mode only.
///
/// It waits until the requests under way have ended, those that come meanwhile wait, and all that wait are carried out in
/// the new mode. It lasts until the device is stopped or removed; sleep does not change it. Ends with
///
/// - `STATUS_INVALID_PARAMETER` for a mode that there is not, or more map registers than a transfer can need;
/// - `STATUS_NOT_SUPPORTED` for a reservation of a controller's channel that serves both directions: who has it for one
///   would keep the other out; `STATUS_INVALID_DEVICE_STATE` for one while a [stream](crate::stream) has the channels;
/// - `STATUS_DEVICE_BUSY` if a request is still under way two seconds after the time limit of a transfer: nothing has
///   changed;
/// - `STATUS_INSUFFICIENT_RESOURCES` ([`IMMEDIATE`](crate::mode::DmaMode::IMMEDIATE)) or, after the time limit of a
///   transfer, `STATUS_IO_TIMEOUT`, if others have the map registers or the channels: the mode is the default one then.
pub const SET_DMA_MODE: u32 = ctl_code(DEVICE_TYPE, 0x811, Method::Buffered, Access::Write);

/// Returns a [`ModeState`](crate::mode::ModeState). No input. Refused as [`SET_DMA_MODE`] is.
pub const GET_DMA_MODE: u32 = ctl_code(DEVICE_TYPE, 0x812, Method::Buffered, Access::Read);

/// Starts a [stream](crate::stream). Input: the nanoseconds between two bursts of the line, a 32-bit number.
pub const STREAM_START: u32 = ctl_code(DEVICE_TYPE, 0x820, Method::Buffered, Access::ReadWrite);

/// Waits for the next period of a stream. Input: the bytes of a period to be played. Output: a
/// [`StreamState`](crate::stream::StreamState), and the bytes of the period that was received.
pub const STREAM_EXCHANGE: u32 = ctl_code(DEVICE_TYPE, 0x821, Method::Buffered, Access::ReadWrite);

/// Returns a [`StreamState`](crate::stream::StreamState). No input.
pub const STREAM_POSITION: u32 = ctl_code(DEVICE_TYPE, 0x822, Method::Buffered, Access::Read);

/// Ends a stream, if there is one. Neither input nor output.
pub const STREAM_STOP: u32 = ctl_code(DEVICE_TYPE, 0x823, Method::Buffered, Access::ReadWrite);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_windows_macro() {
        // IOCTL_DISK_GET_DRIVE_GEOMETRY and FSCTL_LOCK_VOLUME as the public headers have them.
        assert_eq!(ctl_code(7, 0, Method::Buffered, Access::Any), 0x0007_0000);
        assert_eq!(ctl_code(9, 6, Method::Buffered, Access::Any), 0x0009_0018);
        assert_eq!(
            ctl_code(0x22, 0x801, Method::OutDirect, Access::ReadWrite),
            0x0022_e006
        );
    }

    #[test]
    fn the_codes_differ() {
        assert_eq!(GET_INFO, 0x0022_6000);
        assert_eq!(GET_STATISTICS, 0x0022_6004);
        assert_eq!(RESET, 0x0022_a008);
        assert_eq!(SET_MODERATION, 0x0022_a040);
        assert_eq!(SET_DMA_MODE, 0x0022_a044);
        assert_eq!(GET_DMA_MODE, 0x0022_6048);
        assert_eq!(STREAM_START, 0x0022_e080);
        assert_eq!(STREAM_STOP, 0x0022_e08c);
    }
}
