//! A twin of QEMU's `edu` device (`hw/misc/edu.c`): the same registers, timing and silences.
//!
//! What QEMU 7.2 aborts for, a transfer that touches the last byte of the buffer or anything outside it, this aborts
//! for as well. It is held equal to QEMU's by the test `differential`.

use crate::pci::{BarKind, ConfigSpace, Header};
use crate::q35::mask;
use crate::{Device, Port};

const IDENTIFICATION: u32 = 0x0100_00ed;

/// The buffer's address in the space of a transfer's own side, and its size.
const BUFFER: u64 = 0x40000;
const BUFFER_SIZE: usize = 4096;

const STATUS_COMPUTING: u32 = 1 << 0;
const STATUS_INTERRUPT: u32 = 1 << 7;

const INTERRUPT_FACTORIAL: u32 = 1 << 0;
const INTERRUPT_DMA: u32 = 1 << 8;

const DMA_RUN: u64 = 1 << 0;
/// From the device to memory.
const DMA_TO_MEMORY: u64 = 1 << 1;
const DMA_INTERRUPT: u64 = 1 << 2;

const MILLISECOND: u64 = 1_000_000;

/// From the command to the end of a transfer, counted in whole milliseconds of the clock.
const DMA_MILLISECONDS: u64 = 100;

/// How long a factorial takes. QEMU computes it in a thread, so any time is right.
const FACTORIAL_TIME: u64 = 1000;

/// The device.
pub struct Edu {
    dma_mask: u64,
    liveness: u32,
    factorial: u32,
    status: u32,
    interrupts: u32,
    dma: Dma,
    buffer: [u8; BUFFER_SIZE],
    factorial_due: Option<u64>,
    dma_due: Option<u64>,
    pace: Pace,
}

/// How long (ns) a transfer takes, given how long QEMU's edu takes for it.
pub type Pace = fn(u64) -> u64;

#[derive(Default)]
struct Dma {
    source: u64,
    destination: u64,
    count: u64,
    command: u64,
}

impl Default for Edu {
    fn default() -> Self {
        Self::new((1 << 28) - 1)
    }
}

impl Edu {
    /// A device that puts the bits of `dma_mask` of an address on the bus.
    pub fn new(dma_mask: u64) -> Self {
        Self {
            dma_mask,
            liveness: 0,
            factorial: 0,
            status: 0,
            interrupts: 0,
            dma: Dma::default(),
            buffer: [0; BUFFER_SIZE],
            factorial_due: None,
            dma_due: None,
            pace: |usual| usual,
        }
    }

    /// Has transfers take as long as `pace` says. Asked once for each of them.
    pub fn paced(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    /// Every raise sends a message if messages are on, whatever is pending already.
    fn raise(&mut self, interrupts: u32, port: &mut dyn Port) {
        self.interrupts |= interrupts;
        if self.interrupts == 0 {
            return;
        }
        if port.messages() > 0 {
            port.send_message(0);
        } else {
            port.set_line(true);
        }
    }

    fn acknowledge(&mut self, interrupts: u32, port: &mut dyn Port) {
        self.interrupts &= !interrupts;
        if self.interrupts == 0 && port.messages() == 0 {
            port.set_line(false);
        }
    }

    fn finish_factorial(&mut self, port: &mut dyn Port) {
        self.factorial = factorial(self.factorial);
        self.status &= !STATUS_COMPUTING;
        if self.status & STATUS_INTERRUPT != 0 {
            self.raise(INTERRUPT_FACTORIAL, port);
        }
    }

    /// There is no error status: a transfer that was not made ends as one that was.
    fn finish_dma(&mut self, port: &mut dyn Port) {
        let to_memory = self.dma.command & DMA_TO_MEMORY != 0;
        let (own, bus) = if to_memory {
            (self.dma.source, self.dma.destination)
        } else {
            (self.dma.destination, self.dma.source)
        };
        let Some(range) = window(own, self.dma.count) else {
            return port.abort(format!(
                "DMA of {:#x} bytes at {own:#x} is out of bounds",
                self.dma.count
            ));
        };
        let bus = bus & self.dma_mask;
        if to_memory {
            // Lost if the bus refuses it.
            let _ = port.write_memory(bus, &self.buffer[range]);
        } else if port
            .read_memory(bus, &mut self.buffer[range.clone()])
            .is_err()
        {
            self.buffer[range].fill(0);
        }
        self.dma.command &= !DMA_RUN;
        if self.dma.command & DMA_INTERRUPT != 0 {
            self.raise(INTERRUPT_DMA, port);
        }
    }

    fn dma_register(&mut self, offset: u64) -> Option<&mut u64> {
        match offset {
            0x80 => Some(&mut self.dma.source),
            0x88 => Some(&mut self.dma.destination),
            0x90 => Some(&mut self.dma.count),
            0x98 => Some(&mut self.dma.command),
            _ => None,
        }
    }

    /// A register's whole value; all ones where there is none.
    fn register(&mut self, offset: u64) -> u64 {
        match offset {
            0x00 => IDENTIFICATION.into(),
            0x04 => self.liveness.into(),
            0x08 => self.factorial.into(),
            0x20 => self.status.into(),
            0x24 => self.interrupts.into(),
            _ => self.dma_register(offset).copied().unwrap_or(u64::MAX),
        }
    }
}

impl Device for Edu {
    fn name(&self) -> &str {
        "edu's twin"
    }

