//! A board whose answers are written down.

use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::call::{Answer, Call};
use super::codec::Encoder;
use super::format::{Entry, Header, RecordError};
use crate::engine::Engine;
use crate::watch::Watch;
use crate::{
    Board, BoardError, BoardEvent, FunctionAddress, Iommu, MemoryConfig, Message, PhysicalMemory,
    Waited,
};

/// An external board whose answers are written to a file.
pub struct RecordingBoard {
    inner: Box<dyn Board>,
    function: FunctionAddress,
    state: Mutex<State>,
}

struct State {
    file: File,
    /// Polls that reported nothing since the last entry.
    quiet: u64,
    /// Entries that are not in the file yet.
    staged: Encoder,
    watch: Watch,
    engine: Engine,
    target: Option<Target>,
}

/// Memory that a transfer may write.
struct Target {
    physical: u64,
    /// What was there when somebody looked last.
    seen: Vec<u8>,
}

/// Changes with fewer unchanged bytes than this between them are one.
const GAP: usize = 8;

impl RecordingBoard {
    /// Records the session with an external board that begins now, before anybody has allocated guest RAM. The
    /// memory that `function` writes with its `engine` is recorded; no other device may write any. `machine` says what
    /// the way of the session depends on besides the board.
    pub fn create(
        inner: Box<dyn Board>,
        path: &Path,
        machine: &str,
        function: FunctionAddress,
        engine: Engine,
    ) -> Result<Self, RecordError> {
        if inner.iommu().is_some() {
            return Err(RecordError::NotExternal);
        }
        let watch = Watch::new(&*inner, function)?;
        let MemoryConfig { total, seed } = *inner.memory().config();
        let header = Header {
            total,
            seed,
            machine: machine.to_owned(),
            reserved: inner.memory().allocated() as u64,
            window: inner.register_window(),
            description: inner.describe(),
            external_version: inner.external_version().map(str::to_owned),
        };
        let file = File::create(path).map_err(|source| RecordError::File {
            action: format!("make the record {}", path.display()),
            source,
        })?;
        let mut state = State {
            file,
            quiet: 0,
            staged: Encoder::default(),
            watch,
            engine,
            target: None,
        };
        header.encode(&mut state.staged);
        state.commit()?;
        Ok(Self {
            inner,
            function,
            state: Mutex::new(state),
        })
    }

    fn inner(&self) -> &dyn Board {
        &*self.inner
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a call down, and returns its result.
    fn note<T>(
        &self,
        state: &mut State,
        call: Call,
        result: Result<T, BoardError>,
        answer: impl FnOnce(&T) -> Answer,
    ) -> Result<T, BoardError> {
        let answer = match &result {
            Ok(value) => answer(value),
            Err(error) => Answer::Failed(error.to_string()),
        };
        state.look(self.inner.memory());
        state.stage(&Entry::Call(call, answer));
        state.commit()?;
        result
    }
}

impl State {
    /// Writes an entry down, after the polls before it.
    fn stage(&mut self, entry: &Entry) {
        if self.quiet > 0 {
            Entry::Quiet(self.quiet).encode(&mut self.staged);
            self.quiet = 0;
        }
        entry.encode(&mut self.staged);
    }

    /// Puts into the file what is written down.
    fn commit(&mut self) -> Result<(), BoardError> {
        let bytes = std::mem::take(&mut self.staged.bytes);
        self.file
            .write_all(&bytes)
            .map_err(|source| BoardError::System {
                action: "write the record",
                source,
            })
    }

    /// Writes down what was written to the target since the last look.
    fn look(&mut self, memory: &PhysicalMemory) {
        let Some(mut target) = self.target.take() else {
            return;
        };
        let mut now = vec![0; target.seen.len()];
        memory
            .read(target.physical, &mut now)
            .expect("a target is RAM");
        for range in differences(&target.seen, &now) {
            let physical = target.physical + range.start as u64;
            self.stage(&Entry::Memory(physical, now[range].to_vec()));
        }
        target.seen = now;
        self.target = Some(target);
    }

    /// Before a register is written: takes a look at the memory that a transfer will write.
    fn before_write(
        &mut self,
        board: &dyn Board,
        physical: u64,
        value: u64,
    ) -> Result<(), BoardError> {
        let engine = self.engine;
        let starts = self
            .watch
            .decode(physical)
            .is_some_and(|(bar, offset)| engine.starts(bar, offset, value));
        if !starts || self.target.is_some() && self.is_running(board)? {
            return Ok(());
        }
        self.look(board.memory());
        let base = physical - engine.command;
        let transfer =
            engine.transfer(value, |register| board.read(base + register, engine.width))?;
        let address = transfer.address & engine.address_mask;
        let length = usize::try_from(transfer.count).unwrap_or(usize::MAX);
        // What is not RAM takes no write.
        let writes = transfer.to_memory && board.memory().window(address, length).is_ok();
        self.target = None;
        if writes {
            let mut seen = vec![0; length];
            board.memory().read(address, &mut seen)?;
            let physical = address;
            self.target = Some(Target { physical, seen });
        }
        Ok(())
    }

