//! `cargo xtask test`: every test there is, with one sum at the end.

use std::{collections::BTreeSet, fs, process::Command};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{
    ddi, driver,
    packages::{self, Need},
    process, project, requirements,
    toolchain::{Target, Toolchain},
};

/// What to run.
#[derive(Debug, Args)]
pub struct Options {
    /// Only tests whose name contains this.
    filter: Option<String>,
}

/// Builds the driver and runs all tests: of the driver's portable crates, of the machine, and of the driver in the
/// machine. The last line is `N passed, N failed`.
///
/// # Errors
/// Something does not build, a test failed, or none ran.
pub fn run(options: &Options) -> Result<()> {
    packages::ensure(&[Need::DriverBuild, Need::Headers, Need::Qemu])?;
    let image = driver::build(&driver::Options::image(Target::X86_64))?;
    let instrumented = driver::build(&driver::Options::instrumented())?;
    let libclang = Toolchain::find(Target::X86_64)?.libclang();

    let record = ddi::Record::begin()?;
    let mut tally = Tally::default();
    let mut completed = true;
    for mut cargo in [driver_crates(), driver_crates_explored(), exercises()] {
        cargo
            .args(["--locked", "--no-fail-fast"])
            .args(&options.filter)
            .env("DMACARD_SYS", &image)
            .env("DMACARD_SYS_INSTRUMENTED", &instrumented)
            .env("LIBCLANG_PATH", &libclang);
        record.ask(&mut cargo);
        completed &= process::watch(&mut cargo, |line| tally.line(line))?;
    }
    let held = match &options.filter {
        Some(_) => Ok(()),
        None => check_requirements(&tally.ran).and_then(|()| record.check()),
    };

    println!("{} passed, {} failed", tally.passed, tally.failed);
    held?;
    tally.verdict(completed)
}

/// The crates that the driver is made of, but for itself, which needs a kernel to run.
fn driver_crates() -> Command {
    let mut cargo = process::cargo("cargo", project::root());
    cargo.args(["test", "--workspace", "--exclude", "dmacard"]);
    cargo
}

/// The driver's atomics in every order that loom finds.
fn driver_crates_explored() -> Command {
    let mut cargo = process::cargo("cargo", project::root());
    cargo
        .args(["test", "--package", "dmacard-kmdf", "--lib"])
        .arg("--target-dir")
        .arg(project::driver_target().join("loom"))
        .env("RUSTFLAGS", "--cfg loom");
    cargo
}

/// Everything that exercises the driver.
fn exercises() -> Command {
    let mut cargo = process::cargo("cargo", project::tests());
    cargo.args(["test", "--workspace"]);
    cargo
}

/// The table of requirements names tests that ran.
fn check_requirements(ran: &BTreeSet<String>) -> Result<()> {
    let path = project::root().join("docs/requirements.md");
    let table =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    match requirements::check(&table, ran) {
        Ok(summary) => {
            println!(
                "docs/requirements.md: {} held by tests, {} open, {} not testable here",
                summary.held, summary.open, summary.elsewhere
            );
            Ok(())
        }
        Err(faults) => bail!("docs/requirements.md does not hold:\n{faults}"),
    }
}

/// What the runners' lines say, libtest's and those that print as it does.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    /// The names of the tests that passed.
    ran: BTreeSet<String>,
}

impl Tally {
    fn line(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.passed += count(result, "passed");
            self.failed += count(result, "failed");
        } else if let Some(name) = line
            .strip_prefix("test ")
            .and_then(|line| line.strip_suffix("... ok"))
        {
            self.ran.insert(name.trim().to_owned());
        }
    }

    fn verdict(&self, completed: bool) -> Result<()> {
        if self.failed > 0 {
            bail!("{} tests failed", self.failed);
        }
        if !completed {
            bail!("a test program did not build, or ended before its tests did");
        }
        if self.passed == 0 {
            bail!("no test ran");
        }
        Ok(())
    }
}

/// The number in front of `what` in `ok. 3 passed; 0 failed; ...`.
fn count(result: &str, what: &str) -> u64 {
    result
        .split([';', '.'])
        .filter_map(|part| part.trim().strip_suffix(what))
        .find_map(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(output: &str) -> Tally {
        let mut tally = Tally::default();
        output.lines().for_each(|line| tally.line(line));
        tally
    }

    #[test]
    fn the_runners_are_summed() {
        let tally = tally(
            "running 2 tests\ntest a::b ... ok\ntest c ... FAILED\n\
             test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
             test d                     ... ok\n\
             test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.20s\n",
        );
        assert_eq!((tally.passed, tally.failed), (4, 1));
        assert_eq!(
            tally.ran,
            BTreeSet::from(["a::b".to_owned(), "d".to_owned()])
        );
    }

    #[test]
    fn a_failure_fails_the_run() {
        let tally = tally("test result: FAILED. 1 passed; 1 failed; 0 ignored\n");
        assert!(tally.verdict(false).is_err());
    }

    #[test]
    fn a_program_that_died_fails_the_run() {
        let tally = tally("test result: ok. 1 passed; 0 failed; 0 ignored\n");
        assert!(tally.verdict(false).is_err());
        assert!(tally.verdict(true).is_ok());
    }

    #[test]
    fn no_tests_fail_the_run() {
        assert!(tally("").verdict(true).is_err());
    }
}
