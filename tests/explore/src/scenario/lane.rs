//! A part of the device's memory that one thread has for itself, with what it should hold.

use std::ops::Range;
use std::rc::Rc;

use dmatest::pattern::Pattern;
use machine::nt_sys::{NTSTATUS, STATUS_CANCELLED, STATUS_SUCCESS};
use machine::user::{Completion, File, Overlapped, Process, UserBuffer};

use super::dice::Dice;
use crate::account::{self, Ending};

/// What surrounds the data of a request, before and behind.
const GUARD: u8 = 0xc7;
/// Bytes of it on each side.
pub const GUARD_LENGTH: usize = 48;

/// What bounce pages hold.
const BOUNCE_FILL: u8 = 0x0f;

/// How a request may end.
#[derive(Clone, Copy)]
pub struct Allowed {
    /// Statuses other than success.
    pub statuses: &'static [NTSTATUS],
    /// The device may be cut off from the bus during a transfer. One that reads memory then gets zeroes: edu goes on
    /// with its work.
    pub cut_off: bool,
    /// Requests are moved by way of bounce pages. The system copies them as a whole, also what the device has not written.
    pub bounced: bool,
}

impl Allowed {
    /// With success or one of these statuses.
    pub const fn with(statuses: &'static [NTSTATUS]) -> Self {
        Self {
            statuses,
            cut_off: false,
            bounced: false,
        }
    }
}

/// With success.
pub const SUCCESS_ONLY: Allowed = Allowed::with(&[]);
/// With success or cancelled.
pub const CANCELLED: Allowed = Allowed::with(&[STATUS_CANCELLED]);

/// A part of the device's memory.
pub struct Lane {
    offset: u64,
    /// What it holds, where that is certain.
    bytes: Vec<u8>,
    /// What it may hold instead, by writes that have not come to their end.
    doubts: Vec<Vec<Option<u8>>>,
    /// The device may lose power at any time, and what it holds is zero then.
    loses_power: bool,
}

/// A request under way on a [`Lane`].
pub struct Pending {
    /// The request itself, for cancelling it.
    pub overlapped: Overlapped,
    /// Its place in the lane.
    place: Range<usize>,
    /// Its place in the buffer.
    range: Range<usize>,
    /// What it writes, if it does not read.
    written: Option<Vec<u8>>,
}

/// An open device, for requests.
#[derive(Clone)]
pub struct Handle {
    /// The handle.
    pub file: Rc<File>,
    /// The process that has it.
    pub process: Rc<Process>,
}

impl Handle {
    /// Memory for a request, filled with a pattern.
    pub fn buffer(&self, length: usize) -> UserBuffer {
        let mut buffer = self.process.buffer(length).expect("memory for a request");
        buffer.fill(GUARD);
        buffer
    }
}

impl Lane {
    /// `count` lanes that share `memory` bytes, all of them zero so far, and again whenever power is lost, if it
    /// `loses_power`.
    pub fn split(memory: usize, count: usize, loses_power: bool) -> Vec<Self> {
        let length = memory / count;
        (0..count)
            .map(|index| Self {
                offset: (index * length) as u64,
                bytes: vec![0; length],
                doubts: Vec::new(),
                loses_power,
            })
            .collect()
    }

    /// Starts a read or a write somewhere in the lane.
    pub fn start(&self, handle: &Handle, dice: &mut Dice) -> Pending {
        let first = dice.below(self.bytes.len() as u64) as usize;
        let length = 1 + dice.below((self.bytes.len() - first) as u64) as usize;
        let reads = dice.below(2) == 0;
        self.request(handle, dice, first..first + length, reads)
    }

    /// Starts a read of the whole lane.
    pub fn read_all(&self, handle: &Handle, dice: &mut Dice) -> Pending {
        self.request(handle, dice, 0..self.bytes.len(), true)
    }

