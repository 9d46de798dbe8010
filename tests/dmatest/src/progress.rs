//! Progress of long operations: a bar on a terminal, plain lines otherwise, nothing when asked to be quiet.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a plain line is written at most.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Shows how many of a known number of bytes are done, on standard error.
pub struct Progress(Shown);

enum Shown {
    Nothing,
    Bar(ProgressBar),
    Lines {
        what: String,
        done: u64,
        total: u64,
        last: Instant,
    },
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
        if !io::stderr().is_terminal() {
            return Self(Shown::Lines {
                what: what.to_owned(),
                done: 0,
                total,
                last: Instant::now(),
            });
        }
        let style = ProgressStyle::with_template(
            "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        )
        .expect("the template is a constant");
        let bar = ProgressBar::new(total).with_style(style);
        bar.set_message(what.to_owned());
        Self(Shown::Bar(bar))
    }

    /// `bytes` more are done.
    pub fn advance(&mut self, bytes: u64) {
        match &mut self.0 {
            Shown::Nothing => {}
            Shown::Bar(bar) => bar.inc(bytes),
            Shown::Lines {
                what,
                done,
                total,
                last,
            } => {
                *done += bytes;
                if last.elapsed() >= LINE_EVERY {
                    *last = Instant::now();
                    eprintln!("{what}: {done} of {total} bytes");
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
