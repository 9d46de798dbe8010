//! `cargo xtask qemu-check`: the card in a QEMU, over vfio-user.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{process, project};

/// Which QEMU to take.
#[derive(Debug, Args)]
pub struct Options {
    /// The QEMU, of version 10.1 or newer. By default the installed one if it is, otherwise one that is unpacked from the
    /// distribution's newer packages, which installs nothing.
    #[arg(long, value_name = "PROGRAM")]
    qemu: Option<PathBuf>,
}

/// The first QEMU with vfio-user devices.
const NEEDED: (u32, u32) = (10, 1);

/// Finds or unpacks a QEMU, builds the card's server and the check, and runs it.
///
/// # Errors
/// There is no such QEMU to be had, something does not build, or a step of the check failed.
pub fn run(options: &Options) -> Result<()> {
    let qemu = match &options.qemu {
        Some(program) => named(program)?,
        None => find()?,
    };
    process::run(
        process::cargo("cargo", project::tests())
            .args(["build", "--locked", "--package", "card-vfio-user"])
            .arg("--target-dir")
            .arg(project::tests_target()),
    )?;
    let check = project::tests_target().join("debug/qemu-check");
    let status = Command::new(check).arg("--qemu").arg(qemu).status()?;
    if !status.success() {
        bail!("the check failed ({status})");
    }
    Ok(())
}

/// The program that was asked for, which must be new enough.
fn named(program: &Path) -> Result<PathBuf> {
    let shown = program.display();
    let (version, text) = version(program).with_context(|| format!("{shown} is no QEMU"))?;
    if version < NEEDED {
        bail!(
            "{shown} is QEMU {text}: vfio-user devices need {}.{}",
            NEEDED.0,
            NEEDED.1
        );
    }
    Ok(program.to_owned())
}

/// The installed QEMU if it is new enough, or one that is unpacked.
fn find() -> Result<PathBuf> {
    let installed = Path::new("qemu-system-x86_64");
    match version(installed) {
        Some((version, _)) if version >= NEEDED => return Ok(installed.to_owned()),
        Some((_, text)) => eprintln!("QEMU {text} is installed, which has no vfio-user devices"),
        None => eprintln!("no QEMU is installed"),
    }
    let folder = project::tests_target().join("qemu");
    let program = folder.join("run");
    if version(&program).is_none() {
        eprintln!("unpacking a newer one from the distribution's packages");
        unpack(&folder)?;
    }
    named(&program)
}

fn unpack(folder: &Path) -> Result<()> {
    let script = project::tests().join("xtask/src/qemu/unpack.sh");
    let status = Command::new("bash")
        .arg(script)
        .arg(folder)
        .stdout(Stdio::null())
        .status()
        .context("cannot start bash")?;
    if !status.success() {
        bail!(
            "cannot unpack a newer QEMU: it takes Debian's package tools and its mirror (MIRROR names another one); \
             or name a QEMU of version {}.{} with --qemu",
            NEEDED.0,
            NEEDED.1
        );
    }
    Ok(())
}

/// A QEMU's version, and as it says it itself.
fn version(program: &Path) -> Option<((u32, u32), String)> {
    let output = Command::new(program).arg("--version").output().ok()?;
    parse(&String::from_utf8_lossy(&output.stdout))
}

fn parse(answer: &str) -> Option<((u32, u32), String)> {
    let text = answer
        .lines()
        .next()?
        .strip_prefix("QEMU emulator version ")?;
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let version = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some((version, text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_qemu_are_told_apart() {
        let old = parse("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright").unwrap();
        assert!(old.0 < NEEDED);
        assert_eq!(old.1, "7.2.22 (Debian 1:7.2+dfsg-7)");
        assert!(parse("QEMU emulator version 10.1.0").unwrap().0 >= NEEDED);
        assert!(parse("QEMU emulator version 10.0.3").unwrap().0 < NEEDED);
        assert_eq!(parse("qemu: no such option"), None);
    }

    #[test]
    fn what_is_no_qemu_is_refused() {
        let error = named(Path::new("/bin/true")).unwrap_err();
        assert!(error.to_string().contains("no QEMU"));
    }
}
