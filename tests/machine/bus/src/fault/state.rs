//! What the shim does with accesses and with time.

use std::collections::VecDeque;

use super::agenda::{Agenda, Work};
use super::arsenal::Arsenal;
use super::interrupts::Line;
use super::plan::{Fault, FaultKind};
use super::shim::Fired;
use crate::engine::{Engine, Transfer};
use crate::pci::{command, offset};
use crate::q35::mask;
use crate::watch::Watch;
use crate::{Board, BoardError, BoardEvent};

/// How many faults that have struck are kept.
const KEPT: usize = 1024;

#[derive(Debug)]
pub(super) struct State {
    pub(super) watch: Watch,
    pub(super) engine: Option<Engine>,
    pub(super) arsenal: Arsenal,
    pub(super) agenda: Agenda,
    pub(super) line: Line,
    /// The link is up.
    pub(super) up: bool,
    /// The function was pulled out.
    removed: bool,
    /// What the next poll reports.
    pub(super) news: Vec<BoardEvent>,
    /// The last faults that have struck, and how many there were in all.
    pub(super) fired: VecDeque<Fired>,
    pub(super) total: u64,
    /// The command that the device has taken and does not finish.
    hang: Option<Hang>,
    /// What the command register holds after such a command has ended.
    ended: Option<u64>,
    /// A register that holds something else than the driver wrote.
    stray: Option<Stray>,
    /// A transfer that the device makes, or has made without our knowing.
    running: Option<Running>,
}

#[derive(Clone, Copy, Debug)]
struct Hang {
    command: u64,
    /// Nothing ends it.
    forever: bool,
}

#[derive(Clone, Copy, Debug)]
struct Stray {
    register: u64,
    /// What the driver wrote.
    written: u64,
}

#[derive(Debug, Default)]
struct Running {
    /// What shall happen after it, and how much later.
    late: Vec<(Fault, Transfer, u64)>,
}

impl State {
    pub(super) fn new(watch: Watch, engine: Option<Engine>) -> Self {
        Self {
            watch,
            engine,
            arsenal: Arsenal::default(),
            agenda: Agenda::default(),
            line: Line::default(),
            up: true,
            removed: false,
            news: Vec::new(),
            fired: VecDeque::new(),
            total: 0,
            hang: None,
            ended: None,
            stray: None,
            running: None,
        }
    }

    /// Takes note that a fault strikes.
    pub(super) fn fire(&mut self, fault: Fault, what: String) {
        self.total += 1;
        if self.fired.len() == KEPT {
            self.fired.pop_front();
        }
        self.fired.push_back(Fired {
            time: self.arsenal.counts.now,
            accesses: self.arsenal.counts.accesses,
            fault,
            what,
        });
    }

