//! One function's configuration space.

use super::{Bar, BarKind, FunctionAddress, capability, command, offset};
use crate::{Board, BoardError, Message};

/// A function on a board.
#[derive(Clone, Copy)]
pub struct Function<'a> {
    pub(super) board: &'a dyn Board,
    address: FunctionAddress,
}

/// What a function says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
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
}

/// An entry of the capability list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// What it is: one of [`capability`], or another.
    pub id: u8,
    /// Where it is in configuration space.
    pub offset: u16,
}

/// A function's MSI capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msi {
    /// Where it is in configuration space.
    pub offset: u16,
    /// It takes addresses above 4 GiB.
    pub wide: bool,
    /// Messages the function can tell apart, a power of two up to 32.
    pub messages: u8,
}

/// In the MSI capability.
mod msi {
    pub(super) const CONTROL: u16 = 2;
    pub(super) const ADDRESS: u16 = 4;
    pub(super) const ADDRESS_HIGH: u16 = 8;
    pub(super) const DATA_NARROW: u16 = 8;
    pub(super) const DATA_WIDE: u16 = 12;

    pub(super) const ENABLE: u16 = 1 << 0;
    /// log2 of the number of messages that are enabled.
    pub(super) const ENABLED_MESSAGES: u16 = 7 << 4;
    pub(super) const WIDE: u16 = 1 << 7;
}

const STATUS_CAPABILITIES: u16 = 1 << 4;

impl<'a> Function<'a> {
    /// The function at `address`, whether it is there or not.
    pub fn new(board: &'a dyn Board, address: FunctionAddress) -> Self {
        Self { board, address }
    }

    /// Where it is.
    pub fn address(&self) -> FunctionAddress {
        self.address
    }

    /// Whether anything answers there.
    pub fn is_present(&self) -> Result<bool, BoardError> {
        Ok(self.read16(offset::VENDOR_ID)? != 0xffff)
    }

    /// Reads a byte of configuration space.
    pub fn read8(&self, offset: u16) -> Result<u8, BoardError> {
        self.board
            .config_read(self.address, offset, 1)
            .map(|value| value as u8)
    }

    /// Reads two bytes of configuration space.
    pub fn read16(&self, offset: u16) -> Result<u16, BoardError> {
        self.board
            .config_read(self.address, offset, 2)
            .map(|value| value as u16)
    }

    /// Reads four bytes of configuration space.
    pub fn read32(&self, offset: u16) -> Result<u32, BoardError> {
        self.board.config_read(self.address, offset, 4)
    }

    /// Writes a byte of configuration space.
    pub fn write8(&self, offset: u16, value: u8) -> Result<(), BoardError> {
        self.board
            .config_write(self.address, offset, 1, value.into())
    }

    /// Writes two bytes of configuration space.
    pub fn write16(&self, offset: u16, value: u16) -> Result<(), BoardError> {
        self.board
            .config_write(self.address, offset, 2, value.into())
    }

    /// Writes four bytes of configuration space.
    pub fn write32(&self, offset: u16, value: u32) -> Result<(), BoardError> {
        self.board.config_write(self.address, offset, 4, value)
    }

    /// What it says it is. The subsystem is that of an ordinary function, not of a bridge.
    pub fn identity(&self) -> Result<Identity, BoardError> {
        let revision_class = self.read32(offset::REVISION_CLASS)?;
        Ok(Identity {
            vendor: self.read16(offset::VENDOR_ID)?,
            device: self.read16(offset::DEVICE_ID)?,
            subsystem_vendor: self.read16(offset::SUBSYSTEM_VENDOR_ID)?,
            subsystem: self.read16(offset::SUBSYSTEM_ID)?,
            revision: revision_class as u8,
            class: revision_class >> 8,
        })
    }

    /// The command register: bits of [`command`].
    pub fn command(&self) -> Result<u16, BoardError> {
        self.read16(offset::COMMAND)
    }

    /// Sets and clears bits of the command register; a bit in both is set.
    pub fn change_command(&self, set: u16, clear: u16) -> Result<(), BoardError> {
        let value = self.command()?;
        self.write16(offset::COMMAND, value & !clear | set)
    }

    /// The implemented base address registers. While they are sized, the function does not decode them.
    pub fn bars(&self) -> Result<Vec<Bar>, BoardError> {
        let decoding = self.command()? & (command::IO_SPACE | command::MEMORY_SPACE);
        self.change_command(0, decoding)?;
        let bars = self.size_bars();
        self.change_command(decoding, 0)?;
        bars
    }

