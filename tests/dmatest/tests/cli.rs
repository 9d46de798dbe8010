//! The program from outside: what it prints and its exit codes.

use std::io::Write;
use std::process::{Command, Output};

use dmatest::exit;

/// Runs the program on edu's twin unless `arguments` name another device.
fn dmatest(arguments: &[&str]) -> Output {
    let image = std::env::var_os("DMACARD_SYS")
        .expect("DMACARD_SYS names the driver's image: run `cargo xtask test`");
    let mut command = Command::new(env!("CARGO_BIN_EXE_dmatest"));
    if !arguments.contains(&"--device") {
        command.args(["--device", "edu-twin"]);
    }
    command
        .env("DMACARD_SYS", image)
        .args(arguments)
        .output()
        .expect("the program runs")
}

fn code(arguments: &[&str]) -> i32 {
    let output = dmatest(arguments);
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

fn file(length: usize) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    let contents: Vec<u8> = (0..length).map(|index| (index % 253) as u8).collect();
    file.write_all(&contents).expect("written");
    file
}

#[test]
fn every_subcommand_succeeds() {
    let file = file(10_000);
    let path = file.path().to_str().expect("a plain name");
    for arguments in [
        &["info"][..],
        &["stats"],
        &["verify"],
        &["copy", path],
        &["demo", path],
    ] {
        assert_eq!(code(arguments), 0, "{arguments:?}");
    }
}

#[test]
fn the_demo_prints_one_object_and_nothing_else() {
    let file = file(100_000);
    let path = file.path().to_str().expect("a plain name");
    let output = dmatest(&["demo", path, "--device", "edu", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("standard output is one object");
    assert_eq!(report["device"], "edu");
    assert!(report["qemu_version"].is_string());
    assert_eq!(report["bytes"], 100_000);
    assert_eq!(report["verified"], true);
    assert_eq!(report["sha256_written"], report["sha256_read"]);
    assert_eq!(report["bounced_bytes"], 200_000);
    for name in [
        "requests",
        "transfers",
        "interrupts",
        "dpcs",
        "mmio_reads",
        "mmio_writes",
        "seconds",
    ] {
        assert!(
            report[name].as_f64().is_some_and(|value| value > 0.0),
            "{name}"
        );
    }
}

#[test]
fn exit_codes_are_as_documented() {
    let denied = i32::from(exit::DENIED);
    let surroundings = i32::from(exit::SURROUNDINGS);
    assert_eq!(code(&["--unprivileged", "info"]), denied);
    assert_eq!(code(&["copy", "/no/such/file"]), surroundings);
    assert_eq!(code(&["--driver", "/no/such/image", "info"]), surroundings);
    assert_eq!(
        code(&["--device", "edu", "--qemu", "/no/such/qemu", "info"]),
        surroundings
    );
    assert_eq!(code(&["no-such-command"]), 2);
}
