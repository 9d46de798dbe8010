//! What a program knows of its own requests, held against what the driver has counted.

use std::collections::BTreeMap;

use abi::statistics::Statistics;
use serde::Serialize;

use crate::device::Direction;
use crate::error::{Error, Win32Error};

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Carried out.
    Done,
    /// ERROR_OPERATION_ABORTED, after somebody asked for it.
    Cancelled,
    /// Another error, or ERROR_OPERATION_ABORTED although nobody asked for it.
    Failed(Win32Error),
}

/// Requests made, and how they ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Requests made that are known to have ended.
    pub requests: u64,
    /// Those carried out.
    pub completed: u64,
    /// Those cancelled.
    pub cancelled: u64,
    /// Those for which cancellation was asked and that were carried out all the same: it came too late.
    pub too_late: u64,
    /// Those that failed.
    pub failed: u64,
    /// The failed ones by their Win32 error.
    pub failures: BTreeMap<u32, u64>,
    /// Requests of processes that ended without waiting for them.
    pub abandoned: u64,
    /// Bytes of completed reads.
    pub bytes_read: u64,
    /// Bytes of completed writes.
    pub bytes_written: u64,
    /// Bytes of all requests but the completed ones.
    pub bytes_uncertain: u64,
}

impl Tally {
    /// Counts a request.
    pub fn add(&mut self, direction: Direction, length: usize, end: End) {
        let length = length as u64;
        self.requests += 1;
        match (end, direction) {
            (End::Done, Direction::Read) => self.bytes_read += length,
            (End::Done, Direction::Write) => self.bytes_written += length,
            _ => self.bytes_uncertain += length,
        }
        match end {
            End::Done => self.completed += 1,
            End::Cancelled => self.cancelled += 1,
            End::Failed(error) => {
                self.failed += 1;
                *self.failures.entry(error.0).or_default() += 1;
            }
        }
    }

    /// Counts requests of a process that has ended.
    pub fn abandon(&mut self, requests: usize, length: usize) {
        self.abandoned += requests as u64;
        self.bytes_uncertain += (requests * length) as u64;
    }

