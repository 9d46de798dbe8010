//! A board that gives recorded answers.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;

use super::call::{Answer, Call};
use super::format::{self, Entry, Header, RecordError};
use crate::{
    Board, BoardError, BoardEvent, FunctionAddress, Iommu, Message, PhysicalMemory, Waited, Zone,
};

/// A recorded session with an external board, without the board.
pub struct ReplayBoard {
    header: Header,
    memory: Arc<PhysicalMemory>,
    state: Arc<Mutex<State>>,
}

/// Tells what is left of a record, as long as anybody wants to know.
#[derive(Clone)]
pub struct Rest(Arc<Mutex<State>>);

impl Rest {
    /// How many entries of the record are still to come.
    pub fn entries(&self) -> usize {
        let state = lock(&self.0);
        state.entries.len() - state.next
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

struct State {
    entries: Vec<Entry>,
    /// The entry to come.
    next: usize,
    /// Polls of that entry that have been answered.
    polled: u64,
    /// Why no call is answered any more.
    ended: Option<ReplayError>,
}

/// Why a session does not go on as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The machine does something else than it did.
    #[error(
        "the session differs from its record at entry {entry} of {entries}: recorded is \
         `{expected}`, now comes `{found}`"
    )]
    Divergence {
        /// The entry, counted from 1.
        entry: usize,
        /// Entries in the record.
        entries: usize,
        /// The recorded call.
        expected: String,
        /// The call that was made.
        found: String,
    },
    /// The record ends here.
    #[error("the record ends after {entries} entries, and the session goes on with `{found}`")]
    Exhausted {
        /// Entries in the record.
        entries: usize,
        /// The call that was made.
        found: String,
    },
    /// The board failed when the session was recorded.
    #[error("recorded: {0}")]
    Recorded(String),
}

impl ReplayBoard {
    /// Reads a record of a session of this `machine`, and sets up guest RAM as it was at its start.
    pub fn open(path: &Path, machine: &str) -> Result<Self, RecordError> {
        let bytes = std::fs::read(path).map_err(|source| RecordError::File {
            action: format!("read the record {}", path.display()),
            source,
        })?;
        let (header, entries) = format::decode(&bytes)?;
        if header.machine != machine {
            return Err(RecordError::OtherMachine {
                recorded: header.machine,
                found: machine.to_owned(),
            });
        }
        let memory = PhysicalMemory::new(&header.memory())?;
        let reserved = usize::try_from(header.reserved).unwrap_or(usize::MAX);
        for page in memory.allocate(Zone::Low, reserved)? {
            memory.fill(page, crate::PAGE_SIZE, 0)?;
        }
        for entry in &entries {
            if let Entry::Memory(physical, bytes) = entry {
                memory.window(*physical, bytes.len())?;
            }
        }
        Ok(Self {
            header,
            memory,
            state: Arc::new(Mutex::new(State {
                entries,
                next: 0,
                polled: 0,
                ended: None,
            })),
        })
    }

    /// What is left of the record.
    pub fn rest(&self) -> Rest {
        Rest(Arc::clone(&self.state))
    }

    /// The recorded answer to a call.
    fn answer(&self, call: Call) -> Result<Answer, ReplayError> {
        let mut state = lock(&self.state);
        if let Some(ended) = &state.ended {
            return Err(ended.clone());
        }
        let result = state.answer(call, &self.memory);
        if let Err(error @ (ReplayError::Divergence { .. } | ReplayError::Exhausted { .. })) =
            &result
        {
            state.ended = Some(error.clone());
        }
        result
    }

    /// The answer to a call that is answered by a number.
    fn value(&self, call: Call) -> Result<u64, ReplayError> {
        match self.answer(call)? {
            Answer::Value(value) => Ok(value),
            _ => unreachable!("decoded with its call"),
        }
    }
}

