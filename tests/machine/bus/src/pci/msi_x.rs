//! The MSI-X capability: a table of messages, each with a mask, in the window of a base address register.

use super::{Capability, Function, capability};
use crate::{BoardError, Message};

/// A function's MSI-X capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsiX {
    /// Where it is in configuration space.
    pub offset: u16,
    /// Entries of the table, 1 to 2048.
    pub entries: u16,
    /// The base address register in whose window the table is.
    pub bar: u8,
    /// Where in that window, in bytes.
    pub table: u32,
}

const CONTROL: u16 = 2;
const TABLE: u16 = 4;

const ENABLE: u16 = 1 << 15;
/// All messages are masked, whatever their entries say.
const FUNCTION_MASK: u16 = 1 << 14;
const LAST_ENTRY: u16 = 0x7ff;

/// Bytes of an entry: address, data, and the word whose lowest bit masks it.
const ENTRY: u64 = 16;
const MASKED: u64 = 1;

impl MsiX {
    /// Bytes of the table.
    pub fn length(&self) -> u64 {
        ENTRY * u64::from(self.entries)
    }
}

impl Function<'_> {
    /// The MSI-X capability, if there is one.
    pub fn msi_x(&self) -> Result<Option<MsiX>, BoardError> {
        let Some(Capability { offset, .. }) = self.capability(capability::MSI_X)? else {
            return Ok(None);
        };
        let table = self.read32(offset + TABLE)?;
        Ok(Some(MsiX {
            offset,
            entries: (self.read16(offset + CONTROL)? & LAST_ENTRY) + 1,
            bar: table as u8 & 7,
            table: table & !7,
        }))
    }

    /// Has entry `n` of the table be message `n`, and the entries for which there is none message 0, all of them unmasked;
    /// has the function use them and no longer its INTx line. The function must decode its memory; `window` is what the
    /// base address register of the table decodes.
    pub fn enable_msi_x(
        &self,
        msi_x: &MsiX,
        window: u64,
        messages: &[Message],
    ) -> Result<(), BoardError> {
        let Some(&first) = messages.first() else {
            return self.disable_msi_x(msi_x);
        };
        self.set_msi_x(msi_x, ENABLE | FUNCTION_MASK)?;
        for entry in 0..msi_x.entries {
            let message = messages.get(usize::from(entry)).copied().unwrap_or(first);
            let at = window + u64::from(msi_x.table) + ENTRY * u64::from(entry);
            self.board.write(at + 12, 4, MASKED)?;
            self.board.write(at, 4, message.address & 0xffff_ffff)?;
            self.board.write(at + 4, 4, message.address >> 32)?;
            self.board.write(at + 8, 4, message.data.into())?;
            self.board.write(at + 12, 4, 0)?;
        }
        self.set_msi_x(msi_x, ENABLE)
    }

    /// Has the function no longer use the table.
    pub fn disable_msi_x(&self, msi_x: &MsiX) -> Result<(), BoardError> {
        self.set_msi_x(msi_x, 0)
    }

    fn set_msi_x(&self, msi_x: &MsiX, bits: u16) -> Result<(), BoardError> {
        let control = self.read16(msi_x.offset + CONTROL)?;
        let control = control & !(ENABLE | FUNCTION_MASK) | bits;
        self.write16(msi_x.offset + CONTROL, control)
    }

    /// The messages in the table; `None` while it is not used.
    pub fn message_table(
        &self,
        msi_x: &MsiX,
        window: u64,
    ) -> Result<Option<Vec<Message>>, BoardError> {
        if self.read16(msi_x.offset + CONTROL)? & ENABLE == 0 {
            return Ok(None);
        }
        let entry = |entry| {
            let at = window + u64::from(msi_x.table) + ENTRY * u64::from(entry);
            let address = self.board.read(at, 4)? | self.board.read(at + 4, 4)? << 32;
            let data = self.board.read(at + 8, 4)? as u16;
            Ok(Message { address, data })
        };
        (0..msi_x.entries)
            .map(entry)
            .collect::<Result<_, _>>()
            .map(Some)
    }
}
