//! The framework's DMA objects, a DDI after the other, as drivers see them: what docs/requirements.md asks for and what Microsoft's published
//! source does.

#![allow(
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "a driver in C is nothing but this; the machine is what watches it"
)]

mod arguments;
mod bench;
mod common_buffer;
mod completion;
mod enabler;
mod request;
mod reserve;
mod states;
mod transfer;
mod waiting;

use std::process::ExitCode;

use harness::Suite;

fn main() -> ExitCode {
    let suite = states::add(Suite::new());
    let suite = arguments::add(suite);
    let suite = enabler::add(suite);
    let suite = completion::add(suite);
    let suite = request::add(suite);
    let suite = transfer::add(suite);
    let suite = waiting::add(suite);
    let suite = reserve::add(suite);
    common_buffer::add(suite).main()
}
