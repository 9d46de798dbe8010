//! For tests of what ends the process.

use std::process::Command;

/// Whether this is the process that [`stopped`] started.
pub(crate) fn in_own_process() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// Runs the test of this name again in a process of its own, which must end with status 9, and returns what it
/// writes to standard error.
pub(crate) fn stopped(name: &str) -> String {
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program)
        .args(["--exact", "--nocapture", name])
        .env(VARIABLE, "1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(9), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

const VARIABLE: &str = "MACHINE_PE_OWN_PROCESS";
