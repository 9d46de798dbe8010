//! Which functions behind gates are called by which run: for `cargo xtask ddi`.
//!
//! With `DMACARD_DDI_RECORD` set to a file's name, each process appends a line for every function that is behind a gate,
//! `offered NAME`, if the file is empty, and one for every function when it is first called, `called NAME RUN`, at once, as a
//! machine may stop at any time.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::OnceLock;

/// The variable with the file's name.
const VARIABLE: &str = "DMACARD_DDI_RECORD";

/// The file, and what the run is called: the test's name, or the program's.
fn record() -> Option<&'static (File, String)> {
    static RECORD: OnceLock<Option<(File, String)>> = OnceLock::new();
    RECORD
        .get_or_init(|| {
            let path = std::env::var_os(VARIABLE)?;
            // A record that cannot be written is missed by whoever reads it.
            let file = OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)
                .ok()?;
            Some((file, run(std::env::args())))
        })
        .as_ref()
}

/// The name of a run by its command line: a test in a process of its own has it as its second argument.
fn run(mut arguments: impl Iterator<Item = String>) -> String {
    let program = arguments.next().unwrap_or_default();
    let program = program.rsplit('/').next().unwrap_or_default().to_owned();
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("--in-process"), Some(name)) => name,
        _ => program,
    }
}

/// A function is called for the first time in this process.
pub(super) fn called(name: &str) {
    if let Some((file, run)) = record() {
        append(file, &format!("called {name} {run}\n"));
    }
}

/// All functions are behind their gates.
pub(super) fn offered(names: impl Iterator<Item = &'static str>) {
    let Some((file, _)) = record() else { return };
    if file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
        let lines: String = names.map(|name| format!("offered {name}\n")).collect();
        append(file, &lines);
    }
}

fn append(mut file: &File, lines: &str) {
    // One write, so that the lines of processes do not mix.
    let _ = file.write_all(lines.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::run;

    #[test]
    fn runs_are_named_by_their_tests() {
        let named = |line: &str| run(line.split(' ').map(str::to_owned));
        assert_eq!(
            named("/target/debug/deps/dma-1 --in-process waits"),
            "waits"
        );
        assert_eq!(named("/target/debug/dmatest info"), "dmatest");
    }
}
