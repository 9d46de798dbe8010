//! Sessions with QEMU's edu, recorded and replayed without QEMU.

use std::path::PathBuf;
use std::process::{Command, Output};

use dmatest::exit;

/// A stop that Windows has.
const BUG_CHECK: i32 = 86;
/// A stop that only the machine has.
const MACHINE_STOP: i32 = 87;

/// A file to send, of one transfer.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../harness/Cargo.toml");

/// What takes place in the session.
struct Session {
    /// Options of the machine and a command.
    arguments: Vec<String>,
    image: &'static str,
    record: PathBuf,
    _folder: tempfile::TempDir,
}

impl Session {
    fn new(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self {
            arguments: owned(arguments),
            image: "DMACARD_SYS",
            record: folder.path().join("record"),
            _folder: folder,
        }
    }

    fn run(&self, options: &[&str]) -> Output {
        let image = std::env::var_os(self.image)
            .unwrap_or_else(|| panic!("{} names an image: run `cargo xtask test`", self.image));
        Command::new(env!("CARGO_BIN_EXE_dmatest"))
            .env("DMACARD_SYS", image)
            .args(options)
            .arg(&self.record)
            .args(&self.arguments)
            .output()
            .expect("the program runs")
    }

    fn recorded(&self) -> Output {
        self.run(&["--record"])
    }

    fn replayed(&self) -> Output {
        self.run(&["--qemu", "/nonexistent", "--replay"])
    }

    /// Replays the record after `change`; the exit code and what is printed on standard error.
    fn replayed_after(&self, change: impl FnOnce(&mut Vec<u8>)) -> (i32, String) {
        let recorded = std::fs::read(&self.record).expect("recorded");
        let mut bytes = recorded.clone();
        change(&mut bytes);
        assert_ne!(bytes, recorded, "nothing was changed");
        std::fs::write(&self.record, bytes).expect("written");
        let result = failure(&self.replayed());
        std::fs::write(&self.record, recorded).expect("written");
        result
    }
}

fn owned(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|text| (*text).to_owned()).collect()
}

fn failure(output: &Output) -> (i32, String) {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().expect("an exit code"), errors)
}

#[test]
fn a_session_replays_without_qemu_with_the_same_result() {
    for (image, options) in [
        ("DMACARD_SYS", &[][..]),
        ("DMACARD_SYS", &["--interrupt", "line", "--seed", "7"]),
        ("DMACARD_SYS_INSTRUMENTED", &["--processors", "3"]),
    ] {
        let session = Session {
            image,
            ..Session::new(&[options, &["verify"]].concat())
        };
        let (recorded, replayed) = (session.recorded(), session.replayed());
        assert!(replayed.status.success(), "{replayed:?}");
        assert_eq!(replayed.stdout, recorded.stdout, "{options:?}");
    }
}

/// Every number but the time, QEMU's version among them.
#[test]
fn a_replayed_demo_reports_what_was_recorded() {
    let report = |output: Output| {
        let mut report: serde_json::Value =
            serde_json::from_slice(&output.stdout).expect("one object");
        report["seconds"].take();
        report
    };
    let session = Session::new(&["demo", "--json", FILE]);
    let (recorded, replayed) = (report(session.recorded()), report(session.replayed()));
    assert_eq!(recorded["verified"], true);
    assert!(recorded["qemu_version"].is_string());
    assert_eq!(replayed, recorded);
}

/// The device is pulled out, and writes where it must not, at the same virtual time.
#[test]
fn a_session_that_failed_fails_again() {
    let told = |output: &Output| {
        let (code, errors) = failure(output);
        let tells = |line: &&str| line.starts_with("dmatest: ") || line.starts_with("*** ");
        let lines: Vec<String> = errors.lines().filter(tells).map(str::to_owned).collect();
        (code, lines)
    };
    for (fault, expected) in [
        ("unplug@2", exit::REQUEST.into()),
        ("stray=+64@2", BUG_CHECK),
    ] {
        let session = Session::new(&["--fault", fault, "copy", FILE]);
        let (recorded, replayed) = (session.recorded(), session.replayed());
        assert_eq!(told(&recorded).0, expected, "{recorded:?}");
        assert!(!told(&recorded).1.is_empty());
        assert_eq!(told(&replayed), told(&recorded));
    }
}

#[test]
fn a_replay_that_differs_stops_where_it_differs() {
    let mut session = Session::new(&["copy", FILE]);
    session.recorded();
    session.arguments = owned(&["verify"]);
    let (code, errors) = failure(&session.replayed());
    assert_eq!(code, MACHINE_STOP);
    let stop = "*** MACHINE STOP: board: the session differs from its record at entry ";
    let line = errors.lines().find(|line| line.starts_with(stop));
    let line = line.unwrap_or_else(|| panic!("{errors}"));
    assert!(line.contains(": recorded is `"), "{line}");
    assert!(line.contains("`, now comes `"), "{line}");
}

#[test]
fn another_machine_is_refused() {
    let mut session = Session::new(&["info"]);
    session.recorded();
    for options in [
        &["--seed", "2"][..],
        &["--processors", "1"],
        &["--interrupt", "line"],
        &["--fault", "hang@3"],
    ] {
        session.arguments = [options, &["info"]]
            .concat()
            .iter()
            .map(|s| (*s).to_owned())
            .collect();
        let (code, errors) = failure(&session.replayed());
        assert_eq!(code, i32::from(exit::SURROUNDINGS));
        assert!(
            errors.contains("the record is of another machine"),
            "{errors}"
        );
    }
}

/// A number as a record holds it.
fn number(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn position(bytes: &[u8], wanted: &[u8]) -> usize {
    let found = bytes.windows(wanted.len()).position(|part| part == wanted);
    found.expect("the record holds it")
}

#[test]
fn a_damaged_record_is_told_of() {
    let session = Session::new(&["demo", "--json", FILE]);
    session.recorded();
    // Within an entry, and between two of them.
    let (code, errors) = session.replayed_after(|bytes| bytes.truncate(bytes.len() - 1));
    assert_eq!(code, i32::from(exit::SURROUNDINGS), "{errors}");
    assert!(errors.contains("the record is cut off"), "{errors}");
    let start = [vec![6], number(0xc000_0098), vec![8]].concat();
    let (code, errors) = session.replayed_after(|bytes| bytes.truncate(position(bytes, &start)));
    assert_eq!(code, MACHINE_STOP, "{errors}");
    assert!(errors.contains("the record ends after"), "{errors}");
    let read = [
        vec![1],
        number(1 << 20),
        vec![5],
        number(0xc000_0000),
        vec![4, 0],
    ]
    .concat();
    let (code, errors) = session.replayed_after(|bytes| bytes.extend(read));
    assert_eq!(code, i32::from(exit::SURROUNDINGS), "{errors}");
    assert!(errors.contains("the record goes on"), "{errors}");
    // Another command than the driver writes.
    let (code, errors) = session.replayed_after(|bytes| {
        let value = position(bytes, &start) + start.len();
        bytes[value] ^= 2;
    });
    assert_eq!(code, MACHINE_STOP, "{errors}");
    assert!(
        errors.contains("recorded is `write 0x7 to 8 bytes at 0xc0000098`"),
        "{errors}"
    );
    // Other data than the device wrote.
    let (code, errors) = session.replayed_after(|bytes| {
        let data = position(bytes, b"[package]");
        bytes[data] ^= 1;
    });
    assert_eq!(code, i32::from(exit::DIFFERENT), "{errors}");
    assert!(errors.contains("not what went out"), "{errors}");
}
