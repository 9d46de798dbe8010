//! A PCI function as the bus driver knows it: what it needs, and how it is started, stopped and powered.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use machine_bus::pci::{
    Bar, BarKind, Capability, Function, Identity, Msi, MsiX, capability, command, offset,
};
use machine_bus::{Board, BoardError, FunctionAddress, Message};
use machine_nt::bugcheck::{Stop, stop_machine};

use nt_sys::{
    _INTERFACE_TYPE, GUID, NTSTATUS, PNP_BUS_INFORMATION, STATUS_INVALID_DEVICE_STATE,
    STATUS_NO_SUCH_DEVICE, STATUS_NOT_SUPPORTED,
};

use crate::bus_driver::{BusDevice, Identifiers, Place};
use crate::resources::{Configuration, Requirement};

/// GUID_BUS_TYPE_PCI.
const PCI_BUS: GUID = GUID::from_u128(0xc8ebdfb0_b510_11d0_80e5_00a0c92542e3);

/// What a started function was given.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Assignment {
    /// Address of each memory BAR, in their order.
    memory: Vec<u64>,
    /// Vectors of its messages; its line is used if there are none.
    messages: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    assignment: Option<Assignment>,
    /// Bits of the command register that were set when the function was put to sleep.
    asleep: Option<u16>,
    /// The same, of when the function was reset, until that is over.
    resetting: Option<u16>,
    gone: bool,
}

/// A function on the bus.
pub struct PciFunction {
    board: Arc<dyn Board>,
    /// Where it sits.
    pub address: FunctionAddress,
    /// What it is called.
    pub identifiers: Identifiers,
    /// What it says it is.
    pub identity: Identity,
    bars: Vec<Bar>,
    msi: Option<Msi>,
    msi_x: Option<MsiX>,
    power: Option<Capability>,
    /// Its PCI Express capability, if it can be reset by that.
    resettable: Option<Capability>,
    line: Option<u32>,
    state: Mutex<State>,
}

/// Decodes of the command register and the right to be a master: what a started function has.
const STARTED: u16 = command::MEMORY_SPACE | command::BUS_MASTER;

