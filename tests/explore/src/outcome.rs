//! How one run ended.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::account::Requests;
use crate::cli::{DeviceOption, Policy};

/// How a run's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// The scenario held.
    Held,
    /// With a bug check of Windows.
    BugCheck,
    /// The machine stopped for a reason of its own, such as a check of the scenario that failed.
    MachineStop,
    /// It took too long.
    TimeLimit,
    /// By this signal.
    Signal(i32),
    /// With this exit code.
    Exit(i32),
}

impl End {
    /// From what the system says of a process that has ended.
    pub fn from_wait_status(status: i32) -> Self {
        if libc::WIFSIGNALED(status) {
            return match libc::WTERMSIG(status) {
                libc::SIGALRM => Self::TimeLimit,
                signal => Self::Signal(signal),
            };
        }
        match libc::WEXITSTATUS(status) {
            0 => Self::Held,
            machine::bugcheck::EXIT_BUG_CHECK => Self::BugCheck,
            machine::bugcheck::EXIT_MACHINE_STOP => Self::MachineStop,
            code => Self::Exit(code),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held => f.write_str("held"),
            Self::BugCheck => f.write_str("bug check"),
            Self::MachineStop => f.write_str("machine stop"),
            Self::TimeLimit => f.write_str("time limit"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::Exit(code) => write!(f, "exit code {code}"),
        }
    }
}

/// A run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// The name of its policy.
    pub policy: Policy,
    /// How it ended.
    pub end: End,
    /// Choices between two or more candidates.
    pub choices: u64,
    /// Hash of what was chosen.
    pub schedule: u64,
    /// Events of the trace.
    pub events: u64,
    /// Hash of what happened.
    pub trace: u64,
    /// What became of its requests.
    pub requests: Requests,
    /// What it printed, if it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
}

impl Outcome {
    /// What repeats the run, as arguments of this program.
    pub fn arguments(&self, device: DeviceOption, scenario: &str) -> String {
        let (device, policy, seed) = (device.name(), self.policy.name(), self.seed);
        format!("--device {device} --scenario {scenario} --policy {policy} --replay {seed}")
    }

    /// The line of its output that says why it stopped.
    pub fn reason(&self) -> &str {
        let stop = |line: &&str| line.starts_with("*** ");
        self.output.lines().find(stop).unwrap_or("")
    }
}
