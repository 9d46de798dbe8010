//! Configuration space as software reads and writes it.

use crate::message_table::{MessageTable, MessageWrite};
use crate::{Bar, BarKind, capability, command, express, offset};

/// Bytes of a conventional function's configuration space.
const CONVENTIONAL: usize = 0x100;

/// Bytes of a PCI Express function's configuration space.
const EXPRESS: usize = 0x1000;

/// Where software's own bytes and capabilities start.
const HEADER_SIZE: usize = 0x40;

const STATUS_INTERRUPT: u16 = 1 << 3;
const STATUS_CAPABILITIES: u16 = 1 << 4;
/// Errors, which writing ones clears.
const STATUS_ERRORS: u16 = 0xf900;
const COMMAND_SERR: u16 = 1 << 8;

/// What a function says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Subsystem vendor ID.
    pub subsystem_vendor: u16,
    /// Subsystem ID.
    pub subsystem: u16,
    /// Revision ID.
    pub revision: u8,
    /// Base class, subclass and programming interface: `0xbbsspp`.
    pub class: u32,
    /// Interrupt pin: 0 = none, 1 = INTA to 4 = INTD.
    pub pin: u8,
}

/// Configuration space with a type 0 header, as software reads and writes it.
#[derive(Clone)]
pub struct ConfigSpace {
    bytes: Vec<u8>,
    /// As they were at power-on.
    initial: Vec<u8>,
    /// The bits that software can change.
    writable: Vec<u8>,
    bars: Vec<(u8, BarKind, u64)>,
    /// Where the MSI capability is.
    msi: Option<u16>,
    /// Where the MSI-X capability is.
    msi_x: Option<(u16, MessageTable)>,
    /// Where the PCI Express capability is.
    express: Option<u16>,
    /// Where the power management capability is.
    power: Option<u16>,
    /// Where the next capability goes.
    free: u16,
    /// The capability added last, whose successor is the next one.
    last_pointer: u16,
}

impl ConfigSpace {
    /// A conventional function of 256 bytes, with no base address registers and no capabilities. Bytes after the header
    /// are software's own.
    pub fn new(header: &Header) -> Self {
        let mut space = Self::with_size(header, CONVENTIONAL);
        space.writable[HEADER_SIZE..].fill(0xff);
        space
    }

    /// An endpoint of PCI Express with 4096 bytes, a capability that says so, and function-level reset.
    pub fn express(header: &Header) -> Self {
        Self::with_size(header, EXPRESS)
    }

    fn with_size(header: &Header, size: usize) -> Self {
        let mut space = Self {
            bytes: vec![0; size],
            initial: Vec::new(),
            writable: vec![0; size],
            bars: Vec::new(),
            msi: None,
            msi_x: None,
            express: None,
            power: None,
            free: HEADER_SIZE as u16,
            last_pointer: offset::CAPABILITIES,
        };
        space.set16(offset::VENDOR_ID, header.vendor);
        space.set16(offset::DEVICE_ID, header.device);
        space.set32(
            offset::REVISION_CLASS,
            header.class << 8 | u32::from(header.revision),
        );
        space.set16(offset::SUBSYSTEM_VENDOR_ID, header.subsystem_vendor);
        space.set16(offset::SUBSYSTEM_ID, header.subsystem);
        space.bytes[usize::from(offset::INTERRUPT_PIN)] = header.pin;
        let commands = command::IO_SPACE
            | command::MEMORY_SPACE
            | command::BUS_MASTER
            | command::INTX_DISABLE
            | COMMAND_SERR;
        space.allow(offset::COMMAND, &commands.to_le_bytes());
        space.allow(offset::CACHE_LINE_SIZE, &[0xff]);
        space.allow(offset::INTERRUPT_LINE, &[0xff]);
        space
    }

