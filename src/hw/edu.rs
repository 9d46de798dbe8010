//! QEMU's `edu` device; [`abi::edu`] says what a driver has to know about it.

use abi::edu::{
    ADDRESS_BITS, BAR_LENGTH, COMMAND, COUNT, Command, DESTINATION, HARDWARE_ID, IDENTIFICATION,
    IDENTITY, INTERRUPT_ACKNOWLEDGE, INTERRUPT_STATUS, Interrupts, LIVENESS, SOURCE, USABLE,
    WINDOW_BASE,
};
use abi::info::DeviceKind;
use abi::window::{Span, Window};
use kmdf::dma::{BusAddress, Direction, EnablerConfig, Profile};
use kmdf::resources::ResourceList;
use kmdf::{DeviceGone, IoSpace, NtStatus, Result};

use super::{Cause, Fault, Hardware, State};

/// Bytes in one transfer. The device's memory is four times as large, so that a large request takes several
/// transfers: that is what this device is here to teach.
const MAXIMUM_TRANSFER: usize = 1024;

/// Written to the liveness register, which answers with the complement.
const PROBE: u32 = 0x0f5a_00ff;

/// An `edu` device whose registers are mapped.
pub(crate) struct Edu {
    registers: IoSpace<BAR_LENGTH>,
}

impl Hardware for Edu {
    const KIND: DeviceKind = DeviceKind::Edu;
    const HARDWARE_ID: &'static str = HARDWARE_ID;
    const DMA: EnablerConfig =
        EnablerConfig::new(Profile::Packet, MAXIMUM_TRANSFER).with_address_bits(ADDRESS_BITS);
    const ALIGNMENT_MASK: u32 = 0;
    const MEMORY: Window = Window::new(USABLE);
    /// The command the engine was given.
    type Told = Command;

    fn map(resources: ResourceList<'_>) -> Result<Self> {
        let window = resources
            .memory()
            .next()
            .ok_or(NtStatus::DEVICE_CONFIGURATION_ERROR)?;
        let edu = Self {
            registers: IoSpace::map(window)?,
        };
        match edu.answers() {
            Ok(true) => Ok(edu),
            Ok(false) => Err(NtStatus::DEVICE_CONFIGURATION_ERROR),
            Err(DeviceGone) => Err(NtStatus::DEVICE_REMOVED),
        }
    }

    fn identity(&self) -> u32 {
        // Compared when the registers were mapped.
        IDENTITY
    }

    /// The device has no register that would have to be programmed before a transfer.
    fn wake(&self) -> Result<(), Fault> {
        if self.answers()? {
            Ok(())
        } else {
            Err(Fault::Contradiction)
        }
    }

    fn quiesce(&self) -> Result<(), Fault> {
        if self.registers.read(COMMAND)?.contains(Command::RUN) {
            return Err(Fault::Busy);
        }
        self.acknowledge()?;
        Ok(())
    }

    fn start(
        &self,
        span: Span,
        direction: Direction,
        address: BusAddress,
    ) -> Result<Command, Fault> {
        // While a transfer runs, the engine would ignore what it is told.
        if self.registers.read(COMMAND)?.contains(Command::RUN) {
            return Err(Fault::Busy);
        }
        let own = WINDOW_BASE + u64::from(span.start());
        let bus = address.to_bits();
        let (source, destination, command) = match direction {
            Direction::ToDevice => (bus, own, Command::RUN | Command::INTERRUPT),
            Direction::FromDevice => (
                own,
                bus,
                Command::RUN | Command::INTERRUPT | Command::FROM_DEVICE,
            ),
        };
        self.registers.write(SOURCE, source);
        self.registers.write(DESTINATION, destination);
        self.registers.write(COUNT, span.length().into());
        self.registers.write(COMMAND, command);
        Ok(command)
    }

    /// The device has no error status. What can be verified is that it has stopped and still holds the command it was
    /// given, which it does not after a reset.
    fn state(&self, told: &Command) -> Result<State, Fault> {
        let command = self.registers.read(COMMAND)?;
        if command.contains(Command::RUN) {
            Ok(State::Running)
        } else if command == told.difference(Command::RUN) {
            Ok(State::Finished)
        } else {
            Err(Fault::Contradiction)
        }
    }

    fn acknowledge(&self) -> Result<Cause, DeviceGone> {
        let pending = self.registers.read(INTERRUPT_STATUS)?;
        if pending.is_empty() {
            return Ok(Cause::Nothing);
        }
        self.registers.write(INTERRUPT_ACKNOWLEDGE, pending);
        if pending.contains(Interrupts::DMA) {
            Ok(Cause::Transfer)
        } else {
            Ok(Cause::Other)
        }
    }
}

impl Edu {
    /// Whether this is an `edu` device whose registers can be read and written.
    fn answers(&self) -> Result<bool, DeviceGone> {
        if self.registers.read(IDENTIFICATION)? != IDENTITY {
            return Ok(false);
        }
        self.registers.write(LIVENESS, PROBE);
        Ok(self.registers.read(LIVENESS)? == !PROBE)
    }
}
