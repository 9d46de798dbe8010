//! The configuration space of a function in this process.

use super::{Bar, BarKind, capability, command, offset};
use crate::Message;

const SIZE: usize = 0x100;

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

/// 256 bytes of configuration space with a type 0 header, as software reads and writes them.
#[derive(Clone)]
pub struct ConfigSpace {
    bytes: [u8; SIZE],
    /// The bits that software can change.
    writable: [u8; SIZE],
    bars: Vec<(u8, BarKind, u64)>,
    /// Where the MSI capability is.
    msi: Option<u16>,
    /// Where the next capability goes.
    free: u16,
    /// The capability added last, whose successor is the next one.
    last_pointer: u16,
}

impl ConfigSpace {
    /// A header with no base address registers and no capabilities.
    pub fn new(header: &Header) -> Self {
        let mut space = Self {
            bytes: [0; SIZE],
            writable: [0; SIZE],
            bars: Vec::new(),
            msi: None,
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
        space.writable[HEADER_SIZE..].fill(0xff);
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

    /// Reads `size` (1, 2 or 4) bytes at a multiple of `size`.
    pub fn read(&self, offset: u16, size: u8) -> u32 {
        let start = usize::from(offset);
        let mut value = [0; 4];
        value[..usize::from(size)].copy_from_slice(&self.bytes[start..start + usize::from(size)]);
        u32::from_le_bytes(value)
    }

    /// Writes `size` (1, 2 or 4) bytes at a multiple of `size`, as far as software can change them.
    pub fn write(&mut self, offset: u16, size: u8, value: u32) {
        let start = usize::from(offset);
        for (index, new) in (start..).zip(value.to_le_bytes()).take(size.into()) {
            let writable = self.writable[index];
            self.bytes[index] = self.bytes[index] & !writable | new & writable;
            if let Some(errors) = index
                .checked_sub(offset::STATUS.into())
                .and_then(|i| STATUS_ERRORS.to_le_bytes().get(i).copied())
            {
                self.bytes[index] &= !(new & errors);
            }
        }
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

    /// What the function sends for message `number`, if its MSI capability is on.
    pub fn message(&self, number: u8) -> Option<Message> {
        let start = self.msi?;
        let control = self.get16(start + 2);
        if control & MSI_ENABLE == 0 {
            return None;
        }
        let address = u64::from(self.get32(start + 4)) | u64::from(self.get32(start + 8)) << 32;
        let enabled = 1u16 << ((control & MSI_MESSAGES) >> 4).min(control >> 1 & 7);
        let data = self.get16(start + 12) & !(enabled - 1) | u16::from(number) & (enabled - 1);
        Some(Message { address, data })
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
        self.free = (start + length).next_multiple_of(4);
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

fn bar(index: u8) -> u16 {
    offset::BAR0 + 4 * u16::from(index)
}
