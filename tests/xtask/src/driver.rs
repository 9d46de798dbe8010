//! `cargo xtask driver`: builds dmacard.sys and checks the image.

use std::{
    fs,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::{
    image::{self, Kind, Machine},
    packages::{self, Need},
    process, project,
    toolchain::{Target, Toolchain},
};

/// What to build.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The processor to build for.
    #[arg(long, value_enum, default_value = "x86_64-pc-windows-msvc")]
    target: Target,
    /// Cargo's profile: with the checks of a debug build, or as shipped.
    #[arg(long, value_enum, default_value = "release")]
    profile: Profile,
    /// Only check the types.
    #[arg(long, conflicts_with = "clippy")]
    check: bool,
    /// Only run clippy; a warning is an error.
    #[arg(long)]
    clippy: bool,
    /// Build the image whose atomic operations call out, for the machine alone.
    #[arg(long, conflicts_with_all = ["target", "profile", "check", "clippy"])]
    instrumented: bool,
}

impl Options {
    /// The image as shipped, for `target`.
    pub fn image(target: Target) -> Self {
        Self {
            target,
            profile: Profile::Release,
            check: false,
            clippy: false,
            instrumented: false,
        }
    }

    /// The image whose atomic operations call out.
    pub fn instrumented() -> Self {
        Self {
            instrumented: true,
            ..Self::image(Target::X86_64)
        }
    }

    /// The lints, for `target`.
    pub fn lints(target: Target) -> Self {
        Self {
            clippy: true,
            ..Self::image(target)
        }
    }
}

/// Cargo's profiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Profile {
    Dev,
    Release,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release => "release",
        }
    }

    /// The folder that cargo builds it in.
    fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}

/// Does what the command line asks for.
///
/// # Errors
/// A package is missing, the build fails, or the image is not one that Windows would load.
pub fn run(options: &Options) -> Result<()> {
    if options.clippy {
        return cargo(options, "clippy", &["--workspace", "--", "-D", "warnings"]);
    }
    if options.check {
        return cargo(options, "check", &["--workspace"]);
    }
    println!("{}", build(options)?.display());
    Ok(())
}

/// Builds the image, checks it and returns its path.
///
/// # Errors
/// As [`run`].
pub fn build(options: &Options) -> Result<PathBuf> {
    let built = project::driver_target()
        .join(options.target.triple())
        .join(options.profile.folder());
    let (kind, target) = if options.instrumented {
        let target = project::driver_target().join("instrumented");
        compile_instrumented(options, &target)?;
        (Kind::Instrumented, target)
    } else {
        cargo(options, "build", &[])?;
        (Kind::Shipped, built.clone())
    };
    let read = |name| {
        let path = built.join(name);
        fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let bytes = read("dmacard.dll")?;
    let map = read("deps/dmacard.map")?;
    let machine = match options.target {
        Target::X86_64 => Machine::Amd64,
        Target::Aarch64 => Machine::Arm64,
    };
    image::check(&bytes, &String::from_utf8_lossy(&map), machine, kind)
        .context("the image is not one that would be loaded")?;
    // A panic would stop the whole system. Without optimisation, checks remain that never fail.
    let optimised = matches!(options.profile, Profile::Release);
    if optimised && image::can_panic(&bytes)? {
        bail!("the image can panic: some path in it leads to the panic handler");
    }
    let path = target.join("dmacard.sys");
    fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Compiles the driver with LLVM's ThreadSanitizer pass over it, which makes a call of every atomic operation. The pass
/// sees the whole driver, `core` included, when it is linked; so nothing else is built anew. The result lies where the
/// plain image is built, and cargo knows that it is another.
fn compile_instrumented(options: &Options, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let exports = project::wdk().join("lib/tsan.def");
    let library = folder.join("tsan.lib");
    Toolchain::find(options.target)?.import_library(&exports, &library)?;
    let library = format!("-Clink-arg={}", library.display());
    let pass = [
        "--lib",
        "--",
        "-Cpasses=tsan",
        // Only the atomics: the machine has no use for a call stack of its own.
        "-Cllvm-args=-tsan-instrument-func-entry-exit=0",
        &library,
    ];
    cargo(options, "rustc", &pass)
}

fn cargo(options: &Options, command: &str, more: &[&str]) -> Result<()> {
    let mut needs = vec![Need::DriverBuild];
    if options.clippy {
        needs.push(Need::DriverLints);
    }
    packages::ensure(&needs)?;
    let toolchain = Toolchain::find(options.target)?;
    eprint!("{}", toolchain.versions()?);
    forget_stale_signatures()?;
    let color = if io::stderr().is_terminal() {
        "always"
    } else {
        "never"
    };
    process::run_without(
        toolchain
            .driver(command, options.target)?
            .args(["--profile", options.profile.name()])
            .args(more)
            .env("CARGO_TERM_COLOR", color),
        unused_patch(),
    )
}

/// Finds the lines in which cargo warns that the stand-in for wdk-build is not used. It means the library's crates, which
/// it resolves with the same configuration when it builds them from source.
fn unused_patch() -> impl FnMut(&str) -> bool {
    let mut inside = false;
    move |line| {
        let begins = line.contains("patch `wdk-build ") && line.contains("was not used");
        let goes_on = line.starts_with("      ") || line.contains("Check that the patched package");
        inside = begins || (inside && goes_on);
        inside
    }
}

/// wdk-macros keeps the signatures it has read off the bindings and never looks again: a file of them that is older
/// than a header must go.
fn forget_stale_signatures() -> Result<()> {
    let headers = newest(&project::wdk().join("headers"))?;
    for profile in ["debug", "release"] {
        let builds = project::driver_target().join(profile).join("build");
        let Ok(builds) = builds.read_dir() else {
            continue; // nothing has been built yet
        };
        for build in builds {
            let cache = build?
                .path()
                .join("out/wdk_macros_ast_fragments/cached_function_info_map.json");
            if modified(&cache).is_ok_and(|read| read < headers) {
                fs::remove_file(&cache)?;
            }
        }
    }
    Ok(())
}

/// When the latest change below `folder` was.
fn newest(folder: &Path) -> Result<SystemTime> {
    let mut newest = modified(folder)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let changed = match entry.file_type()?.is_dir() {
            true => self::newest(&entry.path())?,
            false => modified(&entry.path())?,
        };
        newest = newest.max(changed);
    }
    Ok(newest)
}

fn modified(path: &Path) -> Result<SystemTime> {
    let metadata =
        fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
    Ok(metadata.modified()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_about_the_patch_is_left_out_and_nothing_else() {
        let printed = "    Updating crates.io index
\x1b[33mwarning\x1b[0m: patch `wdk-build v0.6.0 (/wdk-build)` was not used in the crate graph
help: Check that the patched package version and available features are compatible
      with the dependency requirements. If the patch has a different version from
      what is locked in the Cargo.lock file, run `cargo update` to use the new
   Compiling dmacard v0.1.0
warning: unused variable
      --> src/lib.rs";
        let mut noise = unused_patch();
        let left: Vec<&str> = printed.lines().filter(|line| !noise(line)).collect();
        let expected = [
            "    Updating crates.io index",
            "   Compiling dmacard v0.1.0",
            "warning: unused variable",
            "      --> src/lib.rs",
        ];
        assert_eq!(left, expected);
    }
}
