//! Programs of the tests' workspace.

use std::path::PathBuf;

use anyhow::Result;

use crate::{
    process, project,
    toolchain::{Target, Toolchain},
};

/// Builds the program of this package and name with a profile of cargo's, and returns its path.
///
/// # Errors
/// It does not build.
pub fn build(package: &str, profile: &str) -> Result<PathBuf> {
    let libclang = Toolchain::find(Target::X86_64)?.libclang();
    process::run(
        process::cargo("cargo", project::tests())
            .args(["build", "--locked", "--profile", profile])
            .args(["--package", package, "--target-dir"])
            .arg(project::tests_target())
            .env("LIBCLANG_PATH", libclang),
    )?;
    let folder = match profile {
        "dev" => "debug",
        other => other,
    };
    Ok(project::tests_target().join(folder).join(package))
}
