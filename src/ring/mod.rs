//! The ring card: a scatter/gather bus master with a channel for each direction; docs/card.md is its manual.
//!
//! | file | role |
//! |---|---|
//! | `card` | the device: how it is set up, started, powered and stopped |
//! | `requests` | reads and writes as they arrive, are programmed and are cancelled |
//! | `interrupts` | which message is about what; the service routine and the deferred call |
//! | `control` | what it is, for control requests |
//! | `engine` | one channel: its slots, the way into the descriptor ring, aborts |
//! | `gate` | how a channel is opened and closed |
//! | `drain` | the way out of the completion ring, where nothing is believed |
//! | `recovery` | what is done about a card that hangs, lies or is gone; the reset |
//! | `memory` | rings and shadow blocks |
//! | `registers` | registers |
//!
//! # Who owns what
//!
//! A channel has [`SLOTS`] slots, each with a transaction of its own, made when the device is added. The queue of a
//! direction hands out as many requests as there are slots, so one that arrives finds a free slot, and the others wait in
//! the queue, where the framework cancels them. The rings have room for the longest transfer of every slot at the same
//! time: the slot is the reservation, and `EvtProgramDma` never finds the ring full.
//!
//! Into the descriptor ring several processors put transfers, one after the other, under a spin lock that is held for no
//! call of the framework. The completion ring is drained by one at a time, who waits for nobody
//! ([`Turn`](kmdf::turn::Turn)); only he takes transfers out of the slots.

mod card;
mod control;
mod drain;
mod engine;
mod gate;
mod interrupts;
mod memory;
mod recovery;
mod registers;
mod requests;

pub(crate) use card::RingCard;

/// Requests in flight for each direction.
pub(crate) const SLOTS: u32 = 32;

/// Most bytes of one transfer; longer requests are split by the framework.
const MAXIMUM_TRANSFER: usize = 1 << 20;

/// Most pieces of one transfer: the pages it spans, and one more.
const MAXIMUM_ELEMENTS: u32 = (MAXIMUM_TRANSFER / 4096 + 1) as u32;

/// Most bytes of one request. Well below the 4 GiB at which arithmetic in 32 bits, the framework's among it, wraps.
const MAXIMUM_REQUEST: u32 = 1 << 30;

/// Entries of a ring: room for all slots' longest transfers. The four rings take 512 KiB each.
const ENTRIES: u32 = 1 << ENTRIES_LOG2;
const ENTRIES_LOG2: u32 = (SLOTS * MAXIMUM_ELEMENTS).next_power_of_two().ilog2();

const _: () = {
    assert!(SLOTS.is_power_of_two() && SLOTS <= u32::BITS);
    assert!(SLOTS * MAXIMUM_ELEMENTS <= ENTRIES);
    assert!(ENTRIES <= *abi::card::RING_ENTRIES.end());
};
