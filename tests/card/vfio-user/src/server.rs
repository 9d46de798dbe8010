//! The socket's side and the card's side, and what they share.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use abi::card::{MSIX_LENGTH, REGISTERS_LENGTH};
use card::{
    BusError, Card, Clock, Faults, Function, HostMemory, MSIX_BAR, REGISTERS_BAR, Signalling,
    SizeError, Timing,
};
use pci_config::ConfigSpace;
use thiserror::Error;
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_INFO_AUTOMASKED, VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_MASKABLE,
    VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS,
    VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE, vfio_region_info,
};
use vfio_user::{DmaMapFlags, DmaUnmapFlags, IrqInfo, ServerBackend, ServerRegion};

use crate::interrupts::{self, Interrupts};
use crate::memory::GuestMemory;

/// The regions of the card's windows: vfio numbers them as base address registers.
const REGISTERS: u32 = REGISTERS_BAR as u32;
const TABLE: u32 = MSIX_BAR as u32;

/// Why the card is not served.
#[derive(Debug, Error)]
pub enum ServeError {
    /// There is no card with as much memory as was asked for.
    #[error(transparent)]
    Size(#[from] SizeError),
    /// The socket cannot be had, or the client's messages are none.
    #[error(transparent)]
    Protocol(#[from] vfio_user::Error),
    /// The card's thread cannot be started.
    #[error("cannot start the card's thread")]
    Thread(#[source] io::Error),
}

/// A card that waits for a client at a socket.
pub struct Server {
    socket: vfio_user::Server,
    shared: Arc<Shared>,
}

impl Server {
    /// As fast as it goes, and a busy client need ring no doorbell.
    pub const TIMING: Timing = Timing {
        linger: 50_000,
        ..Timing::IMMEDIATE
    };

    /// Makes a card with `memory` bytes of memory, and a socket at `path`, where nothing may be.
    ///
    /// # Errors
    /// There is no such card, or no socket can be made there.
    pub fn new(path: &Path, memory: u64, timing: Timing) -> Result<Self, ServeError> {
        let state = State {
            card: Card::new(memory, timing)?,
            config: card::config_space(),
            host: Host {
                memory: GuestMemory::default(),
                interrupts: Interrupts::default(),
                started: Instant::now(),
            },
        };
        Ok(Self {
            socket: vfio_user::Server::new(path, true, irqs(), regions())?,
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                work: Condvar::new(),
                waiting: AtomicU32::new(0),
                ends: AtomicBool::new(false),
            }),
        })
    }

    /// How the card is broken.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.shared.lock().card.faults()
    }

    /// Serves one client until it closes its connection. The card's memory is kept for the next one.
    ///
    /// # Errors
    /// The client sent what is no message.
    pub fn serve(&self) -> Result<(), ServeError> {
        self.shared.ends.store(false, Ordering::Release);
        let card = Arc::clone(&self.shared);
        let thread = thread::Builder::new()
            .name("card".to_owned())
            .spawn(move || card.run())
            .map_err(ServeError::Thread)?;
        let served = self.socket.run(&mut Backend(Arc::clone(&self.shared)));
        self.shared.ends.store(true, Ordering::Release);
        self.shared.access(State::disconnect);
        // A card that panicked has said so.
        let _ = thread.join();
        Ok(served?)
    }
}

struct Shared {
    state: Mutex<State>,
    /// Notified when the card may have something to do.
    work: Condvar,
    /// Threads that want the state. The card's, which takes it again and again, lets them go first.
    waiting: AtomicU32,
    ends: AtomicBool,
}

struct State {
    card: Card,
    config: ConfigSpace,
    host: Host,
}

