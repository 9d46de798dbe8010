//! `cargo xtask ddi`: the framework's function table, entry by entry, and which tests call what.
//!
//! The machine writes down which functions it offers and which of them each test calls; the headers say which there are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::packages::{self, Need};
use crate::toolchain::{Target, Toolchain};
use crate::{driver, process, project};

/// How many entries of the table are about DMA.
const DMA_ENTRIES: usize = 37;

/// What to show.
#[derive(Debug, Args)]
pub struct Options {
    /// Only entries whose name contains this.
    filter: Option<String>,
    /// Do not run the tests: show what the last run has written down.
    #[arg(long)]
    last: bool,
}

/// Runs the tests of the machine and of the driver in it, then prints every entry of the table: called by which test, offered and
/// called by none, or not offered (the machine then stops with its name).
///
/// # Errors
/// Something does not build, a test failed, or an entry about DMA is called by no test.
pub fn run(options: &Options) -> Result<()> {
    let record = if options.last {
        Record::last()
    } else {
        run_tests()?
    };
    let calls = record.read()?;
    let entries = entries()?;
    for (index, name) in &entries {
        if options
            .filter
            .as_ref()
            .is_none_or(|filter| name.contains(filter))
        {
            println!("{index:3} {name}: {}", calls.of(name));
        }
    }
    println!("{}", calls.sum(&entries));
    record.check()
}

fn run_tests() -> Result<Record> {
    packages::ensure(&[Need::DriverBuild, Need::Headers, Need::Qemu])?;
    let image = driver::build(&driver::Options::image(Target::X86_64))?;
    let instrumented = driver::build(&driver::Options::instrumented())?;
    let record = Record::begin()?;
    let mut cargo = process::cargo("cargo", project::tests());
    cargo
        .args(["test", "--locked", "--no-fail-fast", "--quiet"])
        .args(["--package", "machine", "--package", "dmatest"])
        .env("DMACARD_SYS", &image)
        .env("DMACARD_SYS_INSTRUMENTED", &instrumented)
        .env("LIBCLANG_PATH", Toolchain::find(Target::X86_64)?.libclang());
    record.ask(&mut cargo);
    process::run(&mut cargo)?;
    Ok(record)
}

/// The file that machines write to.
pub struct Record(PathBuf);

impl Record {
    /// The file of the last run.
    fn last() -> Self {
        Self(project::tests_target().join("ddi-record.txt"))
    }

    /// An empty file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn begin() -> Result<Self> {
        let Self(path) = Self::last();
        fs::create_dir_all(project::tests_target())?;
        fs::write(&path, "").with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self(path))
    }

    /// Has a command's machines write to it.
    pub fn ask(&self, command: &mut Command) {
        command.env("DMACARD_DDI_RECORD", &self.0);
    }

    fn read(&self) -> Result<Calls> {
        let text = fs::read_to_string(&self.0)
            .with_context(|| format!("cannot read {}", self.0.display()))?;
        Ok(Calls::parse(&text))
    }

    /// Whether every entry about DMA was called.
    ///
    /// # Errors
    /// Those that were not.
    pub fn check(&self) -> Result<()> {
        let calls = self.read()?;
        let missing: Vec<String> = entries()?
            .into_iter()
            .map(|(_, name)| name)
            .filter(|name| is_dma(name) && !calls.called.contains_key(name))
            .collect();
        if missing.is_empty() {
            println!(
                "all {DMA_ENTRIES} entries of the function table about DMA are called by tests"
            );
            Ok(())
        } else {
            bail!("called by no test: {}", missing.join(", "))
        }
    }
}

fn is_dma(name: &str) -> bool {
    name.starts_with("WdfDma") || name.starts_with("WdfCommonBuffer")
}

/// The entries of the function table, as the headers list them.
fn entries() -> Result<Vec<(usize, String)>> {
    let path = project::wdk().join("headers/wdf/ddi.inc");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let entries = parse_entries(&text);
    let dma = entries.iter().filter(|(_, name)| is_dma(name)).count();
    if dma != DMA_ENTRIES {
        bail!(
            "{} lists {dma} entries about DMA, not {DMA_ENTRIES}",
            path.display()
        );
    }
    Ok(entries)
}

