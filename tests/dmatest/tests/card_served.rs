//! The real driver and a ring card in a server of its own that fails: what the server's `--fault` can make of it.
//!
//! The card's time is the host's, so nothing here depends on how long anything takes, or on what was under way when.
//!
//! `DMACARD_SYS` names the image; `cargo xtask test` builds it and sets the variable.

mod support;

use std::process::ExitCode;
use std::time::Duration;

use dmatest::{Device, Direction};
use harness::Suite;
use machine::user::Win32Error;
use machine::{Device as Board, Phase};

use support::{CARDS, System, in_order, open, parameter, result};

/// What a fault costs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cost {
    /// Some requests; the card works afterwards.
    Requests,
    /// No request.
    Nothing,
    /// Every request from then on: the device fails.
    Device,
}

const FAULTS: [(&str, Cost); 17] = [
    ("hang=to-card@3", Cost::Requests),
    ("hang=from-card", Cost::Requests),
    ("stick=to-card@3", Cost::Requests),
    ("stick=from-card", Cost::Requests),
    ("fetch-error=from-card", Cost::Requests),
    ("tag=to-card:1@5", Cost::Requests),
    ("tag=from-card:4294967295", Cost::Requests),
    ("count=to-card:1@5", Cost::Requests),
    ("count=from-card:-1", Cost::Requests),
    ("outcome=to-card:85@5", Cost::Requests),
    ("outcome=from-card:4", Cost::Requests),
    ("consumer=to-card:1@5", Cost::Requests),
    ("drop-completion=from-card@5", Cost::Requests),
    ("drop-interrupt", Cost::Nothing),
    ("duplicate-interrupt", Cost::Nothing),
    // When it is started, which the bus brings it out of.
    ("endless-reset", Cost::Nothing),
    // And when the bus does not.
    (
        "tag=to-card:1,endless-reset@1,endless-reset@1",
        Cost::Device,
    ),
];

fn main() -> ExitCode {
    CARDS
        .into_iter()
        .filter(|system| system.board == Board::CardVfioUser)
        .flat_map(|system| FAULTS.map(|(fault, cost)| (system, fault, cost)))
        .fold(
            Suite::new().limit(Duration::from_secs(120)),
            |suite, (system, fault, cost)| {
                suite.passes(
                    format!("{}::every_request_ends::{fault}", system.name),
                    move || every_request_ends(system, fault, cost),
                )
            },
        )
        .main()
}

/// Bytes of the requests: several pages.
const LENGTH: usize = 20_000;

/// How a request may end that a fault has cost: timed out, device error, device removed, cancelled.
const COSTS: [u32; 4] = [121, 1117, dmatest::Win32Error::DEVICE_REMOVED.0, 995];

fn every_request_ends(system: System, fault: &'static str, cost: Cost) {
    system.run_machine_with(
        |config| {
            config.server_faults = vec![fault.to_owned()];
            // Long enough for a server on a busy host.
            parameter(config, "TransferTimeout", 3000);
        },
        move |machine| {
            machine.start().expect("started");
            let device = open(machine);
            let ways = [Direction::Write, Direction::Read];
            let requests: Vec<_> = (0..80)
                .map(|index| {
                    let buffer = device.buffer(LENGTH).expect("memory");
                    device.start(ways[index % 2], 0, buffer, 0..LENGTH)
                })
                .collect();
            let results: Vec<_> = requests.into_iter().map(result).collect();
            let failed: Vec<_> = results.iter().filter(|ended| **ended != Ok(LENGTH)).collect();
            let known = |ended: &&Result<usize, Win32Error>| {
                matches!(ended, Err(error) if COSTS.contains(&error.0))
            };
            assert!(failed.iter().all(known), "{failed:?}");
            assert_eq!(failed.is_empty(), cost == Cost::Nothing, "{failed:?}");
            if cost == Cost::Device {
                machine.settle();
                assert_eq!(machine.phase(), Some(Phase::SurpriseRemoved));
                drop(device);
                machine.finish_removals();
            } else {
                in_order(&device);
            }
        },
    );
}