    /// Adds a memory base address register of `size` bytes, a power of two of at least 16.
    pub fn with_memory_bar(mut self, index: u8, kind: BarKind, size: u64) -> Self {
        assert!(size.is_power_of_two() && size >= 16 && kind != BarKind::Io);
        let wide = kind == BarKind::Memory64;
        let mask = size.wrapping_neg();
        self.allow(bar(index), &(mask as u32).to_le_bytes());
        if wide {
            self.set32(bar(index), 4);
            self.allow(bar(index + 1), &((mask >> 32) as u32).to_le_bytes());
        }
        self.bars.push((index, kind, size));
        self
    }

    /// Adds an MSI capability for `messages` messages, a power of two up to 32, with 64-bit addresses.
    pub fn with_msi(mut self, messages: u8) -> Self {
        let start = self.add_capability(capability::MSI, 14);
        self.set16(start + 2, MSI_WIDE | (messages.ilog2() as u16) << 1);
        self.allow(start + 2, &(MSI_ENABLE | MSI_MESSAGES).to_le_bytes());
        self.allow(start + 4, &0xffff_fffcu32.to_le_bytes());
        self.allow(start + 8, &u32::MAX.to_le_bytes());
        self.allow(start + 12, &u16::MAX.to_le_bytes());
        self.msi = Some(start);
        self
    }

    /// Adds an MSI-X capability for `messages` messages, at most 64, whose table is at the start of a base address
    /// register's window.
    pub fn with_msi_x(mut self, messages: u16, bar: u8, pending_offset: u64) -> Self {
        assert!(
            (1..=MessageTable::LARGEST).contains(&messages)
                && pending_offset >= 16 * u64::from(messages)
        );
        let start = self.add_capability(capability::MSI_X, 12);
        self.set16(start + 2, messages - 1);
        self.allow(start + 2, &(MSI_X_ENABLE | MSI_X_MASK).to_le_bytes());
        self.set32(start + 4, bar.into());
        self.set32(start + 8, pending_offset as u32 | u32::from(bar));
        self.msi_x = Some((start, MessageTable::new(bar, pending_offset, messages)));
        self
    }

    /// Adds a power management capability: D0, and D3hot in which nothing is kept.
    pub fn with_power_management(mut self) -> Self {
        let start = self.add_capability(capability::POWER_MANAGEMENT, express::POWER_LENGTH);
        self.set16(start + 2, express::POWER_CAPABILITIES);
        self.allow(
            start + express::POWER_CONTROL,
            &express::POWER_STATE.to_le_bytes(),
        );
        self.power = Some(start);
        self
    }

    /// Adds the PCI Express capability of an endpoint with function-level reset.
    pub fn with_endpoint(mut self) -> Self {
        let start = self.add_capability(capability::PCI_EXPRESS, express::LENGTH);
        for (offset, value) in express::VALUES {
            let link = self.get32(start + offset);
            self.set32(start + offset, link | value);
        }
        self.set16(
            start + express::DEVICE_CONTROL,
            express::DEVICE_CONTROL_VALUE,
        );
        for (offset, bits) in express::WRITABLE {
            self.allow(start + offset, &bits.to_le_bytes());
        }
        self.express = Some(start);
        self
    }

    /// Bytes there are: 256 or 4096.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Reads `size` (1, 2 or 4) bytes at a multiple of `size`. What is beyond the end reads as all ones.
    pub fn read(&self, offset: u16, size: u8) -> u32 {
        let start = usize::from(offset);
        let mut value = [0; 4];
        let value_bytes = &mut value[..usize::from(size)];
        match self.bytes.get(start..start + usize::from(size)) {
            Some(bytes) => value_bytes.copy_from_slice(bytes),
            None => value_bytes.fill(0xff),
        }
        u32::from_le_bytes(value)
    }

