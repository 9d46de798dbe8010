//! What is done about a card that hangs, lies or is gone.
//!
//! | step | for | what is lost |
//! |---|---|---|
//! | the transfer is aborted by its tag | one that takes too long | it |
//! | the channel is disabled and enabled again | an abort that is not answered in time | what the channel had in its ring |
//! | the card is reset | a lie, a channel with an error, one that does not stop; a control request | what both had |
//! | the bus resets the card, if it can | a reset that does not end | what both had |
//! | the card is put off the bus, and the device fails | none of this has helped | everything |
//!
//! Each step is taken only when the one before it has not helped. All but the first are taken at PASSIVE_LEVEL, in a work item
//! or the control request's thread, by one at a time: the queues are stopped meanwhile, so what waits there is carried
//! out afterwards.

use core::sync::atomic::Ordering;

use abi::ioctl::RESET;
use kmdf::queue::WaitingControlEvents;
use kmdf::work_item::WorkEvents;
use kmdf::{DeviceGone, NtStatus, Request, Result, log, thread};

use super::card::{RingCard, Started};
use super::engine::Engine;
use crate::hw::Fault;

/// How long the card is given to answer an abort, in milliseconds.
pub(super) const GRACE: u64 = 250;

/// How many times within the limit the time is looked at: a transfer that takes too long is given up so much later at
/// most.
pub(super) const TICKS: u32 = 16;

/// Recovery: a channel is to be disabled, by its direction; the card is to be reset.
const CHANNELS: [u32; 2] = [1, 2];
const CARD: u32 = 4;

impl RingCard {
    /// The card has said what cannot be: it is to be reset. IRQL <= DISPATCH_LEVEL.
    pub(super) fn distrust(&self) {
        self.order(CARD);
    }

    /// A channel has not answered an abort. IRQL <= DISPATCH_LEVEL.
    pub(super) fn give_up_channel(&self, engine: &Engine) {
        let [to_card, from_card] = CHANNELS;
        self.order(match engine.direction {
            abi::card::Direction::ToCard => to_card,
            abi::card::Direction::FromCard => from_card,
        });
    }

    fn order(&self, order: u32) {
        self.orders.fetch_or(order, Ordering::AcqRel);
        self.recovery.queue();
    }

    /// Lets the card onto the bus, starts both channels, and lets the card interrupt. What is left from before ends with
    /// `status`. PASSIVE_LEVEL.
    pub(super) fn open(&self, started: &Started, status: NtStatus) -> Result<(), Fault> {
        started.bus.set_bus_master(true)?;
        for engine in self.engines() {
            engine.start_over(self, &started.registers, status);
        }
        started.registers.enable_interrupts(true);
        Ok(())
    }

    /// Ends what is in flight if the card does not answer. PASSIVE_LEVEL.
    pub(super) fn look_for_card(&self) {
        let gone = match self.started.enter() {
            Some(started) => started.registers.probe() == Err(DeviceGone),
            None => false,
        };
        if gone {
            for engine in self.engines() {
                engine.shut(self, NtStatus::DEVICE_REMOVED);
            }
        }
    }

    /// Stops the queues, does `work`, and starts them again. One at a time. PASSIVE_LEVEL.
    fn alone<R>(&self, work: impl FnOnce() -> R) -> R {
        while self.recovering.swap(true, Ordering::AcqRel) {
            thread::pause();
        }
        self.writes.stop();
        self.reads.stop();
        let result = work();
        self.recovering.store(false, Ordering::Release);
        self.writes.start();
        self.reads.start();
        result
    }

    /// Disables a channel and enables it again; the card is reset if the channel does not stop.
    fn restart(&self, engine: &Engine) -> Result<()> {
        let Some(started) = self.started.enter() else {
            return Err(NtStatus::DEVICE_NOT_READY);
        };
        engine.close();
        match started.registers.stop(engine.direction) {
            Ok(()) => {
                engine.start_over(self, &started.registers, NtStatus::IO_DEVICE_ERROR);
                Ok(())
            }
            Err(_) => self.reset(&started, NtStatus::IO_DEVICE_ERROR),
        }
    }

    /// Resets the card; what is in flight ends with `status`.
    fn reset(&self, started: &Started, status: NtStatus) -> Result<()> {
        for engine in self.engines() {
            engine.close();
        }
        let outcome = started.reset();
        if matches!(outcome, Err(Fault::Busy | Fault::Contradiction)) {
            // Whatever it goes on with, it reaches no memory any more.
            self.failed.store(true, Ordering::Release);
            if started.bus.set_bus_master(false).is_err() {
                log::failure(c"putting the card off the bus", NtStatus::DEVICE_REMOVED);
            }
        }
        match outcome.and_then(|()| self.open(started, status)) {
            Ok(()) => Ok(()),
            Err(fault) => {
                log::failure(c"resetting the card", fault.status());
                let status = match fault {
                    Fault::Gone => fault.status(),
                    _ => NtStatus::IO_DEVICE_ERROR,
                };
                for engine in self.engines() {
                    engine.shut(self, status);
                }
                if fault != Fault::Gone {
                    self.device.set_failed();
                }
                Err(fault.status())
            }
        }
    }

    /// A fresh start on request.
    fn reset_on_request(&self) -> Result<()> {
        self.alone(|| {
            if self.failed.load(Ordering::Acquire) {
                return Err(NtStatus::IO_DEVICE_ERROR);
            }
            let started = self.started.enter().ok_or(NtStatus::DEVICE_NOT_READY)?;
            self.reset(&started, NtStatus::CANCELLED)
        })
    }
}

impl WorkEvents for RingCard {
    fn work(&self) {
        let orders = self.orders.swap(0, Ordering::AcqRel);
        if orders == 0 || self.failed.load(Ordering::Acquire) {
            return;
        }
        self.alone(|| {
            if orders & CARD != 0 {
                let Some(started) = self.started.enter() else {
                    return;
                };
                let _ = self.reset(&started, NtStatus::IO_DEVICE_ERROR);
                return;
            }
            for (order, engine) in CHANNELS.into_iter().zip(self.engines()) {
                if orders & order != 0 {
                    let _ = self.restart(engine);
                }
            }
        });
    }
}

impl WaitingControlEvents for RingCard {
    fn device_control_and_wait(&self, request: Request, code: u32) {
        let outcome = match code {
            RESET => self.reset_on_request(),
            _ => Err(NtStatus::INVALID_DEVICE_REQUEST),
        };
        request.complete(outcome.into());
    }
}