impl State {
    fn answer(&mut self, call: Call, memory: &PhysicalMemory) -> Result<Answer, ReplayError> {
        while let Some(Entry::Memory(physical, bytes)) = self.entries.get(self.next) {
            memory
                .write(*physical, bytes)
                .expect("checked when the record was read");
            self.next += 1;
        }
        let answer = match self.entries.get(self.next) {
            Some(Entry::Quiet(count)) if matches!(call, Call::Poll(_)) => {
                self.polled += 1;
                if self.polled == *count {
                    self.polled = 0;
                    self.next += 1;
                }
                return Ok(Answer::Events(Vec::new()));
            }
            Some(Entry::Call(expected, answer)) if *expected == call => answer.clone(),
            // How many polls followed is not recorded.
            None if matches!(call, Call::Poll(_)) => return Ok(Answer::Events(Vec::new())),
            None => {
                return Err(ReplayError::Exhausted {
                    entries: self.entries.len(),
                    found: call.to_string(),
                });
            }
            Some(expected) => {
                return Err(ReplayError::Divergence {
                    entry: self.next + 1,
                    entries: self.entries.len(),
                    expected: self.describe(expected),
                    found: call.to_string(),
                });
            }
        };
        self.next += 1;
        match answer {
            Answer::Failed(text) => Err(ReplayError::Recorded(text)),
            answer => Ok(answer),
        }
    }

    fn describe(&self, entry: &Entry) -> String {
        match entry {
            Entry::Quiet(count) => format!("{} polls without events", count - self.polled),
            Entry::Memory(physical, bytes) => {
                format!("{} bytes written at {physical:#x}", bytes.len())
            }
            Entry::Call(call, _) => call.to_string(),
        }
    }
}

impl Board for ReplayBoard {
    fn describe(&self) -> String {
        format!("{}; replayed", self.header.description)
    }

    fn external_version(&self) -> Option<&str> {
        self.header.external_version.as_deref()
    }

    fn memory(&self) -> &Arc<PhysicalMemory> {
        &self.memory
    }

    fn register_window(&self) -> Range<u64> {
        self.header.window.clone()
    }

    fn config_read(
        &self,
        function: FunctionAddress,
        offset: u16,
        size: u8,
    ) -> Result<u32, BoardError> {
        Ok(self.value(Call::ConfigRead(function, offset, size))? as u32)
    }

    fn config_write(
        &self,
        function: FunctionAddress,
        offset: u16,
        size: u8,
        value: u32,
    ) -> Result<(), BoardError> {
        self.answer(Call::ConfigWrite(function, offset, size, value))?;
        Ok(())
    }

    fn read(&self, physical: u64, size: u8) -> Result<u64, BoardError> {
        Ok(self.value(Call::Read(physical, size))?)
    }

    fn write(&self, physical: u64, size: u8, value: u64) -> Result<(), BoardError> {
        self.answer(Call::Write(physical, size, value))?;
        Ok(())
    }

    /// After a divergence nothing; the next call that can tells of it.
    fn message_target(&self, vector: u8) -> Message {
        match self.answer(Call::Target(vector)) {
            Ok(Answer::Target(message)) => message,
            _ => Message {
                address: 0,
                data: 0,
            },
        }
    }

    /// After a divergence 0; the next call that can tells of it.
    fn line(&self, function: FunctionAddress, pin: u8) -> u32 {
        self.value(Call::Line(function, pin)).unwrap_or(0) as u32
    }

    fn poll(&self, now_ns: u64, events: &mut Vec<BoardEvent>) -> Result<(), BoardError> {
        if let Answer::Events(mut new) = self.answer(Call::Poll(now_ns))? {
            events.append(&mut new);
        }
        Ok(())
    }

    fn next_event(&self) -> Option<u64> {
        None
    }

    /// Returns at once, with the time it took.
    fn wait(&self, limit: Duration) -> Result<Waited, BoardError> {
        match self.answer(Call::Wait(limit))? {
            Answer::Waited(waited) => Ok(waited),
            _ => unreachable!("decoded with its call"),
        }
    }

    fn iommu(&self) -> Option<&Iommu> {
        None
    }
}
