//! The client's side of QEMU's qtest protocol: lines of text over a socket.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::BoardError;
use crate::process::Process;

/// An interrupt line has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) line: u32,
    pub(super) asserted: bool,
}

/// The rest of a line that starts with `OK`.
#[derive(Debug)]
pub(super) struct Reply {
    program: String,
    request: String,
    answer: String,
}

impl Reply {
    /// The number that was answered.
    pub(super) fn number(&self) -> Result<u64, BoardError> {
        let text = self.answer.trim();
        match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        }
        .map_err(|_| BoardError::Protocol {
            program: self.program.clone(),
            request: self.request.clone(),
            answer: format!("OK {text}"),
        })
    }
}

/// A connection to a QEMU.
pub(super) struct Connection {
    process: Process,
    socket: UnixStream,
    timeout: Duration,
    /// Received, and not yet a whole line.
    input: Vec<u8>,
    /// Lines that are answers.
    answers: VecDeque<String>,
    edges: VecDeque<Edge>,
}

impl Connection {
    pub(super) fn new(process: Process, socket: UnixStream, timeout: Duration) -> Self {
        Self {
            process,
            socket,
            timeout,
            input: Vec::new(),
            answers: VecDeque::new(),
            edges: VecDeque::new(),
        }
    }

    /// Sends one command and waits for its answer.
    pub(super) fn command(&mut self, command: &str) -> Result<Reply, BoardError> {
        let mut replies = self.commands(&[command])?;
        Ok(replies.remove(0))
    }

    /// Sends commands at once and waits for all answers.
    pub(super) fn commands(&mut self, commands: &[&str]) -> Result<Vec<Reply>, BoardError> {
        let mut text = commands.join("\n");
        text.push('\n');
        if let Err(error) = self.socket.write_all(text.as_bytes()) {
            return Err(self.failed(error));
        }
        commands.iter().map(|command| self.reply(command)).collect()
    }

    /// Moves QEMU's clock by `step` nanoseconds, at least one, and returns its time.
    pub(super) fn step(&mut self, step: u64) -> Result<u64, BoardError> {
        self.command(&format!("clock_step {step}"))?.number()
    }

    /// Moves QEMU's clock to its next timer and returns its time; `None` if it has no timer.
    pub(super) fn step_to_next_timer(&mut self) -> Result<Option<u64>, BoardError> {
        match self.command("clock_step") {
            Ok(reply) => reply.number().map(Some),
            Err(BoardError::Protocol { answer, .. }) if answer.contains("no pending deadline") => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The changes of interrupt lines that have been received, oldest first.
    pub(super) fn edges(&mut self) -> impl Iterator<Item = Edge> {
        self.edges.drain(..)
    }

    pub(super) fn has_edges(&self) -> bool {
        !self.edges.is_empty()
    }

    /// Takes in what has arrived, without waiting.
    pub(super) fn receive(&mut self) -> Result<(), BoardError> {
        while self.wait(Duration::ZERO)? {}
        Ok(())
    }

    /// Waits until something has arrived and takes it in; `false` if nothing did within `limit`.
    pub(super) fn wait(&mut self, limit: Duration) -> Result<bool, BoardError> {
        let limit = Timespec {
            tv_sec: limit.as_secs() as i64,
            tv_nsec: limit.subsec_nanos().into(),
        };
        match poll(
            &mut [PollFd::new(&self.socket, PollFlags::IN)],
            Some(&limit),
        ) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(false),
            Ok(_) => {}
            Err(errno) => return Err(self.failed(errno.into())),
        }
        let mut buffer = [0; 4096];
        match self.socket.read(&mut buffer) {
            Ok(0) => Err(self.process.exited()),
            Ok(length) => {
                self.input.extend_from_slice(&buffer[..length]);
                self.split()?;
                Ok(true)
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    fn reply(&mut self, request: &str) -> Result<Reply, BoardError> {
        let start = Instant::now();
        let answer = loop {
            if let Some(answer) = self.answers.pop_front() {
                break answer;
            }
            let Some(left) = self.timeout.checked_sub(start.elapsed()) else {
                return Err(BoardError::Timeout {
                    program: self.process.name().to_owned(),
                    request: request.to_owned(),
                    limit: self.timeout,
                    output: self.process.output(),
                });
            };
            self.wait(left)?;
        };
        match answer.strip_prefix("OK") {
            Some(rest) => Ok(Reply {
                program: self.process.name().to_owned(),
                request: request.to_owned(),
                answer: rest.to_owned(),
            }),
            None => Err(self.protocol(request, &answer)),
        }
    }

    /// Sorts whole lines into answers and edges.
    fn split(&mut self) -> Result<(), BoardError> {
        while let Some(end) = self.input.iter().position(|&byte| byte == b'\n') {
            let line = String::from_utf8_lossy(&self.input[..end]).into_owned();
            self.input.drain(..=end);
            match line.strip_prefix("IRQ ") {
                Some(change) => {
                    let edge = parse_edge(change)
                        .ok_or_else(|| self.protocol("irq_intercept_in", &line))?;
                    self.edges.push_back(edge);
                }
                None => self.answers.push_back(line),
            }
        }
        Ok(())
    }

    fn protocol(&self, request: &str, answer: &str) -> BoardError {
        BoardError::Protocol {
            program: self.process.name().to_owned(),
            request: request.to_owned(),
            answer: answer.to_owned(),
        }
    }

    fn failed(&mut self, error: io::Error) -> BoardError {
        match error.kind() {
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => self.process.exited(),
            _ => BoardError::System {
                action: "talk to QEMU",
                source: error,
            },
        }
    }
}

fn parse_edge(change: &str) -> Option<Edge> {
    let (level, line) = change.split_once(' ')?;
    let asserted = match level {
        "raise" => true,
        "lower" => false,
        _ => return None,
    };
    Some(Edge {
        line: line.trim().parse().ok()?,
        asserted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_read() {
        assert_eq!(
            parse_edge("raise 20"),
            Some(Edge {
                line: 20,
                asserted: true
            })
        );
        assert_eq!(
            parse_edge("lower 3"),
            Some(Edge {
                line: 3,
                asserted: false
            })
        );
        assert_eq!(parse_edge("toggle 3"), None);
        assert_eq!(parse_edge("raise"), None);
    }
}
