//! dmacard.sys: a KMDF driver for cards that move data by bus-master DMA, and for a device whose data a system DMA
//! controller moves.
//!
//! Reads and writes of a file address the card's memory; the card moves the data itself. Whoever wants to know how, in
//! one sitting, follows one `WriteFile` through four phases, the four of the framework's documentation:
//!
//! 1. **Enabling DMA.** [`device::Card::add`]: the enabler says what the card can do, before anything else happens.
//! 2. **The transaction.** [`transfer`], `begin`: the request comes out of its queue, is checked, and becomes a
//!    transaction that the framework splits into transfers.
//! 3. **Programming the card.** [`transfer`], `program`: the framework has mapped one transfer's memory, and the card is
//!    told.
//! 4. **Completion.** [`interrupt`]: the card interrupts, and a deferred call follows; [`watch`], `look`: the
//!    transfer is reported to the framework, which goes back to phase 3 or says that the request is done.
//!
//! | file | role |
//! |---|---|
//! | `driver` | the entry point; which hardware is behind a new device |
//! | `device` | one card: how it is set up, started, stopped |
//! | `queue` | which requests arrive where |
//! | `transfer` | the way of a request into the DMA engine |
//! | `watch` | how a transfer ends: finished, failed, too late, cut off |
//! | `power` | DMA when power comes and goes |
//! | `reset` | a fresh start on request |
//! | `interrupt` | the service routine and the deferred call |
//! | `ioctl` | control requests |
//! | `mode` | how requests get their map registers: reserved ahead, or at once or not at all |
//! | `statistics` | what is counted |
//! | `outcome` | how reads and writes end |
//! | `fifo` | a FIFO peripheral, whose data a system DMA controller moves: system mode |
//! | `hw` | hardware with one engine: one small implementation of a trait for each kind |
//! | `ring` | the ring card: many requests in flight in each direction |
//!
//! # Who owns what
//!
//! A card has one DMA engine for both directions, so one queue gets reads and writes and hands out the next one when
//! the one before it has been completed: requests wait in the framework's queue, in order, and are cancelled there by
//! the framework. The one that is being carried out is in the card's [`Channel`](kmdf::dma::Channel): the deferred call,
//! the cancel routine, the time limit, a reset, a power transition and a removal compete for it, and who gets it ends it,
//! alone. No lock is held anywhere while the framework is called, because there is none. docs/driver.md tells it in
//! full.
#![no_std]
#![forbid(unsafe_op_in_unsafe_fn)]

extern crate alloc;
extern crate wdk_panic;

use wdk_alloc::WdkAllocator;

/// Nonpaged pool, for what is sized when a device is added; the data path allocates nothing.
#[global_allocator]
static POOL: WdkAllocator = WdkAllocator;

mod device;
mod driver;
mod fifo;
mod hw;
mod interrupt;
mod ioctl;
mod mode;
mod outcome;
mod power;
mod queue;
mod reset;
mod ring;
mod statistics;
mod transfer;
mod watch;
