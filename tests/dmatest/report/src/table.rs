//! The table: what is long in lines of its own, so that the columns of two devices fit into 80 characters.

use std::io::{self, Write};

use crate::Report;

/// Between two columns.
const GAP: usize = 3;

/// The row that is left out if no device streams.
const STREAM: &str = "stream";

type Value = fn(&Report) -> String;

/// A row each.
const ROWS: [(&str, Value); 15] = [
    ("device", |report| report.device.clone()),
    ("verdict", verdict),
    ("QEMU", qemu),
    ("interrupts by", |report| report.interrupt.clone()),
    ("requests", |report| report.requests.to_string()),
    ("DMA transfers", |report| report.transfers.to_string()),
    ("elements", |report| report.elements.to_string()),
    ("descriptors", |report| report.descriptors.to_string()),
    ("interrupts", |report| report.interrupts.to_string()),
    ("DPCs", |report| report.dpcs.to_string()),
    ("register reads", |report| report.mmio_reads.to_string()),
    ("register writes", |report| report.mmio_writes.to_string()),
    ("bytes bounced", |report| report.bounced_bytes.to_string()),
    ("seconds", |report| format!("{:.3}", report.seconds)),
    (STREAM, stream),
];

pub(crate) fn print(reports: &[Report], out: &mut dyn Write) -> io::Result<()> {
    print_sums(reports, out)?;
    writeln!(out)?;
    let streams = reports.iter().any(|report| report.stream.is_some());
    let rows: Vec<Vec<String>> = ROWS
        .iter()
        .filter(|(name, _)| streams || *name != STREAM)
        .map(|(name, value)| {
            let values = reports.iter().map(value);
            std::iter::once((*name).to_owned()).chain(values).collect()
        })
        .collect();
    let widths: Vec<usize> = (0..=reports.len())
        .map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0))
        .collect();
    for row in rows {
        write!(out, "{:1$}", row[0], widths[0])?;
        for (value, width) in row.iter().zip(&widths).skip(1) {
            write!(out, "{value:>0$}", GAP + width)?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// The file, and what came back of it.
fn print_sums(reports: &[Report], out: &mut dyn Write) -> io::Result<()> {
    let Some(first) = reports.first() else {
        return Ok(());
    };
    let backs: Vec<String> = reports
        .iter()
        .map(|report| format!("back from {}", report.device))
        .collect();
    let mut rows = vec![
        ("file", first.file.display().to_string()),
        ("bytes", first.bytes.to_string()),
        ("SHA-256", first.sha256_written.clone()),
    ];
    for (name, report) in backs.iter().zip(reports) {
        rows.push((name, report.sha256_read.clone()));
    }
    print_rows(&rows, out)
}

fn verdict(report: &Report) -> String {
    let same = report.sha256_written == report.sha256_read;
    if same { "the same" } else { "DIFFERENT" }.to_owned()
}

/// The version without the distribution's.
fn qemu(report: &Report) -> String {
    let version = report.qemu_version.as_deref().unwrap_or("not used");
    version
        .split_once(" (")
        .map_or(version, |(version, _)| version)
        .to_owned()
}

fn stream(report: &Report) -> String {
    match &report.stream {
        None => "none".to_owned(),
        Some(stream) if stream.verified() => format!("{} periods", stream.periods),
        Some(stream) => format!(
            "{} MISSED, {} DIFFERENT, {} GLITCHES",
            stream.missed, stream.different, stream.glitches
        ),
    }
}

/// Prints names and values in two columns.
///
/// # Errors
/// Those of `out`.
pub fn print_rows(rows: &[(&str, String)], out: &mut dyn Write) -> io::Result<()> {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter()
        .try_for_each(|(name, value)| writeln!(out, "{name:width$}  {value}"))
}
