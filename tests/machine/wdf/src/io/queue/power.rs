//! A queue and the device's power (`ProcessPowerEvents`, `StopProcessingForPower`, `ResumeProcessingForPower`).

use std::sync::Arc;

use crate::flat::*;

use super::dispatch::Step;
use super::{Queue, State};
use crate::io::request::{Flags, List, Owner, Request, StopAnswer};
use crate::lock::Event;
use crate::trace;

/// Where a queue is between "delivers" and "holds" (`FXIOQUEUE_POWER_STATE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PowerState {
    /// It delivers.
    On,
    /// It holds.
    Off,
    /// Waits until no thread delivers any more.
    Starting,
    /// About to tell the driver of each request it has.
    Stopping,
    /// Tells it.
    StoppingNotifying,
    /// Waits for its answers.
    StoppingNotified,
    /// As `Stopping`, for good.
    Purging,
    /// Tells it.
    PurgingNotifying,
    /// Waits for its answers.
    PurgingNotified,
    /// About to tell the driver that it may go on.
    Restarting,
    /// Tells it.
    RestartingNotifying,
    /// Told.
    RestartingNotified,
}

impl PowerState {
    /// Neither on nor off.
    pub(super) fn is_transitional(self) -> bool {
        !matches!(self, Self::On | Self::Off)
    }

    /// The driver is being told of requests: no cancel callback comes in between.
    pub(super) fn is_notifying(self) -> bool {
        matches!(
            self,
            Self::StoppingNotifying | Self::PurgingNotifying | Self::RestartingNotifying
        )
    }
}

/// Why the queues of a device stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PowerAction {
    /// The device loses its power; power-managed queues hold what they have.
    Hold,
    /// The device goes; power-managed queues are emptied for good.
    PurgeManaged,
    /// The device is gone; so are the others.
    PurgeNonManaged,
}

impl Queue {
    /// The next step of a power change (`ProcessPowerEvents`).
    pub(super) fn power_step(&self, state: &mut State) -> Step {
        match state.power {
            PowerState::Starting => {
                if state.dispatching == 1 {
                    self.power_idle.set();
                }
                Step::Idle
            }
            PowerState::Stopping => Self::begin_notifying(state, PowerState::StoppingNotifying),
            PowerState::Purging => Self::begin_notifying(state, PowerState::PurgingNotifying),
            PowerState::Restarting => Self::begin_notifying(state, PowerState::RestartingNotifying),
            PowerState::StoppingNotifying => self.notify_stop(
                state,
                WdfRequestStopActionSuspend as u32,
                PowerState::StoppingNotified,
            ),
            PowerState::PurgingNotifying => self.notify_stop(
                state,
                WdfRequestStopActionPurge as u32,
                PowerState::PurgingNotified,
            ),
            PowerState::StoppingNotified | PowerState::PurgingNotified => self.await_answers(state),
            PowerState::RestartingNotifying => self.notify_resume(state),
            PowerState::RestartingNotified => {
                state.power = PowerState::On;
                Step::Again
            }
            PowerState::On | PowerState::Off => Step::Idle,
        }
    }

    fn begin_notifying(state: &mut State, next: PowerState) -> Step {
        state.power = next;
        state.power_notify = std::mem::take(&mut state.driver_owned);
        Step::Again
    }

    fn notify_stop(&self, state: &mut State, action: u32, next: PowerState) -> Step {
        let Some(request) = state.power_notify.pop_front() else {
            state.power = next;
            return Step::Again;
        };
        state.power_notified.push_back(request.clone());
        if action == WdfRequestStopActionPurge as u32 {
            request.set_stop_answer(StopAnswer::None);
        }
        if self.callbacks.stop.is_none() || request.is_marked_canceled() {
            return Step::Again;
        }
        let cancelable = request.list() == Some(List::Cancelable);
        let flags = action
            | if cancelable {
                WdfRequestStopRequestCancelable as u32
            } else {
                0
            };
        Step::Stop(request, flags)
    }

    fn notify_resume(&self, state: &mut State) -> Step {
        let Some(request) = state.power_notify.pop_front() else {
            state.power = PowerState::RestartingNotified;
            return Step::Again;
        };
        state.driver_owned.push_back(request.clone());
        if self.callbacks.resume.is_none() || request.is_marked_canceled() {
            return Step::Again;
        }
        Step::Resume(request)
    }

