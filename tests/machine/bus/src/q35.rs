//! What the boards have in common: they are wired as QEMU's q35 machine is.

use std::ops::Range;

use crate::{BoardError, FunctionAddress};

/// Addresses for memory BARs: above RAM, and below the places that firmware and chipset like.
pub(crate) const REGISTER_WINDOW: Range<u64> = 0xc000_0000..0xe000_0000;

/// The input of the IOAPIC that a pin is wired to, as long as no firmware has changed it
/// (`hw/isa/lpc_ich9.c:ich9_cc_init`).
pub(crate) fn line(function: FunctionAddress, pin: u8) -> u32 {
    let pin = u32::from(pin.wrapping_sub(1)) % 4;
    match u32::from(function.device) {
        slot @ 0..25 => 20 + (slot + pin) % 4,
        30 => 20 + pin,
        _ => 16 + pin,
    }
}

/// Refuses an access to memory-mapped registers that no processor makes.
pub(crate) fn check_access(physical: u64, size: u8) -> Result<(), BoardError> {
    check(physical, size, 8)
}

/// Refuses an access to configuration space that is none, or outside of the 256 bytes that are reached by ports.
pub(crate) fn check_config_access(offset: u16, size: u8) -> Result<(), BoardError> {
    check_config(offset, size, 0x100)
}

/// Refuses an access to configuration space that is none, or outside of the 4096 bytes of PCI Express.
pub(crate) fn check_express_access(offset: u16, size: u8) -> Result<(), BoardError> {
    check_config(offset, size, 0x1000)
}

fn check_config(offset: u16, size: u8, length: u16) -> Result<(), BoardError> {
    if offset >= length {
        return Err(BoardError::BadAccess {
            address: offset.into(),
            size,
            largest: 4,
        });
    }
    check(offset.into(), size, 4)
}

fn check(address: u64, size: u8, largest: u8) -> Result<(), BoardError> {
    if !size.is_power_of_two() || size > largest || !address.is_multiple_of(u64::from(size)) {
        return Err(BoardError::BadAccess {
            address,
            size,
            largest,
        });
    }
    Ok(())
}

/// All bits of a value of `size` (1 to 8) bytes.
pub(crate) fn mask(size: u8) -> u64 {
    u64::MAX >> (64 - 8 * u32::from(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_ich9() {
        assert_eq!(line(FunctionAddress::new(0, 4, 0), 1), 20);
        assert_eq!(line(FunctionAddress::new(0, 5, 0), 4), 20);
        assert_eq!(line(FunctionAddress::new(0, 31, 2), 1), 16);
    }
}
