//! What the card is, for control requests.

use core::sync::atomic::Ordering;

use abi::card::register::Moderation;
use abi::info::{DeviceInfo, DeviceKind};
use kmdf::dma::{Direction, EnablerConfig};
use kmdf::queue::ControlEvents;
use kmdf::registers::Value;
use kmdf::{NtStatus, Queue, Request, Result};

use super::SLOTS;
use super::card::{DMA, RingCard};
use crate::ioctl::{Controlled, VERSION, interrupt_kind};
use crate::statistics::Counters;

impl ControlEvents for RingCard {
    fn device_control(&self, request: Request, code: u32) {
        self.control(request, code);
    }
}

impl Controlled for RingCard {
    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn waiting(&self) -> &Queue {
        &self.resets
    }

    fn moderate(&self, moderation: Moderation) -> Result<()> {
        self.moderation
            .store(moderation.into_word(), Ordering::Release);
        // A card that is not started gets it when it is.
        if let Some(started) = self.started.enter() {
            for engine in self.engines() {
                started.registers.moderate(engine.direction, moderation);
            }
        }
        Ok(())
    }

    fn info(&self) -> Result<DeviceInfo> {
        let started = self.started.enter().ok_or(NtStatus::DEVICE_NOT_READY)?;
        let granted = self
            .enabler
            .fragment_length(Direction::FromDevice)
            .min(self.enabler.fragment_length(Direction::ToDevice));
        let memory = started.registers.memory();
        Ok(DeviceInfo {
            device_kind: DeviceKind::Card as u32,
            interrupt_kind: interrupt_kind(started.signal) as u32,
            memory_size: memory.size(),
            maximum_request: memory.limit(),
            maximum_transfer: u32::try_from(self.shape.longest(granted)).unwrap_or(u32::MAX),
            transfers_in_flight: 2 * SLOTS,
            address_bits: DMA.address_bits(),
            hardware_identity: started.registers.identity(),
            dma_version: EnablerConfig::VERSION,
            driver_version: VERSION,
            ..DeviceInfo::new()
        })
    }
}
