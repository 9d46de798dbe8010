//! Control requests: what the device is, and what it has done.

use abi::fifo::IDENTITY;
use abi::info::{DeviceInfo, DeviceKind, InterruptKind};
use abi::ioctl::{
    GET_DMA_MODE, GET_INFO, GET_STATISTICS, RESET, SET_DMA_MODE, STREAM_EXCHANGE, STREAM_POSITION,
    STREAM_START, STREAM_STOP,
};
use abi::mode::ModeState;
use kmdf::dma::{Direction, EnablerConfig};
use kmdf::interrupt::Signal;
use kmdf::queue::{ControlEvents, WaitingControlEvents};
use kmdf::{NtStatus, Request, Result};

use super::{MAXIMUM_REQUEST, Port};
use crate::ioctl::{VERSION, answer};
use crate::mode::{self, Wanted};

/// Width of the addresses in bits that every controller drives, for all that is known here.
const ADDRESS_BITS: u32 = 32;

impl ControlEvents for Port {
    fn device_control(&self, request: Request, code: u32) {
        let outcome = match code {
            GET_INFO => self
                .info()
                .and_then(|info| answer(&request, info.as_bytes())),
            RESET | SET_DMA_MODE | STREAM_START | STREAM_EXCHANGE | STREAM_POSITION
            | STREAM_STOP => {
                return self.forward(request);
            }
            GET_DMA_MODE => self
                .mode()
                .and_then(|mode| answer(&request, mode.as_bytes())),
            GET_STATISTICS => answer(&request, self.counters.snapshot().as_bytes()),
            _ => Err(NtStatus::INVALID_DEVICE_REQUEST),
        };
        match outcome {
            Ok(bytes) => request.complete_with_bytes(bytes),
            Err(status) => request.complete(status),
        }
    }
}

impl WaitingControlEvents for Port {
    fn device_control_and_wait(&self, mut request: Request, code: u32) {
        let outcome = match code {
            RESET => self.reset().map(|()| 0),
            SET_DMA_MODE => Wanted::by(&request)
                .and_then(|wanted| self.set_mode(wanted))
                .map(|()| 0),
            _ => self.serve_stream(&mut request, code),
        };
        match outcome {
            Ok(bytes) => request.complete_with_bytes(bytes),
            Err(status) => request.complete(status),
        }
    }
}

impl Port {
    /// To the queue of those that need the hardware, and wait for it.
    fn forward(&self, request: Request) {
        if let Err((request, status)) = request.forward(&self.waiting) {
            request.complete(status);
        }
    }

    fn mode(&self) -> Result<ModeState> {
        let started = self.started.enter().ok_or(NtStatus::DEVICE_NOT_READY)?;
        Ok(mode::state(&started.enabler, &started.sides()))
    }

    /// Whoever has a channel reserved has it alone: so one that serves both directions is not to be reserved for one of
    /// them, and neither is one that a stream has.
    fn set_mode(&self, wanted: Wanted) -> Result<()> {
        let started = self.started.enter().ok_or(NtStatus::DEVICE_NOT_READY)?;
        if wanted.is_reserved() {
            if started.stream.is_none() {
                return Err(NtStatus::NOT_SUPPORTED);
            }
            if self.is_streaming() {
                return Err(NtStatus::INVALID_DEVICE_STATE);
            }
        }
        let queues = self.transfers.each_ref();
        mode::change(
            &started.enabler,
            &started.sides(),
            &queues,
            wanted,
            self.limit,
        )
    }

    fn info(&self) -> Result<DeviceInfo> {
        let started = self.started.enter().ok_or(NtStatus::DEVICE_NOT_READY)?;
        let granted = started.enabler.fragment_length(Direction::FromDevice);
        let interrupt_kind = match (started.interrupts, self.interrupt.signal()) {
            (false, _) => InterruptKind::None,
            (true, Signal::Line) => InterruptKind::Line,
            (true, Signal::Message) => InterruptKind::Message,
        };
        Ok(DeviceInfo {
            device_kind: DeviceKind::Fifo as u32,
            interrupt_kind: interrupt_kind as u32,
            memory_size: 0,
            maximum_request: u32::try_from(MAXIMUM_REQUEST).unwrap_or(u32::MAX),
            maximum_transfer: u32::try_from(granted).unwrap_or(u32::MAX),
            transfers_in_flight: started.directions,
            address_bits: ADDRESS_BITS,
            hardware_identity: IDENTITY,
            dma_version: EnablerConfig::VERSION,
            driver_version: VERSION,
            ..DeviceInfo::new()
        })
    }
}
