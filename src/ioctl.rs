//! Control requests: what the card is, and what it has done, which needs neither the hardware nor power; and the way to
//! those that do.

use abi::card::register::Moderation;
use abi::info::{DeviceInfo, InterruptKind};
use abi::ioctl::{GET_DMA_MODE, GET_INFO, GET_STATISTICS, RESET, SET_DMA_MODE, SET_MODERATION};
use abi::mode::ModeState;
use kmdf::context::ContextType;
use kmdf::dma::{Direction, EnablerConfig};
use kmdf::interrupt::Signal;
use kmdf::queue::{ControlEvents, Dispatch, QueueConfig, WaitingControlEvents};
use kmdf::{Device, NtStatus, Queue, Request, Result};

use crate::device::Card;
use crate::hw::Hardware;
use crate::mode;
use crate::statistics::Counters;

/// Everything but reads and writes gets a queue that needs no power, and from there what needs the hardware goes to one
/// that does: the one that is returned. PASSIVE_LEVEL.
pub(crate) fn add_queues<T>(device: &Device<T>) -> Result<Queue>
where
    T: ControlEvents + WaitingControlEvents,
{
    let controls = QueueConfig::new(Dispatch::Parallel)
        .default_queue()
        .without_power()
        .controls();
    Queue::create(device, controls)?;
    let waiting = QueueConfig::new(Dispatch::Sequential).waiting_controls();
    Queue::create(device, waiting)
}

/// A card that control requests are about.
pub(crate) trait Controlled: ControlEvents {
    /// What [`GET_INFO`] returns.
    fn info(&self) -> Result<DeviceInfo>;

    /// What [`GET_STATISTICS`] returns.
    fn counters(&self) -> &Counters;

    /// The queue of requests that need the hardware, and wait for it.
    fn waiting(&self) -> &Queue;

    /// Sets interrupt moderation, as [`SET_MODERATION`] says.
    fn moderate(&self, _moderation: Moderation) -> Result<()> {
        Err(NtStatus::INVALID_DEVICE_REQUEST)
    }

    /// What [`GET_DMA_MODE`] returns; [`SET_DMA_MODE`] goes to those that wait if there is something.
    fn mode(&self) -> Result<ModeState> {
        Err(NtStatus::INVALID_DEVICE_REQUEST)
    }

    /// Carries out a control request, or sends it where it waits.
    fn control(&self, request: Request, code: u32) {
        let outcome = match code {
            GET_INFO => self
                .info()
                .and_then(|info| answer(&request, info.as_bytes())),
            RESET => return self.have_wait(request),
            SET_DMA_MODE if self.mode().is_ok() => return self.have_wait(request),
            GET_DMA_MODE => self
                .mode()
                .and_then(|mode| answer(&request, mode.as_bytes())),
            SET_MODERATION => request
                .read_input()
                .and_then(|[a, b, c, d]| {
                    let count = u16::from_le_bytes([a, b]);
                    self.moderate(Moderation::new(count, u16::from_le_bytes([c, d])))
                })
                .map(|()| 0),
            GET_STATISTICS => answer(&request, self.counters().snapshot().as_bytes()),
            _ => Err(NtStatus::INVALID_DEVICE_REQUEST),
        };
        match outcome {
            Ok(bytes) => request.complete_with_bytes(bytes),
            Err(status) => request.complete(status),
        }
    }

    /// Sends a request to those that need the hardware.
    fn have_wait(&self, request: Request) {
        if let Err((request, status)) = request.forward(self.waiting()) {
            request.complete(status);
        }
    }
}

/// The kind of interrupt, as the interface calls it.
pub(crate) const fn interrupt_kind(signal: Signal) -> InterruptKind {
    match signal {
        Signal::Line => InterruptKind::Line,
        Signal::Message => InterruptKind::Message,
    }
}

impl<H: Hardware> ControlEvents for Card<H>
where
    Self: ContextType,
{
    fn device_control(&self, request: Request, code: u32) {
        self.control(request, code);
    }
}

impl<H: Hardware> Controlled for Card<H>
where
    Self: ContextType,
{
    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn waiting(&self) -> &Queue {
        &self.waiting
    }

    fn mode(&self) -> Result<ModeState> {
        Ok(mode::state(&self.enabler, &self.sides()))
    }

    fn info(&self) -> Result<DeviceInfo> {
        let started = self.started.enter().ok_or(NtStatus::DEVICE_NOT_READY)?;
        let granted = self
            .enabler
            .fragment_length(Direction::FromDevice)
            .min(self.enabler.fragment_length(Direction::ToDevice));
        Ok(DeviceInfo {
            device_kind: H::KIND as u32,
            interrupt_kind: interrupt_kind(started.signal) as u32,
            memory_size: H::MEMORY.size(),
            maximum_request: H::MEMORY.limit(),
            maximum_transfer: u32::try_from(granted).unwrap_or(u32::MAX),
            transfers_in_flight: 1,
            address_bits: H::DMA.address_bits(),
            hardware_identity: started.hardware.identity(),
            dma_version: EnablerConfig::VERSION,
            driver_version: VERSION,
            ..DeviceInfo::new()
        })
    }
}

/// Copies the answer into the caller's buffer, which must have room for all of it.
pub(crate) fn answer(request: &Request, bytes: &[u8]) -> Result<usize> {
    request.write_output(bytes)?;
    Ok(bytes.len())
}

/// The version of the package.
pub(crate) const VERSION: [u16; 4] = [
    number(env!("CARGO_PKG_VERSION_MAJOR")),
    number(env!("CARGO_PKG_VERSION_MINOR")),
    number(env!("CARGO_PKG_VERSION_PATCH")),
    0,
];

const fn number(digits: &str) -> u16 {
    match u16::from_str_radix(digits, 10) {
        Ok(number) => number,
        Err(_) => panic!("a version is made of numbers"),
    }
}
