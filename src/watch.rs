//! How a transfer ends: phase 4 of the four, and what happens if the card does not finish.
//!
//! Whoever wants to know how the transfer in flight is doing takes a [look](Card::look): the deferred call, the timer, a
//! queue that is being stopped. A transfer that takes longer than the time limit is cut off from the bus: with bus
//! mastering switched off the card reaches neither memory nor the interrupt controller, so the buffer is safe, whatever
//! the engine does. Then the engine is waited for a little longer:
//!
//! - it stops: bus mastering is switched on again, the request ends, and the next one is carried out;
//! - it does not: it must never get back on the bus, where it would go on with a transfer whose memory belongs to
//!   somebody else by now. The request ends and the device is reported as failed. No restart is asked for: a restart
//!   switches bus mastering on before any driver could look at the engine.

use core::sync::atomic::Ordering;

use kmdf::clock::Moment;
use kmdf::context::ContextType;
use kmdf::slot::Knock;
use kmdf::timer::TimerEvents;
use kmdf::unicode::WideStr;
use kmdf::{DeviceGone, NtStatus, Result, log};

use crate::device::{Card, Started};
use crate::hw::{Fault, Hardware, State};
use crate::transfer::InFlight;

/// The value of the `Parameters` key with the time limit of a transfer in milliseconds.
pub(crate) const LIMIT_NAME: WideStr = kmdf::wide!("TransferTimeout");

/// The limit if the registry says nothing, or zero.
const DEFAULT_LIMIT: u32 = 5000;

/// Limits that make sense; others are brought to the nearest.
const LIMITS: core::ops::RangeInclusive<u32> = 10..=600_000;

/// How long an engine is waited for that has been cut off from the bus, in milliseconds. Ten times what edu takes for a
/// transfer, which it goes on with for the look of it.
pub(crate) const GRACE: u64 = 1000;

/// How often it is looked at meanwhile, in milliseconds: it cannot interrupt.
const POLL: u32 = 10;

/// A card that has been cut off from the bus in the middle of a transfer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    why: Why,
    since: Moment,
}

/// Why a transfer is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// It took too long.
    TimedOut,
    /// A reset was asked for.
    Reset,
}

impl Why {
    /// What its request ends with.
    const fn status(self) -> NtStatus {
        match self {
            Self::TimedOut => NtStatus::IO_TIMEOUT,
            Self::Reset => NtStatus::CANCELLED,
        }
    }
}

/// What to do about a transfer.
enum Verdict {
    /// Look again after so many milliseconds.
    Wait(u32),
    /// All of it has been moved.
    Finished,
    /// Nothing is known about what it has moved, but the card does not use the buffer.
    Failed(Fault),
    /// It was cut off, and the engine has stopped.
    Ended(Why),
    /// It was cut off, and the engine goes on.
    Stuck(Why),
}

/// The time limit that the registry's value means.
pub(crate) fn limit(value: Result<u32>) -> u32 {
    match value {
        Ok(0) | Err(_) => DEFAULT_LIMIT,
        Ok(limit) => limit.clamp(*LIMITS.start(), *LIMITS.end()),
    }
}

impl<H: Hardware> TimerEvents for Card<H>
where
    Self: ContextType,
{
    fn expired(&self) {
        self.look();
    }
}

impl<H: Hardware> Card<H>
where
    Self: ContextType,
{
    /// Looks how the transfer in flight is doing, and ends it if it is over. IRQL <= DISPATCH_LEVEL.
    ///
    /// It may be called at any time and by several processors at once: who gets the transfer out of the channel has it
    /// alone, and puts it back if the card is still at work.
    pub(crate) fn look(&self) {
        self.look_and_cut(None);
    }

    /// As [`look`](Self::look), and a transfer that is still under way is cut off if there is a reason.
    pub(crate) fn look_and_cut(&self, why: Option<Why>) {
        let Some(started) = self.started.enter() else {
            return;
        };
        while let Some(mut in_flight) = self.channel.take_running() {
            let verdict = self.judge(&started, &mut in_flight, why);
            if let Verdict::Wait(milliseconds) = verdict {
                self.watchdog.start(milliseconds);
                match self.channel.put_running(in_flight) {
                    Knock::Quiet => return,
                    // Another look was taken in the meantime, perhaps because it has finished now.
                    Knock::Knocked => continue,
                }
            }
            drop(started);
            self.watchdog.stop();
            return self.carry_out(verdict, in_flight);
        }
    }

    fn carry_out(&self, verdict: Verdict, in_flight: InFlight<H>) {
        let transfer = in_flight.transfer;
        match verdict {
            Verdict::Wait(_) => {}
            Verdict::Finished => {
                let concluded = self.channel.complete(transfer);
                self.conclude(concluded);
            }
            Verdict::Failed(fault) => self.give_up(transfer, fault),
            Verdict::Ended(why) => {
                let concluded = self.channel.fail(transfer, why.status());
                self.conclude(concluded);
            }
            Verdict::Stuck(why) => {
                // First, so that no request that follows at once gets as far as the card.
                self.failed.store(true, Ordering::Release);
                let concluded = self.channel.fail(transfer, why.status());
                self.conclude(concluded);
                self.device.set_failed();
            }
        }
    }

    /// What to do about a transfer that is the caller's.
    fn judge(
        &self,
        started: &Started<H>,
        in_flight: &mut InFlight<H>,
        why: Option<Why>,
    ) -> Verdict {
        let state = started.hardware.state(&in_flight.told);
        if let Some(cut) = in_flight.cut {
            return match state {
                Ok(State::Running) if cut.since.elapsed_ms() < GRACE => Verdict::Wait(POLL),
                Ok(State::Running) => Verdict::Stuck(cut.why),
                Err(Fault::Gone) => Verdict::Failed(Fault::Gone),
                // What it says about the transfer does not matter any more.
                Ok(State::Finished) | Err(Fault::Busy | Fault::Contradiction) => {
                    match let_back(started) {
                        Ok(()) => Verdict::Ended(cut.why),
                        Err(fault) => Verdict::Failed(fault),
                    }
                }
            };
        }
        match state {
            Ok(State::Finished) => return Verdict::Finished,
            Err(fault) => return Verdict::Failed(fault),
            Ok(State::Running) => {}
        }
        let elapsed = in_flight.since.elapsed_ms();
        let late = elapsed >= self.limit.into();
        let Some(why) = why.or(late.then_some(Why::TimedOut)) else {
            // Less than the limit, so it fits; and never at once again.
            let left = u64::from(self.limit).saturating_sub(elapsed);
            return Verdict::Wait(u32::try_from(left).unwrap_or(self.limit));
        };
        log::failure(c"cutting a transfer off", why.status());
        match started.bus.set_bus_master(false) {
            Ok(()) => {
                in_flight.cut = Some(Cut {
                    why,
                    since: Moment::now(),
                });
                Verdict::Wait(POLL)
            }
            // What does not answer on the bus cannot reach memory either.
            Err(DeviceGone) => Verdict::Failed(Fault::Gone),
        }
    }
}

/// The engine has stopped: lets the card use the bus again.
fn let_back<H: Hardware>(started: &Started<H>) -> Result<(), Fault> {
    started.hardware.quiesce()?;
    Ok(started.bus.set_bus_master(true)?)
}
