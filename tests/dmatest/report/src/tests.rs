use super::*;

/// A device that gave the file back.
fn report(device: &str) -> Report {
    let sum = "221e7e65198af290166111cc5d83727e59e01914ed45f71724cee6c9fd4ce791";
    Report {
        device: device.to_owned(),
        qemu_version: None,
        interrupt: "message".to_owned(),
        file: "primes.txt".into(),
        bytes: 114_870,
        sha256_written: sum.to_owned(),
        sha256_read: sum.to_owned(),
        verified: true,
        requests: 2,
        transfers: 2,
        elements: 58,
        descriptors: 58,
        interrupts: 2,
        dpcs: 2,
        mmio_reads: 0,
        mmio_writes: 2,
        bounced_bytes: 0,
        seconds: 0.0654,
        stream: None,
    }
}

fn edu() -> Report {
    Report {
        qemu_version: Some("7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)".to_owned()),
        requests: 58,
        transfers: 226,
        elements: 226,
        descriptors: 0,
        ..report("edu")
    }
}

fn table(reports: &[Report]) -> String {
    let mut out = Vec::new();
    print_table(reports, &mut out).expect("a Vec takes everything");
    String::from_utf8(out).expect("ASCII")
}

/// The words of a row, its name first.
fn row(table: &str, name: &str) -> String {
    let line = table.lines().find(|line| line.starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in\n{table}"));
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn two_devices_stand_beside_each_other_in_80_characters() {
    let table = table(&[edu(), report("card")]);
    assert_eq!(row(&table, "device "), "device edu card");
    assert_eq!(row(&table, "QEMU "), "QEMU 7.2.22 not used");
    assert_eq!(row(&table, "elements "), "elements 226 58");
    assert_eq!(row(&table, "descriptors "), "descriptors 0 58");
    assert!(row(&table, "back from card").ends_with("4ce791"));
    let longest = table.lines().map(str::len).max();
    assert_eq!(longest, Some(80), "{table}");
    let columns: Vec<usize> = table.lines().skip(6).map(str::len).collect();
    assert!(
        columns.iter().all(|&width| width == columns[0]),
        "the columns end together:\n{table}"
    );
}

#[test]
fn one_device_has_the_same_rows() {
    let names = |table: &str| -> Vec<String> {
        let names = table.lines().map(|line| line.split("  ").next());
        names.map(|name| name.unwrap_or("").to_owned()).collect()
    };
    let one = names(&table(&[edu()]));
    let two = names(&table(&[edu(), edu()]));
    assert_eq!(one.len() + 1, two.len(), "the other's SHA-256");
    assert!(one.iter().all(|name| two.contains(name)));
}

#[test]
fn what_differs_catches_the_eye() {
    let different = Report {
        sha256_read: "0".repeat(64),
        verified: false,
        ..report("card")
    };
    let table = table(&[edu(), different]);
    assert_eq!(row(&table, "verdict "), "verdict the same DIFFERENT");
    assert!(
        row(&table, "back from card")
            .ends_with(" 0000000000000000000000000000000000000000000000000000000000000000")
    );
}

#[test]
fn a_stream_is_shown_where_there_is_one() {
    let streamed = Streamed {
        periods: 29,
        ..Streamed::default()
    };
    let fifo = |stream| Report {
        stream: Some(stream),
        ..report("fifo")
    };
    let text = table(&[edu(), fifo(streamed)]);
    assert_eq!(row(&text, "stream "), "stream none 29 periods");
    let lost = Streamed {
        missed: 3,
        ..streamed
    };
    assert!(!lost.verified());
    assert!(row(&table(&[fifo(lost)]), "stream ").contains("3 MISSED"));
    assert!(!Streamed::default().verified(), "nothing was played");
    assert!(!table(&[edu()]).contains("stream"));
}

#[test]
fn an_object_is_one_line_that_can_be_read_again() {
    let both = Comparison {
        verified: true,
        devices: vec![edu(), report("card")],
    };
    let mut out = Vec::new();
    print_json(&both, &mut out).expect("a Vec takes everything");
    assert_eq!(out.iter().filter(|&&byte| byte == b'\n').count(), 1);
    assert_eq!(
        serde_json::from_slice::<Comparison>(&out).expect("an object"),
        both
    );
}
