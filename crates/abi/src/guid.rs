//! Identifiers.

/// A globally unique identifier, laid out as Windows' `GUID`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Guid {
    /// The first eight hexadecimal digits.
    pub data1: u32,
    /// The second group, of four.
    pub data2: u16,
    /// The third group, of four.
    pub data3: u16,
    /// The remaining sixteen digits, in the order they are written.
    pub data4: [u8; 8],
}

static_assertions::assert_eq_size!(Guid, [u8; 16]);
static_assertions::assert_eq_align!(Guid, u32);

impl Guid {
    /// The identifier whose canonical text, without the dashes, is `digits` in hexadecimal.
    #[must_use]
    pub const fn from_u128(digits: u128) -> Self {
        Self {
            data1: (digits >> 96) as u32,
            data2: (digits >> 80) as u16,
            data3: (digits >> 64) as u16,
            data4: (digits as u64).to_be_bytes(),
        }
    }

    /// The inverse of [`from_u128`](Self::from_u128).
    #[must_use]
    pub const fn to_u128(self) -> u128 {
        (self.data1 as u128) << 96
            | (self.data2 as u128) << 80
            | (self.data3 as u128) << 64
            | u64::from_be_bytes(self.data4) as u128
    }
}

/// The interface of every device the driver controls, whatever hardware is behind it:
/// `{BAE92105-CA10-4025-8C60-CF5BE8AB8AC2}`.
pub const DEVICE_INTERFACE: Guid = Guid::from_u128(0xbae92105_ca10_4025_8c60_cf5be8ab8ac2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_hold_the_groups_of_the_text() {
        assert_eq!(DEVICE_INTERFACE.data1, 0xbae9_2105);
        assert_eq!(DEVICE_INTERFACE.data2, 0xca10);
        assert_eq!(DEVICE_INTERFACE.data3, 0x4025);
        assert_eq!(
            DEVICE_INTERFACE.data4,
            [0x8c, 0x60, 0xcf, 0x5b, 0xe8, 0xab, 0x8a, 0xc2]
        );
        assert_eq!(
            DEVICE_INTERFACE.to_u128(),
            0xbae92105_ca10_4025_8c60_cf5be8ab8ac2
        );
    }
}
