//! `cargo xtask ci`: what is checked besides the tests.

use anyhow::{Context, Result};

use crate::{
    driver, inf,
    packages::{self, Need},
    process, project,
    toolchain::{Target, Toolchain},
};

/// Format and lints of both workspaces, the lock files, the INF, and the driver for both processors.
///
/// # Errors
/// The first check that fails.
pub fn run() -> Result<()> {
    packages::ensure(&Need::ALL)?;
    let libclang = Toolchain::find(Target::X86_64)?.libclang();
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
            .env("LIBCLANG_PATH", libclang),
    )?;
    inf::run()?;
    for target in [Target::X86_64, Target::Aarch64] {
        driver::run(&driver::Options::lints(target))?;
        driver::run(&driver::Options::image(target))?;
    }
    Ok(())
}
