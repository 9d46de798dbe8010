//! What a machine is made of.

use std::path::PathBuf;
use std::time::Duration;

use abi::card::MEMORY_DEFAULT;
use machine_bus::fault::FaultPlan;
use machine_bus::{CardTiming, VfioUserConfig};
use machine_nt::mode::Mode;
use machine_nt::sched::Watchdog;

use crate::inf::{InfFacts, RegistryValue};
use crate::schedule::PolicyKind;
use crate::testdriver::TestDriver;

/// Which device is plugged in, and where it runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Device {
    /// QEMU's edu, in a QEMU that is started for the purpose.
    #[default]
    Edu,
    /// The twin of edu in this process.
    EduTwin,
    /// The FIFO peripheral in this process, on a board with a system DMA controller: a request line for each direction.
    Fifo,
    /// The same without an interrupt.
    FifoWithoutInterrupt,
    /// The same with an interrupt, and one request line for both directions.
    FifoSimplex,
    /// The same without any connection to the controller, as a PC would have it.
    FifoUnwired,
    /// The card in this process.
    Card,
    /// The card in a server of its own, over vfio-user. Its time is real.
    CardVfioUser,
}

impl Device {
    /// Its name on the command line and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Edu => "edu",
            Self::EduTwin => "edu-twin",
            Self::Fifo => "fifo",
            Self::FifoWithoutInterrupt => "fifo-no-interrupt",
            Self::FifoSimplex => "fifo-simplex",
            Self::FifoUnwired => "fifo-unwired",
            Self::Card => "card",
            Self::CardVfioUser => "card-vfio-user",
        }
    }
}

/// The card, if it is the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CardConfig {
    /// Bytes of its memory: 64 MiB to 4 GiB make sense.
    pub memory: u64,
    /// How long it takes. In a machine that runs freely it takes no longer than it does.
    pub timing: CardTiming,
    /// How long its server may take to answer, of the host's time, before the card counts as pulled out: 10 s, if nothing
    /// else is said.
    pub patience: Duration,
}

impl Default for CardConfig {
    fn default() -> Self {
        Self {
            memory: MEMORY_DEFAULT,
            timing: CardTiming::REAL,
            patience: VfioUserConfig::PATIENCE,
        }
    }
}

/// Who serves the card over vfio-user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CardServer {
    /// This program is started: a path, or a name looked up in `PATH`. It makes a card with the memory of [`CardConfig`],
    /// which takes no longer than it does, and ends with the machine.
    Start(PathBuf),
    /// The server that listens at this socket, with the card it has.
    Connect(PathBuf),
}

impl Default for CardServer {
    /// The project's own, built where this program was.
    fn default() -> Self {
        Self::Start(machine_bus::beside_this_program("card-vfio-user"))
    }
}

/// What becomes of the session with a device that runs in a QEMU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Session {
    /// It takes place.
    #[default]
    Live,
    /// It takes place, and is written to this file.
    Record(PathBuf),
    /// It takes place once more as it is written in this file, without QEMU. The machine has to be the same, and do the
    /// same.
    Replay(PathBuf),
}

/// How the device may interrupt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Interrupts {
    /// By messages, if the device can and the INF asks for them.
    #[default]
    Message,
    /// By its line only, as on a system without message-signalled interrupts.
    Line,
}

/// The driver of the device.
#[derive(Debug, Clone)]
pub enum DriverSource {
    /// A driver image.
    Image(PathBuf),
    /// A driver in the test itself.
    Test(TestDriver),
}

/// A machine to be.
#[derive(Debug, Clone)]
pub struct Config {
    /// The device.
    pub device: Device,
    /// The card, if that is the device.
    pub card: CardConfig,
    /// Who serves the card, if it is [`Device::CardVfioUser`].
    pub card_server: CardServer,
    /// What goes wrong with the card of a server that is started, as its option `--fault` takes it. A card in this process
    /// fails by [`Machine::card_faults`](crate::Machine::card_faults).
    pub server_faults: Vec<String>,
    /// Whether the session is recorded or replayed.
    pub session: Session,
    /// The QEMU program: a path, or a name looked up in `PATH`.
    pub qemu: PathBuf,
    /// There is a second device of the kind, on the same interrupt line.
    pub neighbour: bool,
    /// How it may interrupt.
    pub interrupts: Interrupts,
    /// Bytes of guest RAM. Only what is touched costs anything.
    pub memory: u64,
    /// What shall go wrong with the device, counted from when the machine runs; more can be armed later, by
    /// [`Machine::faults`](crate::Machine::faults).
    pub faults: FaultPlan,
    /// Virtual time with all checks, or real time without those that cost at every call. In real time, faults that need
    /// to know the device's DMA engine are refused.
    pub mode: Mode,
    /// Simulated processors.
    pub processors: usize,
    /// How long a processor may be kept from its threads, before bug check 0x133.
    pub watchdog: Watchdog,
    /// Decides which pages buffers have and who goes on at switch points.
    pub seed: u64,
    /// How it decides who goes on.
    pub policy: PolicyKind,
    /// The driver.
    pub driver: DriverSource,
    /// What the INF says.
    pub inf: InfFacts,
    /// Values of the service's key in addition to the INF's, or instead of them.
    pub registry: Vec<RegistryValue>,
    /// The framework's own verifier, which is `VerifierOn` in the service's key.
    pub framework_verifier: bool,
    /// The HAL's settings, Driver Verifier's DMA checks among them.
    pub hal: machine_hal::Config,
}

impl Config {
    /// QEMU's edu by messages, 6 GiB, two processors, everything verified, with the project's INF.
    ///
    /// # Panics
    /// If the project's INF cannot be read: a defect of the project.
    #[must_use]
    pub fn new(driver: DriverSource) -> Self {
        Self {
            device: Device::default(),
            card: CardConfig::default(),
            card_server: CardServer::default(),
            server_faults: Vec::new(),
            session: Session::default(),
            qemu: "qemu-system-x86_64".into(),
            neighbour: false,
            interrupts: Interrupts::default(),
            memory: 6 << 30,
            faults: FaultPlan::default(),
            mode: Mode::default(),
            processors: 2,
            watchdog: Watchdog::default(),
            seed: 1,
            policy: PolicyKind::default(),
            driver,
            inf: InfFacts::project(),
            registry: Vec::new(),
            framework_verifier: true,
            hal: machine_hal::Config::default(),
        }
    }

    /// As fast as it can: real time, and no verifier. One processor, since simulated processors share one of the host's.
    #[must_use]
    pub fn free_running(self) -> Self {
        Self {
            mode: Mode::FreeRunning,
            processors: 1,
            framework_verifier: false,
            hal: machine_hal::Config {
                verifier: false,
                ..self.hal
            },
            ..self
        }
    }

    /// What the way of a session depends on besides the driver and what it is asked to do: the same in a replay.
    pub(crate) fn summary(&self) -> String {
        let interrupts = match self.interrupts {
            Interrupts::Message => "messages",
            Interrupts::Line => "line",
        };
        let mut text = format!(
            "seed {}, {} processors, {} MiB, interrupts by {interrupts}",
            self.seed,
            self.processors,
            self.memory >> 20,
        );
        let faults = self.faults.to_string();
        if !faults.is_empty() {
            text += ", faults ";
            text += &faults;
        }
        text
    }
}
