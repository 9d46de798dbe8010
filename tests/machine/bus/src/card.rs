//! The card of this project as a device in this process.

use ::card::{
    BusError, Card, Clock, Faults, Function, HostMemory, Interrupts, Pace, REGISTERS_BAR,
    Signalling, SizeError, Timing,
};

use crate::pci::ConfigSpace;
use crate::{Device, Port, q35};

/// The device: nothing but the model behind a [`Port`].
pub struct CardDevice(Card);

impl CardDevice {
    /// A card with `memory` bytes of memory.
    ///
    /// # Errors
    /// There is no card with so much memory.
    pub fn new(memory: u64, timing: Timing) -> Result<Self, SizeError> {
        Ok(Self(Card::new(memory, timing)?))
    }

    /// As [`Card::paced`].
    pub fn paced(self, pace: Pace) -> Self {
        Self(self.0.paced(pace))
    }

    /// The handle by which the card is broken.
    pub fn faults(&self) -> Faults {
        self.0.faults()
    }
}

impl Device for CardDevice {
    fn name(&self) -> &str {
        "the card"
    }

    fn config_space(&self) -> ConfigSpace {
        ::card::config_space()
    }

    fn read(&mut self, bar: u8, offset: u64, size: u8, port: &mut dyn Port) -> u64 {
        if bar != REGISTERS_BAR {
            return q35::mask(size);
        }
        self.0.read(offset, size, &mut Bus(port))
    }

    fn write(&mut self, bar: u8, offset: u64, size: u8, value: u64, port: &mut dyn Port) {
        if bar == REGISTERS_BAR {
            self.0.write(offset, size, value, &mut Bus(port));
        }
    }

    fn configured(&mut self, config: &ConfigSpace, port: &mut dyn Port) {
        self.0.configure(Function::of(config), &mut Bus(port));
    }

    fn reset(&mut self, port: &mut dyn Port) {
        self.0.reset(&mut Bus(port));
    }

    fn next_event(&self) -> Option<u64> {
        self.0.next_event()
    }

    fn run(&mut self, port: &mut dyn Port) {
        self.0.run(&mut Bus(port));
    }
}

/// A port as the card's bus.
struct Bus<'a>(&'a mut dyn Port);

impl HostMemory for Bus<'_> {
    fn read(&mut self, address: u64, buffer: &mut [u8]) -> Result<(), BusError> {
        self.0.read_memory(address, buffer).map_err(|_| BusError)
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), BusError> {
        self.0.write_memory(address, bytes).map_err(|_| BusError)
    }

    /// By way of the word of 8 bytes that it is in, which a port reads in one access.
    fn load(&mut self, address: u64) -> Result<u32, BusError> {
        let mut word = [0; 8];
        HostMemory::read(self, address & !7, &mut word)?;
        Ok((u64::from_le_bytes(word) >> (8 * (address & 4))) as u32)
    }
}

impl Interrupts for Bus<'_> {
    fn signalling(&self) -> Signalling {
        match self.0.messages() {
            0 => Signalling::Line,
            count => Signalling::Messages(count),
        }
    }

    fn send_message(&mut self, number: u16) {
        self.0.send_message(number);
    }

    fn set_line(&mut self, asserted: bool) {
        self.0.set_line(asserted);
    }
}

impl Clock for Bus<'_> {
    fn now(&self) -> u64 {
        self.0.now()
    }
}
