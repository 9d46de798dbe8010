//! Both boards, alone and against each other.
//!
//! The distribution's QEMU is needed; `MACHINE_QEMU` names another one.

mod common;
mod differential;
mod local;
mod qemu;
