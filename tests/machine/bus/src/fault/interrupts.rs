//! What becomes of interrupts on their way.

use super::agenda::Work;
use super::plan::{Fault, FaultKind};
use super::state::State;
use crate::BoardEvent;

/// The function's interrupt line.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// The board says it is asserted.
    asked: bool,
    /// Nobody is told, until it is released.
    held: bool,
    /// It is asserted though nobody asks for it.
    pulse: bool,
    /// How long after its release it is asserted once more.
    repeat: Option<(Fault, u64)>,
    /// What the machine was told last.
    shown: bool,
}

/// How long the line stays asserted for nothing, unless the driver looks at the device before.
const PULSE: u64 = 10_000;

/// The faults that an interrupt may have, the more severe first.
fn concerns(kind: &FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::DropInterrupt
            | FaultKind::DelayInterrupt { .. }
            | FaultKind::DuplicateInterrupt { .. }
    )
}

impl State {
    /// Passes on, changes or swallows what the board reports.
    pub(super) fn pass_on(&mut self, event: BoardEvent) {
        match event {
            BoardEvent::Line { line, asserted } if self.watch.line() == Some(line) => {
                if asserted {
                    self.line_asserted();
                } else {
                    self.line_released();
                }
            }
            BoardEvent::Message { vector } if self.watch.sends(vector) => {
                if self.up {
                    self.message(vector);
                }
            }
            event => self.news.push(event),
        }
    }

    fn message(&mut self, vector: u8) {
        self.arsenal.counts.interrupts += 1;
        let now = self.arsenal.counts.now;
        let mut arrives = true;
        for fault in self.arsenal.at_opportunity(concerns) {
            match fault.kind {
                FaultKind::DropInterrupt => {
                    arrives = false;
                    self.fire(fault, format!("message {vector:#x} is lost"));
                }
                FaultKind::DelayInterrupt { by_ns } if arrives => {
                    arrives = false;
                    self.agenda.enter(now + by_ns, Work::Message(vector));
                    self.fire(
                        fault,
                        format!("message {vector:#x} arrives {by_ns} ns later"),
                    );
                }
                FaultKind::DuplicateInterrupt { after_ns } => {
                    self.agenda.enter(now + after_ns, Work::Message(vector));
                    self.fire(
                        fault,
                        format!("message {vector:#x} arrives again after {after_ns} ns"),
                    );
                }
                _ => {}
            }
        }
        if arrives {
            self.news.push(BoardEvent::Message { vector });
        }
    }

    fn line_asserted(&mut self) {
        self.line.asked = true;
        if self.up && self.watch.uses_line() {
            self.arsenal.counts.interrupts += 1;
            let now = self.arsenal.counts.now;
            for fault in self.arsenal.at_opportunity(concerns) {
                match fault.kind {
                    FaultKind::DropInterrupt => {
                        self.line.held = true;
                        self.fire(fault, "nobody hears of the line".to_owned());
                    }
                    FaultKind::DelayInterrupt { by_ns } if !self.line.held => {
                        self.line.held = true;
                        self.agenda.enter(now + by_ns, Work::Let);
                        self.fire(fault, format!("the line is asserted {by_ns} ns later"));
                    }
                    FaultKind::DuplicateInterrupt { after_ns } => {
                        self.line.repeat = Some((fault, after_ns));
                    }
                    _ => {}
                }
            }
        }
        self.update_line();
    }

    fn line_released(&mut self) {
        self.line.asked = false;
        self.line.held = false;
        self.agenda.cancel(|work| matches!(work, Work::Let));
        self.update_line();
        if let Some((fault, after_ns)) = self.line.repeat.take() {
            let due = self.arsenal.counts.now + after_ns;
            self.agenda.enter(due, Work::Pulse);
            self.fire(
                fault,
                format!("the line will be asserted again {after_ns} ns after its release"),
            );
        }
    }

    /// Tells of the line if its level has changed.
    fn update_line(&mut self) {
        let asserted = self.line.asked && !self.line.held || self.line.pulse;
        if let Some(line) = self.watch.line()
            && asserted != self.line.shown
        {
            self.line.shown = asserted;
            self.news.push(BoardEvent::Line { line, asserted });
        }
    }

    /// The delayed line.
    pub(super) fn let_line(&mut self) {
        self.line.held = false;
        self.update_line();
    }

    /// Asserts the line for nothing.
    pub(super) fn pulse(&mut self) {
        self.line.pulse = true;
        let due = self.arsenal.counts.now + PULSE;
        self.agenda.enter(due, Work::EndPulse);
        self.update_line();
    }

    /// The end of an assertion for nothing: its time is over, or the driver has looked at the device.
    pub(super) fn end_pulse(&mut self) {
        if self.line.pulse {
            self.line.pulse = false;
            self.agenda.cancel(|work| matches!(work, Work::EndPulse));
            self.update_line();
        }
    }

    /// Whether the function could interrupt just now.
    pub(super) fn can_interrupt(&self) -> bool {
        self.up
            && (self.watch.uses_line() || self.watch.is_master() && self.watch.vector().is_some())
    }

    /// An interrupt for nothing.
    pub(super) fn interrupt(&mut self, fault: Fault) {
        if let Some(vector) = self.watch.vector() {
            self.news.push(BoardEvent::Message { vector });
            self.fire(
                fault,
                format!("message {vector:#x} arrives though nobody sent it"),
            );
        } else {
            self.pulse();
            self.fire(
                fault,
                "the line is asserted though nobody asks for it".to_owned(),
            );
        }
    }

    /// The function is off the bus: what the line still shows of it ends. Others may use the line on.
    pub(super) fn silence(&mut self) {
        self.line.pulse = false;
        self.line.repeat = None;
        self.line.held = self.line.asked;
        self.update_line();
    }
}
