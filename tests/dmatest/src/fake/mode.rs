//! The fake's modes.

use abi::mode::{DmaMode, ModeChange, ModeState};

use super::Fault;
use crate::error::Win32Error;

const MOST_MAP_REGISTERS: u32 = 2;

/// The mode of a fake device.
#[derive(Default)]
pub(super) struct Modes(ModeChange);

impl Modes {
    pub(super) const fn is_reserved(&self) -> bool {
        self.0.map_registers > 0
    }

    pub(super) fn state(&self) -> ModeState {
        ModeState {
            mode: self.0.mode,
            map_registers: self.0.map_registers,
            most_map_registers: MOST_MAP_REGISTERS,
            ..ModeState::new()
        }
    }

    pub(super) fn set(&mut self, input: &[u8], fault: Option<Fault>) -> Result<(), Win32Error> {
        let input = input
            .try_into()
            .map_err(|_| Win32Error::INSUFFICIENT_BUFFER)?;
        let mut change = ModeChange::from_bytes(input);
        let reserved = change.mode & DmaMode::RESERVED.bits() != 0;
        let most = if reserved { MOST_MAP_REGISTERS } else { 0 };
        let sound = DmaMode::from_bits(change.mode).is_some() && change.map_registers <= most;
        if !sound && fault != Some(Fault::ModeUnchecked) {
            return Err(Win32Error::INVALID_PARAMETER);
        }
        if change.map_registers == 0 {
            change.map_registers = most;
        }
        if fault != Some(Fault::ModeForgotten) {
            self.0 = change;
        }
        Ok(())
    }
}
