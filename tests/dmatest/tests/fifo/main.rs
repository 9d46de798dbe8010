//! The real driver in system mode: the FIFO peripheral, whose data a system DMA controller moves.
//!
//! `DMACARD_SYS` names the image; `cargo xtask test` builds it and sets the variable.

#[path = "../support/mod.rs"]
mod support;

/// A table of tests with their names.
macro_rules! tests {
    ($($test:ident)*) => { [$((stringify!($test), $test)),*] };
}

mod faults;
mod streams;
mod transfers;

use std::process::ExitCode;
use std::time::Duration;

use abi::ioctl::RESET;
use abi::statistics::Statistics;
use dmatest::machine_device::MachineDevice;
use dmatest::pattern::Pattern;
use dmatest::{Device, Direction};
use harness::Suite;
use machine::inf::{RegistryData, RegistryValue};
use machine::user::{Overlapped, Win32Error};
use machine::{Config, Device as Board, FifoFaults, Machine};

use support::{FIFOS, System, statistics};

/// A test, to be run in each system.
type Test = (&'static str, fn(System));

fn main() -> ExitCode {
    let plain = FIFOS.iter().filter(|system| system.name != "instrumented");
    let traced = plain.flat_map(|system| transfers::TRACED.iter().map(|test| (*system, test)));
    FIFOS
        .into_iter()
        .flat_map(|system| {
            let special = match system.board {
                Board::FifoSimplex => vec![transfers::SIMPLEX],
                _ => vec![transfers::DUPLEX, faults::DUPLEX, streams::DUPLEX],
            };
            [transfers::EVERYWHERE, faults::EVERYWHERE]
                .into_iter()
                .chain(special)
                .flatten()
                .map(move |test| (system, test))
        })
        .chain(traced)
        .map(|(system, &(name, test))| (format!("{}::{name}", system.name), system, test))
        .fold(
            Suite::new().limit(Duration::from_secs(120)),
            |suite, (name, system, test)| suite.passes(name, move || test(system)),
        )
        .passes(
            "system_mode_fails_to_start_without_a_controller",
            transfers::system_mode_fails_to_start_without_a_controller,
        )
        .main()
}

const ABORTED: Result<usize, Win32Error> = Err(Win32Error::OPERATION_ABORTED);
const IO_DEVICE: Result<usize, Win32Error> = Err(Win32Error(1117));
const REMOVED: Result<usize, Win32Error> = Err(Win32Error(dmatest::Win32Error::DEVICE_REMOVED.0));
const TIMED_OUT: Result<usize, Win32Error> = Err(Win32Error(121));

fn start(device: &MachineDevice, direction: Direction, length: usize) -> Overlapped {
    let mut buffer = device.buffer(length).expect("memory");
    Pattern::Random(length as u64).fill(0, &mut buffer);
    device.start(direction, 0, buffer, 0..length)
}

fn read(device: &MachineDevice, length: usize) -> Overlapped {
    start(device, Direction::Read, length)
}

fn write(device: &MachineDevice, length: usize) -> Overlapped {
    start(device, Direction::Write, length)
}

/// Nothing is in flight: every request has been counted once.
fn in_order(device: &MachineDevice) -> Statistics {
    let counted = statistics(device);
    assert_eq!(
        counted.requests,
        counted.completed + counted.cancelled + counted.failed,
        "{counted:?}"
    );
    counted
}

/// Empties the FIFOs, of which it is not known what a cancelled read has left in them: they lose power.
fn restart(machine: &Machine) {
    machine.suspend().expect("sleeps");
    machine.resume().expect("wakes up");
}

/// Sets the driver's time limit for transfers to 50 ms.
fn limit_50(config: &mut Config) {
    config.registry.push(RegistryValue {
        subkey: "Parameters".to_owned(),
        name: "TransferTimeout".to_owned(),
        data: RegistryData::Dword(50),
    });
}

fn faults(machine: &Machine) -> &FifoFaults {
    machine.fifo_faults().expect("the device is the FIFO")
}

fn reset(device: &MachineDevice) {
    assert_eq!(device.control(RESET, &[], &mut []), Ok(0));
}
