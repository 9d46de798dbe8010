//! The board of a machine, with the device plugged in.

use std::sync::Arc;

use machine_bus::fault::{FaultKind, Fired, Shim};
use machine_bus::fifo::{self, Wiring};
use machine_bus::record::{RecordError, Rest};
use machine_bus::{
    Board, BoardError, CardDevice, CardFaults, CardTiming, Edu, Engine, FaultyBoard, FifoFaults,
    FunctionAddress, LocalBoard, MemoryConfig, QemuBoard, QemuConfig, RecordingBoard, ReplayBoard,
    ThreadedBoard, VfioUserBoard, VfioUserConfig, VfioUserServer,
};
use machine_nt::mode::Mode;
use machine_nt::{bugcheck, sched, trace};

use crate::config::{CardServer, Config, Device, Session};

/// Where the device is: in edu's slot in QEMU.
const SLOT: FunctionAddress = FunctionAddress {
    bus: 0,
    device: 4,
    function: 0,
};

/// Where its neighbour is: on the same line.
const NEIGHBOUR: FunctionAddress = FunctionAddress {
    bus: 0,
    device: 8,
    function: 0,
};

/// A board, and what is known of it beyond what every board has.
pub(crate) struct Plugged {
    pub(crate) board: Arc<dyn Board>,
    /// Version of the QEMU, if it is one.
    pub(crate) qemu_version: Option<String>,
    /// What makes the device fail.
    pub(crate) shim: Shim,
    /// What is left of the record, if this is a replay.
    pub(crate) rest: Option<Rest>,
    /// What makes the card itself fail, if it is the device.
    pub(crate) card_faults: Option<CardFaults>,
    /// What makes the FIFO peripheral itself fail, if it is the device.
    pub(crate) fifo_faults: Option<FifoFaults>,
    /// The process that serves the device, if the machine has started one.
    pub(crate) server_process: Option<u32>,
}

impl Plugged {
    /// Builds or starts the board that `config` asks for. Its faults are not armed yet.
    ///
    /// # Errors
    /// Why QEMU does not run, memory cannot be had, or the session not be recorded or replayed.
    pub(crate) fn new(config: &Config) -> Result<Self, RecordError> {
        let memory = MemoryConfig {
            total: config.memory,
            seed: config.seed,
        };
        let slots: &[FunctionAddress] = match config.neighbour {
            false => &[SLOT],
            true => &[SLOT, NEIGHBOUR],
        };
        let mut rest = None;
        let mut card_faults = None;
        let mut fifo_faults = None;
        let mut server_process = None;
        let board: Box<dyn Board> = match (config.device, &config.session) {
            (Device::Edu, Session::Replay(path)) => {
                let board = ReplayBoard::open(path, &config.summary())?;
                rest = Some(board.rest());
                Box::new(board)
            }
            (Device::Edu, Session::Live | Session::Record(_)) => {
                let device = |slot: &FunctionAddress| format!("edu,addr={:x}", slot.device);
                Box::new(QemuBoard::start(&QemuConfig {
                    program: config.qemu.clone(),
                    memory,
                    devices: slots.iter().map(device).collect(),
                    ..QemuConfig::default()
                })?)
            }
            (Device::EduTwin, Session::Live) => {
                let pace = match config.mode {
                    Mode::Deterministic => sched::duration,
                    Mode::FreeRunning => |_| 0,
                };
                let twin = |slot: &FunctionAddress| -> (_, Box<dyn machine_bus::Device>) {
                    (*slot, Box::new(Edu::default().paced(pace)))
                };
                in_process(config.mode, &memory, slots.iter().map(twin).collect())?
            }
            (Device::Card, Session::Live) => {
                let (timing, pace): (_, fn(u64) -> u64) = match config.mode {
                    Mode::Deterministic => (config.card.timing, sched::duration),
                    Mode::FreeRunning => (CardTiming::IMMEDIATE, |_| 0),
                };
                let card = CardDevice::new(config.card.memory, timing).map_err(BoardError::from)?;
                let card = card.paced(pace);
                card_faults = Some(card.faults());
                in_process(config.mode, &memory, vec![(SLOT, Box::new(card))])?
            }
            (Device::CardVfioUser, Session::Live) => {
                let served = VfioUserBoard::start(&served_card(config, memory))?;
                server_process = served.server_process();
                Box::new(served)
            }
            (
                Device::Fifo
                | Device::FifoWithoutInterrupt
                | Device::FifoSimplex
                | Device::FifoUnwired,
                Session::Live,
            ) => {
                let faults = fifo_faults.insert(FifoFaults::default());
                let (wiring, interrupts) = match config.device {
                    Device::FifoSimplex => (Wiring::Simplex, true),
                    Device::FifoUnwired => (Wiring::Unwired, true),
                    device => (Wiring::Duplex, device == Device::Fifo),
                };
                Box::new(fifo::board(&memory, wiring, interrupts, faults)?)
            }
            (_, Session::Record(_) | Session::Replay(_)) => return Err(RecordError::NotExternal),
        };
        let board = match &config.session {
            Session::Record(path) => Box::new(RecordingBoard::create(
                board,
                path,
                &config.summary(),
                SLOT,
                Engine::EDU,
            )?),
            _ => board,
        };
        let qemu_version = board.external_version().map(str::to_owned);
        // Who watches an engine asks it, at every command, whether the one before has ended.
        let engine = matches!(config.device, Device::Edu | Device::EduTwin)
            .then_some(Engine::EDU)
            .filter(|_| config.mode == Mode::Deterministic);
        let board = FaultyBoard::new(board, SLOT, engine)?;
        let shim = board.shim();
        shim.on_fired(note);
        dump_at_stops(shim.clone());
        Ok(Self {
            qemu_version,
            board: Arc::new(board),
            shim,
            rest,
            card_faults,
            fifo_faults,
            server_process,
        })
    }
}

