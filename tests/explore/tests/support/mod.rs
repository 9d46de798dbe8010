//! Running the program.

use std::process::{Command, Output};

use serde_json::Value;

/// Runs the program with `--json`, whatever it finds.
pub fn explore(arguments: &[&str]) -> Value {
    let output = run(&[arguments, &["--json"]].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        let said = String::from_utf8_lossy(&output.stderr);
        panic!("{arguments:?}: {error}; {}\n{said}", output.status)
    })
}

/// One run, repeated by its seed.
pub fn replay(arguments: &[&str]) -> Value {
    explore(arguments)
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_explore"))
        .args(arguments)
        .output()
        .expect("the program runs")
}

/// Every run of a scenario from seed `first` on, as a worker reports it.
#[allow(dead_code, reason = "not every test compares single runs")]
pub fn runs(scenario: &str, first: &str, count: usize) -> Vec<Value> {
    let count = count.to_string();
    let output = run(&[
        "--worker",
        "--scenario",
        scenario,
        "--first",
        first,
        "--seeds",
        &count,
    ]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("a report"))
        .collect()
}
