//! A board that is an external QEMU: a q35 machine with no processor to speak of, driven over its qtest protocol.
//!
//! Its guest RAM is our [`PhysicalMemory`], so devices read and write it without our knowing. Nothing but the test
//! program touches the machine: the processor is halted, or there is none (`-accel qtest`).

mod process;
mod qtest;
mod version;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::{
    Board, BoardError, BoardEvent, FunctionAddress, Iommu, MemoryConfig, Message, PAGE_SIZE,
    PhysicalMemory, Waited, Zone, q35,
};
use process::Clock;
use qtest::{Connection, Edge};
pub use version::Version;

/// Which QEMU to start, and with what.
#[derive(Clone, Debug)]
pub struct QemuConfig {
    /// The program: a path, or a name looked up in `PATH`.
    pub program: PathBuf,
    /// Guest RAM.
    pub memory: MemoryConfig,
    /// Arguments of `-device`, one option each.
    pub devices: Vec<String>,
    /// How long QEMU may take to answer.
    pub timeout: Duration,
}

impl Default for QemuConfig {
    /// The distribution's QEMU with an edu device at 00:04.0.
    fn default() -> Self {
        Self {
            program: "qemu-system-x86_64".into(),
            memory: MemoryConfig::default(),
            devices: vec!["edu,addr=4".to_owned()],
            timeout: Duration::from_secs(20),
        }
    }
}

impl QemuConfig {
    /// The version of the program, which is refused if it is older than what is needed at all.
    pub fn version(&self) -> Result<Version, BoardError> {
        Version::of(&self.program)
    }
}

/// A running QEMU. It ends when this value is dropped, or when the thread that started it ends.
pub struct QemuBoard {
    memory: Arc<PhysicalMemory>,
    version: Version,
    devices: Vec<String>,
    messages: Messages,
    state: Mutex<State>,
}

struct State {
    connection: Connection,
    clock: Clock,
    /// The time of the last poll that moved QEMU's clock.
    polled: u64,
}

/// How long QEMU's clock, if it is ours to move, may stay behind that of the machine, in nanoseconds.
const CLOCK_LAG: u64 = 1_000_000;

const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;

impl QemuBoard {
    /// Starts QEMU and waits until it answers.
    pub fn start(config: &QemuConfig) -> Result<Self, BoardError> {
        let version = config.version()?;
        let memory = PhysicalMemory::new(&config.memory)?;
        let messages = Messages::new(&memory)?;
        let (connection, clock) = match Self::connect(config, &memory, Clock::Stepped) {
            Err(BoardError::Exited { output, .. }) if output.contains("accelerator") => {
                Self::connect(config, &memory, Clock::Running)?
            }
            result => result?,
        };
        Ok(Self {
            memory,
            version,
            devices: config.devices.clone(),
            messages,
            state: Mutex::new(State {
                connection,
                clock,
                polled: 0,
            }),
        })
    }

    /// The version of the QEMU that runs.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Whether QEMU's time stands still while it is not told to go on: its devices then do nothing on their own
    /// between two calls.
    pub fn is_stepped(&self) -> bool {
        self.lock().clock == Clock::Stepped
    }

