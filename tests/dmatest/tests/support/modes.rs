//! How requests get their map registers, and how many there are.

use abi::mode::{DmaMode, ModeChange};
use dmatest::machine_device::MachineDevice;
use dmatest::{query_mode, set_mode};
use machine::inf::{RegistryData, RegistryValue};
use machine::{Config, Machine};

pub const fn to(mode: DmaMode, map_registers: u32) -> ModeChange {
    ModeChange {
        mode: mode.bits(),
        map_registers,
    }
}

pub const DEFAULT: ModeChange = to(DmaMode::empty(), 0);
pub const RESERVED: ModeChange = to(DmaMode::RESERVED, 0);
pub const IMMEDIATE: ModeChange = to(DmaMode::IMMEDIATE, 0);
pub const BOTH: ModeChange = to(DmaMode::RESERVED.union(DmaMode::IMMEDIATE), 0);

/// The mode, and how many map registers are reserved.
pub fn mode(device: &MachineDevice) -> (DmaMode, u32) {
    let state = query_mode(device).expect("GET_DMA_MODE");
    let mode = DmaMode::from_bits(state.mode).expect("a mode");
    (mode, state.map_registers)
}

/// How many a transfer can need.
pub fn most(device: &MachineDevice) -> u32 {
    query_mode(device).expect("GET_DMA_MODE").most_map_registers
}

pub fn set(device: &MachineDevice, change: ModeChange) {
    set_mode(device, change).expect("SET_DMA_MODE");
}

/// How many map registers are free.
pub fn free(machine: &Machine) -> u32 {
    machine.occupy_map_registers().count()
}

pub fn limit_150(config: &mut Config) {
    config.registry.push(RegistryValue {
        subkey: "Parameters".to_owned(),
        name: "TransferTimeout".to_owned(),
        data: RegistryData::Dword(150),
    });
}
