//! The card: a model of its registers, rings and engines, whatever bus it is plugged into.
//!
//! `docs/card.md` is the card's manual, [`abi::card`] its layout. The model has no thread, no clock and no memory but
//! its own: a transport passes register accesses to [`Card::read`] and [`Card::write`], calls [`Card::run`] when
//! [`Card::next_event`] is due, and is a [`Bus`] for what the card does on its own. Every call does a bounded amount of
//! work, whatever the host has written.

#![forbid(unsafe_code)]

mod bus;
mod card;
mod channel;
mod fault;
mod function;
mod interrupts;
mod memory;
mod timing;

pub use bus::{Bus, BusError, Clock, HostMemory, Interrupts, Signalling};
pub use card::{Card, Pace};
pub use fault::{Fault, Faults, NoFault, Planned};
pub use function::{Function, MSIX_BAR, REGISTERS_BAR, config_space};
pub use memory::{Memory, SizeError, Uncorrectable};
pub use timing::Timing;
