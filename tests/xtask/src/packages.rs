//! The Debian packages that the commands need.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

use anyhow::{Result, bail};

use crate::process;

/// Debian's newer Rust, with the library's sources.
const RUST: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// The oldest that the driver's build was tried with. The 1.85 of Debian 12's first lists has no `-Zlockfile-path`.
const OLDEST_RUST: &str = "1.96";

/// Something that is not in a Rust toolchain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A Rust with the library's sources, and the C compiler, linker and libclang of one LLVM: the driver's build.
    DriverBuild,
    /// Clippy for the driver's Rust.
    DriverLints,
    /// libclang, from which the machine gets its types.
    Headers,
    /// A QEMU with the edu device.
    Qemu,
}

impl Need {
    /// Everything.
    pub const ALL: [Self; 4] = [
        Self::DriverBuild,
        Self::DriverLints,
        Self::Headers,
        Self::Qemu,
    ];

    fn packages(self, llvm: u32) -> Vec<String> {
        match self {
            Self::DriverBuild => RUST
                .map(String::from)
                .into_iter()
                .chain([format!("clang-{llvm}"), format!("lld-{llvm}")])
                .chain(Self::Headers.packages(llvm))
                .collect(),
            Self::DriverLints => vec!["rust-web-clippy".to_owned()],
            Self::Headers => vec![format!("libclang-{llvm}-dev")],
            Self::Qemu => vec!["qemu-system-x86".to_owned()],
        }
    }
}

/// Sees to it that the packages of `needs` are installed: installs what is missing, as root, or says how to.
///
/// # Errors
/// Something is missing and cannot be installed; the message is the command that would install it.
pub fn ensure(needs: &[Need]) -> Result<()> {
    if !is_debian() {
        eprintln!("this system has no dpkg: taking it that everything needed is installed");
        return Ok(());
    }
    if missing(needs)?.is_some_and(|missing| missing.is_empty()) {
        return Ok(());
    }
    if !is_root() {
        let Some(missing) = missing(needs)? else {
            bail!("no LLVM in the package lists: run `sudo apt-get update` and try again");
        };
        bail!(
            "these packages are missing or too old; install them with:\n    \
             sudo apt-get update && sudo apt-get install {}",
            missing.join(" ")
        );
    }
    // A new machine's lists may be as old as its image: they name versions that are gone, or that are too old for us.
    process::run(apt_get().args(["update", "--quiet"]))?;
    *NEWEST.lock().unwrap_or_else(PoisonError::into_inner) = None;
    let Some(wanted) = missing(needs)? else {
        bail!("Debian's archive offers no LLVM (clang, lld and libclang of one version)");
    };
    eprintln!("installing {}", wanted.join(" "));
    let options = ["install", "--yes", "--no-install-recommends"];
    process::run(apt_get().args(options).args(wanted))?;
    match missing(needs)?.unwrap_or_default() {
        missing if missing.is_empty() => Ok(()),
        missing => bail!(
            "installed, but still too old: {}. rustc-web has to be {OLDEST_RUST} or newer, which for Debian 12 comes \
             from bookworm-security: is it among the package sources?",
            missing.join(" ")
        ),
    }
}

/// The packages of `needs` that are not installed, or too old. None if no LLVM is known of.
fn missing(needs: &[Need]) -> Result<Option<Vec<String>>> {
    let Some(llvm) = newest_llvm() else {
        return Ok(None);
    };
    let wanted: BTreeSet<String> = needs.iter().flat_map(|need| need.packages(llvm)).collect();
    let installed = installed(&wanted)?;
    Ok(Some(wanted.difference(&installed).cloned().collect()))
}

static NEWEST: Mutex<Option<u32>> = Mutex::new(None);

/// The newest LLVM of which everything needed is offered or installed. Asked once: a question takes most of a second.
pub fn newest_llvm() -> Option<u32> {
    let mut newest = NEWEST.lock().unwrap_or_else(PoisonError::into_inner);
    newest.or_else(|| {
        let pattern = r"^(clang|lld|libclang)-[0-9]+(-dev)?$";
        let known = Command::new("apt-cache")
            .args(["search", "--names-only", pattern])
            .output()
            .ok()?;
        let known = String::from_utf8_lossy(&known.stdout);
        let names = known.lines().filter_map(|line| line.split(' ').next());
        *newest = newest_complete(&names.collect());
        *newest
    })
}

fn newest_complete(names: &BTreeSet<&str>) -> Option<u32> {
    names
        .iter()
        .filter_map(|name| name.strip_prefix("clang-")?.parse().ok())
        .filter(|major| {
            names.contains(format!("lld-{major}").as_str())
                && names.contains(format!("libclang-{major}-dev").as_str())
        })
        .max()
}

fn is_debian() -> bool {
    Command::new("dpkg-query")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Those of `wanted` that are installed and new enough.
fn installed(wanted: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    // It fails when it does not know one of the names, and prints the others all the same.
    let output = Command::new("dpkg-query")
        .args(["-W", "-f", r"${db:Status-Status} ${Package} ${Version}\n"])
        .args(wanted)
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(usable)
        .map(str::to_owned)
        .collect())
}

/// The package of a line of dpkg-query, if it is installed and new enough.
fn usable(line: &str) -> Option<&str> {
    let (name, version) = line.strip_prefix("installed ")?.split_once(' ')?;
    let of_rust = RUST.contains(&name);
    (!of_rust || release(version)? >= release(OLDEST_RUST)?).then_some(name)
}

/// The first two numbers of a version.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_complete_llvm_is_taken() {
        let names = BTreeSet::from([
            "clang-14",
            "lld-14",
            "libclang-14-dev",
            "clang-9",
            "lld-9",
            "libclang-9-dev",
            "clang-22",
            "lld-22",
            "libclang-22-dev",
            "clang-23",
            "clang-tools",
        ]);
        assert_eq!(newest_complete(&names), Some(22));
    }

    #[test]
    fn without_a_linker_there_is_none() {
        assert_eq!(newest_complete(&BTreeSet::from(["clang-22"])), None);
    }

    #[test]
    fn the_driver_needs_one_llvm_throughout() {
        let packages = Need::DriverBuild.packages(22);
        for name in ["clang-22", "lld-22", "libclang-22-dev", "rust-web-src"] {
            assert!(packages.iter().any(|package| package == name), "{name}");
        }
    }

    #[test]
    fn an_old_rust_is_as_good_as_none() {
        assert_eq!(usable("installed cargo-web 1.85.0+dfsg3-1~deb12u3"), None);
        assert_eq!(
            usable("installed cargo-web 1.96.0+dfsg1-1~deb12u2"),
            Some("cargo-web")
        );
        assert_eq!(usable("config-files clang-22 1:22.1.0"), None);
        assert_eq!(usable("installed clang-22 1:22.1.0"), Some("clang-22"));
    }
}
