//! A driver with a known race: exploration finds it and repeats it, and finds nothing in the same driver without it.

mod support;

use serde_json::Value;
use support::{explore, replay};

/// Seeds within which the race is found, and the sound driver holds.
const SEEDS: &str = "600";

const BOTH: [&str; 2] = ["random", "pct"];

fn failures(report: &Value) -> &[Value] {
    report["scenarios"][0]["failures"]
        .as_array()
        .map_or(&[], Vec::as_slice)
}

#[test]
fn the_race_is_found_and_its_replay_is_the_same_run() {
    for policy in BOTH {
        let report = explore(&["--plant", "--seeds", SEEDS, "--policy", policy]);
        let found = failures(&report);
        let failure = found.first().unwrap_or_else(|| {
            panic!("{policy} does not find the race within {SEEDS} seeds");
        });
        assert!(stop(failure).is_some(), "{}", failure["output"]);
        let command = failure["command"].as_str().expect("text");
        let arguments: Vec<_> = command
            .strip_prefix("cargo xtask explore ")
            .expect("the command to repeat it")
            .split(' ')
            .collect();
        for _ in 0..2 {
            let again = replay(&arguments);
            for part in ["end", "seed", "choices", "schedule", "events", "trace"] {
                assert_eq!(again[part], failure[part], "{part} of {command}");
            }
            assert_eq!(stop(&again), stop(failure));
        }
    }
}

/// The line that says why a run stopped, without addresses.
fn stop(run: &Value) -> Option<&str> {
    let mut lines = run["output"].as_str()?.lines();
    let line = lines.find(|line| line.starts_with("*** "))?;
    line.split("(0x").next()
}

#[test]
fn without_the_race_nothing_is_found() {
    let report = explore(&["--scenario", "planted-sound", "--seeds", SEEDS]);
    let found = failures(&report);
    assert!(found.is_empty(), "{}", found[0]["output"]);
    let requests = &report["scenarios"][0]["requests"];
    for ending in ["succeeded", "cancelled"] {
        let count = requests[ending].as_u64().expect("a number");
        assert!(count > 150, "{requests}");
    }
}
