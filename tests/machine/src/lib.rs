//! The machine: a simulated PC that runs dmacard.sys, and the user-mode calls on top of it.

pub mod inf;