/// The card in the device's slot, over vfio-user.
fn served_card(config: &Config, memory: MemoryConfig) -> VfioUserConfig {
    let server = match &config.card_server {
        CardServer::Start(program) => {
            VfioUserServer::card(program.clone(), config.card.memory, &config.server_faults)
        }
        CardServer::Connect(socket) => VfioUserServer::Connect(socket.clone()),
    };
    VfioUserConfig {
        memory,
        patience: config.card.patience,
        ..VfioUserConfig::new(server, SLOT)
    }
}

/// A board in this process.
fn in_process(
    mode: Mode,
    memory: &MemoryConfig,
    devices: Vec<(FunctionAddress, Box<dyn machine_bus::Device>)>,
) -> Result<Box<dyn Board>, BoardError> {
    Ok(match mode {
        Mode::Deterministic => Box::new(LocalBoard::new(memory, devices)?),
        Mode::FreeRunning => Box::new(ThreadedBoard::new(memory, devices)?),
    })
}

/// Writes into the trace that a fault has struck, and at which access.
fn note(fired: &Fired) {
    trace::record(event(&fired.fault.kind), fired.accesses);
}

/// What the trace calls a fault.
fn event(kind: &FaultKind) -> &'static str {
    match kind {
        FaultKind::Hang => "fault: the device hangs, access",
        FaultKind::Stuck => "fault: the device is stuck, access",
        FaultKind::Stray { .. } => "fault: DMA goes astray, access",
        FaultKind::LateDma { .. } => "fault: DMA after the transfer, access",
        FaultKind::DropInterrupt => "fault: an interrupt is lost, access",
        FaultKind::DelayInterrupt { .. } => "fault: an interrupt is late, access",
        FaultKind::DuplicateInterrupt { .. } => "fault: an interrupt comes twice, access",
        FaultKind::SpuriousInterrupt => "fault: an interrupt for nothing, access",
        FaultKind::CorruptRead { .. } => "fault: a register reads wrongly, access",
        FaultKind::AllOnes => "fault: the link goes down, access",
        FaultKind::Unplug => "fault: the device is pulled out, access",
    }
}

/// Has every stop say which faults had struck before it.
fn dump_at_stops(shim: Shim) {
    bugcheck::register_dumper(
        "faults of the device",
        Box::new(move |out| {
            let fired = match shim.try_fired() {
                Some(fired) if fired.is_empty() => vec!["  none has struck".to_owned()],
                Some(fired) => fired.iter().map(|fired| format!("  {fired}")).collect(),
                None => vec!["  one is just striking".to_owned()],
            };
            for line in fired {
                let _ = writeln!(out, "{line}");
            }
        }),
    );
}
