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
        &["verify", "--cancel"],
        &["stress", "--requests", "200"],
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
    assert_eq!(report["descriptors"], 0, "it has no ring");
    assert_eq!(report["stream"], serde_json::Value::Null);
    for name in [
        "requests",
        "transfers",
        "elements",
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

/// The lines on standard error about faults.
fn faults(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines = text.lines().filter(|line| line.contains("fault"));
    lines.map(str::to_owned).collect()
}

#[test]
fn faults_that_do_no_harm_are_reported_at_the_end() {
    let file = file(10_000);
    let path = file.path().to_str().expect("a plain name");
    for device in ["edu-twin", "edu"] {
        let plan = "duplicate@2,spurious@command:3,drop@interrupt:100000";
        let output = dmatest(&["--device", device, "--fault", plan, "copy", path]);
        assert!(output.status.success(), "{output:?}");
        let lines = faults(&output);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[0].contains("duplicate=10us@2 at "), "{lines:?}");
        assert!(lines[1].contains("spurious@command:3 at "), "{lines:?}");
        assert!(lines[2].contains("1 faults of the plan are still to come"));
    }
}

#[test]
fn a_device_that_is_pulled_out_ends_the_command_and_nothing_else() {
    for device in ["edu-twin", "edu"] {
        let output = dmatest(&["--device", device, "--fault", "unplug@command:3", "verify"]);
        let code = output.status.code();
        assert_eq!(code, Some(i32::from(exit::REQUEST)), "{output:?}");
        let [line] = &faults(&output)[..] else {
            panic!("{output:?}");
        };
        assert!(line.contains("unplug@command:3 at "), "{line}");
    }
    assert_eq!(
        code(&["--fault", "unplug", "info"]),
        i32::from(exit::NO_DEVICE)
    );
}

#[test]
fn what_is_no_plan_of_faults_is_a_wrong_command_line() {
    for (plan, reason) in [
        ("hung", "there is no fault of this name"),
        ("hang@day:1", "a moment is N, command:N"),
        ("drop,delay", "`delay` is no fault: it needs a parameter"),
    ] {
        let output = dmatest(&["--fault", plan, "info"]);
        assert_eq!(output.status.code(), Some(2), "{plan}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(reason), "{text}");
    }
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("standard output is no object: {error}, {output:?}"))
}

#[test]
fn requests_are_cancelled_at_random_moments_and_everything_adds_up() {
    for device in ["edu-twin", "edu"] {
        let output = dmatest(&["--device", device, "verify", "--cancel"]);
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8_lossy(&output.stdout);
        for check in ["cancel one", "cancel all", "duplicate", "close"] {
            let line = text.lines().find(|line| line.contains(check));
            assert!(
                line.is_some_and(|line| line.ends_with(" cancelled")),
                "{text}"
            );
        }
        assert!(text.contains("ok      adds up"), "{text}");
    }
}

#[test]
fn stress_cancels_resets_and_verifies() {
    for device in ["edu-twin", "edu"] {
        for seed in ["1", "2", "3"] {
            let output = dmatest(&[
                "--device",
                device,
                "stress",
                "--json",
                "--requests",
                "300",
                "--cancel",
                "30",
                "--reset",
                "3",
                "--data-seed",
                seed,
                "--seed",
                seed,
            ]);
            assert!(output.status.success(), "{output:?}");
            let report = json(&output);
            assert_eq!(report["verdict"], "every byte verified");
            assert_eq!(
                report["requests"], 308,
                "a write and a read of each thread more"
            );
            for name in ["cancelled", "completed", "resets"] {
                assert!(report[name].as_u64() > Some(2), "{name}: {report}");
            }
            assert_eq!(report["failed"], 0);
        }
    }
}

/// Requests of several transfers are cancelled between two of them, when the driver has them.
#[test]
fn requests_are_cancelled_in_the_driver_too() {
    let output = dmatest(&[
        "stress",
        "--json",
        "--requests",
        "200",
        "--cancel",
        "40",
        "--threads",
        "1",
        "--depth",
        "4",
        "--sizes",
        "1500-4095",
    ]);
    assert!(output.status.success(), "{output:?}");
    let report = json(&output);
    let cancelled = report["driver"]["cancelled"].as_u64();
    assert!(cancelled > Some(5), "{report}");
    assert!(report["cancelled"].as_u64() > cancelled, "{report}");
}

#[test]
fn the_same_seeds_make_the_same_run() {
    let run = || {
        let arguments = ["stress", "--json", "--requests", "200", "--cancel", "30"];
        let mut report = json(&dmatest(&arguments));
        report["real_seconds"].take();
        report
    };
    assert_eq!(run(), run());
}

#[test]
fn a_duration_is_of_the_machines_time() {
    let output = dmatest(&[
        "stress",
        "--json",
        "--duration",
        "20",
        "--depth",
        "2",
        "--threads",
        "2",
    ]);
    let seconds = json(&output)["seconds"].as_f64();
    assert!(
        seconds.is_some_and(|seconds| (20.0..25.0).contains(&seconds)),
        "{output:?}"
    );
}

#[test]
fn failures_are_explained_and_are_an_error_unless_expected() {
    let request = Some(i32::from(exit::REQUEST));
    for plan in ["unplug@command:20", "hang@20", "stuck@20"] {
        let stress = ["--fault", plan, "stress", "--requests", "100"];
        let output = dmatest(&stress);
        assert_eq!(output.status.code(), request, "{output:?}");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("failed: "), "{text}");
        let expected = dmatest(&[&stress[..], &["--expect-failures"]].concat());
        assert!(expected.status.success(), "{expected:?}");
        let verify = ["--fault", plan, "verify", "--cancel"];
        assert_eq!(code(&verify), i32::from(exit::REQUEST));
        assert_eq!(code(&[&verify[..], &["--expect-failures"]].concat()), 0);
    }
}