    /// Waits until each request was completed, requeued or acknowledged; then the queue is off.
    fn await_answers(&self, state: &mut State) -> Step {
        let answered = state
            .power_notified
            .iter()
            .position(|request| request.stop_answer() != StopAnswer::None);
        if let Some(request) = answered.and_then(|index| state.power_notified.remove(index)) {
            let requeue = request.stop_answer() == StopAnswer::Requeue;
            request.set_stop_answer(StopAnswer::None);
            request.clear_flags(Flags::IN_STOP);
            state.driver_owned.push_back(request.clone());
            return if requeue {
                Step::Requeue(request)
            } else {
                Step::Again
            };
        }
        if state.power_notified.is_empty() && state.dispatching == 1 {
            state.power = PowerState::Off;
            self.power_idle.set();
            return Step::Again;
        }
        Step::Idle
    }

    /// Puts a request the driver gave back in EvtIoStop to the head of the queue.
    pub(super) fn requeue_stopped(&self, request: &Arc<Request>) {
        request.clear_flags(Flags::DRIVER_OWNED);
        request.set_owner(Owner::None);
        let mut state = self.lock();
        state.take_from_driver(request);
        if !state.cancel_dispatched && self.insert(&mut state, request, List::Pending, true) {
            state.check_transition();
        } else {
            self.cancel_queued(state, request);
        }
    }

    /// Stops delivering and waits until no thread delivers any more (`StartPowerTransitionOff`).
    pub(crate) fn begin_power_off(&self) {
        if !self.power_managed {
            return;
        }
        let mut state = self.lock();
        state.power = PowerState::Starting;
        self.power_idle.clear();
        if self.dispatch_events(state, None) {
            self.wait(&self.power_idle, "all threads to stop delivering requests");
        }
    }

    /// Stops the queue and waits until the driver has answered for every request it has (`StopProcessingForPower`).
    pub(crate) fn power_off(&self, action: PowerAction) {
        let purge = action != PowerAction::Hold;
        if self.power_managed == (action == PowerAction::PurgeNonManaged) {
            return;
        }
        if purge {
            let mut state = self.lock();
            state.shutdown = true;
            state.set_accepting(false);
            drop(state);
            self.purge(true, None);
        }
        let mut state = self.lock();
        state.power = if purge {
            PowerState::Purging
        } else {
            PowerState::Stopping
        };
        self.power_idle.clear();
        if self.dispatch_events(state, None) {
            self.wait(
                &self.power_idle,
                "all requests the driver has to be completed or acknowledged",
            );
        }
    }

    /// Lets the queue deliver again: EvtIoResume for what the driver kept (`ResumeProcessingForPower`).
    pub(crate) fn power_on(&self) {
        if !self.power_managed {
            return;
        }
        let mut state = self.lock();
        if state.power == PowerState::Off {
            state.power = PowerState::Restarting;
            self.dispatch_events(state, None);
        }
    }

    /// Delivers what waited for power (`StartPowerTransitionOn`).
    pub(crate) fn finish_power_on(&self) {
        if !self.power_managed {
            return;
        }
        let mut state = self.lock();
        if !state.pending.is_empty() {
            state.set_transition();
        }
        self.dispatch_events(state, None);
    }

    /// Says whether the queue delivers, when it joins its device.
    pub(crate) fn set_initial_power(&self, on: bool, shutting_down: bool) {
        let mut state = self.lock();
        if self.power_managed {
            state.power = if on { PowerState::On } else { PowerState::Off };
        }
        if !on && shutting_down {
            state.shutdown = true;
            state.set_accepting(false);
        }
    }

    /// Waits for a signal of the dispatch loop's; a long wait is reported once (`WaitForSignal`).
    pub(super) fn wait(&self, event: &Event, what: &str) {
        let globals = self.globals();
        let limit = i64::from(globals.wait_seconds()) * 10_000_000;
        if event.wait(Some(limit)) {
            return;
        }
        trace::error(
            globals,
            &format!(
                "thread waits for {what}, WDFQUEUE {:p}, since {} s",
                self.handle(),
                globals.wait_seconds()
            ),
        );
        crate::verifier::break_point(globals);
        event.wait(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_and_off_are_the_only_resting_states() {
        assert!(!PowerState::On.is_transitional());
        assert!(!PowerState::Off.is_transitional());
        assert!(PowerState::StoppingNotified.is_transitional());
        assert!(!PowerState::StoppingNotified.is_notifying());
        assert!(PowerState::RestartingNotifying.is_notifying());
    }
}
