//! What the card needs of the bus that it is plugged into.

use thiserror::Error;

/// Memory was not accessed: nothing answers at the address, or the card may not be a master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the bus address cannot be accessed")]
pub struct BusError;

/// The host's memory, by bus address. A range may end with the last address there is, and never goes beyond.
pub trait HostMemory {
    /// Reads memory. On an error the buffer may hold anything.
    fn read(&mut self, address: u64, buffer: &mut [u8]) -> Result<(), BusError>;

    /// Writes memory. On an error part of it may have been written. Up to 64 bytes at a multiple of 8 are seen as words
    /// of 8 bytes in the order of addresses, after everything that was accessed earlier.
    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), BusError>;

    /// Reads a word at a multiple of 4 in one access, before everything that is accessed later.
    fn load(&mut self, address: u64) -> Result<u32, BusError> {
        let mut word = [0; 4];
        self.read(address, &mut word)?;
        Ok(u32::from_le_bytes(word))
    }

    /// Writes a word at a multiple of 4 in one access, after everything that was accessed earlier.
    fn store(&mut self, address: u64, value: u32) -> Result<(), BusError> {
        self.write(address, &value.to_le_bytes())
    }
}

/// How software has set the function up to interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signalling {
    /// By its line.
    Line,
    /// By so many messages, at least one.
    Messages(u16),
}

/// The function's interrupts.
pub trait Interrupts {
    /// How they are delivered.
    fn signalling(&self) -> Signalling;

    /// Sends a message, whose number is below that of [`Signalling::Messages`].
    fn send_message(&mut self, number: u16);

    /// Asserts or releases the line.
    fn set_line(&mut self, asserted: bool);
}

/// The time that the card goes by.
pub trait Clock {
    /// Nanoseconds since some moment. Never goes back.
    fn now(&self) -> u64;
}

/// Everything the card needs.
pub trait Bus: HostMemory + Interrupts + Clock {}

impl<T: HostMemory + Interrupts + Clock + ?Sized> Bus for T {}

/// The host's memory as far as the card may access it: this is where the card itself enforces the bus master enable
/// bit.
pub(crate) struct Master<'a> {
    bus: &'a mut dyn Bus,
    enabled: bool,
}

impl<'a> Master<'a> {
    pub(crate) fn new(bus: &'a mut dyn Bus, enabled: bool) -> Self {
        Self { bus, enabled }
    }

    pub(crate) fn now(&self) -> u64 {
        self.bus.now()
    }

    fn allowed(&mut self) -> Result<&mut dyn Bus, BusError> {
        if self.enabled {
            Ok(self.bus)
        } else {
            Err(BusError)
        }
    }

    pub(crate) fn read(&mut self, address: u64, buffer: &mut [u8]) -> Result<(), BusError> {
        self.allowed()?.read(address, buffer)
    }

    pub(crate) fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), BusError> {
        self.allowed()?.write(address, bytes)
    }

    pub(crate) fn load(&mut self, address: u64) -> Result<u32, BusError> {
        self.allowed()?.load(address)
    }

    pub(crate) fn store(&mut self, address: u64, value: u32) -> Result<(), BusError> {
        self.allowed()?.store(address, value)
    }
}