    fn size_bars(&self) -> Result<Vec<Bar>, BoardError> {
        let mut bars = Vec::new();
        let mut index = 0;
        while index < 6 {
            let (value, mask) = self.size_bar(index)?;
            let (kind, flags) = match value & 7 {
                io if io & 1 != 0 => (BarKind::Io, 0x3),
                memory if memory & 6 == 4 => (BarKind::Memory64, 0xf),
                _ => (BarKind::Memory32, 0xf),
            };
            let (high_value, high_mask) = match kind {
                BarKind::Memory64 => self.size_bar(index + 1)?,
                BarKind::Io | BarKind::Memory32 => (0, u32::MAX),
            };
            let mask = u64::from(high_mask) << 32 | u64::from(mask & !flags);
            if mask as u32 != 0 || kind == BarKind::Memory64 && high_mask != 0 {
                // The upper half of the mask of an I/O register need not be implemented.
                let mask = if kind == BarKind::Io {
                    mask | 0xffff_0000
                } else {
                    mask
                };
                bars.push(Bar {
                    index,
                    kind,
                    prefetchable: kind != BarKind::Io && value & 8 != 0,
                    size: mask.wrapping_neg(),
                    address: u64::from(high_value) << 32 | u64::from(value & !flags),
                });
            }
            index += if kind == BarKind::Memory64 { 2 } else { 1 };
        }
        Ok(bars)
    }

    /// The value of a register, and what reads back when all its bits are written.
    fn size_bar(&self, index: u8) -> Result<(u32, u32), BoardError> {
        let offset = bar_offset(index);
        let value = self.read32(offset)?;
        self.write32(offset, u32::MAX)?;
        let mask = self.read32(offset)?;
        self.write32(offset, value)?;
        Ok((value, mask))
    }

    /// Has a base address register decode `address`. The function must not be decoding.
    pub fn assign(&self, bar: &Bar, address: u64) -> Result<(), BoardError> {
        self.write32(bar_offset(bar.index), address as u32)?;
        match bar.kind {
            BarKind::Memory64 => self.write32(bar_offset(bar.index + 1), (address >> 32) as u32),
            BarKind::Io | BarKind::Memory32 => Ok(()),
        }
    }

    /// What a base address register decodes now.
    pub fn address_of(&self, bar: &Bar) -> Result<u64, BoardError> {
        let low = self.read32(bar_offset(bar.index))?;
        Ok(match bar.kind {
            BarKind::Io => u64::from(low & !0x3),
            BarKind::Memory32 => u64::from(low & !0xf),
            BarKind::Memory64 => {
                let high = self.read32(bar_offset(bar.index + 1))?;
                u64::from(high) << 32 | u64::from(low & !0xf)
            }
        })
    }

    /// The capability list. A list that runs in a circle ends where it began.
    pub fn capabilities(&self) -> Result<Vec<Capability>, BoardError> {
        let mut capabilities: Vec<Capability> = Vec::new();
        if self.read16(offset::STATUS)? & STATUS_CAPABILITIES == 0 {
            return Ok(capabilities);
        }
        let mut next = u16::from(self.read8(offset::CAPABILITIES)? & !3);
        while next >= 0x40
            && capabilities
                .iter()
                .all(|capability| capability.offset != next)
        {
            let header = self.read16(next)?;
            capabilities.push(Capability {
                id: header as u8,
                offset: next,
            });
            next = header >> 8 & !3;
        }
        Ok(capabilities)
    }

    /// The first capability with this ID.
    pub fn capability(&self, id: u8) -> Result<Option<Capability>, BoardError> {
        Ok(self
            .capabilities()?
            .into_iter()
            .find(|capability| capability.id == id))
    }

    /// The MSI capability, if there is one.
    pub fn msi(&self) -> Result<Option<Msi>, BoardError> {
        let Some(Capability { offset, .. }) = self.capability(capability::MSI)? else {
            return Ok(None);
        };
        let control = self.read16(offset + msi::CONTROL)?;
        Ok(Some(Msi {
            offset,
            wide: control & msi::WIDE != 0,
            messages: 1 << (control >> 1 & 7).min(5),
        }))
    }