    fn config_space(&self) -> ConfigSpace {
        ConfigSpace::new(&Header {
            vendor: 0x1234,
            device: 0x11e8,
            subsystem_vendor: 0x1af4,
            subsystem: 0x1100,
            revision: 0x10,
            class: 0x00_ff00,
            pin: 1,
        })
        .with_memory_bar(0, BarKind::Memory32, 1 << 20)
        .with_msi(1)
    }

    fn read(&mut self, _: u8, offset: u64, size: u8, _: &mut dyn Port) -> u64 {
        match access(offset, size) {
            Accepted::Yes => self.register(offset) & mask(size),
            Accepted::No => mask(size),
            Accepted::NotDecoded => 0,
        }
    }

    fn write(&mut self, _: u8, offset: u64, size: u8, value: u64, port: &mut dyn Port) {
        if access(offset, size) != Accepted::Yes {
            return;
        }
        let word = value as u32;
        match offset {
            0x04 => self.liveness = !word,
            0x08 if self.status & STATUS_COMPUTING == 0 => {
                self.factorial = word;
                self.status |= STATUS_COMPUTING;
                self.factorial_due = Some(port.now() + FACTORIAL_TIME);
            }
            0x20 => self.status = self.status & !STATUS_INTERRUPT | word & STATUS_INTERRUPT,
            0x60 => self.raise(word, port),
            0x64 => self.acknowledge(word, port),
            _ => {
                let running = self.dma.command & DMA_RUN != 0;
                let starts = offset == 0x98;
                if running || starts && value & DMA_RUN == 0 {
                    return;
                }
                let Some(register) = self.dma_register(offset) else {
                    return;
                };
                *register = value & mask(size);
                if starts {
                    let due = (port.now() / MILLISECOND + DMA_MILLISECONDS) * MILLISECOND;
                    self.dma_due = Some(port.now() + (self.pace)(due - port.now()));
                }
            }
        }
    }

    fn reset(&mut self, _: &mut dyn Port) {
        *self = Self::new(self.dma_mask).paced(self.pace);
    }

    fn next_event(&self) -> Option<u64> {
        self.factorial_due.into_iter().chain(self.dma_due).min()
    }

    fn run(&mut self, port: &mut dyn Port) {
        if self
            .factorial_due
            .take_if(|due| *due <= port.now())
            .is_some()
        {
            self.finish_factorial(port);
        }
        if self.dma_due.take_if(|due| *due <= port.now()).is_some() {
            self.finish_dma(port);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Accepted {
    /// The device has a look at it.
    Yes,
    /// The device has no such register.
    No,
    /// The access does not reach the device.
    NotDecoded,
}

fn access(offset: u64, size: u8) -> Accepted {
    match size {
        4 => Accepted::Yes,
        8 if offset >= 0x80 => Accepted::Yes,
        8 => Accepted::No,
        _ => Accepted::NotDecoded,
    }
}

/// The part of the buffer that a transfer touches. As QEMU has it, the buffer's last byte is not in it.
fn window(start: u64, count: u64) -> Option<std::ops::Range<usize>> {
    let first = usize::try_from(start.checked_sub(BUFFER)?).ok()?;
    let end = first.checked_add(usize::try_from(count).ok()?)?;
    (count > 0 && end < BUFFER_SIZE).then_some(first..end)
}

/// Modulo 2^32. From 34 on there are more than 31 factors of two.
fn factorial(value: u32) -> u32 {
    if value >= 34 {
        0
    } else {
        (1..=value).fold(1, u32::wrapping_mul)
    }
}
