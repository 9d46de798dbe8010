//! What a DMA engine looks like from outside: what those who watch a device have to know about it.

use crate::BoardError;

/// A DMA engine that makes one transfer at a time, told in registers of one base address register's range.
///
/// A write to the command register that sets [`Engine::run`] starts a transfer; the bit reads as set until it has
/// ended, and as long as it is set the engine's registers do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Engine {
    /// The base address register.
    pub bar: u8,
    /// Bytes of each register.
    pub width: u8,
    /// Offset of the register with the address that is read from.
    pub source: u64,
    /// Offset of the register with the address that is written to.
    pub destination: u64,
    /// Offset of the register with the number of bytes.
    pub count: u64,
    /// Offset of the command register.
    pub command: u64,
    /// In the command register: start, and running.
    pub run: u64,
    /// In the command register: the destination is memory. Otherwise the source is.
    pub to_memory: u64,
    /// The bits of a memory address that are put on the bus.
    pub address_mask: u64,
}

/// A transfer as its registers describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The register that holds the address in memory.
    pub address_register: u64,
    /// What that register holds.
    pub address: u64,
    /// Bytes.
    pub count: u64,
    /// The device writes memory.
    pub to_memory: bool,
}

impl Engine {
    /// QEMU's `edu` and its twin.
    pub const EDU: Self = Self {
        bar: 0,
        width: 8,
        source: 0x80,
        destination: 0x88,
        count: 0x90,
        command: 0x98,
        run: 1 << 0,
        to_memory: 1 << 1,
        address_mask: (1 << 28) - 1,
    };

    /// Whether this is a write to the command register that asks for a transfer.
    pub fn starts(&self, bar: u8, offset: u64, value: u64) -> bool {
        (bar, offset) == (self.bar, self.command) && value & self.run != 0
    }

    /// Whether an offset is the start of one of the engine's registers.
    pub fn has(&self, bar: u8, offset: u64) -> bool {
        bar == self.bar
            && [self.source, self.destination, self.count, self.command].contains(&offset)
    }

    /// The transfer that `command` would start, from what the other registers hold.
    pub fn transfer(
        &self,
        command: u64,
        mut read: impl FnMut(u64) -> Result<u64, BoardError>,
    ) -> Result<Transfer, BoardError> {
        let to_memory = command & self.to_memory != 0;
        let address_register = if to_memory {
            self.destination
        } else {
            self.source
        };
        Ok(Transfer {
            address_register,
            address: read(address_register)?,
            count: read(self.count)?,
            to_memory,
        })
    }
}
