//! Devices in this process, and what they see of the bus.

use thiserror::Error;

use crate::pci::ConfigSpace;

/// A PCI function in this process.
///
/// The MSI-X table is the slot's: accesses to its window do not reach the device. Neither does anything while it is in
/// D3hot.
///
/// A device has no thread: its registers are accessed, and it is run when its time has come. Whatever stands
/// between it and the board, such as a fault that is injected, is a `Device` around it that passes a [`Port`] of
/// its own on.
pub trait Device: Send {
    /// Its name, for people.
    fn name(&self) -> &str;

    /// Its configuration space at power-on.
    fn config_space(&self) -> ConfigSpace;

    /// Reads `size` (1, 2, 4 or 8) bytes at a multiple of `size` in a base address register's range.
    fn read(&mut self, bar: u8, offset: u64, size: u8, port: &mut dyn Port) -> u64;

    /// Writes `size` (1, 2, 4 or 8) bytes at a multiple of `size` in a base address register's range.
    fn write(&mut self, bar: u8, offset: u64, size: u8, value: u64, port: &mut dyn Port);

    /// Software has written its configuration space, which now is as given.
    fn configured(&mut self, _config: &ConfigSpace, _port: &mut dyn Port) {}

    /// It is reset: by a function-level reset, because it comes out of D3hot, or because it has lost power.
    fn reset(&mut self, _port: &mut dyn Port) {}

    /// Virtual time in nanoseconds at which it wants to be run.
    fn next_event(&self) -> Option<u64>;

    /// Runs it, at [`Device::next_event`].
    fn run(&mut self, port: &mut dyn Port);
}

/// A device's connection to the bus.
pub trait Port {
    /// Virtual time in nanoseconds.
    fn now(&self) -> u64;

    /// Reads memory at a logical address. On an error the buffer is as it was.
    fn read_memory(&mut self, logical: u64, buffer: &mut [u8]) -> Result<(), DmaError>;

    /// Writes memory at a logical address; all of it or nothing.
    fn write_memory(&mut self, logical: u64, bytes: &[u8]) -> Result<(), DmaError>;

    /// How many messages software has turned on; none while the function is to use its line.
    fn messages(&self) -> u16;

    /// Sends the function's message with this number, which goes nowhere if bus mastering is off.
    fn send_message(&mut self, number: u16);

    /// Asserts or releases the function's INTx line.
    fn set_line(&mut self, asserted: bool);

    /// The device was made to do what its real counterpart ends its program for.
    fn abort(&mut self, reason: String);
}

/// Why memory was not accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DmaError {
    /// Bus mastering is off in the function's command register.
    #[error("bus mastering is off")]
    NotMaster,
    /// No live mapping allows it. The board reports this itself.
    #[error("no live mapping allows the access")]
    Fault,
}
