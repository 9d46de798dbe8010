//! The last events of the machine, kept in a ring and printed at a stop; and a hash of all of them.

use crate::digest::Digest;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const CAPACITY: usize = 1024;
/// What a stop prints of them, unless told otherwise.
const SHOWN: usize = 48;

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

/// All events since [`reset`], in one number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many.
    pub events: u64,
    /// Hash of what happened when and where. Addresses of the host are left out, since they differ from process to
    /// process.
    pub hash: u64,
}

struct Ring {
    events: Vec<Event>,
    next: usize,
    recorded: u64,
    digest: Option<Digest>,
}

static RING: Mutex<Ring> = Mutex::new(Ring {
    events: Vec::new(),
    next: 0,
    recorded: 0,
    digest: None,
});
static TO_SHOW: AtomicUsize = AtomicUsize::new(SHOWN);

/// Above all that is a number, an offset or a physical address.
const HOST_ADDRESSES: u64 = 1 << 40;

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
    ring.recorded += 1;
    if let Some(digest) = &mut ring.digest {
        event.add_to(digest);
    }
    if ring.events.len() < CAPACITY {
        ring.events.push(event);
    } else {
        let next = ring.next;
        ring.events[next] = event;
        ring.next = (next + 1) % CAPACITY;
    }
}

impl Event {
    fn add_to(&self, digest: &mut Digest) {
        digest.add(self.time);
        digest.add(
            (self.processor as u64) << 40 | u64::from(self.thread) << 8 | u64::from(self.irql),
        );
        digest.add_text(self.what);
        if self.argument < HOST_ADDRESSES {
            digest.add(self.argument);
        }
    }
}

/// Forgets all events and hashes those that follow.
pub fn reset() {
    if let Ok(mut ring) = RING.lock() {
        ring.events.clear();
        ring.next = 0;
        ring.recorded = 0;
        ring.digest = Some(Digest::default());
    }
}

/// The events since [`reset`]; `None` if it was never called, or the ring is in use.
pub fn summary() -> Option<Summary> {
    let ring = RING.try_lock().ok()?;
    Some(Summary {
        events: ring.recorded,
        hash: ring.digest?.value(),
    })
}

/// Sets how many events a stop prints.
pub fn show(count: usize) {
    TO_SHOW.store(count, Relaxed);
}

/// The recorded events, oldest first.
pub fn events() -> Vec<Event> {
    let Ok(ring) = RING.try_lock() else {
        return Vec::new();
    };
    let (newer, older) = ring.events.split_at(ring.next);
    older.iter().chain(newer).copied().collect()
}

/// Prints the last events.
pub fn dump(out: &mut dyn Write) {
    let events = events();
    let skip = events.len().saturating_sub(TO_SHOW.load(Relaxed));
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
