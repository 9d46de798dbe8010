//! Control requests that need the hardware and wait for it: a fresh start ([`RESET`]), and the way to [`crate::mode`].

use core::sync::atomic::Ordering;

use abi::ioctl::{RESET, SET_DMA_MODE};
use kmdf::context::ContextType;
use kmdf::queue::WaitingControlEvents;
use kmdf::{NtStatus, Request, Result, thread};

use crate::device::Card;
use crate::hw::{Fault, Hardware};
use crate::mode;
use crate::watch::Why;

/// The queue hands these out one at a time, and while the card has power.
impl<H: Hardware> WaitingControlEvents for Card<H>
where
    Self: ContextType,
{
    fn device_control_and_wait(&self, request: Request, code: u32) {
        let outcome = match code {
            RESET => self.reset(),
            SET_DMA_MODE => mode::Wanted::by(&request).and_then(|wanted| {
                mode::change(
                    &self.enabler,
                    &self.sides(),
                    &[&self.transfers],
                    wanted,
                    self.limit,
                )
            }),
            _ => Err(NtStatus::INVALID_DEVICE_REQUEST),
        };
        request.complete(outcome.into());
    }
}

impl<H: Hardware> Card<H>
where
    Self: ContextType,
{
    /// Ends what is under way and leaves the engine idle; what waits in the queue goes on then. PASSIVE_LEVEL.
    fn reset(&self) -> Result<()> {
        self.transfers.stop();
        while !self.channel.is_idle() {
            self.ended(self.channel.stop());
            self.look_and_cut(Some(Why::Reset));
            thread::pause();
        }
        // One that was being handed out when the queue was stopped.
        self.transfers.stop_and_wait();
        let outcome = self.check_engine();
        self.transfers.start();
        outcome
    }

    fn check_engine(&self) -> Result<()> {
        if self.failed.load(Ordering::Acquire) {
            return Err(NtStatus::IO_DEVICE_ERROR);
        }
        let started = self.started.enter().ok_or(NtStatus::DEVICE_NOT_READY)?;
        started.hardware.wake().map_err(Fault::status)?;
        started.hardware.quiesce().map_err(Fault::status)
    }
}
