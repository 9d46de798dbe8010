//! System profiles, a DDI after the other, against the FIFO peripheral: what docs/requirements.md asks for (R81 to R104), what
//! Microsoft's published source does where the documentation differs, and drivers that make mistakes.

#![allow(
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "a driver in C is nothing but this; the machine is what watches it"
)]

#[path = "../dma/bench.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the tests of bus masters, whose bench it is, use more of it"
)]
mod bench;
mod cancel;
mod enabler;
mod fifo;
mod looped;
mod mistakes;
mod rebalance;
mod reserve;
mod transfer;

use std::process::ExitCode;

use harness::Suite;

fn main() -> ExitCode {
    let suite = enabler::add(Suite::new());
    let suite = transfer::add(suite);
    let suite = looped::add(suite);
    let suite = cancel::add(suite);
    let suite = reserve::add(suite);
    let suite = rebalance::add(suite);
    mistakes::add(suite).main()
}
