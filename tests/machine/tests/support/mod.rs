//! What the machine's tests share.

#[allow(dead_code, reason = "no test uses all of it")]
pub mod edu;