/// Index and name from lines such as `DDI(94, NTSTATUS, WdfDmaEnablerCreate, ...)`.
fn parse_entries(text: &str) -> Vec<(usize, String)> {
    let entry = |line: &str| {
        let (index, rest) = line
            .strip_prefix("DDI")?
            .split_once('(')?
            .1
            .split_once(',')?;
        let name = rest
            .split([',', ')'])
            .map(str::trim)
            .find(|part| part.starts_with("Wdf"))?;
        Some((index.trim().parse().ok()?, name.to_owned()))
    };
    text.lines().filter_map(entry).collect()
}

/// What machines have written down.
#[derive(Debug, Default, PartialEq, Eq)]
struct Calls {
    offered: BTreeSet<String>,
    /// The runs that called each function.
    called: BTreeMap<String, BTreeSet<String>>,
}

impl Calls {
    fn parse(text: &str) -> Self {
        let mut calls = Self::default();
        for line in text.lines() {
            match line.split_ascii_whitespace().collect::<Vec<_>>()[..] {
                ["offered", name] => {
                    calls.offered.insert(name.to_owned());
                }
                ["called", name, run] => {
                    let runs = calls.called.entry(name.to_owned()).or_default();
                    runs.insert(run.to_owned());
                }
                _ => {}
            }
        }
        calls
    }

    /// What is to be said of an entry.
    fn of(&self, name: &str) -> String {
        match self.called.get(name).map(|runs| (runs.first(), runs.len())) {
            Some((Some(first), 1)) => format!("called by {first}"),
            Some((Some(first), count)) => format!("called by {first} and {} more", count - 1),
            _ if self.offered.contains(name) => "offered, called by no test".to_owned(),
            _ => "not offered: the machine stops with its name".to_owned(),
        }
    }

    fn sum(&self, entries: &[(usize, String)]) -> String {
        let count =
            |wanted: &dyn Fn(&str) -> bool| entries.iter().filter(|(_, name)| wanted(name)).count();
        let called = count(&|name| self.called.contains_key(name));
        let offered = count(&|name| self.offered.contains(name));
        format!(
            "{called} of {} entries are called by tests, {} more are offered, {} are not",
            entries.len(),
            offered - called,
            entries.len() - offered
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str =
        "offered WdfA\noffered WdfB\ncalled WdfA one\ncalled WdfA two\ncalled WdfA one\n";

    #[test]
    fn a_record_says_who_calls_what() {
        let calls = Calls::parse(RECORD);
        assert_eq!(calls.of("WdfA"), "called by one and 1 more");
        assert_eq!(calls.of("WdfB"), "offered, called by no test");
        assert_eq!(
            calls.of("WdfC"),
            "not offered: the machine stops with its name"
        );
        let entries = [
            (0, "WdfA".to_owned()),
            (1, "WdfB".to_owned()),
            (2, "WdfC".to_owned()),
        ];
        assert_eq!(
            calls.sum(&entries),
            "1 of 3 entries are called by tests, 1 more are offered, 1 are not"
        );
    }

    #[test]
    fn the_headers_list_every_entry_once() {
        let entries = entries().unwrap();
        assert!(
            entries
                .iter()
                .enumerate()
                .all(|(place, (index, _))| place == *index)
        );
        assert!(entries.len() > 400);
    }

    #[test]
    fn an_entry_that_nobody_calls_is_named() {
        let path = std::env::temp_dir().join(format!("ddi-record-{}", std::process::id()));
        let mut lines: String = entries()
            .unwrap()
            .into_iter()
            .filter(|(_, name)| is_dma(name))
            .map(|(_, name)| format!("called {name} test\n"))
            .collect();
        fs::write(&path, &lines).unwrap();
        assert!(Record(path.clone()).check().is_ok());
        lines = lines.replace("WdfDmaTransactionCancel ", "WdfOther ");
        fs::write(&path, &lines).unwrap();
        let error = Record(path.clone()).check().unwrap_err().to_string();
        fs::remove_file(&path).unwrap();
        assert_eq!(error, "called by no test: WdfDmaTransactionCancel");
    }
}
