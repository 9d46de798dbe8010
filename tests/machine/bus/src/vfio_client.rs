//! A board whose one device is behind a vfio-user socket: we are its client, as QEMU would be.
//!
//! The device reaches guest RAM, which its server maps, at physical addresses: there is no IOMMU, as with the boards in
//! QEMU, and an address without RAM is a bus error that only the device hears of. Its time is real. It is pulled out by
//! killing its server, or when its server closes the connection, sends what is no answer, or sends none for as long as
//! [`VfioUserConfig::patience`] says, which is reported on standard error.

mod endpoint;
mod events;
mod header;
mod patience;
mod server;

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::{
    Board, BoardError, BoardEvent, FunctionAddress, Iommu, MemoryConfig, Message, PhysicalMemory,
    Waited, q35,
};
use endpoint::Endpoint;
pub use server::{VfioUserServer, beside_this_program};

/// Which device, and where.
#[derive(Clone, Debug)]
pub struct VfioUserConfig {
    /// Who serves it.
    pub server: VfioUserServer,
    /// Guest RAM.
    pub memory: MemoryConfig,
    /// Its slot on bus 0.
    pub slot: FunctionAddress,
    /// How long a server may take to open its socket, if it is started, and to say what it serves.
    pub timeout: Duration,
    /// How long it may take to answer, or to take a question: after that its device is gone. Of the host's time, and
    /// at least a millisecond.
    pub patience: Duration,
}

impl VfioUserConfig {
    /// How long an answer may take if nothing else is said: much longer than on a busy host.
    pub const PATIENCE: Duration = Duration::from_secs(10);

    /// A server's device in this slot, with the usual memory.
    pub fn new(server: VfioUserServer, slot: FunctionAddress) -> Self {
        Self {
            server,
            memory: MemoryConfig::default(),
            slot,
            timeout: Duration::from_secs(20),
            patience: Self::PATIENCE,
        }
    }
}

/// The board. A server that it has started ends with it, or when the thread that started it ends.
pub struct VfioUserBoard {
    memory: Arc<PhysicalMemory>,
    description: String,
    slot: FunctionAddress,
    server: Option<u32>,
    endpoint: Mutex<Endpoint>,
}

/// Where messages go: the local APIC of a PC's first processor.
const MESSAGES: u64 = 0xfee0_0000;

/// How often a server is asked whether it is still there, if that cannot be waited for.
const PROBE: Duration = Duration::from_millis(50);

impl VfioUserBoard {
    /// Starts the server or connects to it, and lends it guest RAM.
    ///
    /// # Errors
    /// [`BoardError::NotBuilt`], [`BoardError::NoServer`], and those of a server that ends or serves no PCI device.
    pub fn start(config: &VfioUserConfig) -> Result<Self, BoardError> {
        let memory = PhysicalMemory::new(&config.memory)?;
        let connection = server::connect(config)?;
        let description = format!(
            "vfio-user client of {} at {}",
            config.server.name(),
            config.slot
        );
        Ok(Self {
            server: connection.process_id(),
            endpoint: Mutex::new(Endpoint::new(connection, config.slot, Arc::clone(&memory))?),
            memory,
            description,
            slot: config.slot,
        })
    }

    /// The number of the server's process, if it was started.
    pub fn server_process(&self) -> Option<u32> {
        self.server
    }

    fn lock(&self) -> MutexGuard<'_, Endpoint> {
        self.endpoint.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Board for VfioUserBoard {
    fn describe(&self) -> String {
        self.description.clone()
    }

    fn memory(&self) -> &Arc<PhysicalMemory> {
        &self.memory
    }

    fn register_window(&self) -> Range<u64> {
        q35::REGISTER_WINDOW
    }

    fn config_read(
        &self,
        function: FunctionAddress,
        offset: u16,
        size: u8,
    ) -> Result<u32, BoardError> {
        q35::check_express_access(offset, size)?;
        Ok(if function == self.slot {
            self.lock().config_read(offset, size)
        } else {
            q35::mask(size) as u32
        })
    }

    fn config_write(
        &self,
        function: FunctionAddress,
        offset: u16,
        size: u8,
        value: u32,
    ) -> Result<(), BoardError> {
        q35::check_express_access(offset, size)?;
        if function == self.slot {
            self.lock().config_write(offset, size, value);
        }
        Ok(())
    }

    /// What nothing decodes reads as all ones.
    fn read(&self, physical: u64, size: u8) -> Result<u64, BoardError> {
        q35::check_access(physical, size)?;
        Ok(self.lock().read(physical, size) & q35::mask(size))
    }

    fn write(&self, physical: u64, size: u8, value: u64) -> Result<(), BoardError> {
        q35::check_access(physical, size)?;
        self.lock().write(physical, size, value & q35::mask(size));
        Ok(())
    }

    fn message_target(&self, vector: u8) -> Message {
        Message {
            address: MESSAGES,
            data: vector.into(),
        }
    }

    fn power_off(&self, function: FunctionAddress) {
        if function == self.slot {
            self.lock().reset();
        }
    }

    fn line(&self, function: FunctionAddress, pin: u8) -> u32 {
        q35::line(function, pin)
    }

    /// The time passed is not looked at: the board has a clock of its own.
    fn poll(&self, _: u64, events: &mut Vec<BoardEvent>) -> Result<(), BoardError> {
        self.lock().take_events(events);
        Ok(())
    }

    fn next_event(&self) -> Option<u64> {
        None
    }

    fn has_news(&self) -> bool {
        self.lock().has_news(Duration::ZERO)
    }

    fn wait(&self, limit: Duration) -> Result<Waited, BoardError> {
        let start = Instant::now();
        let mut endpoint = self.lock();
        loop {
            let left = limit.saturating_sub(start.elapsed());
            let news = endpoint.has_news(left.min(PROBE));
            if news || left <= PROBE {
                return Ok(Waited {
                    news,
                    elapsed: start.elapsed(),
                });
            }
            endpoint.probe();
        }
    }

    fn iommu(&self) -> Option<&Iommu> {
        None
    }
}
