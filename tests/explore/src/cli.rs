//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use machine::PolicyKind;
use serde::{Deserialize, Serialize};

/// Runs the driver under many schedules of one machine, and repeats the one that fails.
///
/// A schedule is a seed: it decides who goes on at every switch point, how long the device takes, which processor takes
/// an interrupt, and what the scenario does. The same scenario, policy and seed make the same run, event by event.
#[derive(Debug, Clone, Parser)]
#[command(version)]
pub struct Options {
    /// Schedules of each scenario.
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    pub seeds: u64,
    /// The first seed.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub first: u64,
    /// The device. One in this process, since no other can be forked.
    #[arg(long, value_enum, default_value_t = DeviceOption::EduTwin)]
    pub device: DeviceOption,
    /// What happens to the device; may be given several times. All of them by default.
    #[arg(long, value_name = "NAME")]
    pub scenario: Vec<String>,
    /// Who goes on at a switch point. With several policies, the seeds take turns.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["random", "pct"])]
    pub policy: Vec<Policy>,
    /// Repeats the run of one seed, and prints what happened if it fails.
    #[arg(long, value_name = "SEED")]
    pub replay: Option<u64>,
    /// A driver with a known race instead of the project's, to see that it is found.
    #[arg(long, conflicts_with = "scenario")]
    pub plant: bool,
    /// Goes on after a scenario's first failure.
    #[arg(long)]
    pub keep_going: bool,
    /// Prints one JSON object on standard output, and nothing else.
    #[arg(long)]
    pub json: bool,
    /// Lists the scenarios.
    #[arg(long)]
    pub list: bool,
    /// The driver's image; `cargo xtask driver` builds it.
    #[arg(long, env = "DMACARD_SYS", value_name = "PATH")]
    pub driver: Option<PathBuf>,
    /// Processes that run schedules at the same time. As many as there are processors by default.
    #[arg(long, value_name = "NUMBER")]
    pub jobs: Option<usize>,
    /// Switch points after which a run is taken for one that does not end.
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000_000)]
    pub limit: u64,
    /// The same in seconds of real time, for what passes no switch point.
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    pub seconds: u32,
    /// Events that a failed run prints.
    #[arg(long, value_name = "NUMBER", default_value_t = 150)]
    pub events: usize,
    /// The command by which a run is repeated.
    #[arg(long, hide = true, default_value = "cargo xtask explore")]
    pub command: String,
    /// Runs every so-many-th seed only, and reports in a form of its own.
    #[arg(long, hide = true)]
    pub worker: bool,
    /// What a worker goes from one seed to the next by.
    #[arg(long, hide = true, default_value_t = 1)]
    pub stride: u64,
}

/// The devices there are, all of them in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DeviceOption {
    /// Edu's twin.
    EduTwin,
    /// The ring card.
    Card,
    /// The FIFO peripheral.
    Fifo,
    /// The same without an interrupt.
    FifoNoInterrupt,
    /// The same with one channel for both directions.
    FifoSimplex,
}

impl DeviceOption {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::EduTwin => "edu-twin",
            Self::Card => "card",
            Self::Fifo => "fifo",
            Self::FifoNoInterrupt => "fifo-no-interrupt",
            Self::FifoSimplex => "fifo-simplex",
        }
    }
}

/// The policies there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Another candidate at random.
    Random,
    /// By priorities that change at few points.
    Pct,
    /// Everybody in turn.
    RoundRobin,
}

impl Policy {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Pct => "pct",
            Self::RoundRobin => "round-robin",
        }
    }

    /// The schedule of `seed`, for runs of about `length` choices.
    pub fn kind(self, seed: u64, length: u64) -> PolicyKind {
        match self {
            Self::Random => PolicyKind::Random,
            Self::Pct => PolicyKind::Pct {
                depth: 2 + (seed / 2 % 3) as u32,
                length,
            },
            Self::RoundRobin => PolicyKind::RoundRobin,
        }
    }
}

impl Options {
    /// The policy of a seed.
    pub fn policy_of(&self, seed: u64) -> Policy {
        self.policy[(seed % self.policy.len() as u64) as usize]
    }

    /// Processes at the same time.
    pub fn jobs(&self) -> usize {
        let there = || std::thread::available_parallelism().map_or(1, usize::from);
        self.jobs.unwrap_or_else(there).max(1)
    }

    /// Longest real time of a run.
    pub fn time_limit(&self) -> Duration {
        Duration::from_secs(self.seconds.max(1).into())
    }

    /// Arguments for a worker that runs `scenario` from `first` on.
    pub fn worker_arguments(&self, scenario: &str, first: u64, stride: u64) -> Vec<String> {
        let policies: Vec<_> = self.policy.iter().map(|policy| policy.name()).collect();
        let policies = policies.join(",");
        let mut arguments: Vec<String> = [
            "--worker",
            "--device",
            self.device.name(),
            "--scenario",
            scenario,
            "--policy",
            &policies,
        ]
        .map(str::to_owned)
        .to_vec();
        let numbers = [
            ("--first", first),
            ("--stride", stride),
            ("--seeds", self.seeds.saturating_sub(first - self.first)),
            ("--limit", self.limit),
            ("--seconds", self.seconds.into()),
            ("--events", self.events as u64),
        ];
        for (name, value) in numbers {
            arguments.extend([name.to_owned(), value.to_string()]);
        }
        if let Some(driver) = &self.driver {
            arguments.extend(["--driver".to_owned(), driver.display().to_string()]);
        }
        arguments
    }
}