    /// Has the function send `message` for every interrupt, and no longer assert its INTx line. A function that
    /// takes no addresses above 4 GiB gets the lower half of it.
    pub fn enable_msi(&self, msi: &Msi, message: Message) -> Result<(), BoardError> {
        self.enable_msi_messages(msi, message, 1)
    }

    /// As [`Function::enable_msi`], with `count` messages, a power of two, that differ in the last bits of their data;
    /// those of `first` are zero.
    pub fn enable_msi_messages(
        &self,
        msi: &Msi,
        first: Message,
        count: u8,
    ) -> Result<(), BoardError> {
        self.write32(msi.offset + msi::ADDRESS, first.address as u32)?;
        if msi.wide {
            self.write32(msi.offset + msi::ADDRESS_HIGH, (first.address >> 32) as u32)?;
        }
        self.write16(
            msi.offset
                + if msi.wide {
                    msi::DATA_WIDE
                } else {
                    msi::DATA_NARROW
                },
            first.data,
        )?;
        let enabled = (count.trailing_zeros() as u16) << 4;
        let control = self.read16(msi.offset + msi::CONTROL)?;
        self.write16(
            msi.offset + msi::CONTROL,
            control & !msi::ENABLED_MESSAGES | enabled | msi::ENABLE,
        )
    }

    /// The first message the function sends, and how many it sends that differ in the last bits of their data;
    /// `None` while it uses its INTx line.
    pub fn message(&self, msi: &Msi) -> Result<Option<(Message, u16)>, BoardError> {
        let control = self.read16(msi.offset + msi::CONTROL)?;
        if control & msi::ENABLE == 0 {
            return Ok(None);
        }
        let low = self.read32(msi.offset + msi::ADDRESS)?;
        let (high, data) = if msi.wide {
            (self.read32(msi.offset + msi::ADDRESS_HIGH)?, msi::DATA_WIDE)
        } else {
            (0, msi::DATA_NARROW)
        };
        let message = Message {
            address: u64::from(high) << 32 | u64::from(low),
            data: self.read16(msi.offset + data)?,
        };
        let enabled = (control & msi::ENABLED_MESSAGES) >> 4;
        Ok(Some((message, 1 << enabled.min(5))))
    }

    /// Has the function use its INTx line again.
    pub fn disable_msi(&self, msi: &Msi) -> Result<(), BoardError> {
        let control = self.read16(msi.offset + msi::CONTROL)?;
        self.write16(msi.offset + msi::CONTROL, control & !msi::ENABLE)
    }

    /// Puts the function into D3hot, or back into D0, by the control register of its power management capability. A
    /// function that comes back may have lost everything, its configuration space included.
    pub fn set_asleep(&self, power: &Capability, asleep: bool) -> Result<(), BoardError> {
        const CONTROL: u16 = 4;
        const STATE: u16 = 3;
        let control = self.read16(power.offset + CONTROL)? & !STATE;
        let state = if asleep { STATE } else { 0 };
        self.write16(power.offset + CONTROL, control | state)
    }

    /// The PCI Express capability of a function that can be reset by it.
    pub fn function_level_reset(&self) -> Result<Option<Capability>, BoardError> {
        const CAPABILITIES: u16 = 4;
        const FUNCTION_LEVEL_RESET: u32 = 1 << 28;
        let Some(express) = self.capability(capability::PCI_EXPRESS)? else {
            return Ok(None);
        };
        let can = self.read32(express.offset + CAPABILITIES)? & FUNCTION_LEVEL_RESET != 0;
        Ok(can.then_some(express))
    }

    /// Resets the function by its PCI Express capability. It loses everything, its configuration space included, and may
    /// be asked nothing for 100 ms.
    pub fn reset(&self, express: &Capability) -> Result<(), BoardError> {
        const CONTROL: u16 = 8;
        const INITIATE: u16 = 1 << 15;
        let control = self.read16(express.offset + CONTROL)?;
        self.write16(express.offset + CONTROL, control | INITIATE)
    }

    /// The interrupt pin: 1 = INTA to 4 = INTD; `None` if the function uses none.
    pub fn interrupt_pin(&self) -> Result<Option<u8>, BoardError> {
        Ok(Some(self.read8(offset::INTERRUPT_PIN)?).filter(|pin| (1..=4).contains(pin)))
    }
}

fn bar_offset(index: u8) -> u16 {
    offset::BAR0 + 4 * u16::from(index)
}
