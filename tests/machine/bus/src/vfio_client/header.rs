//! The first bytes of a function's configuration space, as the server last had them, and what follows from them.

use vfio_user::Client;

use crate::pci::{MessageTable, MessageWrite, capability, command, offset};

/// How a function interrupts now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signalling {
    /// By its line.
    Line,
    /// By as many messages.
    Msi { count: u16 },
    /// By the messages of its table.
    MsiX { count: u16, masked: bool },
}

/// The bytes.
pub(super) struct Header {
    bytes: [u8; Self::SIZE],
    /// What each base address register decodes, 0 if nothing.
    sizes: [u64; 6],
}

const MSI_ENABLE: u16 = 1 << 0;
const MSI_WIDE: u16 = 1 << 7;
const MSI_X_ENABLE: u16 = 1 << 15;
const MSI_X_MASK: u16 = 1 << 14;
const MSI_X_SIZE: u16 = 0x7ff;

impl Header {
    /// Bytes of it.
    pub(super) const SIZE: usize = 0x100;

    /// Not read yet, but with the sizes of the windows, which never change.
    pub(super) fn of(client: &Client) -> Self {
        let sizes = [0, 1, 2, 3, 4, 5].map(|bar| client.region(bar).map_or(0, |r| r.size));
        Self {
            bytes: [0; Self::SIZE],
            sizes,
        }
    }

    pub(super) fn update(&mut self, bytes: [u8; Self::SIZE]) {
        self.bytes = bytes;
    }

    fn get16(&self, at: u16) -> u16 {
        u16::from_le_bytes([0, 1].map(|byte| self.byte(at + byte)))
    }

    fn get32(&self, at: u16) -> u32 {
        u32::from_le_bytes([0, 1, 2, 3].map(|byte| self.byte(at + byte)))
    }

    fn byte(&self, at: u16) -> u8 {
        self.bytes.get(usize::from(at)).copied().unwrap_or(0xff)
    }

    pub(super) fn command(&self) -> u16 {
        self.get16(offset::COMMAND)
    }

    /// The interrupt pin.
    pub(super) fn pin(&self) -> u8 {
        self.byte(offset::INTERRUPT_PIN)
    }

    /// Where a capability is. A list that does not end has none after its length.
    fn capability(&self, id: u8) -> Option<u16> {
        let next = |at: &u16| Some(u16::from(self.byte(at + 1) & !3)).filter(|at| *at >= 0x40);
        let first = u16::from(self.byte(offset::CAPABILITIES) & !3);
        std::iter::successors(Some(first).filter(|at| *at >= 0x40), next)
            .take(Self::SIZE / 4)
            .find(|&at| self.byte(at) == id)
    }

    fn is_asleep(&self) -> bool {
        let power = self.capability(capability::POWER_MANAGEMENT);
        power.is_some_and(|at| self.get16(at + 4) & 3 != 0)
    }

    /// The base address register that decodes an address, and the offset in it.
    pub(super) fn decode(&self, physical: u64) -> Option<(u8, u64)> {
        if self.command() & command::MEMORY_SPACE == 0 || self.is_asleep() {
            return None;
        }
        (0_u8..).zip(self.sizes).find_map(|(index, size)| {
            let at = offset::BAR0 + 4 * u16::from(index);
            let low = self.get32(at);
            let high = if low & 6 == 4 { self.get32(at + 4) } else { 0 };
            let address = u64::from(high) << 32 | u64::from(low & !0xf);
            let offset = physical.checked_sub(address).filter(|it| *it < size)?;
            (address != 0 && low & 1 == 0).then_some((index, offset))
        })
    }

    pub(super) fn signalling(&self) -> Signalling {
        if let Some(at) = self.capability(capability::MSI_X) {
            let control = self.get16(at + 2);
            if control & MSI_X_ENABLE != 0 {
                return Signalling::MsiX {
                    count: (control & MSI_X_SIZE) + 1,
                    masked: control & MSI_X_MASK != 0,
                };
            }
        }
        match self.capability(capability::MSI) {
            Some(at) if self.get16(at + 2) & MSI_ENABLE != 0 => {
                let control = self.get16(at + 2);
                let enabled = (control >> 4 & 7).min(control >> 1 & 7);
                Signalling::Msi {
                    count: 1 << enabled.min(5),
                }
            }
            _ => Signalling::Line,
        }
    }

    /// What to write for a message of MSI; `None` if MSI is off.
    pub(super) fn msi_message(&self, number: u16) -> Option<MessageWrite> {
        let Signalling::Msi { count } = self.signalling() else {
            return None;
        };
        let at = self.capability(capability::MSI)?;
        let wide = self.get16(at + 2) & MSI_WIDE != 0;
        let high = if wide { self.get32(at + 8) } else { 0 };
        let data = self.get16(at + if wide { 12 } else { 8 });
        let data = data & !(count - 1) | number & (count - 1);
        Some(MessageWrite {
            address: u64::from(high) << 32 | u64::from(self.get32(at + 4)),
            data: data.into(),
        })
    }

    /// An empty MSI-X table, if the function has one.
    ///
    /// # Errors
    /// It is not at the start of a window that it has for itself and its pending bits, or larger than we keep.
    pub(super) fn table(&self) -> Result<Option<MessageTable>, &'static str> {
        let Some(at) = self.capability(capability::MSI_X) else {
            return Ok(None);
        };
        let count = (self.get16(at + 2) & MSI_X_SIZE) + 1;
        let (table, pending) = (self.get32(at + 4), self.get32(at + 8));
        if table & !7 != 0 || pending & 7 != table & 7 {
            return Err("its MSI-X table has no window of its own");
        }
        if count > MessageTable::LARGEST {
            return Err("its MSI-X table has too many messages");
        }
        let pending = u64::from(pending & !7);
        Ok(Some(MessageTable::new((table & 7) as u8, pending, count)))
    }
}
