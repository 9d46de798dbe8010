//! Control requests: what the device is, and what it has done.

use abi::fifo::IDENTITY;
use abi::info::{DeviceInfo, DeviceKind, InterruptKind};
use abi::ioctl::{
    GET_INFO, GET_STATISTICS, RESET, STREAM_EXCHANGE, STREAM_POSITION, STREAM_START, STREAM_STOP,
};
use kmdf::dma::{Direction, EnablerConfig};
use kmdf::interrupt::Signal;
use kmdf::queue::{ControlEvents, WaitingControlEvents};
use kmdf::{NtStatus, Request, Result};

use super::{MAXIMUM_REQUEST, Port};
use crate::ioctl::{VERSION, answer};

/// Width of the addresses in bits that every controller drives, for all that is known here.
const ADDRESS_BITS: u32 = 32;

impl ControlEvents for Port {
    fn device_control(&self, request: Request, code: u32) {
        let outcome = match code {
            GET_INFO => self
                .info()
                .and_then(|info| answer(&request, info.as_bytes())),
            RESET | STREAM_START | STREAM_EXCHANGE | STREAM_POSITION | STREAM_STOP => {
                return self.forward(request);
            }
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
