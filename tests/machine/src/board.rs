//! The board of a machine, with the device plugged in.

use std::sync::Arc;

use machine_bus::{
    Board, BoardError, Edu, FunctionAddress, LocalBoard, MemoryConfig, QemuBoard, QemuConfig,
};

use crate::config::{Config, Device};

/// Where edu's twin sits: in the slot it has in QEMU.
const EDU: FunctionAddress = FunctionAddress {
    bus: 0,
    device: 4,
    function: 0,
};

/// A board, and what is known of it beyond what every board has.
pub(crate) struct Plugged {
    pub(crate) board: Arc<dyn Board>,
    /// Version of the QEMU, if it is one.
    pub(crate) qemu_version: Option<String>,
    /// The same board, if it is in this process.
    local: Option<Arc<LocalBoard>>,
}

impl Plugged {
    /// Builds or starts the board that `config` asks for.
    ///
    /// # Errors
    /// Why QEMU does not run, or memory cannot be had.
    pub(crate) fn new(config: &Config) -> Result<Self, BoardError> {
        let memory = MemoryConfig {
            total: config.memory,
            seed: config.seed,
        };
        match config.device {
            Device::Edu => {
                let board = QemuBoard::start(&QemuConfig {
                    program: config.qemu.clone(),
                    memory,
                    ..QemuConfig::default()
                })?;
                Ok(Self {
                    qemu_version: Some(board.version().text().to_owned()),
                    board: Arc::new(board),
                    local: None,
                })
            }
            Device::EduTwin => {
                let board = Arc::new(LocalBoard::new(
                    &memory,
                    vec![(EDU, Box::new(Edu::default()))],
                )?);
                Ok(Self {
                    qemu_version: None,
                    board: board.clone(),
                    local: Some(board),
                })
            }
        }
    }

    /// Takes the device out of its slot, if the board is in this process.
    pub(crate) fn unplug(&self) {
        if let Some(local) = &self.local {
            local.unplug(EDU);
        }
    }
}
