//! `cargo xtask ci`: what is checked besides the tests.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{
    driver, inf,
    packages::{self, Need},
    process, project,
    toolchain::{Target, Toolchain},
};

/// Format and lints of both workspaces, the lock files, the INF, dmatest for Windows, and the driver for both
/// processors. All of them, whatever fails.
///
/// # Errors
/// What failed.
pub fn run() -> Result<()> {
    packages::ensure(&Need::ALL)?;
    let toolchain = Toolchain::find(Target::X86_64)?;
    let mut failed = Vec::new();
    let mut check = |name: &'static str, result: Result<()>| {
        if let Err(error) = result {
            eprintln!("{name}: {error:#}");
            failed.push(name);
        }
    };
    for (folder, format, lock) in [
        (
            project::root(),
            "the driver's format",
            "the driver's lock file",
        ),
        (
            project::tests(),
            "the tests' format",
            "the tests' lock file",
        ),
    ] {
        let cargo = || process::cargo("cargo", &folder);
        check(
            format,
            process::run(cargo().args(["fmt", "--all", "--check"])),
        );
        // Asks for nothing to change: fails if the lock file does not follow from the manifests.
        let update = ["update", "--workspace", "--locked"];
        check(lock, process::run(cargo().args(update)));
    }
    check("the INF", inf::run());
    check("the tests' lints", process::run(&mut lints(&toolchain)));
    let mut dmatest = toolchain.windows_check(Target::X86_64);
    dmatest.args(["--locked", "--package", "dmatest"]);
    check("dmatest for Windows", process::run(&mut dmatest));
    let lints = driver::Options::lints(Target::X86_64);
    check("the driver's lints", driver::run(&lints));
    let image = |target| driver::run(&driver::Options::image(target));
    check("the driver for x86-64", image(Target::X86_64));
    check("the driver for ARM64", image(Target::Aarch64));
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Clippy on everything that exercises the driver; a warning is an error.
fn lints(toolchain: &Toolchain) -> Command {
    let mut cargo = process::cargo("cargo", project::tests());
    cargo
        .args(["clippy", "--locked", "--workspace", "--all-targets"])
        .args(["--", "-D", "warnings"])
        .env("LIBCLANG_PATH", toolchain.libclang());
    cargo
}
