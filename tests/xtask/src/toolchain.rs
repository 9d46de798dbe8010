//! The compilers that the driver is built with.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::{packages, process, project};

/// A processor that the driver is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// AMD64.
    #[value(name = "x86_64-pc-windows-msvc")]
    X86_64,
    /// ARM64.
    #[value(name = "aarch64-pc-windows-msvc")]
    Aarch64,
}

impl Target {
    /// Rust's name of it.
    pub fn triple(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-pc-windows-msvc",
            Self::Aarch64 => "aarch64-pc-windows-msvc",
        }
    }
}

/// A Rust for Windows targets, and an LLVM for C and for linking.
pub struct Toolchain {
    rust: Rust,
    llvm: u32,
}

/// Where `core` and `alloc` for the target come from.
enum Rust {
    /// Debian's, which brings the sources: they are built along.
    FromSource,
    /// One that has the target installed (`rustup target add`).
    Installed,
}

const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

impl Toolchain {
    /// What there is for `target`.
    ///
    /// # Errors
    /// No Rust that can build for it, or no LLVM.
    pub fn find(target: Target) -> Result<Self> {
        let llvm = packages::newest_llvm()
            .or_else(installed_llvm)
            .context("no LLVM found: see `cargo xtask setup`")?;
        let rust = if has_target(target) {
            Rust::Installed
        } else if Path::new(DEBIAN_CARGO).exists() {
            Rust::FromSource
        } else {
            bail!(
                "no Rust for {0}: `rustup target add {0}`, or Debian's (`cargo xtask setup`)",
                target.triple()
            );
        };
        Ok(Self { rust, llvm })
    }

    /// The versions, one a line.
    ///
    /// # Errors
    /// One of the programs does not run.
    pub fn versions(&self) -> Result<String> {
        let rustc = match self.rust {
            Rust::FromSource => DEBIAN_RUSTC,
            Rust::Installed => "rustc",
        };
        let mut versions = String::new();
        for program in [rustc, &self.clang(), &self.linker()] {
            let version = process::output(Command::new(program).arg("--version"))?;
            versions += version.lines().next().unwrap_or_default();
            versions.push('\n');
        }
        Ok(versions)
    }

    /// A cargo command (`build`, `check`, `clippy`) on the driver's workspace, for `target`.
    ///
    /// The manifest is the genuine one. A configuration file puts the stand-in for wdk-build in the place of the
    /// genuine crate, and the lock file that follows from that is kept apart.
    ///
    /// # Errors
    /// The lock file cannot be written.
    pub fn driver(&self, command: &str, target: Target) -> Result<Command> {
        let lock = lock_file(&project::driver_target())?;
        let mut cargo = self.cargo(command, &project::root(), target, "core,alloc");
        cargo
            .arg("--config")
            .arg(project::wdk().join("cargo.toml"))
            .arg("-Zlockfile-path")
            .arg("--config")
            .arg(format!(
                "resolver.lockfile-path={:?}",
                lock.display().to_string()
            ))
            .env("LIBCLANG_PATH", self.libclang());
        let name = target.triple().replace('-', "_");
        cargo
            .env(
                format!("CARGO_TARGET_{}_LINKER", name.to_uppercase()),
                self.linker(),
            )
            .env(format!("CC_{name}"), self.clang())
            .env(format!("AR_{name}"), self.linker())
            .env(format!("ARFLAGS_{name}"), "/lib")
            .env(
                format!("CFLAGS_{name}"),
                format!(
                    "--target={} -nostdinc -fms-extensions -fms-compatibility",
                    target.triple()
                ),
            );
        Ok(cargo)
    }

    /// A cargo command that checks the types of the tests' workspace for Windows. There is no C runtime to link with.
    pub fn windows_check(&self, target: Target) -> Command {
        self.cargo("check", &project::tests(), target, "std,panic_abort")
    }

    /// A cargo command in `folder` for `target`, with the parts `std` of the library from source if need be.
    fn cargo(&self, command: &str, folder: &Path, target: Target, std: &str) -> Command {
        let mut cargo = match self.rust {
            Rust::FromSource => debian_cargo(command, folder),
            Rust::Installed => {
                let mut cargo = process::cargo("cargo", folder);
                cargo.arg(command);
                cargo
            }
        };
        cargo
            .arg("--target-dir")
            .arg(project::driver_target())
            .args(["--target", target.triple()])
            // Unstable options of cargo: the lock file's path, and the library's sources.
            .env("RUSTC_BOOTSTRAP", "1");
        if matches!(self.rust, Rust::FromSource) {
            cargo.arg(format!("-Zbuild-std={std}"));
        }
        cargo
    }

    /// Makes the import library `library` for x86-64 from the list of exports in `exports`.
    ///
    /// # Errors
    /// The linker fails.
    pub fn import_library(&self, exports: &Path, library: &Path) -> Result<()> {
        let mut linker = Command::new(self.linker());
        linker
            .args(["/lib", "/machine:x64"])
            .arg(format!("/def:{}", exports.display()))
            .arg(format!("/out:{}", library.display()));
        process::run(&mut linker)
    }

    fn clang(&self) -> String {
        format!("clang-{}", self.llvm)
    }

    fn linker(&self) -> String {
        format!("lld-link-{}", self.llvm)
    }

    /// Where libclang is, for bindgen.
    pub fn libclang(&self) -> PathBuf {
        format!("/usr/lib/llvm-{}/lib", self.llvm).into()
    }
}

/// Debian's cargo, free of rustup's.
fn debian_cargo(command: &str, folder: &Path) -> Command {
    // rustup's cargo-clippy would be found before Debian's, and looks for its own library.
    let program = match command {
        "clippy" => "/usr/bin/cargo-clippy",
        _ => DEBIAN_CARGO,
    };
    let mut cargo = process::cargo(program, folder);
    let path = env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(PathBuf::from("/usr/bin")).chain(env::split_paths(&path));
    cargo
        .env("PATH", env::join_paths(path).unwrap_or_default())
        .env("CARGO", DEBIAN_CARGO)
        .env("RUSTC", DEBIAN_RUSTC)
        .env_remove("RUSTUP_TOOLCHAIN")
        .arg(command);
    cargo
}

/// The lock file of this build: the genuine one, in which cargo then exchanges wdk-build. Copied again when the genuine
/// one has changed.
fn lock_file(folder: &Path) -> Result<PathBuf> {
    let genuine = fs::read(project::root().join("Cargo.lock"))?;
    let copied = folder.join("Cargo.lock.genuine");
    let lock = folder.join("Cargo.lock");
    if !lock.exists() || fs::read(&copied).ok().as_ref() != Some(&genuine) {
        fs::create_dir_all(folder)?;
        fs::write(&lock, &genuine)?;
        fs::write(&copied, &genuine)?;
    }
    Ok(lock)
}

/// Whether the Rust in use has the target's library.
fn has_target(target: Target) -> bool {
    let arguments = ["--print", "target-libdir", "--target", target.triple()];
    process::output(process::cargo("rustc", project::root()).args(arguments))
        .is_ok_and(|folder| Path::new(folder.trim()).is_dir())
}

/// The newest LLVM found in the path, for systems without Debian's packages.
fn installed_llvm() -> Option<u32> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .filter_map(|folder| folder.read_dir().ok())
        .flatten()
        .filter_map(|entry| {
            entry
                .ok()?
                .file_name()
                .to_str()?
                .strip_prefix("lld-link-")?
                .parse()
                .ok()
        })
        .max()
}