    /// Whether the engine runs.
    fn is_running(&self, board: &dyn Board) -> Result<bool, BoardError> {
        let engine = &self.engine;
        let Some(base) = self.watch.base(engine.bar) else {
            return Ok(false);
        };
        Ok(board.read(base + engine.command, engine.width)? & engine.run != 0)
    }

    /// After something that may have told of a transfer's end: with it ends the interest in its memory.
    fn after_news(&mut self, board: &dyn Board) -> Result<(), BoardError> {
        // A board that is gone is told of by the next call, and so it is written down.
        if self.target.is_some() && matches!(self.is_running(board), Ok(false)) {
            self.look(board.memory());
            self.target = None;
            self.commit()?;
        }
        Ok(())
    }
}

impl Board for RecordingBoard {
    fn describe(&self) -> String {
        format!("{}; recorded", self.inner.describe())
    }

    fn external_version(&self) -> Option<&str> {
        self.inner.external_version()
    }

    fn memory(&self) -> &Arc<PhysicalMemory> {
        self.inner.memory()
    }

    fn register_window(&self) -> Range<u64> {
        self.inner.register_window()
    }

    fn config_read(
        &self,
        function: FunctionAddress,
        offset: u16,
        size: u8,
    ) -> Result<u32, BoardError> {
        let mut state = self.lock();
        let result = self.inner.config_read(function, offset, size);
        let call = Call::ConfigRead(function, offset, size);
        self.note(&mut state, call, result, |&value| {
            Answer::Value(value.into())
        })
    }

    fn config_write(
        &self,
        function: FunctionAddress,
        offset: u16,
        size: u8,
        value: u32,
    ) -> Result<(), BoardError> {
        let mut state = self.lock();
        let mut result = self.inner.config_write(function, offset, size, value);
        if function == self.function && result.is_ok() {
            result = state.watch.config_written(self.inner(), offset, size);
        }
        let call = Call::ConfigWrite(function, offset, size, value);
        self.note(&mut state, call, result, |()| Answer::Done)
    }

    fn read(&self, physical: u64, size: u8) -> Result<u64, BoardError> {
        let mut state = self.lock();
        let result = self.inner.read(physical, size);
        let call = Call::Read(physical, size);
        let value = self.note(&mut state, call, result, |&value| Answer::Value(value))?;
        let engine = state.engine;
        if state.watch.decode(physical) == Some((engine.bar, engine.command)) {
            state.after_news(self.inner())?;
        }
        Ok(value)
    }

    fn write(&self, physical: u64, size: u8, value: u64) -> Result<(), BoardError> {
        let mut state = self.lock();
        let result = state
            .before_write(self.inner(), physical, value)
            .and_then(|()| self.inner.write(physical, size, value));
        let call = Call::Write(physical, size, value);
        self.note(&mut state, call, result, |()| Answer::Done)
    }

    /// # Panics
    /// The record cannot be written.
    fn message_target(&self, vector: u8) -> Message {
        let mut state = self.lock();
        let message = self.inner.message_target(vector);
        let result = self.note(&mut state, Call::Target(vector), Ok(message), |&message| {
            Answer::Target(message)
        });
        result.unwrap_or_else(|error| panic!("{error}"))
    }

    /// # Panics
    /// The record cannot be written.
    fn line(&self, function: FunctionAddress, pin: u8) -> u32 {
        let mut state = self.lock();
        let line = self.inner.line(function, pin);
        let call = Call::Line(function, pin);
        let result = self.note(&mut state, call, Ok(line), |&line| {
            Answer::Value(line.into())
        });
        result.unwrap_or_else(|error| panic!("{error}"))
    }

    fn poll(&self, now_ns: u64, events: &mut Vec<BoardEvent>) -> Result<(), BoardError> {
        let mut state = self.lock();
        let mut new = Vec::new();
        let result = self.inner.poll(now_ns, &mut new);
        if result.is_ok() && new.is_empty() {
            state.quiet += 1;
            return Ok(());
        }
        let result = self.note(&mut state, Call::Poll(now_ns), result, |()| {
            Answer::Events(new.clone())
        });
        events.append(&mut new);
        result?;
        state.after_news(self.inner())
    }

    fn next_event(&self) -> Option<u64> {
        self.inner.next_event()
    }

    fn wait(&self, limit: Duration) -> Result<Waited, BoardError> {
        let mut state = self.lock();
        let result = self.inner.wait(limit);
        self.note(&mut state, Call::Wait(limit), result, |&waited| {
            Answer::Waited(waited)
        })
    }

    fn iommu(&self) -> Option<&Iommu> {
        None
    }
}

/// Where two contents of a memory differ.
fn differences(before: &[u8], after: &[u8]) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let changed = before
        .iter()
        .zip(after)
        .enumerate()
        .filter(|(_, (before, after))| before != after);
    for (index, _) in changed {
        match ranges.last_mut() {
            Some(last) if index < last.end + GAP => last.end = index + 1,
            _ => ranges.push(index..index + 1),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_near_each_other_are_one() {
        let before = [0; 64];
        let mut after = before;
        assert_eq!(differences(&before, &after), []);
        for index in [3, 4, 11, 20, 63] {
            after[index] = 1;
        }
        assert_eq!(differences(&before, &after), [3..12, 20..21, 63..64]);
    }
}
