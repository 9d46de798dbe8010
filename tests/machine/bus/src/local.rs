//! A board in this process, with devices that are plugged in as values.
//!
//! Its time is the caller's, so a run repeats exactly; its devices reach memory through the [`Iommu`] alone.

mod bell;
mod controller;
mod direct;
mod platform;
mod slot;
mod threaded;

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::fifo::Faults;
use crate::platform::{Peripheral, PlatformDevice};
use crate::system_dma::{DmaCapabilities, DmaController, DmaEnd, DmaProgram, DmaStop};
use crate::{
    Board, BoardError, BoardEvent, Device, FunctionAddress, Iommu, MemoryConfig, Message,
    PhysicalMemory, Waited, q35,
};
use controller::Controller;
use platform::Platform;
use slot::{Shared, Slot, Surroundings};
pub use threaded::ThreadedBoard;

/// The board.
pub struct LocalBoard {
    memory: Arc<PhysicalMemory>,
    iommu: Iommu,
    state: Mutex<State>,
}

struct State {
    slots: Vec<Slot>,
    platform: Platform,
    shared: Shared,
}

impl State {
    /// Whether the next poll has something to report.
    fn has_news(&self) -> bool {
        let ended = self.platform.controller.as_ref();
        self.shared.has_news() || ended.is_some_and(Controller::has_news)
    }
}

/// Where messages go: the local APIC of a PC's first processor.
const MESSAGES: u64 = 0xfee0_0000;

impl LocalBoard {
    /// A board with a device in each of the given slots of bus 0.
    pub fn new(
        memory: &MemoryConfig,
        devices: Vec<(FunctionAddress, Box<dyn Device>)>,
    ) -> Result<Self, BoardError> {
        let slots = devices
            .into_iter()
            .map(|(address, device)| Slot::new(address, device))
            .collect();
        Ok(Self {
            memory: PhysicalMemory::new(memory)?,
            iommu: Iommu::new(),
            state: Mutex::new(State {
                slots,
                platform: Platform::default(),
                shared: Shared::default(),
            }),
        })
    }

    /// A board with a system DMA controller and the platform devices that it serves, and no PCI functions.
    pub fn with_platform(
        memory: &MemoryConfig,
        devices: Vec<(PlatformDevice, Box<dyn Peripheral>)>,
        faults: &Faults,
    ) -> Result<Self, BoardError> {
        let board = Self::new(memory, Vec::new())?;
        board.lock().platform = Platform::new(devices, Some(Controller::new(faults.clone())));
        Ok(board)
    }