    fn request(
        &self,
        handle: &Handle,
        dice: &mut Dice,
        place: Range<usize>,
        reads: bool,
    ) -> Pending {
        let begin = GUARD_LENGTH + dice.below(256) as usize;
        let range = begin..begin + place.len();
        let mut buffer = handle.buffer(range.end + GUARD_LENGTH);
        let offset = self.offset + place.start as u64;
        let (overlapped, written) = if reads {
            (handle.file.read(offset, buffer, range.clone()), None)
        } else {
            Pattern::Random(dice.number()).fill(0, &mut buffer[range.clone()]);
            let data = buffer[range.clone()].to_vec();
            (handle.file.write(offset, buffer, range.clone()), Some(data))
        };
        Pending {
            overlapped,
            place,
            range,
            written,
        }
    }

    /// Waits for a request of this lane, of which there was one only, and checks all it may have touched.
    ///
    /// # Panics
    /// It ended in a way that is not allowed, or bytes are not what they should be.
    pub fn settle(&mut self, pending: Pending, allowed: Allowed) -> Ending {
        let Pending {
            overlapped,
            place,
            range,
            written,
        } = pending;
        let Completion {
            result,
            status,
            buffer,
        } = overlapped.wait();
        let ending = match status {
            STATUS_SUCCESS => Ending::Succeeded,
            STATUS_CANCELLED => Ending::Cancelled,
            _ => Ending::Failed,
        };
        let what = if written.is_some() { "write" } else { "read" };
        let at = format!(
            "{what} of {} bytes at {}",
            place.len(),
            self.offset + place.start as u64
        );
        if ending == Ending::Succeeded {
            assert_eq!(result, Ok(place.len()), "{at}");
        } else {
            assert!(
                allowed.statuses.contains(&status),
                "{at} ended with status {status:#010x}"
            );
        }
        account::ended(ending);
        check_guards(&buffer, &range, &at);
        if ending != Ending::Succeeded && written.is_some() && allowed.cut_off {
            self.doubt(place.clone(), |_| 0);
        }
        let left: &[u8] = if allowed.bounced {
            &[GUARD, BOUNCE_FILL]
        } else {
            &[GUARD]
        };
        self.check(place, &buffer[range], written.as_deref(), ending, left, &at);
        ending
    }

    /// Compares a request's data with what it may be, and takes note of what the lane holds from now on. `left` is what a
    /// read without success may find in its buffer besides.
    fn check(
        &mut self,
        place: Range<usize>,
        data: &[u8],
        written: Option<&[u8]>,
        ending: Ending,
        left: &[u8],
        at: &str,
    ) {
        match written {
            Some(written) => assert!(data == written, "{at}: its buffer has changed"),
            None => {
                let untouched = ending != Ending::Succeeded;
                for (index, &value) in place.clone().zip(data) {
                    assert!(
                        self.may_hold(index, value) || untouched && left.contains(&value),
                        "{at}, {ending:?}: byte {index} of the lane is {value:#04x} in the buffer"
                    );
                }
            }
        }
        if ending == Ending::Succeeded {
            self.bytes[place.clone()].copy_from_slice(data);
            for doubt in &mut self.doubts {
                doubt[place.clone()].fill(None);
            }
        } else if let Some(written) = written {
            self.doubt(place, |index| written[index]);
        }
    }

    /// The bytes at `place` may be `value` of their index there.
    fn doubt(&mut self, place: Range<usize>, value: impl Fn(usize) -> u8) {
        let mut doubt = vec![None; self.bytes.len()];
        for (index, byte) in doubt[place].iter_mut().enumerate() {
            *byte = Some(value(index));
        }
        self.doubts.push(doubt);
    }

    fn may_hold(&self, index: usize, value: u8) -> bool {
        self.bytes[index] == value
            || self.loses_power && value == 0
            || self.doubts.iter().any(|doubt| doubt[index] == Some(value))
    }
}

