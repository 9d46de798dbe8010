//! Spin locks: who owns which.

use crate::sched::ThreadId;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Who holds a spin lock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    pub(crate) processor: usize,
    pub(crate) thread: ThreadId,
}

static OWNERS: Mutex<BTreeMap<usize, Owner>> = Mutex::new(BTreeMap::new());

/// Whether nobody holds the lock.
pub(crate) fn is_free(lock: usize) -> bool {
    OWNERS
        .lock()
        .is_ok_and(|owners| !owners.contains_key(&lock))
}

/// For dumps: the lock and its owner.
pub(crate) fn describe(lock: usize) -> String {
    let owner = OWNERS
        .try_lock()
        .ok()
        .and_then(|owners| owners.get(&lock).copied());
    match owner {
        Some(o) => format!(
            "spin lock {lock:#x} (owned by cpu{}, t{})",
            o.processor, o.thread.0
        ),
        None => format!("spin lock {lock:#x} (free)"),
    }
}
