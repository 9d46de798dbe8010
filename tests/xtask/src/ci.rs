//! `cargo xtask ci`: what is checked besides the tests.

use anyhow::{Context, Result};

use crate::{
    driver, inf,
    packages::{self, Need},
    process, project,
    toolchain::{Target, Toolchain},
};

/// Format and lints of both workspaces, the lock files, the INF, dmatest for Windows, and the driver for both
/// processors.
///
/// # Errors
/// The first check that fails.
pub fn run() -> Result<()> {
    packages::ensure(&Need::ALL)?;
    let toolchain = Toolchain::find(Target::X86_64)?;
    for folder in [project::root(), project::tests()] {
        process::run(process::cargo("cargo", &folder).args(["fmt", "--all", "--check"]))
            .context("not formatted: run `cargo fmt --all` in both workspaces")?;
        // Asks for nothing to change: fails if the lock file does not follow from the manifests.
        process::run(process::cargo("cargo", &folder).args(["update", "--workspace", "--locked"]))
            .context("Cargo.lock is out of date")?;
    }
    process::run(
        process::cargo("cargo", project::tests())
            .args([
                "clippy",
                "--locked",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ])
            .env("LIBCLANG_PATH", toolchain.libclang()),
    )?;
    inf::run()?;
    process::run(toolchain.windows_check(Target::X86_64).args([
        "--locked",
        "--package",
        "dmatest",
    ]))
    .context("dmatest does not compile for Windows")?;
    driver::run(&driver::Options::lints(Target::X86_64))?;
    for target in [Target::X86_64, Target::Aarch64] {
        driver::run(&driver::Options::image(target))?;
    }
    Ok(())
}
