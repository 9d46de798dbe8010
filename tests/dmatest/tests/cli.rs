//! The program from outside: what it prints and its exit codes.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use dmatest::exit;

/// Runs the program on edu's twin unless `arguments` name another device.
fn dmatest(arguments: &[&str]) -> Output {
    command(arguments).output().expect("the program runs")
}

fn command(arguments: &[&str]) -> Command {
    let image = std::env::var_os("DMACARD_SYS")
        .expect("DMACARD_SYS names the driver's image: run `cargo xtask test`");
    let mut command = Command::new(env!("CARGO_BIN_EXE_dmatest"));
    if !arguments.contains(&"--device") {
        command.args(["--device", "edu-twin"]);
    }
    command.env("DMACARD_SYS", image).args(arguments);
    command
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
        &["--device", "fifo", "stream", path][..],
        &["info"],
        &["stats"],
        &["verify"],
        &["verify", "--cancel"],
        &["verify", "--cancel", "--reserved=1"],
        &["verify", "--reserved", "--immediate"],
        &["stress", "--reserved"],
        &["stress", "--immediate"],
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
fn every_device_has_the_same_fields_and_says_what_it_has_not() {
    let file = file(100_000);
    let path = file.path().to_str().expect("a plain name");
    let report = |device| json(&dmatest(&["--device", device, "demo", path, "--json"]));
    let names = |report: &serde_json::Value| -> Vec<String> {
        report
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect()
    };
    let expected = names(&report("edu-twin"));
    for device in ["card", "fifo", "fifo-no-interrupt", "fifo-simplex"] {
        let report = report(device);
        assert_eq!(names(&report), expected, "{device}");
        assert_eq!(
            (&report["device"], &report["verified"]),
            (&device.into(), &true.into())
        );
        assert!(report["elements"].as_u64() > Some(0), "{report}");
        let given = report["descriptors"].as_u64() > Some(0);
        assert_eq!(given, device == "card", "{report}");
        // The whole file, and the silence before it.
        let periods = report["stream"]["periods"].as_u64();
        let plays = ["fifo", "fifo-no-interrupt"].contains(&device);
        assert_eq!(periods, plays.then_some(29), "{report}");
        assert_eq!(report["qemu_version"], serde_json::Value::Null);
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

/// What cannot be sent, and what is said of it.
#[test]
fn a_file_that_cannot_be_sent_is_named_with_the_reason() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let huge = at("huge");
    std::fs::File::create(&huge)
        .and_then(|file| file.set_len(5 << 30))
        .expect("a file with nothing in it");
    let empty = at("empty");
    std::fs::write(&empty, []).expect("written");
    let locked = at("locked");
    std::fs::write(&locked, [1]).expect("written");
    let nobody = std::os::unix::fs::PermissionsExt::from_mode(0o000);
    std::fs::set_permissions(&locked, nobody).expect("forbidden");
    let missing = at("missing");
    let memory = "/proc/self/mem".to_owned();
    let everywhere = [
        (&missing, "No such file"),
        (&at(""), "this is a directory, not a file"),
        (&"/dev/zero".to_owned(), "this is not a regular file"),
        (&memory, "Input/output error"),
    ]
    .map(|(path, reason)| (path.clone(), reason));
    let refused = |command: &str, path: &str, reason: &str| {
        let output = dmatest(&["--device", "fifo", "--quiet", command, path]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let code = output.status.code();
        assert_eq!(
            code,
            Some(i32::from(exit::SURROUNDINGS)),
            "{command} {text}"
        );
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(path) && text.contains(reason), "{text}");
        assert!(output.stdout.is_empty(), "{output:?}");
    };
    for command in ["copy", "demo", "stream"] {
        for (path, reason) in &everywhere {
            // It has no length, and is taken to be empty.
            let reason = match command {
                "stream" if *path == memory => "nothing to play",
                _ => reason,
            };
            refused(command, path, reason);
        }
        // An administrator reads what nobody may.
        if std::fs::File::open(&locked).is_err() {
            refused(command, &locked, "Permission denied");
        }
    }
    refused("demo", &huge, "the file has 5368709120 bytes");
    refused("stream", &empty, "nothing to play");
    for command in ["copy", "demo"] {
        assert_eq!(code(&["--device", "fifo", command, &empty]), 0);
    }
    let short = ["stream", &huge, "--time", "50"];
    assert_eq!(code(&[&["--device", "fifo"][..], &short].concat()), 0);
}

#[test]
fn wrong_arguments_of_stream_are_a_wrong_command_line() {
    for arguments in [
        &["stream"][..],
        &["stream", "file", "another"],
        &["stream", "file", "--time", "0"],
        &["stream", "file", "--time", "soon"],
        &["stream", "file", "--line-period", "99"],
        &["stream", "file", "--line-period", "-1"],
        &["stream", "file", "--line-period", "5000000000"],
    ] {
        let output = dmatest(arguments);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("--help"));
    }
}

#[test]
fn a_stream_of_a_device_that_has_none_is_refused() {
    let file = file(10_000);
    let path = file.path().to_str().expect("a plain name");
    for device in ["edu-twin", "card", "fifo-simplex"] {
        let output = dmatest(&["--device", device, "stream", path]);
        assert_eq!(output.status.code(), Some(i32::from(exit::REQUEST)));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("this device does not stream"), "{text}");
    }
}

