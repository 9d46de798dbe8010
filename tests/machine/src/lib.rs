//! The machine: a simulated PC that runs dmacard.sys, and the user-mode calls on top of it.

mod board;
mod config;
mod driver;
mod faults;
pub mod inf;
mod machine;
mod schedule;
pub mod testdriver;
pub mod user;

pub use config::{CardConfig, CardServer, Config, Device, DriverSource, Interrupts, Session};
pub use machine::{Machine, MachineError, run};
pub use machine_bus::fault;
pub use machine_bus::{CardFault, CardFaults, CardTiming, FifoFault, FifoFaults, Way};
pub use machine_hal::pnp::Phase;
pub use machine_nt::bugcheck;
pub use machine_nt::ex::pool::fail_allocation;
pub use machine_nt::failure;
pub use machine_nt::mode::Mode;
pub use machine_nt::sched::Watchdog;
pub use machine_nt::sched::policy::Draw;
pub use machine_nt::{counters, dbg, trace};
pub use nt_sys;
#[doc(hidden)]
pub use pastey;
pub use schedule::{Course, ForkError, Forked, PolicyKind, course, next_device_event};
