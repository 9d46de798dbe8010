//! What happens when no processor has anything to do: time jumps, or the machine waits for the board.

use super::state::with;
use crate::bugcheck::{Stop, stop_machine};
use crate::mode;
use std::sync::Arc;
use std::time::Duration;

/// Where interrupts come from: the board, through the HAL.
pub trait InterruptSource: Send + Sync {
    /// Takes what the board did up to `now` (ns, virtual) and requests the interrupts that follow from it with
    /// [`super::request_interrupt`]. Runs between two steps of the machine; must not pass a switch point.
    fn poll(&self, now: u64);

    /// Virtual time at which an in-process device does something next.
    fn next_event(&self) -> Option<u64>;

    /// Whether something outside the process may act at any moment, so that it is worth waiting in real time.
    fn is_external(&self) -> bool;

    /// Whether [`InterruptSource::poll`] may have something to take. Asked at every switch point of a machine that runs
    /// freely, so it has to be cheap.
    fn has_news(&self) -> bool {
        true
    }

    /// External boards: waits in real time until something happens, at most for `limit`.
    fn wait(&self, limit: Duration) -> Waited;
}

/// What came of waiting for an external board.
pub struct Waited {
    /// Something happened.
    pub happened: bool,
    /// How long it took, as the board says: when a recorded session is replayed, the recorded time.
    pub elapsed: Duration,
}

/// Between two polls of an external board that is asked while the machine is busy: this many switch points.
const EXTERNAL_POLL_INTERVAL: u32 = 8;
/// Longest single wait for an external board.
const WAIT_SLICE: Duration = Duration::from_millis(20);

/// Polls the board if it is time to.
pub(super) fn poll() {
    let source = with(|k| {
        if k.polling {
            return None;
        }
        let source = k.source.as_ref()?;
        let due = if mode::is_free_running() {
            source.has_news()
        } else if source.is_external() {
            k.polls_skipped += 1;
            k.polls_skipped >= EXTERNAL_POLL_INTERVAL
        } else {
            source
                .next_event()
                .is_some_and(|event| event <= k.clock.now())
        };
        due.then(|| {
            k.polling = true;
            k.polls_skipped = 0;
            (Arc::clone(source), k.clock.now())
        })
    });
    if let Some((source, now)) = source {
        source.poll(now);
        with(|k| k.polling = false);
    }
}

/// Longest virtual time in which timers and DPCs may run, but no thread.
const LONGEST_WITHOUT_THREAD: Duration = Duration::from_secs(3600);

/// Called on the stack of the run loop when nothing can run: lets time pass until something can.
pub(super) fn idle() {
    let (source, now, next_deadline, limit, last_thread) = with(|k| {
        let clock = &k.clock;
        (
            k.source.clone(),
            clock.now(),
            clock.next(),
            k.idle_limit,
            k.last_thread,
        )
    });
    if next_deadline.is_some_and(|next| next <= now) {
        if mode::is_free_running() {
            // It has become due since the processors were asked.
            return;
        }
        deadlock("every processor spins for a lock that no one will release");
    }
    let without_thread = Duration::from_nanos(now - last_thread);
    if without_thread > LONGEST_WITHOUT_THREAD {
        let seconds = without_thread.as_secs();
        deadlock(&format!(
            "timers expire, but no thread has run for {seconds} s of virtual time"
        ));
    }
    let Some(source) = source else {
        match next_deadline {
            Some(next) if mode::is_free_running() => {
                return std::thread::sleep(Duration::from_nanos(next - now));
            }
            Some(next) => return with(|k| k.clock.advance_to(next)),
            None => deadlock("nothing can run, no timer is set, no device is there"),
        }
    };
    source.poll(now);
    if with(|k| k.anything_runnable()) {
        return;
    }
    if source.is_external() {
        return wait_external(&*source, now, next_deadline, limit);
    }
    match next_deadline.into_iter().chain(source.next_event()).min() {
        Some(next) => {
            with(|k| k.clock.advance_to(next));
            source.poll(next);
        }
        None => deadlock("nothing can run, no timer is set, no device has anything to do"),
    }
}

fn wait_external(
    source: &dyn InterruptSource,
    now: u64,
    next_deadline: Option<u64>,
    limit: Duration,
) {
    let slice = next_deadline.map_or(WAIT_SLICE, |next| {
        WAIT_SLICE.min(Duration::from_nanos(next.saturating_sub(now)))
    });
    let Waited { happened, elapsed } = source.wait(slice);
    let passed = if happened {
        elapsed
    } else {
        elapsed.max(slice)
    };
    let idle_for = with(|k| {
        k.clock.advance(passed.as_nanos() as u64);
        k.idle_for = if happened {
            Duration::ZERO
        } else {
            k.idle_for + elapsed
        };
        k.idle_for
    });
    source.poll(now + passed.as_nanos() as u64);
    if next_deadline.is_none() && idle_for > limit {
        deadlock(&format!(
            "nothing can run, no timer is set, and the board has been silent for {} s",
            limit.as_secs()
        ));
    }
}

fn deadlock(text: &str) -> ! {
    stop_machine(Stop::Deadlock, text)
}