/// Checks that nothing has changed around a request's part of its buffer.
///
/// # Panics
/// If something has.
pub fn check_guards(buffer: &[u8], range: &Range<usize>, at: &str) {
    let outside = [0..range.start, range.end..buffer.len()];
    for index in outside.into_iter().flatten() {
        let value = buffer[index];
        assert!(
            value == GUARD,
            "{at}: byte {index} of its buffer, outside {range:?}, has become {value:#04x}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lane whose first four bytes were written, the second half of them in vain.
    fn lane() -> Lane {
        lane_of(false)
    }

    fn lane_of(loses_power: bool) -> Lane {
        let mut lane = Lane::split(16, 2, loses_power).remove(0);
        lane.check(
            0..4,
            &[1; 4],
            Some(&[1; 4]),
            Ending::Succeeded,
            &[],
            "write",
        );
        lane.check(
            2..4,
            &[2; 2],
            Some(&[2; 2]),
            Ending::Cancelled,
            &[],
            "write",
        );
        lane
    }

    fn read(lane: &mut Lane, data: &[u8], ending: Ending) {
        lane.check(0..data.len(), data, None, ending, &[GUARD], "read");
    }

    #[test]
    fn a_write_that_was_cancelled_may_have_been_done_in_part() {
        for data in [[1, 1, 1, 1, 0], [1, 1, 2, 1, 0], [1, 1, 2, 2, 0]] {
            read(&mut lane(), &data, Ending::Succeeded);
        }
    }

    #[test]
    #[should_panic(expected = "byte 1 of the lane")]
    fn a_byte_that_nobody_wrote_is_found() {
        read(&mut lane(), &[1, 2, 1, 1], Ending::Succeeded);
    }

    #[test]
    fn a_device_without_power_forgets() {
        read(&mut lane_of(true), &[1, 0, 0, 0], Ending::Succeeded);
    }

    #[test]
    #[should_panic(expected = "byte 1 of the lane")]
    fn a_device_without_power_makes_nothing_up() {
        read(&mut lane_of(true), &[1, 2], Ending::Succeeded);
    }

    #[test]
    #[should_panic(expected = "byte 2 of the lane")]
    fn what_was_read_once_is_certain() {
        let mut lane = lane();
        read(&mut lane, &[1, 1, 2, 1], Ending::Succeeded);
        read(&mut lane, &[1, 1, 1, 1], Ending::Succeeded);
    }

    #[test]
    fn a_read_that_was_cancelled_leaves_what_was_there() {
        read(&mut lane(), &[1, GUARD, GUARD, 2], Ending::Cancelled);
    }

    #[test]
    #[should_panic(expected = "byte 1 of the lane")]
    fn a_read_that_was_cancelled_brings_nothing_else() {
        read(&mut lane(), &[1, 7, GUARD, 2], Ending::Cancelled);
    }

    #[test]
    #[should_panic(expected = "byte 1 of the lane")]
    fn a_read_with_success_brings_all_bytes() {
        read(&mut lane(), &[1, GUARD, 1, 1], Ending::Succeeded);
    }

    #[test]
    #[should_panic(expected = "buffer has changed")]
    fn a_write_does_not_change_its_buffer() {
        lane().check(
            0..2,
            &[1, 2],
            Some(&[1, 1]),
            Ending::Succeeded,
            &[],
            "write",
        );
    }

    #[test]
    #[should_panic(expected = "byte 5 of its buffer")]
    fn a_byte_beyond_the_buffers_end_is_found() {
        check_guards(&[GUARD, 0, 0, 0, GUARD, 0], &(1..4), "read");
    }

    #[test]
    fn lanes_do_not_overlap() {
        let lanes = Lane::split(4095, 4, false);
        for pair in lanes.windows(2) {
            assert_eq!(pair[0].offset + pair[0].bytes.len() as u64, pair[1].offset);
        }
        assert!(lanes[3].offset + lanes[3].bytes.len() as u64 <= 4095);
    }
}
