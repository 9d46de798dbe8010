//! A picture of a report: throughput, and register accesses per request, over queue depth.

use std::path::Path;

use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::plan::Direction;
use crate::report::{Report, Row};

const SIZE: (u32, u32) = (1000, 460);
/// Colours that can be told apart without seeing red and green.
const COLOURS: [RGBColor; 3] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
];

/// Draws the report into an SVG file.
///
/// # Errors
/// The file cannot be written.
pub fn plot(report: &Report, path: &Path) -> Result<()> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let title = format!("{}, interrupts by {}", report.device, report.interrupt);
    let area = area.titled(&title, ("sans-serif", 18))?;
    let (left, right) = area.split_horizontally(SIZE.0 / 2);
    chart(&left, report, "MB/s", |row| row.megabytes_per_second)?;
    chart(&right, report, "register accesses per request", |row| {
        row.per_request.register_reads + row.per_request.register_writes
    })?;
    area.present()?;
    Ok(())
}

/// One line for each size and direction.
fn chart(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    report: &Report,
    what: &str,
    value: impl Fn(&Row) -> f64,
) -> Result<()> {
    let depths = || report.rows.iter().map(|row| row.depth as f64);
    let deepest = depths().fold(2.0, f64::max);
    let highest = report.rows.iter().map(&value).fold(0.0, f64::max);
    let top = if highest > 0.0 { highest * 1.25 } else { 1.0 };
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d((1.0..deepest).log_scale(), 0.0..top)?;
    chart
        .configure_mesh()
        .x_desc("requests under way")
        .y_desc(what)
        .x_label_formatter(&|depth| format!("{depth:.0}"))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (index, lines) in by_size(report).into_iter().enumerate() {
        for (direction, rows) in lines {
            let colour = COLOURS[index % COLOURS.len()];
            let width = match direction {
                Direction::Read => 1,
                Direction::Write => 2,
                Direction::Both => 4,
            };
            let style = colour.mix(0.8).stroke_width(width);
            let points = rows.iter().map(|row| (row.depth as f64, value(row)));
            chart
                .draw_series(LineSeries::new(points, style))?
                .label(format!("{} {direction}", bytes(rows[0].size)))
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(TRANSPARENT)
        .draw()?;
    Ok(())
}

type Line<'a> = (Direction, Vec<&'a Row>);

/// The rows of each size, in ascending order, by direction.
fn by_size(report: &Report) -> Vec<Vec<Line<'_>>> {
    let mut sizes: Vec<usize> = report.rows.iter().map(|row| row.size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
        .into_iter()
        .map(|size| {
            let line = |direction| {
                let of_line = |row: &&Row| (row.size, row.direction) == (size, direction);
                let rows: Vec<&Row> = report.rows.iter().filter(of_line).collect();
                (!rows.is_empty()).then_some((direction, rows))
            };
            Direction::ALL.into_iter().filter_map(line).collect()
        })
        .collect()
}

fn bytes(size: usize) -> String {
    match size {
        _ if size >= 1 << 20 && size.is_multiple_of(1 << 20) => format!("{} MiB", size >> 20),
        _ if size >= 1 << 10 && size.is_multiple_of(1 << 10) => format!("{} KiB", size >> 10),
        _ => format!("{size} bytes"),
    }
}
