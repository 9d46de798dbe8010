//! How a transfer ends.
//!
//! While the controller has a transfer its buffer is in use, whatever the device says; so a transfer ends only after the
//! controller has said that it has: by itself, or because it was told to stop. If all was moved, a device that interrupts
//! has its say as well: what has been written has left it then.

use abi::fifo::Causes;
use kmdf::clock::Moment;
use kmdf::dma::Direction;
use kmdf::interrupt::{InterruptEvents, InterruptKey, Served};
use kmdf::slot::Knock;
use kmdf::timer::TimerEvents;
use kmdf::{DeviceGone, NtStatus, log};

use super::lane::{Heard, InFlight};
use super::{Port, Started};

/// Why a transfer is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Its request is to end.
    Cancelled,
    /// It took too long.
    TimedOut,
    /// The device does not answer any more.
    Gone,
}

impl Why {
    /// What its request ends with.
    const fn status(self) -> NtStatus {
        match self {
            Self::Cancelled => NtStatus::CANCELLED,
            Self::TimedOut => NtStatus::IO_TIMEOUT,
            Self::Gone => NtStatus::DEVICE_REMOVED,
        }
    }
}

/// What to do about a transfer.
enum Verdict {
    /// Wait for the controller or the device: for so many milliseconds, or until it is heard of.
    Wait(Option<u32>),
    /// All of it has been moved.
    Finished,
    /// It has ended, and nothing is known about what it has moved.
    Ended(NtStatus),
}

impl InterruptEvents for Port {
    /// Acknowledges what the device has to say, notes it, and leaves the work to the deferred call.
    fn service(&self, _message: u32) -> Served {
        let Some(started) = self.started.enter() else {
            return Served::NotOurs;
        };
        let causes = match started.registers.acknowledge() {
            Ok(causes) if !causes.is_empty() => causes,
            Ok(_) | Err(DeviceGone) => {
                self.counters.foreign_interrupts.increment();
                return Served::NotOurs;
            }
        };
        self.counters.interrupts.increment();
        if causes.contains(Causes::RX_DONE) {
            started.read.hear(Heard::DONE);
        }
        if causes.contains(Causes::TX_DONE) {
            started.write.hear(Heard::DONE);
        }
        Served::Defer
    }

    fn deferred(&self, _interrupt: InterruptKey) {
        self.counters.dpcs.increment();
        self.look_at_both();
    }
}

impl TimerEvents for Port {
    fn expired(&self) {
        self.look_at_both();
    }
}

impl Port {
    fn look_at_both(&self) {
        if let Some(started) = self.started.enter() {
            self.look(&started, Direction::FromDevice);
            self.look(&started, Direction::ToDevice);
        }
    }

    /// Looks how the transfer of a direction is doing, and ends it if it is over. IRQL <= DISPATCH_LEVEL.
    ///
    /// It may be called at any time and by several processors at once: who gets the transfer out of the channel has it
    /// alone, and puts it back if it goes on.
    pub(super) fn look(&self, started: &Started, direction: Direction) {
        let channel = &started.lane(direction).channel;
        while let Some(mut in_flight) = channel.take_running() {
            let concluded = match self.judge(started, direction, &mut in_flight) {
                Verdict::Wait(milliseconds) => {
                    if let Some(milliseconds) = milliseconds {
                        self.timer(direction).start(milliseconds);
                    }
                    match channel.put_running(in_flight) {
                        Knock::Quiet => return,
                        // Another look was taken in the meantime, perhaps because it has ended now.
                        Knock::Knocked => continue,
                    }
                }
                Verdict::Finished => channel.complete(in_flight.transfer),
                Verdict::Ended(status) => {
                    // It asks for the rest no more.
                    started.registers.ask(direction, 0);
                    channel.fail(in_flight.transfer, status)
                }
            };
            self.conclude(concluded);
            if !channel.is_wanted_back() {
                return;
            }
        }
    }

    /// What to do about a transfer that is the caller's.
    fn judge(&self, started: &Started, direction: Direction, in_flight: &mut InFlight) -> Verdict {
        let lane = started.lane(direction);
        let heard = lane.heard();
        if heard.contains(Heard::ERROR) {
            log::failure(c"transferring", NtStatus::IO_DEVICE_ERROR);
            self.counters.hardware_errors.increment();
            return Verdict::Ended(NtStatus::IO_DEVICE_ERROR);
        }
        if heard.contains(Heard::CANCELLED) {
            let why = in_flight.stopped.unwrap_or(Why::Cancelled);
            return Verdict::Ended(why.status());
        }
        let complete = heard.contains(Heard::COMPLETE);
        if complete && (!started.interrupts || heard.contains(Heard::DONE)) {
            return Verdict::Finished;
        }
        if in_flight.stopped.is_some() && !complete {
            // The controller will say so.
            return Verdict::Wait(None);
        }
        let Some(why) = self.reason_to_stop(started, direction, in_flight.since) else {
            let left = u64::from(self.limit).saturating_sub(in_flight.since.elapsed_ms());
            return Verdict::Wait(Some(u32::try_from(left).unwrap_or(self.limit)));
        };
        match why {
            // There is nothing to be stopped any more, only the device to be waited for.
            Why::Cancelled if complete => Verdict::Finished,
            Why::TimedOut | Why::Gone if complete => Verdict::Ended(why.status()),
            _ => {
                in_flight.stopped = Some(why);
                lane.channel.stop_transfer(&in_flight.transfer);
                Verdict::Wait(None)
            }
        }
    }

    fn reason_to_stop(
        &self,
        started: &Started,
        direction: Direction,
        since: Moment,
    ) -> Option<Why> {
        if started.lane(direction).channel.is_stopping() {
            Some(Why::Cancelled)
        } else if !started.registers.is_there() {
            Some(Why::Gone)
        } else if since.elapsed_ms() >= self.limit.into() {
            Some(Why::TimedOut)
        } else {
            None
        }
    }
}
