//! What is measured, and for how long.

use std::fmt;
use std::time::Duration;

use abi::info::DeviceInfo;
use serde::{Deserialize, Serialize};

/// Bytes of a request, where the device takes them.
const SIZES: [usize; 3] = [4 << 10, 64 << 10, 1 << 20];
/// Requests kept under way in each direction.
const DEPTHS: [usize; 3] = [1, 4, 32];
/// Bytes of the device's memory that requests go to, one after the other.
const RANGE: u64 = 64 << 20;

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the device.
    Read,
    /// To the device.
    Write,
    /// Both at once, each with requests of its own.
    Both,
}

impl Direction {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Both];
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Both => "both",
        })
    }
}

/// How long it is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Before anything counts.
    pub warm_up: Duration,
    /// One repetition of a row.
    pub time: Duration,
    /// One repetition of the copying that the row is compared with.
    pub copy_time: Duration,
    /// The row is the repetition with the median throughput.
    pub repetitions: usize,
}

impl Plan {
    /// For numbers to write down: a minute or two.
    pub const FULL: Self = Self {
        warm_up: Duration::from_millis(100),
        time: Duration::from_millis(400),
        copy_time: Duration::from_millis(100),
        repetitions: 7,
    };
    /// For a look: some seconds.
    pub const QUICK: Self = Self {
        warm_up: Duration::from_millis(10),
        time: Duration::from_millis(50),
        copy_time: Duration::from_millis(20),
        repetitions: 3,
    };
}

/// One row to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) size: usize,
    pub(crate) depth: usize,
    pub(crate) direction: Direction,
    /// Requests go to this many places in turn, `size` bytes apart.
    pub(crate) places: u64,
}

/// The rows that a device offers. One that does not take 4 KiB at a time gets the most that it takes.
pub(crate) fn cells(info: &DeviceInfo) -> Vec<Cell> {
    let most = u64::from(info.maximum_request).min(info.memory_size) as usize;
    let mut sizes: Vec<usize> = SIZES.into_iter().filter(|&size| size <= most).collect();
    if sizes.is_empty() {
        sizes.push(most);
    }
    let mut cells = Vec::new();
    for size in sizes {
        let places = info.memory_size.min(RANGE) / size as u64;
        for direction in Direction::ALL {
            cells.extend(DEPTHS.map(|depth| Cell {
                size,
                depth,
                direction,
                places,
            }));
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(memory_size: u64, maximum_request: u32) -> DeviceInfo {
        DeviceInfo {
            memory_size,
            maximum_request,
            ..DeviceInfo::new()
        }
    }

    #[test]
    fn a_large_device_gets_every_row() {
        let cells = cells(&info(1 << 32, 1 << 30));
        assert_eq!(cells.len(), 27);
        assert!(cells.iter().all(|c| c.places == RANGE / c.size as u64));
    }

    #[test]
    fn a_small_device_gets_the_most_it_takes() {
        let cells = cells(&info(4095, 4095));
        assert_eq!(cells.len(), 9);
        assert!(cells.iter().all(|c| (c.size, c.places) == (4095, 1)));
    }
}
