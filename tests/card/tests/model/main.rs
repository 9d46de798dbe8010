//! What the card does, as its manual has it.

mod common;
mod errors;
mod faults;
mod gather;
mod interrupts;
mod registers;
#[path = "../support/mod.rs"]
mod support;
mod transfers;
