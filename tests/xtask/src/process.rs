//! Running other programs.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, ExitStatus, Stdio},
};

use anyhow::{Context, Result, bail};

/// Variables by which an outer cargo or rustup would steer an inner one.
const STEERING: [&str; 9] = [
    "CARGO",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "LD_LIBRARY_PATH",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
];

/// A cargo of the workspace in `folder`, free of what this process inherited from the cargo that runs it.
pub fn cargo(program: impl AsRef<std::ffi::OsStr>, folder: impl AsRef<std::path::Path>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder);
    for name in STEERING {
        command.env_remove(name);
    }
    command
}

/// Runs `command` with its output on this process's standard error: standard output stays free for results.
///
/// # Errors
/// It could not be started, or it failed.
pub fn run(command: &mut Command) -> Result<()> {
    let line = shown(command);
    let status = command
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("cannot start {line}"))?;
    if !status.success() {
        bail!("{line} failed ({status})");
    }
    Ok(())
}

/// As [`run`], without those lines of its standard error that are `noise`.
///
/// # Errors
/// As [`run`], and if its standard error cannot be read.
pub fn run_without(command: &mut Command, mut noise: impl FnMut(&str) -> bool) -> Result<()> {
    let line = shown(command);
    let mut child = command
        .stdout(std::io::stderr())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {line}"))?;
    let errors = child.stderr.take().context("no standard error")?;
    for error in BufReader::new(errors).split(b'\n') {
        let error = error.with_context(|| format!("cannot read what {line} prints"))?;
        let error = String::from_utf8_lossy(&error);
        if !noise(&error) {
            eprintln!("{error}");
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{line} failed ({status})");
    }
    Ok(())
}

/// Runs `command`, shows its standard output line by line as it comes, and hands each line to `seen`.
/// Returns whether it succeeded.
///
/// # Errors
/// It could not be started or read.
pub fn watch(command: &mut Command, mut seen: impl FnMut(&str)) -> Result<bool> {
    let line = shown(command);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {line}"))?;
    let mut out = std::io::stdout();
    for output in BufReader::new(child.stdout.take().context("no standard output")?).split(b'\n') {
        let output = output.with_context(|| format!("cannot read what {line} prints"))?;
        let output = String::from_utf8_lossy(&output);
        writeln!(out, "{output}")?;
        seen(&output);
    }
    Ok(child.wait()?.success())
}

/// What `command` prints on its standard output.
///
/// # Errors
/// It could not be started, or it failed.
pub fn output(command: &mut Command) -> Result<String> {
    let (status, output) = captured(command)?;
    if !status.success() {
        bail!("{} failed ({status})", shown(command));
    }
    Ok(output)
}

/// How `command` ends, and what it prints on its standard output.
///
/// # Errors
/// It could not be started.
pub fn captured(command: &mut Command) -> Result<(ExitStatus, String)> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((output.status, text))
}

/// The command as one would type it, without its environment.
fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|part| part.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
