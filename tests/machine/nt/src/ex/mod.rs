//! Executive: pool, lookaside lists, work items.

pub(crate) mod fastmutex;
pub(crate) mod lookaside;
pub mod pool;
mod arena;
pub(crate) mod workitem;
