//! Waiting for dispatcher objects.

use crate::sched::time::Ticket;
use crate::sched::{Kernel, ThreadId};
use std::fmt;

const STATUS_TIMEOUT: i32 = 0x102;

/// What a thread waits for.
#[derive(Debug)]
pub(crate) struct Wait {
    /// Addresses of the dispatcher objects.
    pub(crate) objects: Vec<usize>,
    /// All of them, or any.
    pub(crate) all: bool,
    /// Its timeout.
    pub(crate) timeout: Option<Ticket>,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.all { "all of" } else { "any of" })?;
        for object in &self.objects {
            write!(f, " {object:#x}")?;
        }
        Ok(())
    }
}

/// The timeout of a wait has passed.
pub(crate) fn time_out(k: &mut Kernel, thread: ThreadId) {
    k.thread(thread).wait_status = STATUS_TIMEOUT;
    k.make_ready(thread);
}
