//! What the machine's tests share.

pub mod edu;
