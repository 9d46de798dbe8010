//! A machine that goes on in two processes.

#![allow(
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks,
    reason = "a driver in C is nothing but this; the machine is what watches it"
)]

mod support;

use std::process::ExitCode;

use harness::{Suite, machine_stop};
use machine::user::Token;
use machine::{Forked, PolicyKind, course};
use support::edu::{self, Opened, Steps};

fn main() -> ExitCode {
    Suite::new()
        .passes("what_a_child_does_is_not_seen_by_its_parent", child_apart)
        .passes("two_children_with_one_seed_do_the_same", same_seed)
        .stops(
            "a_run_beyond_its_limit_is_stopped",
            machine_stop("endless").says("1000 switch points"),
            beyond_the_limit,
        )
        .main()
}

/// Runs `child` in a process that is forked here, and returns its exit code.
fn forked(device: &Opened<'_>, child: impl FnOnce()) -> i32 {
    match device.machine.fork().expect("forked") {
        Forked::Parent(process) => {
            let mut status = 0;
            let waited = unsafe { libc::waitpid(process.cast_signed(), &raw mut status, 0) };
            assert_eq!(waited, process.cast_signed());
            libc::WEXITSTATUS(status)
        }
        Forked::Child => {
            child();
            unsafe { libc::_exit(0) }
        }
    }
}

fn pattern_is_there(device: &Opened<'_>) -> bool {
    let read = device.read(0, 3000);
    assert_eq!(read.result, Ok(3000));
    read.buffer.iter().zip(edu::pattern()).all(|(a, b)| *a == b)
}

fn child_apart() {
    edu::run(Steps::default(), |device| {
        let process = device.machine.process(Token::User);
        let mut buffer = process.buffer(5000).expect("memory");
        buffer.fill(1);
        let code = forked(device, || {
            buffer.fill(2);
            assert_eq!(device.write(0, 3000).result, Ok(3000));
            assert!(pattern_is_there(device));
        });
        assert_eq!(code, 0);
        assert!(buffer.iter().all(|&byte| byte == 1), "one memory each");
        assert!(!pattern_is_there(device), "one device each");
    });
}

fn same_seed() {
    edu::run(Steps::default(), |device| {
        let runs: Vec<i32> = [7, 7, 8]
            .into_iter()
            .map(|seed| {
                forked(device, || {
                    let machine = device.machine;
                    machine.set_schedule(PolicyKind::Random, seed, None);
                    assert_eq!(device.write(0, 3000).result, Ok(3000));
                    let hash = course().events.hash;
                    // An exit code has eight bits; zero would be success.
                    unsafe { libc::_exit(1 + (hash % 251) as i32) };
                })
            })
            .collect();
        assert_eq!(runs[0], runs[1]);
        assert_ne!(runs[0], runs[2]);
    });
}

fn beyond_the_limit() {
    edu::run(Steps::default(), |device| {
        device
            .machine
            .set_schedule(PolicyKind::RoundRobin, 1, Some(1000));
        loop {
            assert_eq!(device.write(0, 100).result, Ok(100));
        }
    });
}
