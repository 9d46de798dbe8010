//! The registers of the PCI Express and the power management capability.

/// Bytes of the PCI Express capability, version 2.
pub(crate) const LENGTH: u16 = 0x3c;

/// What an endpoint's capability holds at power-on: offset and 32 bits.
pub(crate) const VALUES: [(u16, u32); 6] = [
    // Version 2, endpoint. The identifier and the link to the next capability stay.
    (0x00, 0x0002 << 16),
    // Payloads of 256 bytes, extended tags, role-based error reporting, function-level reset.
    (0x04, 1 << 28 | 1 << 15 | 1 << 5 | 1),
    // Four lanes of 8 GT/s.
    (0x0c, 0x43),
    (0x10, 0x43 << 16),
    // 2.5, 5 and 8 GT/s.
    (0x2c, 0xe),
    (0x30, 0x3),
];

/// Bits that software can change: offset and 16 bits.
pub(crate) const WRITABLE: [(u16, u16); 4] = [
    (DEVICE_CONTROL, 0x7fff),
    (0x10, 0x01fb),
    (0x28, 0x041f),
    (0x30, 0xffff),
];

/// What the Device Control register holds at power-on: relaxed ordering, no snoop, reads of 512 bytes.
pub(crate) const DEVICE_CONTROL_VALUE: u16 = 0x2810;

/// The Device Control register.
pub(crate) const DEVICE_CONTROL: u16 = 0x08;

/// In Device Control: written, resets the function.
pub(crate) const FUNCTION_LEVEL_RESET: u16 = 1 << 15;

/// Bytes of the power management capability.
pub(crate) const POWER_LENGTH: u16 = 8;

/// Its Power Management Capabilities register: version 3, neither D1 nor D2 nor power management events.
pub(crate) const POWER_CAPABILITIES: u16 = 3;

/// Its control and status register.
pub(crate) const POWER_CONTROL: u16 = 4;

/// In it: the power state.
pub(crate) const POWER_STATE: u16 = 3;
