//! I/O: the package that dispatches IRPs to queues, queues, requests and file objects (`irphandlers/io`, `irphandlers/general`).

pub(crate) mod file;
pub(crate) mod package;
pub(crate) mod queue;
pub(crate) mod request;
