//! Both boards, alone, against each other, failing, and recorded.
//!
//! The distribution's QEMU is needed; `MACHINE_QEMU` names another one.

mod card;
mod common;
mod differential;
mod faults;
mod local;
mod platform;
mod qemu;
mod replay;
mod threaded;
mod vfio_user;
mod vfio_user_differential;