    fn connect(
        config: &QemuConfig,
        memory: &PhysicalMemory,
        clock: Clock,
    ) -> Result<(Connection, Clock), BoardError> {
        let (process, socket) = process::start(config, memory, clock)?;
        let mut connection = Connection::new(process, socket, config.timeout);
        connection.command("irq_intercept_in ioapic")?;
        Ok((connection, clock))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Board for QemuBoard {
    fn describe(&self) -> String {
        let clock = match self.lock().clock {
            Clock::Running => "its own clock",
            Clock::Stepped => "clock stepped",
        };
        format!(
            "QEMU {} q35 with {}, {clock}",
            self.version,
            self.devices.join("; ")
        )
    }

    fn external_version(&self) -> Option<&str> {
        Some(self.version.text())
    }

    fn memory(&self) -> &Arc<PhysicalMemory> {
        &self.memory
    }

    fn register_window(&self) -> Range<u64> {
        q35::REGISTER_WINDOW
    }

    fn config_read(
        &self,
        function: FunctionAddress,
        offset: u16,
        size: u8,
    ) -> Result<u32, BoardError> {
        let (select, port) = config_access(function, offset, size)?;
        let read = format!("in{} {port:#x}", suffix(size));
        let replies = self.lock().connection.commands(&[&select, &read])?;
        replies[1].number().map(|value| value as u32)
    }

    fn config_write(
        &self,
        function: FunctionAddress,
        offset: u16,
        size: u8,
        value: u32,
    ) -> Result<(), BoardError> {
        let (select, port) = config_access(function, offset, size)?;
        let write = format!(
            "out{} {port:#x} {:#x}",
            suffix(size),
            u64::from(value) & q35::mask(size)
        );
        self.lock()
            .connection
            .commands(&[&select, &write])
            .map(drop)
    }

    fn read(&self, physical: u64, size: u8) -> Result<u64, BoardError> {
        q35::check_access(physical, size)?;
        let reply = self
            .lock()
            .connection
            .command(&format!("read{} {physical:#x}", suffix(size)))?;
        reply.number()
    }

    fn write(&self, physical: u64, size: u8, value: u64) -> Result<(), BoardError> {
        q35::check_access(physical, size)?;
        let command = format!(
            "write{} {physical:#x} {:#x}",
            suffix(size),
            value & q35::mask(size)
        );
        self.lock().connection.command(&command).map(drop)
    }

    fn message_target(&self, vector: u8) -> Message {
        self.messages.target(vector)
    }

    fn line(&self, function: FunctionAddress, pin: u8) -> u32 {
        q35::line(function, pin)
    }

    fn poll(&self, now_ns: u64, events: &mut Vec<BoardEvent>) -> Result<(), BoardError> {
        let mut state = self.lock();
        if state.clock == Clock::Stepped && now_ns.saturating_sub(state.polled) >= CLOCK_LAG {
            let step = now_ns - state.polled;
            state.connection.step(step)?;
            state.polled = now_ns;
        }
        state.connection.receive()?;
        events.extend(
            state
                .connection
                .edges()
                .map(|Edge { line, asserted }| BoardEvent::Line { line, asserted }),
        );
        drop(state);
        self.messages.take(events);
        Ok(())
    }

    fn next_event(&self) -> Option<u64> {
        None
    }

    fn wait(&self, limit: Duration) -> Result<Waited, BoardError> {
        /// Between two looks at the message words, for which nothing wakes us: first, and after a while.
        const EAGER: Duration = Duration::from_micros(100);
        const PATIENT: Duration = Duration::from_millis(1);
        const EAGER_FOR: Duration = Duration::from_millis(10);

        let mut state = self.lock();
        let start = Instant::now();
        let mut timers = match state.clock {
            Clock::Stepped => Some(state.connection.step(1)?),
            Clock::Running => None,
        };
        let deadline = timers.map(|now| now.saturating_add(limit.as_nanos() as u64));
        loop {
            state.connection.receive()?;
            if state.connection.has_edges() || self.messages.any() {
                return Ok(Waited {
                    news: true,
                    elapsed: start.elapsed(),
                });
            }
            if timers.is_some() && timers < deadline {
                // Without a timer the clock stays.
                timers = state
                    .connection
                    .step_to_next_timer()?
                    .filter(|now| timers < Some(*now));
                continue;
            }
            let waited = start.elapsed();
            let Some(left) = limit.checked_sub(waited).filter(|left| !left.is_zero()) else {
                return Ok(Waited {
                    news: false,
                    elapsed: waited,
                });
            };
            let interval = if waited < EAGER_FOR { EAGER } else { PATIENT };
            state.connection.wait(left.min(interval))?;
        }
    }

    fn iommu(&self) -> Option<&Iommu> {
        None
    }
}

/// Message-signalled interrupts: a page of guest RAM, in which each vector has a word that devices write.
struct Messages {
    memory: Arc<PhysicalMemory>,
    page: u64,
    /// One bit a vector that somebody has asked the target of.
    armed: [AtomicU32; 8],
}

impl Messages {
    /// Set in the data of every message, so that none is zero.
    const ARRIVED: u16 = 0x100;

    fn new(memory: &Arc<PhysicalMemory>) -> Result<Self, BoardError> {
        let page = memory.allocate(Zone::Low, 1)?[0];
        memory.fill(page, PAGE_SIZE, 0)?;
        Ok(Self {
            memory: Arc::clone(memory),
            page,
            armed: Default::default(),
        })
    }

    fn target(&self, vector: u8) -> Message {
        self.armed[usize::from(vector / 32)].fetch_or(1 << (vector % 32), Ordering::Relaxed);
        Message {
            address: self.address(vector),
            data: Self::ARRIVED | u16::from(vector),
        }
    }

    fn address(&self, vector: u8) -> u64 {
        self.page + 4 * u64::from(vector)
    }

    fn armed(&self) -> impl Iterator<Item = u8> {
        self.armed
            .iter()
            .zip((0..).step_by(32))
            .flat_map(|(word, first)| {
                let bits = word.load(Ordering::Relaxed);
                (0..32)
                    .filter(move |bit| bits >> bit & 1 != 0)
                    .map(move |bit| first + bit)
            })
    }

    fn word(&self, vector: u8) -> &AtomicU32 {
        self.memory
            .word(self.address(vector))
            .expect("the page is RAM")
    }

    fn any(&self) -> bool {
        self.armed()
            .any(|vector| self.word(vector).load(Ordering::Acquire) != 0)
    }

    fn take(&self, events: &mut Vec<BoardEvent>) {
        events.extend(
            self.armed()
                .filter(|&vector| self.word(vector).swap(0, Ordering::AcqRel) != 0)
                .map(|vector| BoardEvent::Message { vector }),
        );
    }
}

/// The command that selects a register of configuration space, and the port to access it through.
fn config_access(
    function: FunctionAddress,
    offset: u16,
    size: u8,
) -> Result<(String, u16), BoardError> {
    q35::check_config_access(offset, size)?;
    let address = 0x8000_0000
        | u32::from(function.bus) << 16
        | u32::from(function.device) << 11
        | u32::from(function.function) << 8
        | u32::from(offset & 0xfc);
    Ok((
        format!("outl {CONFIG_ADDRESS:#x} {address:#x}"),
        CONFIG_DATA + (offset & 3),
    ))
}

fn suffix(size: u8) -> char {
    match size {
        1 => 'b',
        2 => 'w',
        4 => 'l',
        _ => 'q',
    }
}
