//! The project's driver under a few schedules of every scenario, and runs that repeat.
//!
//! `DMACARD_SYS` and `DMACARD_SYS_INSTRUMENTED` name the images; `cargo xtask test` builds them and sets the variables.

mod support;

use support::{explore, runs};

/// Runs every scenario of a device, of which there are so many, under `seeds` schedules.
fn every_scenario(device: &str, count: usize, seeds: u64, arguments: &[&str]) {
    let number = seeds.to_string();
    let report = explore(&[&["--device", device, "--seeds", &number], arguments].concat());
    let scenarios = report["scenarios"].as_array().expect("a list");
    assert_eq!(scenarios.len(), count);
    for scenario in scenarios {
        let failures = scenario["failures"].as_array().expect("a list");
        if let Some(failure) = failures.first() {
            panic!(
                "{}\nrepeat it with: {}",
                failure["output"].as_str().unwrap_or_default(),
                failure["command"]
            );
        }
        assert_eq!(scenario["schedules"], seeds, "{scenario}");
        let distinct = scenario["distinct"].as_u64().expect("a number");
        assert!(distinct * 10 > seeds * 9, "{scenario}");
    }
}

#[test]
fn every_scenario_holds_under_some_schedules() {
    every_scenario("edu-twin", 15, 60, &[]);
}

#[test]
fn every_scenario_of_the_card_holds_under_some_schedules() {
    every_scenario("card", 23, 20, &[]);
}

/// With an interrupt, and without: the controller tells alone. With one channel requests wait for it, and are withdrawn.
#[test]
fn every_scenario_of_the_fifo_holds_under_some_schedules() {
    every_scenario("fifo", 10, 20, &[]);
    every_scenario("fifo-no-interrupt", 10, 20, &[]);
    every_scenario("fifo-simplex", 8, 20, &[]);
}

#[test]
fn every_scenario_holds_when_atomics_are_switch_points() {
    let image = std::env::var("DMACARD_SYS_INSTRUMENTED")
        .expect("DMACARD_SYS_INSTRUMENTED names the image: run `cargo xtask test`");
    let command = "cargo xtask explore --image instrumented";
    every_scenario(
        "edu-twin",
        15,
        30,
        &["--driver", &image, "--command", command],
    );
}

/// Three processes, each with machines of its own at other addresses, and other runs before those that are compared.
#[test]
fn a_seed_is_a_run_event_by_event() {
    for scenario in ["mix", "surprise-removal"] {
        let first = runs(scenario, "1", 40);
        assert_eq!(first.len(), 40);
        assert_eq!(first, runs(scenario, "1", 40));
        assert_eq!(first[20..], runs(scenario, "21", 20));
    }
}

#[test]
fn a_replay_is_the_same_run() {
    for policy in ["random", "pct", "round-robin"] {
        let arguments = ["--scenario", "cancel-io", "--policy", policy];
        let replay = || support::replay(&[&arguments[..], &["--replay", "17"]].concat());
        let (first, second) = (replay(), replay());
        assert_eq!(first["end"], "held");
        assert_eq!(first, second);
        assert!(first["events"].as_u64().expect("a number") > 100);
    }
}

/// As one would that waits for what never comes.
#[test]
fn a_run_that_does_not_end_has_failed() {
    let report = explore(&[
        "--scenario",
        "two-processors",
        "--seeds",
        "4",
        "--limit",
        "700",
        "--keep-going",
    ]);
    let failures = report["scenarios"][0]["failures"]
        .as_array()
        .expect("a list");
    assert_eq!(failures.len(), 4);
    for failure in failures {
        assert_eq!(failure["end"], "machine-stop");
        let reason = failure["reason"].as_str().expect("text");
        assert!(reason.contains("endless: 700 switch points"), "{reason}");
        let output = failure["output"].as_str().expect("text");
        for part in ["(User thread)", "last events", "irql 0 "] {
            assert!(output.contains(part), "{part}: {output}");
        }
    }
}