/// What the card sees of the client.
struct Host {
    memory: GuestMemory,
    interrupts: Interrupts,
    started: Instant,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn access<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let mut state = self.lock();
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let result = f(&mut state);
        drop(state);
        self.work.notify_one();
        result
    }

    /// The card's thread.
    fn run(&self) {
        const LONG: Duration = Duration::from_secs(1);

        let mut state = self.lock();
        while !self.ends.load(Ordering::Acquire) {
            let now = state.host.now();
            let idle = match state.card.next_event() {
                Some(at) if at <= now => {
                    let State { card, host, .. } = &mut *state;
                    card.run(host);
                    Duration::ZERO
                }
                Some(at) => Duration::from_nanos(at - now),
                None => LONG,
            };
            if self.waiting.load(Ordering::Relaxed) > 0 {
                drop(state);
                thread::yield_now();
                state = self.lock();
            } else if !idle.is_zero() {
                let waited = self.work.wait_timeout(state, idle);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

impl State {
    fn disconnect(&mut self) {
        self.reset();
        self.host.memory.clear();
        self.host.interrupts.clear();
    }

    fn reset(&mut self) {
        self.config.reset();
        self.card.reset(&mut self.host);
        self.configure();
    }

    fn configure(&mut self) {
        self.card
            .configure(Function::of(&self.config), &mut self.host);
    }

    fn read(&mut self, region: u32, offset: u64, size: u8) -> u64 {
        match region {
            VFIO_PCI_CONFIG_REGION_INDEX => match u16::try_from(offset) {
                Ok(offset) if size <= 4 => self.config.read(offset, size).into(),
                _ => u64::MAX,
            },
            REGISTERS => self.card.read(offset, size, &mut self.host),
            TABLE => self.config.read_table(offset, size),
            _ => u64::MAX,
        }
    }

    fn write(&mut self, region: u32, offset: u64, size: u8, value: u64) {
        match region {
            VFIO_PCI_CONFIG_REGION_INDEX => {
                let Ok(offset) = u16::try_from(offset) else {
                    return;
                };
                if self.config.write(offset, size, value as u32) {
                    self.card.reset(&mut self.host);
                }
                self.configure();
            }
            REGISTERS => {
                self.card.write(offset, size, value, &mut self.host);
            }
            TABLE => self.config.write_table(offset, size, value),
            _ => {}
        }
    }
}

impl HostMemory for Host {
    fn read(&mut self, address: u64, buffer: &mut [u8]) -> Result<(), BusError> {
        self.memory.read(address, buffer)
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), BusError> {
        self.memory.write(address, bytes)
    }

    fn load(&mut self, address: u64) -> Result<u32, BusError> {
        self.memory.load(address)
    }

    fn store(&mut self, address: u64, value: u32) -> Result<(), BusError> {
        self.memory.store(address, value)
    }
}

impl card::Interrupts for Host {
    fn signalling(&self) -> Signalling {
        self.interrupts.signalling()
    }

    fn send_message(&mut self, number: u16) {
        self.interrupts.send_message(number);
    }

    fn set_line(&mut self, asserted: bool) {
        self.interrupts.set_line(asserted);
    }
}

impl Clock for Host {
    fn now(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }
}

/// The socket's side.
struct Backend(Arc<Shared>);

/// The accesses that a range is made of: of 8 bytes if it is one, otherwise the widest that are aligned.
fn accesses(region: u32, offset: u64, length: usize) -> Vec<(usize, u8)> {
    let widest = if region == VFIO_PCI_CONFIG_REGION_INDEX {
        4
    } else {
        8
    };
    let mut parts = Vec::new();
    let mut at = 0;
    while at < length {
        let fits = |size: &usize| {
            *size <= widest
                && (offset + at as u64).is_multiple_of(*size as u64)
                && at + size <= length
        };
        let size = [8, 4, 2].into_iter().find(fits).unwrap_or(1);
        parts.push((at, size as u8));
        at += size;
    }
    parts
}

/// The longest access to a region that is looked at.
const LONGEST: usize = 4096;

impl ServerBackend for Backend {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> io::Result<()> {
        data.fill(0xff);
        if data.len() > LONGEST || offset.checked_add(data.len() as u64).is_none() {
            return Ok(());
        }
        self.0.access(|state| {
            for (at, size) in accesses(region, offset, data.len()) {
                let value = state.read(region, offset + at as u64, size).to_le_bytes();
                let size = usize::from(size);
                data[at..at + size].copy_from_slice(&value[..size]);
            }
        });
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        if data.len() > LONGEST || offset.checked_add(data.len() as u64).is_none() {
            return Ok(());
        }
        self.0.access(|state| {
            for (at, size) in accesses(region, offset, data.len()) {
                let mut value = [0; 8];
                let bytes = &data[at..at + usize::from(size)];
                value[..bytes.len()].copy_from_slice(bytes);
                let value = u64::from_le_bytes(value);
                state.write(region, offset + at as u64, size, value);
            }
        });
        Ok(())
    }

    /// Memory without a descriptor cannot be reached, which is no error: the card finds out when it tries.
    fn dma_map(
        &mut self,
        flags: DmaMapFlags,
        offset: u64,
        address: u64,
        size: u64,
        file: Option<File>,
    ) -> io::Result<()> {
        let Some(file) = file else {
            return Ok(());
        };
        let writable = flags.contains(DmaMapFlags::WRITE);
        self.0
            .access(|state| state.host.memory.map(address, size, file, offset, writable))
    }

    fn dma_unmap(&mut self, flags: DmaUnmapFlags, address: u64, size: u64) -> io::Result<()> {
        self.0.access(|state| {
            if flags.contains(DmaUnmapFlags::UNMAP_ALL) {
                state.host.memory.clear();
            } else {
                state.host.memory.unmap(address, size);
            }
        });
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        self.0.access(State::reset);
        Ok(())
    }

    fn set_irqs(
        &mut self,
        index: u32,
        flags: u32,
        start: u32,
        count: u32,
        files: Vec<File>,
    ) -> io::Result<()> {
        self.0.access(|state| {
            state.host.interrupts.set(index, flags, start, count, files);
            // What waited for an interrupt goes by the new ones.
            state.configure();
        });
        Ok(())
    }
}

fn regions() -> Vec<ServerRegion> {
    let size = |index| match index {
        VFIO_PCI_CONFIG_REGION_INDEX => card::config_space().size() as u64,
        REGISTERS => REGISTERS_LENGTH as u64,
        TABLE => MSIX_LENGTH as u64,
        _ => 0,
    };
    let region = |index| {
        let size = size(index);
        let flags = if size == 0 {
            0
        } else {
            VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE
        };
        ServerRegion {
            region_info: vfio_region_info {
                argsz: size_of::<vfio_region_info>() as u32,
                index,
                size,
                flags,
                ..Default::default()
            },
            // Nothing can be mapped: writes are then posted.
            sparse_areas: Vec::new(),
            mmap_fd: None,
        }
    };
    (0..VFIO_PCI_NUM_REGIONS).map(region).collect()
}

fn irqs() -> Vec<IrqInfo> {
    let irq = |index| {
        let count = interrupts::count(index);
        let line = VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED;
        let flags = match (index, count) {
            (_, 0) => 0,
            (VFIO_PCI_INTX_IRQ_INDEX, _) => VFIO_IRQ_INFO_EVENTFD | line,
            _ => VFIO_IRQ_INFO_EVENTFD,
        };
        IrqInfo {
            index,
            flags,
            count,
        }
    };
    (0..VFIO_PCI_NUM_IRQS).map(irq).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_accessed_in_the_widest_parts() {
        assert_eq!(accesses(0, 8, 8), [(0, 8)]);
        assert_eq!(accesses(0, 4, 12), [(0, 4), (4, 8)]);
        assert_eq!(accesses(0, 3, 4), [(0, 1), (1, 2), (3, 1)]);
        let config = VFIO_PCI_CONFIG_REGION_INDEX;
        assert_eq!(accesses(config, 0, 8), [(0, 4), (4, 4)]);
    }
}
