//! DMA when power comes and goes.

use core::sync::atomic::Ordering;

use kmdf::context::ContextType;
use kmdf::dma::PowerEvents;
use kmdf::log::{self, LogFailure};
use kmdf::{DeviceGone, NtStatus, Result};

use crate::device::Card;
use crate::hw::{Fault, Hardware};

/// Between `EvtDeviceD0Entry` and `EvtDeviceD0Exit`. Interrupts are connected all the time: the service routine asks the
/// card, and the deferred call finds no transfer.
impl<H: Hardware> PowerEvents for Card<H>
where
    Self: ContextType,
{
    /// The engine is idle and nothing is left over from before.
    fn fill(&self) -> Result<()> {
        let started = self.started.enter().ok_or(NtStatus::DEVICE_NOT_READY)?;
        started
            .hardware
            .quiesce()
            .map_err(Fault::status)
            .or_log(c"finding the engine idle")
    }

    /// The card gets on the bus, unless it must never again.
    fn enable(&self) -> Result<()> {
        if self.failed.load(Ordering::Acquire) {
            return Err(NtStatus::IO_DEVICE_ERROR);
        }
        let started = self.started.enter().ok_or(NtStatus::DEVICE_NOT_READY)?;
        started
            .bus
            .set_bus_master(true)
            .map_err(|gone| Fault::from(gone).status())
            .or_log(c"enabling bus mastering")
    }

    /// Nothing runs by itself: each transfer starts its time limit.
    fn start_self_managed(&self) -> Result<()> {
        Ok(())
    }

    /// No transfer is left to be limited: the timer is stopped for good, and does not run later.
    fn stop_self_managed(&self) -> Result<()> {
        self.watchdog.stop_and_wait();
        Ok(())
    }

    /// The card leaves the bus. It may be gone altogether, or not be started at all: then there is nothing to do.
    fn disable(&self) -> Result<()> {
        if let Some(started) = self.started.enter() {
            match started.bus.set_bus_master(false) {
                Ok(()) | Err(DeviceGone) => {}
            }
        }
        Ok(())
    }

    /// Acknowledges what the last transfer may have raised. An engine that is not idle has failed, and has been reported.
    fn flush(&self) -> Result<()> {
        if let Some(started) = self.started.enter() {
            match started.hardware.quiesce() {
                Ok(()) | Err(Fault::Gone) => {}
                Err(fault) => log::failure(c"leaving the engine idle", fault.status()),
            }
        }
        Ok(())
    }
}
