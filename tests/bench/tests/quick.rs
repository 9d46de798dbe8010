//! The program with `--quick`: every row is there and its numbers can be. How fast anything was is not looked at.
//!
//! `DMACARD_SYS` names the driver's image; `cargo xtask test` builds it and sets the variable.

use std::collections::BTreeSet;
use std::process::Command;

use bench::{Direction, Report};

const DEPTHS: [usize; 3] = [1, 4, 32];

#[test]
fn a_quick_run_yields_every_row() {
    let folder = tempfile::tempdir().expect("a directory");
    let picture = folder.path().join("plot.svg");
    let run = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["--device", "edu-twin", "--quick", "--json", "--plot"])
        .arg(&picture)
        .output()
        .expect("runs");
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    let report: Report = serde_json::from_slice(&run.stdout).expect("one JSON object");
    assert_eq!(report.device, "edu-twin");

    let found: BTreeSet<_> = report
        .rows
        .iter()
        .map(|row| (row.size, row.direction.to_string(), row.depth))
        .collect();
    let expected = Direction::ALL.into_iter().flat_map(|direction| {
        DEPTHS.map(|depth| (abi::edu::USABLE as usize, direction.to_string(), depth))
    });
    assert_eq!(found, expected.collect());
    assert_eq!(report.rows.len(), found.len());

    for row in &report.rows {
        let positive = [
            row.megabytes_per_second,
            row.memcpy_megabytes_per_second,
            row.memcpy_ratio,
            row.requests_per_second,
            row.latency.median_us,
        ];
        assert!(
            positive
                .iter()
                .all(|number| number.is_finite() && *number > 0.0),
            "{row:?}"
        );
        assert!(row.latency.p99_us >= row.latency.median_us, "{row:?}");
        assert!(row.requests >= row.depth as u64, "{row:?}");
        let cost = &row.per_request;
        // Edu takes one transfer at a time: four registers to program it, and an interrupt at its end, to be asked for and
        // cleared.
        assert!(cost.transfers >= 1.0, "{row:?}");
        assert!(cost.register_writes >= 5.0 * cost.transfers, "{row:?}");
        assert!(cost.register_reads >= cost.transfers, "{row:?}");
        assert!(
            cost.register_reads + cost.register_writes < 12.0 * cost.transfers,
            "{row:?}"
        );
        assert!(cost.interrupts >= cost.transfers, "{row:?}");
        assert!(cost.dpcs > 0.0 && cost.ddi_calls > 5.0, "{row:?}");
        assert_eq!(cost.allocations, 0.0, "{row:?}");
    }
    let empty = &report.empty_request;
    assert!(empty.requests_per_second > 0.0);
    assert!(empty.per_request.ddi_calls >= 1.0);
    assert_eq!(
        empty.per_request.register_reads + empty.per_request.register_writes,
        0.0
    );

    let picture = std::fs::read_to_string(picture).expect("drawn");
    assert!(picture.contains("<polyline") && picture.contains("4095 bytes both"));
}
