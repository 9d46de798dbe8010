//! A bell: one thread waits for it, any thread rings it.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a waiting thread looks for the bell before it goes to sleep: longer than a wake-up takes, so that two threads
/// that answer each other at once do not pay for one each time.
const LOOKING: Duration = Duration::from_micros(50);
/// Looks between two glances at the clock.
const LOOKS: u32 = 64;

/// Rung once or many times, it wakes the waiting thread once.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: AtomicBool,
    asleep: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
}

impl Bell {
    /// Ends the present wait, or the next one.
    pub(super) fn ring(&self) {
        self.rung.store(true, SeqCst);
        // Either this sees the sleeper, or the sleeper sees the bell rung: both write before they read.
        if self.asleep.load(SeqCst) {
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.wake.notify_one();
        }
    }

    /// Waits until the bell has been rung since the last wait, at most for `limit`; whether it was.
    pub(super) fn wait(&self, limit: Duration) -> bool {
        let start = Instant::now();
        let looking = limit.min(LOOKING);
        while start.elapsed() < looking {
            for _ in 0..LOOKS {
                if self.rung.load(SeqCst) {
                    return self.rung.swap(false, SeqCst);
                }
                std::hint::spin_loop();
            }
        }
        self.sleep(start + limit);
        self.rung.swap(false, SeqCst)
    }

    fn sleep(&self, end: Instant) {
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.asleep.store(true, SeqCst);
        while !self.rung.load(SeqCst) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            guard = match self.wake.wait_timeout(guard, left) {
                Ok((guard, _)) => guard,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        self.asleep.store(false, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_ring_before_the_wait_counts_and_many_are_one() {
        let bell = Bell::default();
        bell.ring();
        bell.ring();
        assert!(bell.wait(LONG));
        assert!(!bell.wait(Duration::from_millis(1)));
    }

    /// Each waits for the other, often long enough to fall asleep: a wake-up that is lost ends in a time-out.
    #[test]
    fn no_ring_is_lost() {
        let bells = [Arc::new(Bell::default()), Arc::new(Bell::default())];
        let answer = |mine: Arc<Bell>, other: Arc<Bell>| {
            move || {
                (0..2000).all(|round| {
                    let heard = mine.wait(LONG);
                    if round % 50 == 0 {
                        thread::sleep(3 * LOOKING);
                    }
                    other.ring();
                    heard
                })
            }
        };
        let [a, b] = bells.clone();
        let first = thread::spawn(answer(a.clone(), b.clone()));
        let second = thread::spawn(answer(b, a.clone()));
        a.ring();
        assert!(first.join().unwrap());
        assert!(second.join().unwrap());
    }
}
