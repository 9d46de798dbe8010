//! How a device's requests get their map registers.

use abi::ioctl::{GET_DMA_MODE, SET_DMA_MODE};
use abi::mode::{DmaMode, ModeChange, ModeState};
use clap::Args;

use crate::device::{Device, query};
use crate::error::{Error, Win32Error};

/// In which mode a command is carried out. The one that there was before comes back afterwards.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct ModeOptions {
    /// Reserve map registers ahead: as many for each direction, 0 for as many as a transfer can need.
    #[arg(long, value_name = "MAP_REGISTERS", num_args = 0..=1, require_equals = true, default_missing_value = "0")]
    pub reserved: Option<u32>,
    /// Have nothing wait for map registers: a request without any fails.
    #[arg(long)]
    pub immediate: bool,
}

impl ModeOptions {
    /// What to ask the driver for, if there is anything to ask for.
    #[must_use]
    pub fn change(&self) -> Option<ModeChange> {
        let mut mode = DmaMode::empty();
        mode.set(DmaMode::RESERVED, self.reserved.is_some());
        mode.set(DmaMode::IMMEDIATE, self.immediate);
        (!mode.is_empty()).then_some(ModeChange {
            mode: mode.bits(),
            map_registers: self.reserved.unwrap_or(0),
        })
    }

    /// Does `work` in this mode.
    ///
    /// # Errors
    /// Those of `work` first of all, then those of [`set_mode`] and [`query_mode`].
    pub fn during<D: Device, T>(
        &self,
        device: &D,
        work: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Some(change) = self.change() else {
            return work();
        };
        let before = query_mode(device)?;
        set_mode(device, change).map_err(named)?;
        let result = work();
        let restored = restore(device, &before);
        result.and_then(|value| restored.map(|()| value))
    }
}

const fn named(error: Win32Error) -> Error {
    let name = "SET_DMA_MODE";
    Error::Control { name, error }
}

/// Has the driver go back to how it was.
///
/// # Errors
/// [`Error::Control`].
pub fn restore<D: Device>(device: &D, before: &ModeState) -> Result<(), Error> {
    let back = ModeChange {
        mode: before.mode,
        map_registers: before.map_registers,
    };
    set_mode(device, back).map_err(named)
}

/// Asks the driver how requests get their map registers.
///
/// # Errors
/// As [`query_info`](crate::query_info).
pub fn query_mode<D: Device>(device: &D) -> Result<ModeState, Error> {
    query(device, "GET_DMA_MODE", GET_DMA_MODE, ModeState::from_prefix)
}

/// Has the driver change it.
///
/// # Errors
/// What the driver answered.
pub fn set_mode<D: Device>(device: &D, change: ModeChange) -> Result<(), Win32Error> {
    device
        .control(SET_DMA_MODE, change.as_bytes(), &mut [])
        .map(drop)
}