    /// Has the faults strike that need no opportunity and whose moment has come.
    pub(super) fn strike(&mut self, board: &dyn Board) -> Result<(), BoardError> {
        let can_interrupt = self.can_interrupt();
        let faults = self
            .arsenal
            .due(|kind| can_interrupt || *kind != FaultKind::SpuriousInterrupt);
        for fault in faults {
            match fault.kind {
                FaultKind::SpuriousInterrupt if self.can_interrupt() => self.interrupt(fault),
                FaultKind::AllOnes if self.up => {
                    self.cut_off(board)?;
                    self.fire(fault, "the link is down".to_owned());
                }
                FaultKind::Unplug if !self.removed => {
                    if self.up {
                        self.cut_off(board)?;
                    }
                    self.removed = true;
                    let function = self.watch.function();
                    self.news.push(BoardEvent::Removed { function });
                    self.fire(fault, format!("{function} is pulled out"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes the function off the bus. What stands behind the shim is told by its command register to be silent.
    fn cut_off(&mut self, board: &dyn Board) -> Result<(), BoardError> {
        self.up = false;
        self.agenda.clear();
        self.hang = None;
        self.running = None;
        self.silence();
        board.config_write(
            self.watch.function(),
            offset::COMMAND,
            2,
            command::INTX_DISABLE.into(),
        )
    }

    /// When the shim itself does something next.
    pub(super) fn next(&self) -> Option<u64> {
        let can_interrupt = self.can_interrupt();
        let fault = self
            .arsenal
            .next_time(|kind| can_interrupt || *kind != FaultKind::SpuriousInterrupt);
        self.agenda.next().into_iter().chain(fault).min()
    }

    /// Lets time pass up to `now`, for the board and for the shim.
    pub(super) fn run(&mut self, board: &dyn Board, now: u64) -> Result<(), BoardError> {
        while let Some(due) = self.next().filter(|&due| due <= now) {
            self.run_board(board, due.max(self.arsenal.counts.now))?;
            while let Some(work) = self.agenda.take(self.arsenal.counts.now) {
                match work {
                    Work::Message(vector) => self.news.push(BoardEvent::Message { vector }),
                    Work::Let => self.let_line(),
                    Work::Pulse => self.pulse(),
                    Work::EndPulse => self.end_pulse(),
                    Work::LateDma(fault, transfer) => self.late_dma(board, fault, transfer),
                }
            }
            self.strike(board)?;
        }
        self.run_board(board, now)
    }

    fn run_board(&mut self, board: &dyn Board, now: u64) -> Result<(), BoardError> {
        self.arsenal.counts.now = self.arsenal.counts.now.max(now);
        let mut events = Vec::new();
        let result = board.poll(now, &mut events);
        let interrupts = self.arsenal.counts.interrupts;
        for event in events {
            self.pass_on(event);
        }
        result?;
        if self.arsenal.counts.interrupts != interrupts {
            self.check_end(board)?;
            self.strike(board)?;
        }
        Ok(())
    }

    /// Reads a register of the function.
    pub(super) fn read(
        &mut self,
        board: &dyn Board,
        (bar, offset): (u8, u64),
        physical: u64,
        size: u8,
    ) -> Result<u64, BoardError> {
        self.accessed(board)?;
        if !self.up {
            return Ok(mask(size));
        }
        let mut value = match self.pretended(bar, offset) {
            Some(value) => value & mask(size),
            None => board.read(physical, size)?,
        };
        if let Some(engine) = &self.engine
            && (bar, offset) == (engine.bar, engine.command)
            && value & engine.run == 0
        {
            self.end_transfer();
        }
        let concerns = |kind: &FaultKind| matches!(*kind, FaultKind::CorruptRead { bar: b, offset: o, .. } if (b, o) == (bar, offset));
        for fault in self.arsenal.at_opportunity(concerns) {
            if let FaultKind::CorruptRead { corruption, .. } = fault.kind {
                let corrupted = corruption.apply(value) & mask(size);
                self.fire(
                    fault,
                    format!("{offset:#x} reads as {corrupted:#x}, not {value:#x}"),
                );
                value = corrupted;
            }
        }
        Ok(value)
    }

    /// Writes a register of the function.
    pub(super) fn write(
        &mut self,
        board: &dyn Board,
        (bar, offset): (u8, u64),
        physical: u64,
        size: u8,
        value: u64,
    ) -> Result<(), BoardError> {
        if self.watch.has_table((bar, offset)) {
            // The system's, not the driver's.
            return match self.up {
                true => board.write(physical, size, value),
                false => Ok(()),
            };
        }
        self.accessed(board)?;
        if !self.up {
            return Ok(());
        }
        let Some(engine) = self.engine.filter(|engine| engine.has(bar, offset)) else {
            return board.write(physical, size, value);
        };
        if self.hang.is_some() {
            return Ok(());
        }
        if engine.starts(bar, offset, value) && !self.is_running(board)? {
            return self.start(board, &engine, physical, size, value);
        }
        if self.stray.is_some_and(|stray| stray.register == offset) && !self.is_running(board)? {
            self.stray = None;
        }
        board.write(physical, size, value)
    }

    /// The function has a new command, and may hang with it, or be gone before it has moved anything.
    fn start(
        &mut self,
        board: &dyn Board,
        engine: &Engine,
        physical: u64,
        size: u8,
        command: u64,
    ) -> Result<(), BoardError> {
        let base = physical - engine.command;
        if let Some(stray) = self.stray.take() {
            board.write(base + stray.register, engine.width, stray.written)?;
        }
        self.ended = None;
        self.arsenal.counts.commands += 1;
        self.strike(board)?;
        if !self.up {
            return Ok(());
        }
        let faults = self.arsenal.at_opportunity(FaultKind::needs_engine);
        let mut running = Running::default();
        for fault in faults {
            let transfer = engine.transfer(command, |register| {
                board.read(base + register, engine.width)
            })?;
            match fault.kind {
                FaultKind::Stray { offset } => {
                    let address =
                        transfer.address.wrapping_add_signed(offset) & engine.address_mask;
                    board.write(base + transfer.address_register, engine.width, address)?;
                    self.stray.get_or_insert(Stray {
                        register: transfer.address_register,
                        written: transfer.address,
                    });
                    let meant = transfer.address;
                    self.fire(fault, format!("DMA at {address:#x}, not {meant:#x}"));
                }
                FaultKind::LateDma { after_ns } => {
                    let address = transfer.address & engine.address_mask;
                    running.late.push((
                        fault,
                        Transfer {
                            address,
                            ..transfer
                        },
                        after_ns,
                    ));
                }
                FaultKind::Hang | FaultKind::Stuck => {
                    let forever = fault.kind == FaultKind::Stuck;
                    self.hang = Some(Hang { command, forever });
                    self.fire(fault, format!("command {command:#x} does not end"));
                }
                _ => {}
            }
        }
        if self.hang.is_none() {
            board.write(physical, size, command)?;
            self.running = Some(running);
        }
        Ok(())
    }

    /// Reads the function's configuration space.
    pub(super) fn config_read(
        &mut self,
        board: &dyn Board,
        start: u16,
        size: u8,
    ) -> Result<u32, BoardError> {
        if self.up {
            board.config_read(self.watch.function(), start, size)
        } else {
            Ok(mask(size) as u32)
        }
    }

    /// Writes the function's configuration space.
    pub(super) fn config_write(
        &mut self,
        board: &dyn Board,
        start: u16,
        size: u8,
        value: u32,
    ) -> Result<(), BoardError> {
        if !self.up {
            return Ok(());
        }
        board.config_write(self.watch.function(), start, size, value)?;
        self.watch.config_written(board, start, size)?;
        if let (Some(hang), Some(engine), false) =
            (&self.hang, &self.engine, self.watch.is_master())
            && !hang.forever
        {
            self.ended = Some(hang.command & !engine.run);
            self.hang = None;
        }
        Ok(())
    }

    /// The function is as at power-on: what it was doing is forgotten.
    pub(super) fn lost_power(&mut self) {
        self.hang = None;
        self.ended = None;
        self.stray = None;
        self.running = None;
    }

    /// Ends a command that hangs.
    pub(super) fn heal(&mut self) {
        if let (Some(hang), Some(engine)) = (self.hang.take(), &self.engine) {
            self.ended = Some(hang.command & !engine.run);
        }
    }

    /// Counts an access, before it is made.
    fn accessed(&mut self, board: &dyn Board) -> Result<(), BoardError> {
        self.arsenal.counts.accesses += 1;
        self.end_pulse();
        self.strike(board)
    }

    /// What a register reads as that holds something else.
    fn pretended(&self, bar: u8, offset: u64) -> Option<u64> {
        let engine = self.engine.filter(|engine| engine.has(bar, offset))?;
        if offset == engine.command {
            self.hang.map(|hang| hang.command).or(self.ended)
        } else {
            let stray = self.stray.filter(|stray| stray.register == offset)?;
            Some(stray.written)
        }
    }

    /// Whether a transfer that we know of has not ended yet.
    fn is_running(&mut self, board: &dyn Board) -> Result<bool, BoardError> {
        let (Some(engine), Some(_)) = (&self.engine, &self.running) else {
            return Ok(false);
        };
        let Some(base) = self.watch.base(engine.bar) else {
            return Ok(false);
        };
        let running = board.read(base + engine.command, engine.width)? & engine.run != 0;
        if !running {
            self.end_transfer();
        }
        Ok(running)
    }

    /// Looks whether a transfer has ended after which something shall happen.
    fn check_end(&mut self, board: &dyn Board) -> Result<(), BoardError> {
        if self.running.as_ref().is_some_and(|r| !r.late.is_empty()) {
            self.is_running(board)?;
        }
        Ok(())
    }

    fn end_transfer(&mut self) {
        let now = self.arsenal.counts.now;
        for (fault, transfer, after_ns) in self.running.take().into_iter().flat_map(|r| r.late) {
            self.agenda
                .enter(now + after_ns, Work::LateDma(fault, transfer));
        }
    }
}