    /// Takes what is in a slot out of it, as a surprise: from now on nothing answers there.
    pub fn unplug(&self, function: FunctionAddress) -> Option<Box<dyn Device>> {
        let mut state = self.lock();
        let State { slots, shared, .. } = &mut *state;
        let index = slots.iter().position(|slot| slot.address() == function)?;
        Some(slots.remove(index).remove(shared))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_platform_devices<R>(&self, work: impl FnOnce(&mut Platform, &mut Shared) -> R) -> R {
        let mut state = self.lock();
        let State {
            platform, shared, ..
        } = &mut *state;
        work(platform, shared)
    }

    /// Works on the system DMA controller.
    fn with_controller<R>(&self, work: impl FnOnce(&mut Controller, u64) -> R) -> R {
        let mut state = self.lock();
        let now = state.shared.now;
        let controller = state.platform.controller.as_mut();
        work(
            controller.expect("only a board that has one hands it out"),
            now,
        )
    }

    /// Has the device that decodes an address do something, with the number of its register and the offset.
    fn access<T>(
        &self,
        physical: u64,
        act: impl FnOnce(&mut Slot, u8, u64, Surroundings<'_>) -> T,
    ) -> Option<T> {
        let mut state = self.lock();
        let State { slots, shared, .. } = &mut *state;
        let (slot, bar, offset) = slots.iter_mut().find_map(|slot| {
            let (bar, offset) = slot.decode(physical)?;
            Some((slot, bar, offset))
        })?;
        Some(act(slot, bar, offset, self.surroundings(shared)))
    }

    fn surroundings<'a>(&'a self, shared: &'a mut Shared) -> Surroundings<'a> {
        Surroundings {
            memory: &self.memory,
            iommu: Some(&self.iommu),
            shared,
        }
    }
}

impl Board for LocalBoard {
    fn describe(&self) -> String {
        let state = self.lock();
        let devices: Vec<String> = state
            .slots
            .iter()
            .map(|slot| format!("{} at {}", slot.name(), slot.address()))
            .chain(state.platform.names())
            .collect();
        format!("in-process board with {}", devices.join("; "))
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
        let state = self.lock();
        let slot = state.slots.iter().find(|slot| slot.address() == function);
        Ok(slot.map_or(q35::mask(size) as u32, |slot| {
            slot.config_read(offset, size)
        }))
    }

    fn config_write(
        &self,
        function: FunctionAddress,
        offset: u16,
        size: u8,
        value: u32,
    ) -> Result<(), BoardError> {
        q35::check_express_access(offset, size)?;
        let mut state = self.lock();
        let State { slots, shared, .. } = &mut *state;
        if let Some(slot) = slots.iter_mut().find(|slot| slot.address() == function) {
            slot.config_write(offset, size, value, self.surroundings(shared));
        }
        Ok(())
    }

    /// What nothing decodes reads as all ones.
    fn read(&self, physical: u64, size: u8) -> Result<u64, BoardError> {
        q35::check_access(physical, size)?;
        let answer =
            self.with_platform_devices(|devices, shared| devices.read(physical, size, shared));
        if let Some(value) = answer {
            return Ok(value & q35::mask(size));
        }
        let value = self.access(physical, |slot, bar, offset, around| {
            slot.read(bar, offset, size, around)
        });
        Ok(value.unwrap_or(u64::MAX) & q35::mask(size))
    }

    fn write(&self, physical: u64, size: u8, value: u64) -> Result<(), BoardError> {
        q35::check_access(physical, size)?;
        let value = value & q35::mask(size);
        let taken = self
            .with_platform_devices(|devices, shared| devices.write(physical, size, value, shared));
        if taken.is_some() {
            return Ok(());
        }
        self.access(physical, |slot, bar, offset, around| {
            slot.write(bar, offset, size, value, around);
        });
        Ok(())
    }

    fn power_off(&self, function: FunctionAddress) {
        let mut state = self.lock();
        let State { slots, shared, .. } = &mut *state;
        if let Some(slot) = slots.iter_mut().find(|slot| slot.address() == function) {
            slot.power_off(self.surroundings(shared));
        }
    }

    fn message_target(&self, vector: u8) -> Message {
        Message {
            address: MESSAGES,
            data: vector.into(),
        }
    }

    fn line(&self, function: FunctionAddress, pin: u8) -> u32 {
        q35::line(function, pin)
    }

    fn poll(&self, now_ns: u64, events: &mut Vec<BoardEvent>) -> Result<(), BoardError> {
        let mut state = self.lock();
        let State {
            slots,
            platform,
            shared,
        } = &mut *state;
        loop {
            let slot = slots
                .iter_mut()
                .filter_map(|slot| Some((slot.next_event()?, slot)))
                .min_by_key(|(due, _)| *due);
            let platform_due = platform.next_event(shared.now);
            match (slot, platform_due) {
                (Some((due, slot)), other) if other.is_none_or(|other| due <= other) => {
                    if due > now_ns {
                        break;
                    }
                    shared.now = shared.now.max(due);
                    slot.run(self.surroundings(shared));
                }
                (_, Some(due)) if due <= now_ns => {
                    shared.now = shared.now.max(due);
                    platform.run(&self.memory, &self.iommu, shared);
                }
                _ => break,
            }
        }
        shared.now = shared.now.max(now_ns);
        events.append(&mut shared.events);
        match shared.aborted.take() {
            Some((device, reason)) => Err(BoardError::DeviceAborted { device, reason }),
            None => Ok(()),
        }
    }

    fn next_event(&self) -> Option<u64> {
        let state = self.lock();
        if state.has_news() {
            return Some(state.shared.now);
        }
        let slots = state.slots.iter().filter_map(Slot::next_event);
        slots
            .chain(state.platform.next_event(state.shared.now))
            .min()
    }

    fn wait(&self, _: Duration) -> Result<Waited, BoardError> {
        Ok(Waited {
            news: self.lock().has_news(),
            elapsed: Duration::ZERO,
        })
    }

    fn iommu(&self) -> Option<&Iommu> {
        Some(&self.iommu)
    }

    fn platform(&self) -> Vec<PlatformDevice> {
        self.lock().platform.descriptions()
    }

    fn unplug_platform(&self, registers: &Range<u64>) {
        self.with_platform_devices(|platform, shared| platform.remove(registers, shared));
    }

    fn dma_controller(&self) -> Option<&dyn DmaController> {
        let present = self.lock().platform.controller.is_some();
        present.then_some(self as &dyn DmaController)
    }
}

impl DmaController for LocalBoard {
    fn capabilities(&self) -> DmaCapabilities {
        self.with_controller(|controller, _| controller.capabilities())
    }

    fn start(&self, channel: u32, program: DmaProgram) {
        self.with_controller(|controller, now| controller.start(channel, program, now));
    }

    fn stop(&self, channel: u32) -> DmaStop {
        self.with_controller(|controller, now| controller.stop(channel, now))
    }

    fn is_running(&self, channel: u32) -> bool {
        self.with_controller(|controller, _| controller.is_running(channel))
    }

    fn residue(&self, channel: u32) -> u64 {
        self.with_controller(|controller, _| controller.residue(channel))
    }

    fn configure(&self, channel: u32, function: u32, value: u32) -> bool {
        self.with_controller(|controller, _| controller.configure(channel, function, value))
    }

    fn take_ended(&self) -> Vec<(u32, DmaEnd)> {
        self.with_controller(|controller, _| controller.take_ended())
    }
}
