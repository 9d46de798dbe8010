//! The FIFO peripheral: a memory-mapped device without a DMA engine of its own, for a system DMA controller to serve.
//!
//! docs/fifo.md is its manual. The device has a transmit and a receive FIFO, each with a data register and a DMA request
//! line. What leaves the transmit FIFO goes over the *line*, [`LINE_BURST`] bytes every [`LINE_PERIOD`] nanoseconds: back
//! into the receive FIFO ([`Control::LOOPBACK`]), or to a checker while a generator fills the receive FIFO
//! ([`Control::PATTERN`]).

use bitflags::bitflags;
use registers::{ReadOnly, ReadWrite, Register, Value, WriteOnly};

/// The ACPI hardware identifier.
pub const HARDWARE_ID: &str = r"ACPI\DMAC0002";

/// What [`IDENTIFICATION`] reads as: version 1 of the device, and its signature.
pub const IDENTITY: u32 = 0x0001_f1f0;

/// Bytes of the memory window.
pub const WINDOW_LENGTH: usize = 0x1000;

/// Bytes of each FIFO.
pub const DEPTH: u32 = 256;

/// Bytes that the line moves at a time.
pub const LINE_BURST: u32 = 16;

/// Reads [`IDENTITY`].
pub const IDENTIFICATION: Register<0x00, u32, ReadOnly> = Register::new();

/// What the device does.
pub const CONTROL: Register<0x08, Control, ReadWrite> = Register::new();

/// Causes of interrupt that are pending; writing ones acknowledges them.
pub const CAUSES: Register<0x10, Causes, ReadWrite> = Register::new();

/// Causes that assert the interrupt line.
pub const CAUSES_ENABLE: Register<0x14, Causes, ReadWrite> = Register::new();

/// Bytes in the transmit FIFO.
pub const TX_LEVEL: Register<0x18, u32, ReadOnly> = Register::new();

/// Bytes in the receive FIFO.
pub const RX_LEVEL: Register<0x1C, u32, ReadOnly> = Register::new();

/// The transmit FIFO asks for data while it holds at most so many bytes.
pub const TX_THRESHOLD: Register<0x20, u32, ReadWrite> = Register::new();

/// The receive FIFO offers data while it holds at least so many bytes.
pub const RX_THRESHOLD: Register<0x24, u32, ReadWrite> = Register::new();

/// Bytes still to be written to [`TX_DATA`]; the request line is asserted only while there are some.
pub const TX_COUNT: Register<0x28, u32, ReadWrite> = Register::new();

/// Bytes still to be read from [`RX_DATA`]; the request line is asserted only while there are some.
pub const RX_COUNT: Register<0x2C, u32, ReadWrite> = Register::new();

/// Nanoseconds between two bursts of the line; not zero.
pub const LINE_PERIOD: Register<0x30, u32, ReadWrite> = Register::new();

/// First value of the pattern, see [`pattern`]; writing it starts generator and checker anew.
pub const PATTERN_SEED: Register<0x34, u32, ReadWrite> = Register::new();

/// After so many more bytes, the next access to a data register is answered with a bus error; zero: never.
pub const BUS_ERROR_AFTER: Register<0x38, u32, ReadWrite> = Register::new();

/// Bytes that the checker found different from the pattern.
pub const PATTERN_ERRORS: Register<0x3C, u32, ReadOnly> = Register::new();

/// Puts as many bytes as the access is wide (1, 2, 4 or 8) into the transmit FIFO.
pub const TX_DATA: Register<0x40, u64, WriteOnly> = Register::new();

/// Takes as many bytes as the access is wide (1, 2, 4 or 8) from the receive FIFO.
pub const RX_DATA: Register<0x48, u64, ReadOnly> = Register::new();

bitflags! {
    /// What the device does: [`CONTROL`].
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Control: u32 {
        /// The transmit FIFO empties over the line.
        const TX_ENABLE = 1;
        /// The receive FIFO fills from the line.
        const RX_ENABLE = 1 << 1;
        /// The transmit FIFO drives its DMA request line.
        const TX_DMA = 1 << 2;
        /// The receive FIFO drives its DMA request line.
        const RX_DMA = 1 << 3;
        /// What is transmitted is received.
        const LOOPBACK = 1 << 4;
        /// What is received is the pattern, what is transmitted is compared with it.
        const PATTERN = 1 << 5;
        /// The line does not wait: an empty transmit FIFO is an underrun, a full receive FIFO an overrun, and the counts
        /// are not looked at.
        const STREAM = 1 << 6;
        /// Written: empties both FIFOs and clears causes, counts and errors. Reads as zero.
        const RESET = 1 << 31;
        const _ = !0;
    }
}

bitflags! {
    /// Causes of interrupt: [`CAUSES`], [`CAUSES_ENABLE`].
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Causes: u32 {
        /// [`TX_COUNT`] bytes were written, and all have left over the line.
        const TX_DONE = 1;
        /// [`RX_COUNT`] bytes were read.
        const RX_DONE = 1 << 1;
        /// The line found the transmit FIFO empty.
        const TX_UNDERRUN = 1 << 2;
        /// The line found the receive FIFO full: bytes were lost.
        const RX_OVERRUN = 1 << 3;
        /// The transmit FIFO was written while it had no room: bytes were lost.
        const TX_OVERRUN = 1 << 4;
        /// The receive FIFO was read while it had too few bytes: zeros were returned.
        const RX_UNDERRUN = 1 << 5;
        /// An access to a data register was answered with a bus error.
        const BUS_ERROR = 1 << 6;
        const _ = !0;
    }
}

/// The byte at `position` of the pattern that begins with `seed`.
#[must_use]
pub const fn pattern(seed: u32, position: u64) -> u8 {
    let value = (seed as u64).wrapping_add(position);
    (value ^ (value >> 8)) as u8
}

impl Value for Control {
    type Word = u32;

    fn from_word(word: u32) -> Self {
        Self::from_bits_retain(word)
    }

    fn into_word(self) -> u32 {
        self.bits()
    }
}

impl Value for Causes {
    type Word = u32;

    fn from_word(word: u32) -> Self {
        Self::from_bits_retain(word)
    }

    fn into_word(self) -> u32 {
        self.bits()
    }
}

/// Custom functions of the system DMA controller, for `ConfigureAdapterChannel`. The context of each is a `u32`. What is
/// set holds for the channel's transfers that are mapped from then on.
pub mod controller {
    /// Bytes that the channel moves before other channels have their turn: 1 to 256.
    pub const SET_BURST: u32 = 1;

    /// Bytes after which a looped transfer reports a period; zero: the whole transfer is one period.
    pub const SET_PERIOD: u32 = 2;
}