/// A line that is faster than the program can be: it says so, and how much of it.
#[test]
fn a_stream_that_loses_something_reports_it_and_fails() {
    let file = file(50_000);
    let path = file.path().to_str().expect("a plain name");
    let stream = ["--device", "fifo", "stream", path, "--time", "20"];
    let output = dmatest(&[&stream[..], &["--line-period", "100"]].concat());
    assert_eq!(output.status.code(), Some(i32::from(exit::DIFFERENT)));
    let text = String::from_utf8_lossy(&output.stdout);
    let count = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_whitespace().nth(1));
        value.and_then(|value| value.parse::<u64>().ok())
    };
    assert!(count("missed") > Some(100), "{text}");
    assert!(count("glitches") > Some(0), "{text}");
    let errors = String::from_utf8_lossy(&output.stderr);
    let periods = errors.lines().filter(|line| line.starts_with("period "));
    assert!(periods.count() <= 5, "{errors}");
}

/// It ends at once and by the signal; what it has started ends with it.
#[test]
fn interrupted_from_the_keyboard_nothing_is_left() {
    let file = file(3_000_000);
    let path = file.path().to_str().expect("a plain name");
    let stream = ["--device", "fifo", "stream", path, "--time", "86400000"];
    let demo = ["--device", "edu", "demo", path];
    for arguments in [&stream[..], &demo] {
        let mut child = command(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        // The driver has something to say when its device is started, and QEMU runs by then.
        let mut errors = BufReader::new(child.stderr.take().expect("a pipe"));
        let said = errors.read_line(&mut String::new());
        assert!(said.is_ok_and(|length| length > 0));
        let children = children(child.id());
        let process = i32::try_from(child.id()).expect("a process");
        // SAFETY: a signal to a child that has not been waited for.
        assert_eq!(unsafe { libc::kill(process, libc::SIGINT) }, 0);
        let status = child.wait().expect("it ends");
        assert_eq!(status.signal(), Some(libc::SIGINT), "{status}");
        assert_eq!(children.len(), usize::from(arguments == demo), "QEMU");
        let end = Instant::now() + Duration::from_secs(10);
        while children.iter().any(|child| is_running(*child)) {
            assert!(Instant::now() < end, "QEMU goes on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The processes that this one has started.
fn children(process: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    let children = tasks.flat_map(|task| {
        let path = task.expect("it runs").path().join("children");
        let text = std::fs::read_to_string(path).expect("a list");
        let numbers = text
            .split_whitespace()
            .map(|number| number.parse().expect("a number"));
        numbers.collect::<Vec<u32>>()
    });
    children.collect()
}

/// Whether it is there and more than a status that nobody has asked for.
fn is_running(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"));
    status.is_ok_and(|status| !status.contains("State:\tZ"))
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
