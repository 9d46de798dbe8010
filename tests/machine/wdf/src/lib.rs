//! The framework: KMDF 1.33 as its published source behaves, on the kernel's routines alone.
//!
//! A driver binds through [`loader_exports`] and gets a table of functions; what lies behind them knows the kernel by the
//! Windows names of its routines and nothing else, so a genuine `Wdf01000.sys` could take its place.
//!
//! - [`object`]: handles, contexts, parents and children, disposal;
//! - [`driver`], [`device`], [`fdo`]: what a driver creates first;
//! - [`pnp`]: the state machine that start, stop, power and removal drive;
//! - [`io`]: queues, requests, file objects;
//! - [`interrupt`], [`dma`]: the hardware's side;
//! - [`deferred`]: DPCs, timers, work items;
//! - [`verifier`], [`trace`], [`dump`]: what is checked and what can be seen.
//!
//! Comments name the file of the published source whose behaviour a module has.

#![allow(
    non_snake_case,
    non_upper_case_globals,
    reason = "the framework's functions have their Windows names"
)]

mod deferred;
mod device;
mod dma;
mod driver;
mod dump;
mod fdo;
mod flat;
mod globals;
mod interrupt;
mod io;
mod loader;
mod lock;
mod memory;
mod object;
mod pnp;
mod registry;
mod resource;
mod spinlock;
mod string;
mod table;
mod trace;
mod verifier;
mod waitlock;
mod wdm;
mod worker;

pub use loader::loader_exports;
