//! The framework apart from DMA: the order of its callbacks, its checks of handles and attributes, queues, requests, interrupts.
//! Each test is a driver that lives in this file's modules, in a machine with the twin of edu.

#![allow(
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "drivers in C are nothing but this; the machine is what watches them"
)]

mod deferred;
mod device_reset;
mod files;
mod interrupts;
mod messages;
mod objects;
mod power;
mod queues;
mod recorder;
mod requests;
mod stack;

use std::process::ExitCode;

use harness::Suite;

fn main() -> ExitCode {
    [
        power::tests,
        objects::tests,
        queues::tests,
        requests::tests,
        interrupts::tests,
        messages::tests,
        device_reset::tests,
        deferred::tests,
        files::tests,
        stack::tests,
    ]
    .into_iter()
    .fold(Suite::new(), |suite, tests| tests(suite))
    .main()
}
