//! Keeps a device from being removed while Plug and Play and power requests are in its driver (`IO_REMOVE_LOCK`).

use crate::lock::{Event, Record};

#[derive(Default)]
struct State {
    users: usize,
    removed: bool,
}

/// A remove lock.
pub(super) struct RemoveLock {
    state: Record<State>,
    free: Event,
}

impl RemoveLock {
    /// A lock nobody holds.
    pub(super) fn new() -> Self {
        Self {
            state: Record::default(),
            free: Event::new(),
        }
    }

    /// Takes the lock for one request. False once the device is being removed.
    pub(super) fn acquire(&self) -> bool {
        self.state.with(|state| {
            state.users += usize::from(!state.removed);
            !state.removed
        })
    }

    /// Gives the lock back.
    pub(super) fn release(&self) {
        let last = self.state.with(|state| {
            state.users -= 1;
            state.users == 0 && state.removed
        });
        if last {
            self.free.set();
        }
    }

    /// Refuses new requests, gives the own hold back and waits for all others. `PASSIVE_LEVEL`.
    pub(super) fn release_and_wait(&self) {
        self.state.with(|state| state.removed = true);
        self.release();
        while self.state.with(|state| state.users) != 0 {
            self.free.wait(None);
        }
    }
}
