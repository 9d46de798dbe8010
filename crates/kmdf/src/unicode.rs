//! Strings of the kernel: counted, in UTF-16.

/// The units of an ASCII text, for a constant of the right length.
///
/// # Panics
///
/// When `text` is not ASCII or not `LENGTH` bytes long; in a constant that is a compile error.
#[must_use]
pub const fn ascii<const LENGTH: usize>(text: &str) -> [u16; LENGTH] {
    let text = text.as_bytes();
    assert!(
        text.len() == LENGTH && text.is_ascii(),
        "ASCII of this length"
    );
    let mut units = [0; LENGTH];
    let mut index = 0;
    while index < LENGTH {
        units[index] = text[index] as u16;
        index += 1;
    }
    units
}

/// A list of strings as registry values and device properties hold them: each ends with a zero, the list with another.
#[derive(Debug, Clone, Copy)]
pub struct MultiString<'a> {
    units: &'a [u16],
}

impl<'a> MultiString<'a> {
    /// The list that `units` hold. Nothing is assumed of them: what is missing at the end is taken to be there.
    #[must_use]
    pub const fn new(units: &'a [u16]) -> Self {
        Self { units }
    }

    /// Whether one of the strings is the device identifier `text`, or `text` with further fields (`&SUBSYS_...`): of a
    /// PCI function, Windows lists the forms with a subsystem or a class as hardware identifiers, and only as compatible
    /// ones the shorter forms that an INF usually names. ASCII letters match in either case.
    #[must_use]
    pub fn identifies(self, text: &str) -> bool {
        self.units
            .split(|&unit| unit == 0)
            .take_while(|string| !string.is_empty())
            .any(|string| {
                let (head, tail) = string.split_at(text.len().min(string.len()));
                let units = head.iter().map(|&unit| u8::try_from(unit).ok());
                let is_head = units
                    .map(|unit| unit.map(|unit| unit.to_ascii_uppercase()))
                    .eq(text.bytes().map(|byte| Some(byte.to_ascii_uppercase())));
                is_head && tail.first().is_none_or(|&unit| unit == u16::from(b'&'))
            })
    }
}

/// A counted string for the framework, of static storage.
#[cfg(windows)]
#[derive(Debug, Clone, Copy)]
pub struct WideStr {
    units: &'static [u16],
}

#[cfg(windows)]
impl WideStr {
    /// The string of these units.
    ///
    /// # Panics
    ///
    /// When it is longer than a counted string can be; in a constant that is a compile error.
    #[must_use]
    pub const fn new(units: &'static [u16]) -> Self {
        assert!(
            units.len() <= u16::MAX as usize / 2,
            "a counted string has at most 65534 bytes"
        );
        Self { units }
    }

    /// As the kernel's structure.
    pub(crate) const fn counted(self) -> wdk_sys::UNICODE_STRING {
        let bytes = (self.units.len() * 2) as u16;
        wdk_sys::UNICODE_STRING {
            Length: bytes,
            MaximumLength: bytes,
            Buffer: self.units.as_ptr().cast_mut(),
        }
    }
}

/// A [`WideStr`](crate::unicode::WideStr) from an ASCII literal.
#[cfg(windows)]
#[macro_export]
macro_rules! wide {
    ($text:expr) => {{
        const TEXT: &str = $text;
        const UNITS: [u16; TEXT.len()] = $crate::unicode::ascii(TEXT);
        const WIDE: $crate::unicode::WideStr = $crate::unicode::WideStr::new(&UNITS);
        WIDE
    }};
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn list(text: &str) -> Vec<u16> {
        text.encode_utf16().collect()
    }

    #[test]
    fn an_identifier_in_a_list() {
        let units = list(
            "PCI\\VEN_1234&DEV_11E8&SUBSYS_11001AF4&REV_10\0PCI\\VEN_1234&DEV_11E8&CC_00FF\0\0",
        );
        let ids = MultiString::new(&units);
        assert!(ids.identifies("PCI\\VEN_1234&DEV_11E8"));
        assert!(ids.identifies("pci\\ven_1234&dev_11e8"));
        assert!(ids.identifies("PCI\\VEN_1234&DEV_11E8&CC_00FF"));
        assert!(!ids.identifies("PCI\\VEN_1234&DEV_11E"));
        assert!(!ids.identifies("PCI\\VEN_1234&DEV_11E80"));
        assert!(!ids.identifies("PCI\\VEN_1234&DEV_11E8&CC_00FF00"));
        assert!(!ids.identifies(""));
    }

    #[test]
    fn a_list_that_is_cut_off_or_goes_on_behind_its_end() {
        assert!(MultiString::new(&list("A\0B")).identifies("B"));
        assert!(!MultiString::new(&list("A\0\0B\0")).identifies("B"));
        assert!(!MultiString::new(&[]).identifies("A"));
    }

    #[test]
    fn letters_beyond_ascii_match_nothing() {
        assert!(!MultiString::new(&[0x141, 0]).identifies("A"));
    }

    #[test]
    fn ascii_text_as_units() {
        const UNITS: [u16; 2] = ascii("D:");
        assert_eq!(UNITS, [0x44, 0x3a]);
    }
}
