//! What a part of the device's memory can hold, when requests may have been carried out in part or not at all.

use std::ops::Range;

use crate::place::Place;

/// What is known of one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Byte {
    /// It has this value.
    Is(u8),
    /// A write that was to change it was cancelled, or is under way.
    Either(u8, u8),
    /// Several did not, or nothing was written yet.
    Unknown,
}

impl Byte {
    fn may_be(self, value: u8) -> bool {
        match self {
            Self::Is(known) => known == value,
            Self::Either(old, new) => value == old || value == new,
            Self::Unknown => true,
        }
    }

    /// After a write of `value` that may or may not have been carried out.
    fn or(self, value: u8) -> Self {
        match self {
            known if known != Self::Unknown && known.may_be(value) => known,
            Self::Is(known) => Self::Either(known, value),
            _ => Self::Unknown,
        }
    }

    /// A value that a read of this byte cannot deliver, if there is one.
    fn foreign(self) -> u8 {
        match self {
            Self::Is(value) => !value,
            Self::Either(old, new) => {
                let mut value = !old;
                while value == old || value == new {
                    value = value.wrapping_add(1);
                }
                value
            }
            Self::Unknown => 0x99,
        }
    }
}

/// A part of the device's memory as it may be.
#[derive(Debug)]
pub struct Shadow {
    start: usize,
    bytes: Vec<Byte>,
}

impl Shadow {
    /// Nothing is known of `range`.
    #[must_use]
    pub fn unknown(range: Range<usize>) -> Self {
        Self {
            start: range.start,
            bytes: vec![Byte::Unknown; range.len()],
        }
    }

    /// The bytes it stands for.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.bytes.len()
    }

    /// A write of `data` has been started: from now on each byte may be old or new.
    pub fn write_started(&mut self, place: Place, data: &[u8]) {
        for (byte, value) in self.at(place).iter_mut().zip(data) {
            *byte = byte.or(*value);
        }
    }

    /// A write of `data` has succeeded.
    pub fn write_done(&mut self, place: Place, data: &[u8]) {
        for (byte, value) in self.at(place).iter_mut().zip(data) {
            *byte = Byte::Is(*value);
        }
    }

    /// A write failed, or was cut off by a reset: the device may have gone on without the bus, and hold anything.
    pub fn write_cut(&mut self, place: Place) {
        self.at(place).fill(Byte::Unknown);
    }

    /// Fills the buffer of a read with what the read cannot deliver, so that no byte looks read that was not.
    pub fn fill_foreign(&self, place: Place, buffer: &mut [u8]) {
        let bytes = &self.bytes[self.index(place)];
        for (byte, value) in bytes.iter().zip(buffer) {
            *value = byte.foreign();
        }
    }

    /// A read has succeeded and delivered `data`. What was uncertain of these bytes is certain now.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read_done(&mut self, place: Place, data: &[u8]) -> Result<(), String> {
        let bytes = self.at(place);
        check(bytes, data, Byte::may_be)?;
        for (byte, value) in bytes.iter_mut().zip(data) {
            *byte = Byte::Is(*value);
        }
        Ok(())
    }

    /// A read has not succeeded: each byte of `data` is what it was `before`, or has been read.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read_in_part(&self, place: Place, before: &[u8], data: &[u8]) -> Result<(), String> {
        let mut before = before.iter();
        let allowed = |byte: Byte, value| before.next() == Some(&value) || byte.may_be(value);
        check(&self.bytes[self.index(place)], data, allowed)
    }

    fn at(&mut self, place: Place) -> &mut [Byte] {
        let index = self.index(place);
        &mut self.bytes[index]
    }

    fn index(&self, place: Place) -> Range<usize> {
        place.memory().start - self.start..place.memory().end - self.start
    }
}

/// `allowed` is asked once for each byte, in their order.
fn check(
    bytes: &[Byte],
    data: &[u8],
    mut allowed: impl FnMut(Byte, u8) -> bool,
) -> Result<(), String> {
    let wrong: Vec<usize> = (0..bytes.len().max(data.len()))
        .filter(|&index| match (bytes.get(index), data.get(index)) {
            (Some(byte), Some(value)) => !allowed(*byte, *value),
            _ => true,
        })
        .collect();
    match wrong.first() {
        None => Ok(()),
        Some(&first) => Err(format!(
            "{} of {} bytes are wrong, the first at {first}: {:#04x} is not {:x?}",
            wrong.len(),
            bytes.len(),
            data[first],
            bytes[first],
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shadow(contents: &[u8]) -> Shadow {
        let mut shadow = Shadow::unknown(100..100 + contents.len());
        let whole = Place::new(100, contents.len());
        shadow.write_started(whole, contents);
        shadow.write_done(whole, contents);
        shadow
    }

    #[test]
    fn a_write_that_was_cancelled_leaves_old_or_new() {
        let whole = Place::new(100, 3);
        let mut shadow = shadow(&[1, 1, 1]);
        shadow.write_started(whole, &[2, 2, 1]);
        assert_eq!(shadow.read_done(whole, &[1, 2, 1]), Ok(()));
        // Now it is known which.
        let wrong = shadow.read_done(whole, &[2, 2, 1]).expect_err("it was 1");
        assert!(wrong.starts_with("1 of 3 bytes are wrong, the first at 0: 0x02"));
    }

    #[test]
    fn a_write_that_was_cut_off_leaves_anything() {
        let place = Place::new(101, 1);
        let mut shadow = shadow(&[1, 1, 1]);
        shadow.write_cut(place);
        assert_eq!(shadow.read_done(Place::new(100, 3), &[1, 77, 1]), Ok(()));
    }

    #[test]
    fn two_writes_that_were_cancelled_leave_nothing_to_say() {
        let place = Place::new(101, 1);
        let mut shadow = shadow(&[1, 1, 1]);
        shadow.write_started(place, &[2]);
        shadow.write_started(place, &[3]);
        assert_eq!(shadow.read_done(place, &[77]), Ok(()));
        assert!(shadow.read_done(Place::new(100, 1), &[77]).is_err());
    }

    #[test]
    fn a_read_that_failed_changed_bytes_to_what_they_should_be_only() {
        let whole = Place::new(100, 2);
        let mut shadow = shadow(&[1, 1]);
        shadow.write_started(whole, &[0xfe, 9]);
        let mut buffer = [0; 2];
        shadow.fill_foreign(whole, &mut buffer);
        assert!(shadow.read_done(whole, &buffer).is_err());
        assert_eq!(shadow.read_in_part(whole, &buffer, &buffer), Ok(()));
        assert_eq!(shadow.read_in_part(whole, &buffer, &[buffer[0], 9]), Ok(()));
        let wrong = shadow.read_in_part(whole, &buffer, &[7, buffer[1]]);
        assert!(wrong.is_err());
    }
}
