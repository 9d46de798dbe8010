use std::process::Command;

use super::*;

/// A device's report, from the fields that matter here.
fn report(device: &str, verified: bool) -> Report {
    Report {
        device: device.to_owned(),
        qemu_version: None,
        interrupt: "message".to_owned(),
        file: "file".into(),
        bytes: 5,
        sha256_written: "1234".to_owned(),
        sha256_read: if verified { "1234" } else { "4321" }.to_owned(),
        verified,
        requests: 2,
        transfers: 3,
        elements: 4,
        descriptors: 5,
        interrupts: 6,
        dpcs: 7,
        mmio_reads: 8,
        mmio_writes: 9,
        bounced_bytes: 10,
        seconds: 0.5,
        stream: None,
    }
}

/// What a program makes of it that prints this text and ends with this code.
fn run(device: &str, text: &str, code: i32) -> Result<Run> {
    let script = format!("printf '%s\\n' '{text}'; exit {code}");
    measure(device, Command::new("sh").args(["-c", &script]))
}

fn good(device: &str) -> Result<Run> {
    let text = serde_json::to_string(&report(device, true)).unwrap();
    run(device, &text, 0)
}

fn different(device: &str) -> Result<Run> {
    let text = serde_json::to_string(&report(device, false)).unwrap();
    run(device, &text, 1)
}

/// The JSON, and whether the command succeeds.
fn json(runs: Vec<Result<Run>>) -> (serde_json::Value, bool) {
    let mut out = Vec::new();
    let succeeded = conclude(runs, true, &mut out).is_ok();
    (serde_json::from_slice(&out).unwrap(), succeeded)
}

#[test]
fn without_a_device_there_are_two_and_the_fifo_is_two() {
    assert_eq!(devices(None), ["edu", "card"]);
    assert_eq!(devices(Some("fifo")), ["fifo", "fifo-no-interrupt"]);
    assert_eq!(devices(Some("card")), ["card"]);
}

#[test]
fn several_devices_are_a_list_of_the_objects_that_one_is() {
    let (both, succeeded) = json(vec![good("edu"), good("card")]);
    assert!(succeeded);
    assert_eq!(both["verified"], true);
    let (card, succeeded) = json(vec![good("card")]);
    assert!(succeeded);
    assert_eq!(both["devices"][1], card);
    assert_eq!(both["devices"].as_array().unwrap().len(), 2);
    assert_eq!(card["descriptors"], 5);
}

#[test]
fn one_that_differs_is_shown_and_fails() {
    let (both, succeeded) = json(vec![good("edu"), different("card")]);
    assert!(!succeeded);
    assert_eq!(both["verified"], false);
    assert_eq!(both["devices"][0]["verified"], true);
    assert_eq!(both["devices"][1]["verified"], false);
    let mut out = Vec::new();
    let failed = conclude(vec![different("edu"), good("card")], false, &mut out);
    assert!(failed.unwrap_err().to_string().starts_with("edu: "));
    let table = String::from_utf8(out).unwrap();
    assert!(table.contains("DIFFERENT"), "{table}");
}

#[test]
fn one_that_does_not_run_does_not_hide_the_other() {
    let (both, succeeded) = json(vec![run("edu", "", 6), good("card")]);
    assert!(!succeeded);
    assert_eq!(both["verified"], false);
    let devices = both["devices"].as_array().unwrap();
    assert_eq!(devices.len(), 1);
    assert_eq!(devices[0]["device"], "card");
}

/// It would have been a report, but the machine has stopped after it.
#[test]
fn a_report_with_an_exit_code_is_a_failure() {
    let text = serde_json::to_string(&report("card", true)).unwrap();
    let (both, succeeded) = json(vec![good("edu"), run("card", &text, 86)]);
    assert!(!succeeded);
    assert_eq!(both["verified"], false);
}

#[test]
fn without_any_report_one_device_prints_nothing() {
    let mut out = Vec::new();
    let failed = conclude(vec![run("card", "", 87)], true, &mut out);
    assert!(failed.unwrap_err().to_string().contains("87"));
    assert!(out.is_empty());
}

#[test]
fn what_cannot_be_sent_is_refused_before_anything_is_built() {
    let options = |file: &str| Options {
        file: Some(file.into()),
        device: None,
        json: false,
        debug_output: false,
        dmatest: Vec::new(),
    };
    for (path, reason) in [
        ("/no/such/file", "No such file"),
        ("/", "this is a directory"),
        ("/dev/zero", "this is not a regular file"),
    ] {
        let error = format!("{:#}", file(&options(path)).unwrap_err());
        assert!(
            error.starts_with(&format!("cannot send {path}: ")),
            "{error}"
        );
        assert!(error.contains(reason), "{error}");
    }
}
