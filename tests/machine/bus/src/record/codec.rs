//! Numbers and texts as bytes.

use super::format::RecordError;

/// Bytes that are written.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    pub(super) bytes: Vec<u8>,
}

impl Encoder {
    pub(super) fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    pub(super) fn number(&mut self, number: impl Into<u64>) {
        let mut rest = number.into();
        while rest >= 0x80 {
            self.byte(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.byte(rest as u8);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }
}

/// Bytes that are read.
pub(super) struct Decoder<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.offset == self.bytes.len()
    }

    /// What is wrong with what was read last.
    pub(super) fn corrupt(&self, reason: &'static str) -> RecordError {
        RecordError::Corrupt {
            offset: self.offset as u64,
            reason,
        }
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], RecordError> {
        let rest = &self.bytes[self.offset..];
        let taken = rest.get(..count).ok_or(RecordError::Truncated {
            length: self.bytes.len() as u64,
        })?;
        self.offset += count;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, RecordError> {
        Ok(self.take(1)?[0])
    }

    /// A number that fits the type.
    pub(super) fn number<T: TryFrom<u64>>(&mut self) -> Result<T, RecordError> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if part << shift >> shift != part {
                break;
            }
            number |= part << shift;
            if byte & 0x80 == 0 {
                return T::try_from(number).map_err(|_| self.corrupt("the number is too large"));
            }
        }
        Err(self.corrupt("the number is too large"))
    }

    pub(super) fn flag(&mut self) -> Result<bool, RecordError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.corrupt("this is neither 0 nor 1")),
        }
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], RecordError> {
        let length = self.number()?;
        self.take(length)
    }

    pub(super) fn text(&mut self) -> Result<String, RecordError> {
        let bytes = self.bytes()?.to_vec();
        String::from_utf8(bytes).map_err(|_| self.corrupt("this is no text"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let numbers = [0, 1, 0x7f, 0x80, 0x4000, u64::from(u32::MAX), u64::MAX];
        let mut encoder = Encoder::default();
        numbers.iter().for_each(|&number| encoder.number(number));
        let mut decoder = Decoder::new(&encoder.bytes);
        for number in numbers {
            assert_eq!(decoder.number::<u64>().unwrap(), number);
        }
        assert!(matches!(
            decoder.byte(),
            Err(RecordError::Truncated { length: 23 })
        ));
    }

    #[test]
    fn numbers_that_are_too_large_are_refused() {
        let ten = [0xff; 9].into_iter().chain([2]).collect::<Vec<u8>>();
        for (bytes, wide) in [(&ten[..], true), (&[0x80, 2], false)] {
            let mut decoder = Decoder::new(bytes);
            let error = if wide {
                decoder.number::<u64>().unwrap_err()
            } else {
                decoder.number::<u8>().unwrap_err()
            };
            assert!(matches!(error, RecordError::Corrupt { .. }), "{error}");
        }
    }
}
