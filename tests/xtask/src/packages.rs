//! The Debian packages that the commands need.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::MetadataExt,
    process::{Command, Stdio},
    sync::OnceLock,
};

use anyhow::{Result, bail};

use crate::process;

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
            Self::DriverBuild => ["rustc-web", "cargo-web", "rust-web-src"]
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
    if newest_llvm().is_none() && is_root() {
        update()?;
    }
    let Some(llvm) = newest_llvm() else {
        bail!("no LLVM in the package lists: run `sudo apt-get update` and try again");
    };
    let wanted: BTreeSet<String> = needs.iter().flat_map(|need| need.packages(llvm)).collect();
    let installed = installed(&wanted)?;
    let missing: Vec<&str> = wanted.difference(&installed).map(String::as_str).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(" ");
    if !is_root() {
        bail!("these packages are missing; install them with:\n    sudo apt-get install {missing}");
    }
    eprintln!("installing {missing}");
    // Lists that are older than the archive name versions that are gone: then once more with new lists.
    if !lists_present() || install(&missing).is_err() {
        update()?;
        install(&missing)?;
    }
    Ok(())
}

/// The newest LLVM of which everything needed is offered or installed. Asked once: a question takes most of a second.
pub fn newest_llvm() -> Option<u32> {
    static NEWEST: OnceLock<u32> = OnceLock::new();
    NEWEST.get().copied().or_else(|| {
        let pattern = r"^(clang|lld|libclang)-[0-9]+(-dev)?$";
        let known = Command::new("apt-cache")
            .args(["search", "--names-only", pattern])
            .output()
            .ok()?;
        let known = String::from_utf8_lossy(&known.stdout);
        let names = known.lines().filter_map(|line| line.split(' ').next());
        let newest = newest_complete(&names.collect())?;
        Some(*NEWEST.get_or_init(|| newest))
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

fn lists_present() -> bool {
    let is_list = |entry: io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
    };
    fs::read_dir("/var/lib/apt/lists").is_ok_and(|mut entries| entries.any(is_list))
}

fn installed(wanted: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    // It fails when it does not know one of the names, and prints the others all the same.
    let output = Command::new("dpkg-query")
        .args(["-W", "-f", r"${db:Status-Status} ${Package}\n"])
        .args(wanted)
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.strip_prefix("installed "))
        .map(str::to_owned)
        .collect())
}

fn install(packages: &str) -> Result<()> {
    let options = ["install", "--yes", "--no-install-recommends"];
    process::run(apt_get().args(options).args(packages.split(' ')))
}

fn update() -> Result<()> {
    process::run(apt_get().args(["update", "--quiet"]))
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
}
