//! The DPC watchdog: a processor that is kept at DISPATCH_LEVEL or above runs no thread.

use std::time::Duration;

use super::processor::DISPATCH_LEVEL;
use super::state::{Kernel, with};
use crate::bugcheck::{self, code};

/// How long a processor may be kept from its threads, in virtual time.
#[derive(Debug, Clone, Copy)]
pub struct Watchdog {
    /// By one DPC, with the interrupts that come meanwhile.
    pub dpc: Duration,
    /// At DISPATCH_LEVEL or above without a break.
    pub dispatch: Duration,
}

impl Default for Watchdog {
    /// What Windows has if the registry says nothing else.
    fn default() -> Self {
        Self {
            dpc: Duration::from_secs(20),
            dispatch: Duration::from_secs(120),
        }
    }
}

/// Since when a processor has been kept from its threads, ns of virtual time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Busy {
    raised: Option<u64>,
    dpc: u64,
}

/// Of Windows' clock, in which the bug check counts.
const TICK: Duration = Duration::from_micros(15_625);

fn ticks(time: Duration) -> u64 {
    (time.as_nanos() / TICK.as_nanos()) as u64
}

/// Takes note that an interrupt or the DPC queue begins, which interrupted code at `before`.
pub(super) fn begin(before: u8) {
    if before < DISPATCH_LEVEL {
        with(|k| k.here().busy.raised = Some(k.clock.now()));
    }
}

/// Takes note that a DPC begins.
pub(super) fn begin_dpc() {
    with(|k| k.here().busy.dpc = k.clock.now());
}

/// Stops with 0x133 if the current processor has been busy for too long.
pub(super) fn check() {
    if let Some((parameters, text)) = with(Kernel::overrun) {
        bugcheck::stop(code::DPC_WATCHDOG_VIOLATION, parameters, text);
    }
}

impl Kernel {
    fn overrun(&mut self) -> Option<([u64; 4], String)> {
        let (now, limit) = (self.clock.now(), self.watchdog);
        let processor = self.here();
        if processor.irql < DISPATCH_LEVEL {
            processor.busy.raised = None;
            return None;
        }
        let since = |start| Duration::from_nanos(now - start);
        let dpc = since(processor.busy.dpc);
        if let Some(object) = processor.active_dpc.filter(|_| dpc > limit.dpc) {
            let text = format!("DPC {object:#x} has run for {} ms", dpc.as_millis());
            return Some(([0, ticks(dpc), ticks(limit.dpc), 0], text));
        }
        let raised = since(*processor.busy.raised.get_or_insert(now));
        (raised > limit.dispatch).then(|| {
            let text = format!(
                "the processor has been at DISPATCH_LEVEL or above for {} ms",
                raised.as_millis()
            );
            ([1, ticks(limit.dispatch), 0, 0], text)
        })
    }
}
