//! Progress of long operations: a bar on a terminal, plain lines otherwise, nothing when asked to be quiet.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a plain line is written at most.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Shows how much of something is done, on standard error.
pub struct Progress(Shown);

/// What is counted.
#[derive(Debug, Clone, Copy)]
enum Unit {
    Bytes,
    Requests,
    Seconds,
    Periods,
}

impl Unit {
    fn template(self) -> &'static str {
        match self {
            Self::Bytes => "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            Self::Requests => "{msg} {wide_bar} {pos}/{len} requests {per_sec} {eta}",
            Self::Seconds => "{msg} {wide_bar} {pos}/{len} s {eta}",
            Self::Periods => "{msg} {wide_bar} {pos}/{len} periods {eta}",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Requests => "requests",
            Self::Seconds => "s",
            Self::Periods => "periods",
        }
    }
}

enum Shown {
    Nothing,
    Bar(ProgressBar),
    Lines(Lines),
}

/// Progress where there is no terminal: a line now and then.
struct Lines {
    what: String,
    unit: Unit,
    done: u64,
    total: u64,
    last: Instant,
}

impl Lines {
    /// The line to be written, if there has been none for long enough.
    fn set(&mut self, done: u64, now: Instant) -> Option<String> {
        self.done = done;
        if now.duration_since(self.last) < LINE_EVERY {
            return None;
        }
        self.last = now;
        let Self {
            what, unit, total, ..
        } = self;
        Some(format!("{what}: {done} of {total} {}", unit.name()))
    }
}

impl Progress {
    /// Shows nothing.
    #[must_use]
    pub fn quiet() -> Self {
        Self(Shown::Nothing)
    }

    /// Shows `what` moving towards `total` bytes.
    #[must_use]
    pub fn bytes(what: &str, total: u64) -> Self {
        Self::new(what, Unit::Bytes, total)
    }

    /// Shows `what` moving towards `total` requests.
    #[must_use]
    pub fn requests(what: &str, total: u64) -> Self {
        Self::new(what, Unit::Requests, total)
    }

    /// Shows `what` going on for `total` seconds.
    #[must_use]
    pub fn seconds(what: &str, total: u64) -> Self {
        Self::new(what, Unit::Seconds, total)
    }

    /// Shows `what` going on for `total` periods of a stream.
    #[must_use]
    pub fn periods(what: &str, total: u64) -> Self {
        Self::new(what, Unit::Periods, total)
    }

    fn new(what: &str, unit: Unit, total: u64) -> Self {
        if !io::stderr().is_terminal() {
            return Self(Shown::Lines(Lines {
                what: what.to_owned(),
                unit,
                done: 0,
                total,
                last: Instant::now(),
            }));
        }
        let style =
            ProgressStyle::with_template(unit.template()).expect("the template is a constant");
        let bar = ProgressBar::new(total).with_style(style);
        bar.set_message(what.to_owned());
        Self(Shown::Bar(bar))
    }

    /// So many more are done.
    pub fn advance(&mut self, more: u64) {
        let before = match &self.0 {
            Shown::Nothing => return,
            Shown::Bar(bar) => bar.position(),
            Shown::Lines(lines) => lines.done,
        };
        self.set(before + more);
    }

    /// So many are done now.
    pub fn set(&mut self, now: u64) {
        match &mut self.0 {
            Shown::Nothing => {}
            Shown::Bar(bar) => bar.set_position(now),
            Shown::Lines(lines) => {
                if let Some(line) = lines.set(now, Instant::now()) {
                    eprintln!("{line}");
                }
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Shown::Bar(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_terminal_there_is_a_line_now_and_then() {
        let start = Instant::now();
        let mut lines = Lines {
            what: "stream".to_owned(),
            unit: Unit::Periods,
            done: 0,
            total: 97,
            last: start,
        };
        assert_eq!(lines.set(3, start + LINE_EVERY / 2), None);
        let line = lines.set(40, start + LINE_EVERY);
        assert_eq!(line.as_deref(), Some("stream: 40 of 97 periods"));
        assert_eq!(lines.set(60, start + LINE_EVERY * 3 / 2), None);
        let line = lines.set(97, start + LINE_EVERY * 2);
        assert_eq!(line.as_deref(), Some("stream: 97 of 97 periods"));
    }

    /// The templates are checked when they are used.
    #[test]
    fn every_unit_has_a_bar() {
        for unit in [Unit::Bytes, Unit::Requests, Unit::Seconds, Unit::Periods] {
            ProgressStyle::with_template(unit.template()).expect("a template");
            assert!(!unit.name().is_empty());
        }
    }
}