    /// Adds another thread's requests.
    pub fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.completed += other.completed;
        self.cancelled += other.cancelled;
        self.too_late += other.too_late;
        self.failed += other.failed;
        self.abandoned += other.abandoned;
        self.bytes_read += other.bytes_read;
        self.bytes_written += other.bytes_written;
        self.bytes_uncertain += other.bytes_uncertain;
        for (error, count) in &other.failures {
            *self.failures.entry(*error).or_default() += count;
        }
    }

    /// One line for each error, for a person.
    pub fn explain(&self) -> impl Iterator<Item = String> + '_ {
        self.failures.iter().map(|(code, count)| {
            let note = match Win32Error(*code) {
                Win32Error::OPERATION_ABORTED => ", and nobody asked for it",
                _ => "",
            };
            format!("{count} requests: {}{note}", Win32Error(*code))
        })
    }

    /// Whether requests failed.
    ///
    /// # Errors
    /// [`Error::RequestsFailed`].
    pub fn none_failed(&self) -> Result<(), Error> {
        match self.failed {
            0 => Ok(()),
            failed => Err(Error::RequestsFailed {
                failed,
                requests: self.requests,
            }),
        }
    }

    /// Holds the tally against what the driver counted meanwhile. Nothing is under way now, nothing was before, and nobody
    /// else has used the device.
    ///
    /// What the system cancelled while it waited for the driver, the driver may or may not have seen; so the tally is an
    /// upper limit of the driver's counts, but for completed requests, which are the same.
    ///
    /// # Errors
    /// [`Error::Mismatch`] with all that does not add up.
    pub fn check(&self, before: &Statistics, after: &Statistics) -> Result<(), Error> {
        let since = |count: fn(&Statistics) -> u64| count(after).wrapping_sub(count(before));
        let aborted = self
            .failures
            .get(&Win32Error::OPERATION_ABORTED.0)
            .unwrap_or(&0);
        let timeouts = since(|s| s.timeouts);
        let failed = since(|s| s.failed);
        let ranges = [
            (
                "requests",
                since(|s| s.requests),
                self.completed,
                self.requests + self.abandoned,
            ),
            (
                "completed",
                since(|s| s.completed),
                self.completed,
                self.completed + self.abandoned,
            ),
            (
                "cancelled",
                since(|s| s.cancelled),
                0,
                self.cancelled + aborted + self.abandoned,
            ),
            ("failed", failed, 0, self.failed + self.abandoned),
            ("timeouts", timeouts, 0, failed),
            (
                "bytes read",
                since(|s| s.bytes_read),
                self.bytes_read,
                self.bytes_read + self.bytes_uncertain,
            ),
            (
                "bytes written",
                since(|s| s.bytes_written),
                self.bytes_written,
                self.bytes_written + self.bytes_uncertain,
            ),
        ];
        let mut wrong: Vec<String> = ranges
            .into_iter()
            .filter(|(_, counted, least, most)| !(least..=most).contains(&counted))
            .map(|(name, counted, least, most)| {
                if least == most {
                    format!("{name}: {counted} counted, {least} done")
                } else {
                    format!("{name}: {counted} counted, {least} to {most} done")
                }
            })
            .collect();
        let ended = after.completed + after.cancelled + after.failed;
        if after.requests != ended {
            wrong.push(format!(
                "{} requests, but {} completed + {} cancelled + {} failed = {ended}",
                after.requests, after.completed, after.cancelled, after.failed
            ));
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(Error::Mismatch(format!(
                "the driver's statistics do not add up: {}",
                wrong.join("; ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> Tally {
        let mut tally = Tally::default();
        tally.add(Direction::Read, 10, End::Done);
        tally.add(Direction::Write, 20, End::Done);
        tally.add(Direction::Write, 30, End::Cancelled);
        tally.add(Direction::Read, 40, End::Failed(Win32Error::SEM_TIMEOUT));
        tally
    }

    fn counted() -> Statistics {
        Statistics {
            requests: 4,
            completed: 2,
            cancelled: 1,
            failed: 1,
            timeouts: 1,
            bytes_read: 10,
            bytes_written: 25,
            ..Statistics::new()
        }
    }

    #[test]
    fn what_adds_up_passes_whether_the_driver_saw_the_cancelled_or_not() {
        let before = Statistics::new();
        let all = counted();
        let unseen = Statistics {
            requests: 3,
            cancelled: 0,
            ..all
        };
        tally().check(&before, &all).expect("all seen");
        tally()
            .check(&before, &unseen)
            .expect("cancelled in the queue");
    }

    #[test]
    fn each_count_that_is_wrong_is_named() {
        type Change = fn(&mut Statistics);
        let changes: [(&str, Change); 8] = [
            ("4 requests, but", |s| s.cancelled = 0),
            ("completed: 3", |s| s.completed = 3),
            ("cancelled: 2", |s| s.cancelled = 2),
            ("failed: 2", |s| s.failed = 2),
            ("requests: 5", |s| s.requests = 5),
            ("timeouts: 2", |s| s.timeouts = 2),
            ("bytes read: 9", |s| s.bytes_read = 9),
            ("bytes written: 91", |s| s.bytes_written = 91),
        ];
        for (name, change) in changes {
            let mut statistics = counted();
            change(&mut statistics);
            let error = tally()
                .check(&Statistics::new(), &statistics)
                .expect_err(name)
                .to_string();
            assert!(error.contains(name), "{name}: {error}");
        }
    }

    #[test]
    fn abandoned_requests_may_have_ended_in_any_way() {
        let mut tally = tally();
        tally.abandon(3, 100);
        for (completed, cancelled) in [(2, 1), (5, 1), (3, 3)] {
            let statistics = Statistics {
                requests: completed + cancelled + 1,
                completed,
                cancelled,
                ..counted()
            };
            tally
                .check(&Statistics::new(), &statistics)
                .expect("possible");
        }
    }
}
