//! Programs of the workspace that tests start.

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// Builds a package's program of the same name, unless it is up to date, where this test was built; its path.
///
/// # Panics
/// It cannot be built.
#[must_use]
pub fn built(package: &str) -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", package, "--bin", package]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let status = cargo.status().expect("cargo runs");
    assert!(status.success(), "{package} cannot be built");
    // Tests lie in a directory below that of programs.
    let here = env::current_exe().expect("this program has a path");
    let folder = here.ancestors().nth(2).expect("it lies in a directory");
    folder.join(package)
}
