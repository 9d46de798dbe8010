//! Sessions with an external board, written down and played back without it.
//!
//! [`RecordingBoard`] passes everything on to a board and writes down what was asked and what was answered;
//! [`ReplayBoard`] gives the answers again. With an external board time comes from [`crate::Waited`], so a machine
//! that does the same for the same answers goes the same way again, event by event; the first call that differs from
//! the record is an error that names both.
//!
//! A device of an external board writes guest RAM by itself. What a transfer has written is found by comparing the
//! memory that its [`crate::Engine`] was given with what was there when it started, after every call that is written
//! down; so it is seen at the latest with the interrupt, or the read of a register, that tells of the transfer's end.
//!
//! # Format, version 2
//!
//! Numbers are LEB128 (seven bits a byte, the lowest first, bit 7: more follow) unless said otherwise; texts and bytes
//! are their length and themselves; a function is `bus << 8 | device << 3 | function`.
//!
//! | part | contents |
//! |---|---|
//! | magic | `BUSREC`, then the version in two bytes, the lower first |
//! | memory | bytes of guest RAM; seed of its allocator; low pages that the board itself has allocated |
//! | board | start and end of the register window; the machine it is in; description; 1 and the external version, or 0 |
//! | entries | up to the end of the file |
//!
//! An entry is a byte that says what it is and its contents. A call's contents are its arguments and its answer; if
//! bit 7 of the byte is set, the answer is the text of an error instead.
//!
//! | byte | entry | arguments | answer |
//! |---|---|---|---|
//! | 1 | polls that reported nothing | how many | |
//! | 2 | memory the device wrote, before the next entry's answer | physical address, bytes | |
//! | 3 | read configuration space | function, offset, size | value |
//! | 4 | write configuration space | function, offset, size, value | |
//! | 5 | read a register | physical address, size | value |
//! | 6 | write a register | physical address, size, value | |
//! | 7 | a vector's message | vector | address, data |
//! | 8 | a pin's line | function, pin | line |
//! | 9 | poll | time | number of events; each a byte and its contents |
//! | 10 | wait | limit | 1 if there are news, else 0; elapsed time |
//!
//! Events: 1 line (line, level), 2 message (vector), 3 DMA fault (function, address, 1 for a write), 4 removed
//! (function). Times are in nanoseconds.
//!
//! Entries are written as they come, so the record of a run that ended in a bug check ends there. Polls that reported
//! nothing are counted and written before the next entry; after the last one they are not known.

mod call;
mod codec;
mod format;
mod recorder;
mod replay;

pub use format::RecordError;
pub use recorder::RecordingBoard;
pub use replay::{ReplayBoard, ReplayError, Rest};
