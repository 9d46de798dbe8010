//! Keeping an eye on a function: which registers, messages and line are its own, as configuration space has it.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::pci::{Bar, BarKind, Function, Msi, MsiX, command, offset};
use crate::{Board, BoardError, FunctionAddress, Message};

/// What is known about a function. Whoever passes on accesses to its configuration space reports the writes.
#[derive(Debug)]
pub(crate) struct Watch {
    function: FunctionAddress,
    bars: Vec<Bar>,
    command: u16,
    line: Option<u32>,
    msi: Option<Msi>,
    msi_x: Option<MsiX>,
    /// What it sends, unless it uses its line.
    messages: Option<Vec<Message>>,
    /// The messages of vectors that somebody has asked for.
    targets: BTreeMap<u8, Message>,
}

const COMMAND: Range<u16> = offset::COMMAND..offset::COMMAND + 2;
const BARS: Range<u16> = offset::BAR0..offset::BAR0 + 24;

/// Bytes of the longest MSI capability without masks.
const MSI_SIZE: u16 = 14;

/// Bytes of the head of the MSI-X capability: all of it that can be written.
const MSI_X_SIZE: u16 = 4;

impl Watch {
    /// Has a first look at a function, sizing its base address registers.
    pub(crate) fn new(board: &dyn Board, function: FunctionAddress) -> Result<Self, BoardError> {
        let mut watch = Self {
            function,
            bars: Vec::new(),
            command: 0,
            line: None,
            msi: None,
            msi_x: None,
            messages: None,
            targets: BTreeMap::new(),
        };
        let there = Function::new(board, function);
        if there.is_present()? {
            watch.bars = there.bars()?;
            watch.bars.retain(|bar| bar.kind != BarKind::Io);
            watch.command = there.command()?;
            watch.line = there.interrupt_pin()?.map(|pin| board.line(function, pin));
            watch.msi = there.msi()?;
            watch.msi_x = there.msi_x()?;
            watch.refresh_messages(&there)?;
        }
        Ok(watch)
    }

    pub(crate) fn function(&self) -> FunctionAddress {
        self.function
    }

    /// The base address register that decodes an address, and the offset in it.
    pub(crate) fn decode(&self, physical: u64) -> Option<(u8, u64)> {
        if self.command & command::MEMORY_SPACE == 0 {
            return None;
        }
        self.bars.iter().find_map(|bar| {
            let offset = physical.checked_sub(bar.address)?;
            (bar.address != 0 && offset < bar.size).then_some((bar.index, offset))
        })
    }

    /// Where a base address register's range starts.
    pub(crate) fn base(&self, index: u8) -> Option<u64> {
        let bar = self.bars.iter().find(|bar| bar.index == index)?;
        Some(bar.address)
    }

    /// Whether a register is in the table of MSI-X messages.
    pub(crate) fn has_table(&self, (bar, offset): (u8, u64)) -> bool {
        self.msi_x.is_some_and(|msi_x| {
            let start = u64::from(msi_x.table);
            msi_x.bar == bar && (start..start + msi_x.length()).contains(&offset)
        })
    }

    /// Whether the function may access memory.
    pub(crate) fn is_master(&self) -> bool {
        self.command & command::BUS_MASTER != 0
    }

    /// Whether the function uses its line: neither messages nor nothing at all.
    pub(crate) fn uses_line(&self) -> bool {
        self.messages.is_none() && self.command & command::INTX_DISABLE == 0 && self.line.is_some()
    }

    /// The function's interrupt line.
    pub(crate) fn line(&self) -> Option<u32> {
        self.line
    }

    /// Takes note of what a vector's message is.
    pub(crate) fn target(&mut self, vector: u8, message: Message) {
        self.targets.insert(vector, message);
    }

    /// Whether the function sends the message of a vector.
    pub(crate) fn sends(&self, vector: u8) -> bool {
        match (self.targets.get(&vector), &self.messages) {
            (Some(target), Some(messages)) => messages.contains(target),
            _ => false,
        }
    }

    /// The lowest vector whose message the function sends.
    pub(crate) fn vector(&self) -> Option<u8> {
        self.targets
            .keys()
            .copied()
            .find(|&vector| self.sends(vector))
    }

    /// Looks again at what a write to the function's configuration space may have changed.
    pub(crate) fn config_written(
        &mut self,
        board: &dyn Board,
        start: u16,
        size: u8,
    ) -> Result<(), BoardError> {
        let written = start..start + u16::from(size);
        let touches = |range: &Range<u16>| written.start < range.end && range.start < written.end;
        let there = Function::new(board, self.function);
        if touches(&COMMAND) {
            self.command = there.command()?;
        }
        if touches(&BARS) {
            for bar in &mut self.bars {
                bar.address = there.address_of(bar)?;
            }
        }
        let msi = self.msi.map(|msi| msi.offset..msi.offset + MSI_SIZE);
        let msi_x = self
            .msi_x
            .map(|msi_x| msi_x.offset..msi_x.offset + MSI_X_SIZE);
        if msi.iter().chain(&msi_x).any(touches) {
            self.refresh_messages(&there)?;
        }
        Ok(())
    }

    fn refresh_messages(&mut self, there: &Function<'_>) -> Result<(), BoardError> {
        self.messages = self.table(there)?;
        if let (None, Some(msi)) = (&self.messages, &self.msi) {
            let several = there.message(msi)?;
            self.messages = several.map(|(first, count)| {
                let message = |number| Message {
                    data: first.data & !(count - 1) | number,
                    ..first
                };
                (0..count).map(message).collect()
            });
        }
        Ok(())
    }

    /// What is in the table of MSI-X messages, if it is used and can be read.
    fn table(&self, there: &Function<'_>) -> Result<Option<Vec<Message>>, BoardError> {
        match &self.msi_x {
            Some(msi_x) if self.command & command::MEMORY_SPACE != 0 => {
                let window = self.base(msi_x.bar).unwrap_or_default();
                there.message_table(msi_x, window)
            }
            _ => Ok(None),
        }
    }
}