impl PciFunction {
    /// Reads what there is to know about the function at `address`.
    pub fn new(board: Arc<dyn Board>, address: FunctionAddress) -> Result<Self, BoardError> {
        let function = Function::new(&*board, address);
        let identity = function.identity()?;
        let bars = function.bars()?;
        let msi = function.msi()?;
        let msi_x = function.msi_x()?;
        let power = function.capability(capability::POWER_MANAGEMENT)?;
        let resettable = function.function_level_reset()?;
        let line = function
            .interrupt_pin()?
            .map(|pin| board.line(address, pin));
        let identifiers = Identifiers::of_function(&identity, address);
        Ok(Self {
            board,
            address,
            identifiers,
            identity,
            bars,
            msi,
            msi_x,
            power,
            resettable,
            line,
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn function(&self) -> Function<'_> {
        Function::new(&*self.board, self.address)
    }

    fn memory_bars(&self) -> impl Iterator<Item = &Bar> {
        self.bars.iter().filter(|bar| bar.kind != BarKind::Io)
    }

    /// The interrupt line it is wired to.
    pub fn line(&self) -> Option<u32> {
        self.line
    }

    fn program(&self, assignment: &Assignment) -> Result<(), BoardError> {
        let function = self.function();
        if let Some(power) = &self.power {
            function.set_asleep(power, false)?;
        }
        function.change_command(0, STARTED)?;
        for (bar, address) in self.memory_bars().zip(&assignment.memory) {
            function.assign(bar, *address)?;
        }
        if self.msi_x.is_some() {
            // The table of messages is in the function's memory.
            function.change_command(command::MEMORY_SPACE, 0)?;
        }
        self.program_messages(assignment)?;
        if let Some(line) = self.line {
            function.write8(offset::INTERRUPT_LINE, line as u8)?;
        }
        function.change_command(STARTED, command::INTX_DISABLE)
    }

    /// Has the function send its messages, by MSI-X if it can; or none, if it was given none.
    fn program_messages(&self, assignment: &Assignment) -> Result<(), BoardError> {
        let function = self.function();
        let targets = assignment.messages.iter();
        let targets: Vec<Message> = targets
            .map(|vector| self.board.message_target(*vector))
            .collect();
        if let Some(msi_x) = &self.msi_x {
            let bars = self.memory_bars().zip(&assignment.memory);
            let mut windows = bars.filter(|(bar, _)| bar.index == msi_x.bar);
            let window = windows.next().map_or(0, |(_, address)| *address);
            function.enable_msi_x(msi_x, window, &targets)?;
        } else if let (Some(msi), Some(first)) = (&self.msi, targets.first()) {
            return function.enable_msi_messages(msi, *first, targets.len() as u8);
        }
        match &self.msi {
            Some(msi) => function.disable_msi(msi),
            None => Ok(()),
        }
    }

    /// The function sends no messages any more.
    fn disable_messages(&self) -> Result<(), BoardError> {
        if let Some(msi_x) = &self.msi_x {
            self.function().disable_msi_x(msi_x)?;
        }
        match &self.msi {
            Some(msi) => self.function().disable_msi(msi),
            None => Ok(()),
        }
    }

    /// What may interrupt, in order of preference; with messages, at most so many.
    fn interrupts(&self, messages: u16) -> Vec<Configuration> {
        let line: Vec<_> = self.line.map(Requirement::Line).into_iter().collect();
        let mut one = line.clone();
        let mut configurations = Vec::new();
        if let (Some(msi_x), 1..) = (&self.msi_x, messages) {
            // A requirement a message: not all of them have the same address.
            let all = usize::from(messages.min(msi_x.entries));
            if all > 1 {
                configurations.push(vec![vec![Requirement::Messages(1)]; all]);
            }
            one.insert(0, Requirement::Messages(1));
        } else if let (Some(msi), 1..) = (&self.msi, messages) {
            let mut count = u16::from(msi.messages).min(1 << messages.ilog2());
            while count > 0 {
                one.insert(one.len() - line.len(), Requirement::Messages(count));
                count /= 2;
            }
        }
        let one = if one.is_empty() { vec![] } else { vec![one] };
        configurations.push(one);
        configurations
    }

    /// Whether it can be reset alone.
    pub fn is_resettable(&self) -> bool {
        self.resettable.is_some()
    }

    /// Resets the function; it has 100 ms for that, in which nothing may be asked of it.
    ///
    /// # Errors
    /// Why not: it is gone, not started, asleep, or has no such reset.
    pub fn begin_reset(&self) -> Result<(), NTSTATUS> {
        let mut state = self.lock();
        let express = self.resettable.as_ref().ok_or(STATUS_NOT_SUPPORTED)?;
        if state.gone {
            return Err(STATUS_NO_SUCH_DEVICE);
        }
        if state.assignment.is_none() || state.asleep.is_some() || state.resetting.is_some() {
            return Err(STATUS_INVALID_DEVICE_STATE);
        }
        let function = self.function();
        state.resetting = Some(self.must(function.command()) & STARTED);
        self.must(function.reset(express));
        Ok(())
    }

    /// Makes configuration space what it was before a reset.
    pub fn end_reset(&self) {
        let mut state = self.lock();
        let Some(enabled) = state.resetting.take() else {
            return;
        };
        if let (Some(assignment), false) = (&state.assignment, state.gone) {
            self.must(self.program(assignment));
            self.must(self.function().change_command(enabled, STARTED & !enabled));
        }
    }

    /// Reads configuration space byte by byte; returns how many bytes there were.
    pub fn read_config(&self, start: u32, buffer: &mut [u8]) -> usize {
        let gone = self.is_gone();
        let count = in_config(start, buffer.len());
        for (position, byte) in buffer.iter_mut().take(count).enumerate() {
            let value = self.function().read8((start as usize + position) as u16);
            *byte = if gone { 0xFF } else { self.must(value) };
        }
        count
    }

    /// Writes configuration space in the widest accesses that fit; returns how many bytes there were.
    pub fn write_config(&self, start: u32, bytes: &[u8]) -> usize {
        let count = in_config(start, bytes.len());
        if self.is_gone() {
            return count;
        }
        let function = self.function();
        let mut position = 0;
        while position < count {
            let at = start as usize + position;
            let size = [4, 2, 1]
                .into_iter()
                .find(|size| at.is_multiple_of(*size) && position + size <= count)
                .unwrap_or(1);
            let mut value = [0; 4];
            value[..size].copy_from_slice(&bytes[position..position + size]);
            let value = u32::from_le_bytes(value);
            self.must(match size {
                4 => function.write32(at as u16, value),
                2 => function.write16(at as u16, value as u16),
                _ => function.write8(at as u16, value as u8),
            });
            position += size;
        }
        count
    }

    fn must<T>(&self, result: Result<T, BoardError>) -> T {
        result.unwrap_or_else(|error| {
            stop_machine(
                Stop::Board,
                format_args!("PCI function {}: {error}", self.address),
            )
        })
    }
}

impl BusDevice for PciFunction {
    fn identifiers(&self) -> &Identifiers {
        &self.identifiers
    }

    fn place(&self) -> Place {
        let FunctionAddress {
            bus,
            device,
            function,
        } = self.address;
        Place {
            description: "PCI Device",
            location: format!("PCI bus {bus}, device {device}, function {function}"),
            address: u32::from(device) << 16 | u32::from(function),
            number: device.into(),
            slot: u32::from(device) | u32::from(function) << 5,
        }
    }

    fn bus(&self) -> PNP_BUS_INFORMATION {
        PNP_BUS_INFORMATION {
            BusTypeGuid: PCI_BUS,
            LegacyBusType: _INTERFACE_TYPE::PCIBus,
            BusNumber: self.address.bus.into(),
        }
    }

    fn requirements(&self, messages: u16) -> Vec<Configuration> {
        let memory = self.memory_bars().map(|bar| {
            vec![Requirement::Memory {
                length: bar.size as u32,
                prefetchable: bar.prefetchable,
                minimum: 0,
                maximum: if bar.kind == BarKind::Memory64 {
                    u64::MAX
                } else {
                    u32::MAX.into()
                },
            }]
        });
        let memory: Configuration = memory.collect();
        let mut configurations = self.interrupts(messages);
        for configuration in &mut configurations {
            configuration.splice(0..0, memory.iter().cloned());
        }
        configurations
    }

    fn start(&self, memory: Vec<u64>, messages: Vec<u8>) {
        let assignment = Assignment { memory, messages };
        self.must(self.program(&assignment));
        let mut state = self.lock();
        state.assignment = Some(assignment);
        state.asleep = None;
    }

    fn stop(&self) {
        let mut state = self.lock();
        if state.assignment.take().is_some() && !state.gone {
            let function = self.function();
            self.must(function.change_command(0, STARTED));
            self.must(self.disable_messages());
        }
        state.asleep = None;
    }

    fn sleep(&self) {
        let mut state = self.lock();
        if state.asleep.is_some() || state.assignment.is_none() || state.gone {
            return;
        }
        let function = self.function();
        let enabled = self.must(function.command()) & STARTED;
        self.must(function.change_command(0, STARTED));
        match &self.power {
            Some(power) => self.must(function.set_asleep(power, true)),
            None => self.board.power_off(self.address),
        }
        state.asleep = Some(enabled);
    }

    fn wake(&self) {
        let mut state = self.lock();
        let Some(enabled) = state.asleep.take() else {
            return;
        };
        if let (Some(assignment), false) = (&state.assignment, state.gone) {
            self.must(self.program(assignment));
            self.must(self.function().change_command(enabled, STARTED & !enabled));
        }
    }

    fn pull(&self) {
        let mut state = self.lock();
        if !state.gone && state.assignment.is_some() {
            self.must(self.function().change_command(0, STARTED));
        }
        state.gone = true;
        let Some(assignment) = &state.assignment else {
            return;
        };
        for (bar, start) in self.memory_bars().zip(&assignment.memory) {
            crate::mmio::remove(*start..*start + bar.size);
        }
    }

    fn is_gone(&self) -> bool {
        self.lock().gone
    }
}

/// Bytes of configuration space, conventional.
const CONFIG_SPACE: usize = 256;

/// How many of `length` bytes from `start` are configuration space.
fn in_config(start: u32, length: usize) -> usize {
    CONFIG_SPACE.saturating_sub(start as usize).min(length)
}
