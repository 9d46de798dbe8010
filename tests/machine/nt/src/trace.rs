//! The last events of the machine, kept in a ring and printed at a stop.

use std::fmt::Write;
use std::sync::Mutex;

const CAPACITY: usize = 256;

/// One event: what happened where and when.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    /// Virtual time, ns.
    pub time: u64,
    /// Simulated processor.
    pub processor: usize,
    /// Number of the thread on it.
    pub thread: u32,
    /// IRQL of the processor.
    pub irql: u8,
    /// The routine or event.
    pub what: &'static str,
    /// What it concerns: an address, an offset, a number.
    pub argument: u64,
}

struct Ring {
    events: Vec<Event>,
    next: usize,
}

static RING: Mutex<Ring> = Mutex::new(Ring {
    events: Vec::new(),
    next: 0,
});

/// Records an event at the current processor.
pub fn record(what: &'static str, argument: u64) {
    if crate::mode::is_free_running() {
        return;
    }
    let Some(place) = crate::sched::place() else {
        return;
    };
    let event = Event {
        time: place.time,
        processor: place.processor,
        thread: place.thread.0,
        irql: place.irql,
        what,
        argument,
    };
    let Ok(mut ring) = RING.lock() else { return };
    if ring.events.len() < CAPACITY {
        ring.events.push(event);
    } else {
        let next = ring.next;
        ring.events[next] = event;
        ring.next = (next + 1) % CAPACITY;
    }
}

/// The recorded events, oldest first.
pub fn events() -> Vec<Event> {
    let Ok(ring) = RING.try_lock() else {
        return Vec::new();
    };
    let (newer, older) = ring.events.split_at(ring.next);
    older.iter().chain(newer).copied().collect()
}

/// Prints the last `count` events.
pub fn dump(out: &mut dyn Write, count: usize) {
    let events = events();
    let skip = events.len().saturating_sub(count);
    let _ = writeln!(out, "last events (time us, processor, thread, IRQL):");
    for e in &events[skip..] {
        let micros = e.time / 1000;
        let nanos = e.time % 1000;
        let (p, t, i) = (e.processor, e.thread, e.irql);
        let _ = writeln!(
            out,
            "  {micros:>10}.{nanos:03} cpu{p} t{t:<3} irql {i:<2} {} {:#x}",
            e.what, e.argument
        );
    }
}