    /// Writes `size` (1, 2 or 4) bytes at a multiple of `size`, as far as software can change them. Returns whether that
    /// has reset the function; its configuration space is then as at power-on.
    #[must_use = "the function may have been reset"]
    pub fn write(&mut self, offset: u16, size: u8, value: u32) -> bool {
        if self.initial.is_empty() {
            self.initial = self.bytes.clone();
        }
        let slept = self.is_asleep();
        let start = usize::from(offset);
        for (index, new) in (start..self.bytes.len())
            .zip(value.to_le_bytes())
            .take(size.into())
        {
            let writable = self.writable[index];
            self.bytes[index] = self.bytes[index] & !writable | new & writable;
            if let Some(errors) = index
                .checked_sub(offset::STATUS.into())
                .and_then(|i| STATUS_ERRORS.to_le_bytes().get(i).copied())
            {
                self.bytes[index] &= !(new & errors);
            }
        }
        self.settle_power(slept);
        let reset = self.asks_for_reset(offset, size, value) || slept && !self.is_asleep();
        if reset {
            self.reset();
        }
        reset
    }

    /// Makes everything as it was at power-on.
    pub fn reset(&mut self) {
        if !self.initial.is_empty() {
            self.bytes.clone_from(&self.initial);
        }
        if let Some((_, table)) = &mut self.msi_x {
            table.reset();
        }
    }

    /// Whether a write sets the bit that resets the function.
    fn asks_for_reset(&self, offset: u16, size: u8, value: u32) -> bool {
        let Some(express) = self.express else {
            return false;
        };
        // The bit is the highest of the register's second byte.
        let byte = express + express::DEVICE_CONTROL + 1;
        let bit = (express::FUNCTION_LEVEL_RESET >> 8) as u8;
        byte.checked_sub(offset)
            .filter(|index| *index < u16::from(size))
            .is_some_and(|index| value.to_le_bytes()[usize::from(index)] & bit != 0)
    }

    /// A state that there is not is not entered.
    fn settle_power(&mut self, slept: bool) {
        if let Some(power) = self.power {
            let control = self.get16(power + express::POWER_CONTROL);
            if matches!(control & express::POWER_STATE, 1 | 2) {
                let state = if slept { express::POWER_STATE } else { 0 };
                let control = control & !express::POWER_STATE | state;
                self.set16(power + express::POWER_CONTROL, control);
            }
        }
    }

    /// Whether the function is in D3hot: it answers here only, accesses no memory and does not interrupt.
    pub fn is_asleep(&self) -> bool {
        self.power.is_some_and(|power| {
            self.get16(power + express::POWER_CONTROL) & express::POWER_STATE != 0
        })
    }

    /// Whether the function may access memory and send messages.
    pub fn is_master(&self) -> bool {
        self.command() & command::BUS_MASTER != 0 && !self.is_asleep()
    }

    /// The command register: bits of [`command`].
    pub fn command(&self) -> u16 {
        self.get16(offset::COMMAND)
    }

    /// The interrupt pin, 0 = none.
    pub fn pin(&self) -> u8 {
        self.bytes[usize::from(offset::INTERRUPT_PIN)]
    }

    /// Shows in the status register whether the function asks for an interrupt by its line.
    pub fn set_interrupt_status(&mut self, pending: bool) {
        let status = self.get16(offset::STATUS);
        self.set16(
            offset::STATUS,
            if pending {
                status | STATUS_INTERRUPT
            } else {
                status & !STATUS_INTERRUPT
            },
        );
    }

    /// The memory base address registers as they are set.
    pub fn memory_bars(&self) -> impl Iterator<Item = Bar> {
        self.bars.iter().map(|&(index, kind, size)| {
            let high = match kind {
                BarKind::Memory64 => u64::from(self.get32(bar(index + 1))) << 32,
                BarKind::Io | BarKind::Memory32 => 0,
            };
            let address = high | u64::from(self.get32(bar(index)) & !0xf);
            Bar {
                index,
                kind,
                prefetchable: false,
                size,
                address,
            }
        })
    }

    /// How many messages the function may send; none while it uses its line.
    pub fn messages(&self) -> u16 {
        if let Some((start, table)) = &self.msi_x
            && self.get16(start + 2) & MSI_X_ENABLE != 0
        {
            return table.len();
        }
        self.msi_messages()
    }

    /// How many messages were enabled in the MSI capability.
    fn msi_messages(&self) -> u16 {
        let control = self.msi.map_or(0, |start| self.get16(start + 2));
        if control & MSI_ENABLE == 0 {
            return 0;
        }
        1 << ((control & MSI_MESSAGES) >> 4).min(control >> 1 & 7)
    }

