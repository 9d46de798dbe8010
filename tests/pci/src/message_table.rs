//! The table of MSI-X messages.

/// The write that a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageWrite {
    /// Where to.
    pub address: u64,
    /// What.
    pub data: u32,
}

/// Bytes of an entry: address, data, and the control word whose lowest bit masks it.
const ENTRY: u64 = 16;
const CONTROL: usize = 3;
const MASKED: u32 = 1;

/// Entries and pending bits. They lie in the window of a base address register.
#[derive(Clone)]
pub struct MessageTable {
    bar: u8,
    /// Where its pending bits are; the table is at 0.
    pending_offset: u64,
    entries: Vec<[u32; 4]>,
    pending: u64,
}

impl MessageTable {
    /// The most messages that a table may have.
    pub const LARGEST: u16 = 64;

    /// A table as at power-on, at the start of a base address register's window, with its pending bits at an offset in
    /// the same. There are at most [`MessageTable::LARGEST`] messages.
    pub fn new(bar: u8, pending_offset: u64, messages: u16) -> Self {
        let mut table = Self {
            bar,
            pending_offset,
            entries: vec![[0; 4]; messages.into()],
            pending: 0,
        };
        table.reset();
        table
    }

    /// The base address register.
    pub fn bar(&self) -> u8 {
        self.bar
    }

    /// Back to power-on: all masked, none pending.
    pub fn reset(&mut self) {
        self.entries.fill([0, 0, 0, MASKED]);
        self.pending = 0;
    }

    pub(crate) fn len(&self) -> u16 {
        self.entries.len() as u16
    }

    /// Bytes of the entries.
    pub fn size(&self) -> usize {
        self.entries.len() * ENTRY as usize
    }

    /// Reads 4 or 8 bytes; what is neither an entry nor a pending bit is zero.
    pub fn read(&self, offset: u64, size: u8) -> u64 {
        let low = u64::from(self.word(offset));
        match size {
            8 => low | u64::from(self.word(offset + 4)) << 32,
            _ => low,
        }
    }

    fn word(&self, offset: u64) -> u32 {
        if let Some(entry) = self.entries.get((offset / ENTRY) as usize) {
            return entry[(offset % ENTRY / 4) as usize];
        }
        match offset.checked_sub(self.pending_offset) {
            Some(0) => self.pending as u32,
            Some(4) => (self.pending >> 32) as u32,
            _ => 0,
        }
    }

    /// Writes 4 or 8 bytes of an entry.
    pub fn write(&mut self, offset: u64, size: u8, value: u64) {
        self.write_word(offset, value as u32);
        if size == 8 {
            self.write_word(offset + 4, (value >> 32) as u32);
        }
    }

    fn write_word(&mut self, offset: u64, value: u32) {
        if let Some(entry) = self.entries.get_mut((offset / ENTRY) as usize) {
            let word = (offset % ENTRY / 4) as usize;
            entry[word] = match word {
                0 => value & !3,
                CONTROL => value & MASKED,
                _ => value,
            };
        }
    }

    /// What to write for a message; a masked one becomes pending.
    pub fn send(&mut self, number: u16, all_masked: bool) -> Option<MessageWrite> {
        let entry = self.entries.get(usize::from(number))?;
        if all_masked || entry[CONTROL] & MASKED != 0 {
            self.pending |= 1 << number;
            return None;
        }
        Some(MessageWrite {
            address: u64::from(entry[0]) | u64::from(entry[1]) << 32,
            data: entry[2],
        })
    }

    /// The messages that are pending and no longer masked.
    pub fn take_unmasked(&mut self) -> Vec<MessageWrite> {
        let waiting = std::mem::take(&mut self.pending);
        (0..self.len())
            .filter(|number| waiting >> number & 1 != 0)
            .filter_map(|number| self.send(number, false))
            .collect()
    }
}
