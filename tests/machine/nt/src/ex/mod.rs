//! Executive: pool, lookaside lists, work items.

mod arena;
pub(crate) mod fastmutex;
pub(crate) mod lookaside;
pub mod pool;
pub(crate) mod rundown;
pub(crate) mod workitem;
