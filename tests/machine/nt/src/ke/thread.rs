//! Threads.

use crate::sched::{self, State};

/// The body of the current thread has returned.
pub(crate) fn terminated() {
    sched::with(|k| k.leave(State::Terminated));
}