    /// What to write for message `number`; `None` if there is none now. A message that is masked is kept until
    /// [`ConfigSpace::take_unmasked`].
    pub fn send(&mut self, number: u16) -> Option<MessageWrite> {
        if let Some((start, table)) = &mut self.msi_x {
            let control = read16(&self.bytes, *start + 2);
            if control & MSI_X_ENABLE != 0 {
                return table.send(number, control & MSI_X_MASK != 0);
            }
        }
        let enabled = self.msi_messages();
        let start = self.msi.filter(|_| enabled > 0)?;
        let address = u64::from(self.get32(start + 4)) | u64::from(self.get32(start + 8)) << 32;
        let data = self.get16(start + 12) & !(enabled - 1) | number & (enabled - 1);
        Some(MessageWrite {
            address,
            data: data.into(),
        })
    }

    /// Messages that were kept and are no longer masked: to be written now.
    pub fn take_unmasked(&mut self) -> Vec<MessageWrite> {
        match &mut self.msi_x {
            Some((start, table))
                if read16(&self.bytes, *start + 2) & (MSI_X_ENABLE | MSI_X_MASK)
                    == MSI_X_ENABLE =>
            {
                table.take_unmasked()
            }
            _ => Vec::new(),
        }
    }

    /// Whether a base address register's window is that of the MSI-X table.
    pub fn has_table(&self, bar: u8) -> bool {
        self.msi_x
            .as_ref()
            .is_some_and(|(_, table)| table.bar() == bar)
    }

    /// Reads the window of the MSI-X table.
    pub fn read_table(&self, offset: u64, size: u8) -> u64 {
        let table = self.msi_x.as_ref().map(|(_, table)| table);
        table.map_or(u64::MAX, |table| table.read(offset, size))
    }

    /// Writes the window of the MSI-X table; accesses are of 4 or 8 bytes.
    pub fn write_table(&mut self, offset: u64, size: u8, value: u64) {
        if let Some((_, table)) = self.msi_x.as_mut().filter(|_| size >= 4) {
            table.write(offset, size, value);
        }
    }

    fn add_capability(&mut self, id: u8, length: u16) -> u16 {
        let start = self.free;
        self.bytes[usize::from(self.last_pointer)] = start as u8;
        self.bytes[usize::from(start)] = id;
        let range = usize::from(start)..usize::from(start + length);
        self.writable[range].fill(0);
        self.set16(
            offset::STATUS,
            self.get16(offset::STATUS) | STATUS_CAPABILITIES,
        );
        self.last_pointer = start + 1;
        self.free = (start + length).next_multiple_of(16);
        start
    }

    fn allow(&mut self, offset: u16, bits: &[u8]) {
        self.writable[usize::from(offset)..][..bits.len()].copy_from_slice(bits);
    }

    fn get16(&self, offset: u16) -> u16 {
        self.read(offset, 2) as u16
    }

    fn get32(&self, offset: u16) -> u32 {
        self.read(offset, 4)
    }

    fn set16(&mut self, offset: u16, value: u16) {
        self.bytes[usize::from(offset)..][..2].copy_from_slice(&value.to_le_bytes());
    }

    fn set32(&mut self, offset: u16, value: u32) {
        self.bytes[usize::from(offset)..][..4].copy_from_slice(&value.to_le_bytes());
    }
}

const MSI_ENABLE: u16 = 1 << 0;
const MSI_MESSAGES: u16 = 7 << 4;
const MSI_WIDE: u16 = 1 << 7;

const MSI_X_ENABLE: u16 = 1 << 15;
const MSI_X_MASK: u16 = 1 << 14;

fn read16(bytes: &[u8], offset: u16) -> u16 {
    let start = usize::from(offset);
    u16::from_le_bytes([bytes[start], bytes[start + 1]])
}

fn bar(index: u8) -> u16 {
    offset::BAR0 + 4 * u16::from(index)
}

#[cfg(test)]
mod tests;
