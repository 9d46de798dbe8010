//! What can be wrong with the fake.

use crate::error::Win32Error;

/// How a faulty device is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The byte at this place of the memory is written wrong.
    FlipBit { at: usize },
    /// Reads report success and move nothing.
    ReadNothing,
    /// Writes put one byte more than they should.
    OneMore,
    /// Reads put one byte more into the buffer than they should.
    ReadOneMore,
    /// Requests beyond the end are cut short instead of refused.
    Truncate,
    /// The offset's upper half is ignored.
    WrapOffset,
    /// Requests are carried out in the reverse order, two by two.
    Reorder,
    /// Every request fails.
    Fail(Win32Error),
    /// Every tenth request fails.
    FailSome(Win32Error),
    /// A request never ends: the first that comes to the hardware of those from this number on.
    Lose(u64),
    /// Requests from this number on end when they are cancelled only.
    Stall(u64),
    /// A cancelled request reports success with the bytes it has moved.
    CancelledShort,
    /// A cancelled read goes on moving bytes, beyond the end of its part of the buffer.
    CancelledSpills,
    /// A cancelled write leaves something else in the memory than what was there or what was written.
    CancelledScribbles,
    /// A cancelled read leaves something else in the buffer.
    CancelledReadsWrong,
    /// CancelIoEx for a handle reaches the requests of others.
    CancelsOthers,
    /// Closing one of two handles cancels the requests of both.
    CloseOfDuplicateCancels,
    /// Requests that are cancelled in the driver are counted nowhere.
    CancelUncounted,
    /// Requests that are cancelled are counted as completed.
    CancelCountedAsDone,
    /// A mode is taken and not remembered.
    ModeForgotten,
    /// Anything is taken for a mode.
    ModeUnchecked,
    /// With map registers reserved, a write leaves the last byte wrong.
    ReservedMovesLess,
    /// There are no modes.
    NoModes,
    /// Once a process has ended with requests under way, nothing ends any more.
    AbandonedForGood,
}
