//! What goes through a device that returns what it is given, in order: numbers, each greater than the one before.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use machine::nt_sys::{STATUS_CANCELLED, STATUS_SUCCESS};
use machine::user::{Completion, Overlapped};

use super::dice::Dice;
use super::lane::{Allowed, GUARD_LENGTH, Handle, check_guards};
use crate::account::{self, Ending};

/// Bytes of a number.
const WORD: usize = size_of::<u32>();

/// The numbers on their way.
pub struct Wire {
    /// The next one to be written.
    next: Cell<u32>,
    /// The last one that was read.
    last: Cell<u32>,
    /// None is lost on the way.
    exact: bool,
}

/// A request under way on a [`Wire`].
pub struct Pending {
    /// The request itself, for cancelling it.
    pub overlapped: Overlapped,
    range: Range<usize>,
    /// What it writes, if it does not read.
    written: Option<Vec<u8>>,
}

impl Wire {
    /// With nothing on its way.
    pub fn new(exact: bool) -> Rc<Self> {
        Rc::new(Self {
            next: Cell::new(1),
            last: Cell::new(0),
            exact,
        })
    }

    /// The same with nothing on its way, from where none is lost.
    pub fn afresh(&self) -> Self {
        Self {
            next: self.next.clone(),
            last: Cell::new(self.next.get() - 1),
            exact: true,
        }
    }

    /// Starts a read or a write of `length` bytes, a multiple of four.
    pub fn start(&self, handle: &Handle, dice: &mut Dice, reads: bool, length: usize) -> Pending {
        let begin = GUARD_LENGTH + WORD * dice.below(256) as usize;
        let range = begin..begin + length;
        let mut buffer = handle.buffer(range.end + GUARD_LENGTH);
        let (overlapped, written) = if reads {
            (handle.file.read(0, buffer, range.clone()), None)
        } else {
            for word in buffer[range.clone()].chunks_exact_mut(WORD) {
                word.copy_from_slice(&self.next.get().to_le_bytes());
                self.next.set(self.next.get() + 1);
            }
            let data = buffer[range.clone()].to_vec();
            (handle.file.write(0, buffer, range.clone()), Some(data))
        };
        Pending {
            overlapped,
            range,
            written,
        }
    }

    /// Waits for a request, those of its direction in the order in which they were started, and checks what it may have
    /// touched.
    ///
    /// # Panics
    /// It ended in a way that is not allowed, or bytes are not what they should be.
    pub fn settle(&self, pending: Pending, allowed: Allowed) {
        let Pending {
            overlapped,
            range,
            written,
        } = pending;
        let Completion {
            result,
            status,
            buffer,
        } = overlapped.wait();
        let what = if written.is_some() { "write" } else { "read" };
        let at = format!("{what} of {} bytes", range.len());
        let ending = match status {
            STATUS_SUCCESS => Ending::Succeeded,
            STATUS_CANCELLED => Ending::Cancelled,
            _ => Ending::Failed,
        };
        if ending == Ending::Succeeded {
            assert_eq!(result, Ok(range.len()), "{at}");
        } else {
            assert!(
                allowed.statuses.contains(&status),
                "{at} ended with status {status:#010x}"
            );
        }
        account::ended(ending);
        check_guards(&buffer, &range, &at);
        match written {
            Some(written) => assert!(buffer[range] == written, "{at}: its buffer has changed"),
            None if ending == Ending::Succeeded => self.check(&buffer[range], &at),
            None => {}
        }
    }

    /// The numbers that were read come after those before.
    fn check(&self, data: &[u8], at: &str) {
        for word in data.chunks_exact(WORD) {
            let number = word.try_into().map_or(0, u32::from_le_bytes);
            let last = self.last.replace(number);
            assert!(
                last < number && number < self.next.get() && (!self.exact || number == last + 1),
                "{at}: {number:#x} comes after {last:#x}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(exact: bool, numbers: &[u32]) {
        let wire = Wire {
            next: Cell::new(9),
            last: Cell::new(0),
            exact,
        };
        let data: Vec<u8> = numbers.iter().flat_map(|one| one.to_le_bytes()).collect();
        wire.check(&data, "read");
    }

    #[test]
    fn numbers_may_be_missing_if_some_are_lost() {
        check(false, &[1, 2, 5, 8]);
        check(true, &[1, 2, 3, 4]);
    }

    #[test]
    #[should_panic(expected = "0x4 comes after 0x2")]
    fn a_number_that_is_missing_is_found() {
        check(true, &[1, 2, 4]);
    }

    #[test]
    #[should_panic(expected = "0x2 comes after 0x2")]
    fn a_number_that_comes_twice_is_found() {
        check(false, &[1, 2, 2]);
    }

    #[test]
    #[should_panic(expected = "0x9 comes after 0x1")]
    fn a_number_that_nobody_wrote_is_found() {
        check(false, &[1, 9]);
    }
}
