//! Devices that no bus enumerates: firmware tables (ACPI) say which there are, where, and how they are wired.

use std::ops::Range;

use thiserror::Error;

/// What the firmware says of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformDevice {
    /// Hardware identifier, `_HID`: `ACPI\` and eight characters.
    pub hardware_id: &'static str,
    /// Unique identifier, `_UID`, among devices with this hardware identifier.
    pub uid: u32,
    /// Physical addresses of its registers. The number of bytes is a power of two.
    pub registers: Range<u64>,
    /// Its interrupt line, level-triggered.
    pub line: Option<u32>,
    /// Its connections to the system DMA controller, in the order of its manual.
    pub dma: Vec<DmaConnection>,
}

/// A device's connection to the system DMA controller, as a FixedDMA descriptor states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaConnection {
    /// The controller's channel.
    pub channel: u32,
    /// The controller's request line that the device drives.
    pub request_line: u32,
    /// Bytes of one access to the device's data register: 1, 2, 4 or 8.
    pub width: u8,
}

/// A platform device in this process.
///
/// It has no thread and reaches no memory by itself: its registers are accessed, and it is run when its time has come.
/// What it drives is looked at after each.
pub trait Peripheral: Send {
    /// Its name, for people.
    fn name(&self) -> &str;

    /// Reads `size` (1, 2, 4 or 8) bytes at a multiple of `size`, at virtual time `now` in nanoseconds.
    fn read(&mut self, offset: u64, size: u8, now: u64) -> Result<u64, BusError>;

    /// Writes `size` (1, 2, 4 or 8) bytes at a multiple of `size`, at virtual time `now` in nanoseconds.
    fn write(&mut self, offset: u64, size: u8, value: u64, now: u64) -> Result<(), BusError>;

    /// Whether it asserts its interrupt line.
    fn interrupts(&self) -> bool;

    /// Whether it asserts the request line of [`PlatformDevice::dma`] with this index.
    fn requests(&self, connection: usize) -> bool;

    /// Virtual time in nanoseconds at which it wants to be run.
    fn next_event(&self) -> Option<u64>;

    /// Runs it, at [`Peripheral::next_event`] or later.
    fn run(&mut self, now: u64);
}

/// The device answered an access with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the device answered with a bus error")]
pub struct BusError;
