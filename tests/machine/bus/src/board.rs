//! The board: what a mainboard offers to the software that runs on it.

use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::platform::PlatformDevice;
use crate::system_dma::DmaController;
use crate::{FunctionAddress, Iommu, PhysicalMemory};

/// A PC's mainboard with its guest RAM and PCI functions.
///
/// The calls never switch fibers and never call back into the layers above, so they may be made at any IRQL.
pub trait Board: Send + Sync {
    /// One line for people: which board, which version, which devices.
    fn describe(&self) -> String;

    /// The version of the external program that is the board; `None` if it is in this process.
    fn external_version(&self) -> Option<&str> {
        None
    }

    /// Guest RAM.
    fn memory(&self) -> &Arc<PhysicalMemory>;

    /// Physical addresses that the PnP manager may give to memory BARs. Nothing else decodes them.
    fn register_window(&self) -> Range<u64>;

    /// Reads `size` (1, 2 or 4) bytes of configuration space at an `offset` that is a multiple of `size`: below 256 on
    /// any board, below 4096 on one in this process. A function that is not there reads as all ones.
    fn config_read(
        &self,
        function: FunctionAddress,
        offset: u16,
        size: u8,
    ) -> Result<u32, BoardError>;

    /// Writes `size` (1, 2 or 4) bytes of configuration space. Writes to an absent function go nowhere.
    fn config_write(
        &self,
        function: FunctionAddress,
        offset: u16,
        size: u8,
        value: u32,
    ) -> Result<(), BoardError>;

    /// Reads a memory-mapped register of `size` (1, 2, 4 or 8) bytes.
    fn read(&self, physical: u64, size: u8) -> Result<u64, BoardError>;

    /// Writes a memory-mapped register of `size` (1, 2, 4 or 8) bytes.
    fn write(&self, physical: u64, size: u8, value: u64) -> Result<(), BoardError>;

    /// What to program into a function's MSI capability so that its message arrives as
    /// [`BoardEvent::Message`] with this `vector`.
    ///
    /// As in a local APIC, messages of one vector that arrive before they are polled are one.
    fn message_target(&self, vector: u8) -> Message;

    /// Takes a function's power away, as in D3cold: it forgets its configuration and its registers, and is as at power-on
    /// when it has power again, which is at once. A board that cannot keeps them; so do functions with power of their own.
    fn power_off(&self, _function: FunctionAddress) {}

    /// The interrupt line (IOAPIC input) that `pin` (1 = INTA to 4 = INTD) of `function` is wired to.
    fn line(&self, function: FunctionAddress, pin: u8) -> u32;

    /// Appends what has happened since the last call, in the order it happened.
    ///
    /// In-process devices are run up to `now_ns` of virtual time; until the next call that is the board's time,
    /// so a timer that a register write starts runs from there. An external board has a clock of its own.
    fn poll(&self, now_ns: u64, events: &mut Vec<BoardEvent>) -> Result<(), BoardError>;

    /// Virtual time in nanoseconds at which an in-process device has work to do; `None` if none has, or if the
    /// board is external ([`Board::wait`] is then what idle processors call).
    fn next_event(&self) -> Option<u64>;

    /// Whether [`Board::poll`] may have something to report, cheaply. Only a board that has said yes for nothing, as one
    /// that does not know does, is polled in vain.
    fn has_news(&self) -> bool {
        true
    }

    /// Waits in real time, at most for `limit`, until [`Board::poll`] has something to report.
    /// A board without a clock of its own returns at once.
    fn wait(&self, limit: Duration) -> Result<Waited, BoardError>;

    /// The translation that in-process devices go through; `None` if devices reach guest RAM directly and their
    /// logical addresses are physical ones.
    fn iommu(&self) -> Option<&Iommu>;

    /// The devices that no bus enumerates, as the firmware describes them.
    fn platform(&self) -> Vec<PlatformDevice> {
        Vec::new()
    }

    /// Takes the platform device whose registers lie at `registers` out of the board, as a surprise: nothing answers there
    /// from now on, and its interrupt and request lines are not asserted any more.
    fn unplug_platform(&self, _registers: &Range<u64>) {}

    /// The system DMA controller; `None` on a PC.
    fn dma_controller(&self) -> Option<&dyn DmaController> {
        None
    }
}

/// What came of waiting for the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waited {
    /// [`Board::poll`] has something to report.
    pub news: bool,
    /// How long it took. The waiting processor's time goes by this and not by a clock of the host, so that a
    /// session that is replayed takes as long as it took.
    pub elapsed: Duration,
}

/// An MSI message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Message address.
    pub address: u64,
    /// Message data.
    pub data: u16,
}

/// Something that happened on the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoardEvent {
    /// An interrupt line changed its level.
    Line {
        /// As [`Board::line`] numbers them.
        line: u32,
        /// The new level.
        asserted: bool,
    },
    /// A message arrived.
    Message {
        /// As given to [`Board::message_target`].
        vector: u8,
    },
    /// An in-process device reached for memory outside its live mappings. Nothing was transferred.
    DmaFault {
        /// The requester.
        function: FunctionAddress,
        /// First logical address that is not mapped for this access.
        address: u64,
        /// The device wanted to write.
        write: bool,
    },
    /// A function was pulled out. Its configuration space and registers are all ones by now, and its driver does
    /// not know.
    Removed {
        /// Where it was.
        function: FunctionAddress,
    },
}

/// Why the board cannot answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BoardError {
    /// The external board's process is gone.
    #[error("{program} {}{}", describe_status(.status), describe_output(.output))]
    Exited {
        /// The program's name.
        program: String,
        /// How it ended; `None` if it closed its connection and did not end.
        status: Option<ExitStatus>,
        /// What it wrote to standard error.
        output: String,
    },
    /// The external board did not answer in time.
    #[error("{program} did not answer `{request}` within {} s{}", .limit.as_secs(), describe_output(.output))]
    Timeout {
        /// The program's name.
        program: String,
        /// What it was asked.
        request: String,
        /// How long was waited.
        limit: Duration,
        /// What it wrote to standard error.
        output: String,
    },
    /// The external board answered something that is no answer.
    #[error("{program} answered `{answer}` to `{request}`")]
    Protocol {
        /// The program's name.
        program: String,
        /// What it was asked.
        request: String,
        /// What it answered.
        answer: String,
    },
    /// The external board's program is not installed.
    #[error("{program} is not installed: run `apt-get install {package}`")]
    Missing {
        /// The program's name.
        program: String,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// The program that serves a device over vfio-user is not there.
    #[error("{program} is not there: run `cargo build -p card-vfio-user`")]
    NotBuilt {
        /// The program's name.
        program: String,
    },
    /// Nobody serves a device at a socket.
    #[error("no vfio-user server answers at {}", .path.display())]
    NoServer {
        /// Where the socket is, or is to be.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Box<vfio_user::Error>,
    },
    /// A device over vfio-user is none that can be plugged in.
    #[error("{device}: {reason}")]
    BadDevice {
        /// What it is called.
        device: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The external board's program is older than what is needed.
    #[error("{program} is version {found}, at least {needed} is needed")]
    TooOld {
        /// The program's name.
        program: String,
        /// The version found, as the program prints it.
        found: String,
        /// The oldest version that works.
        needed: &'static str,
    },
    /// An access no processor would make.
    #[error(
        "no {size}-byte access at {address:#x}: sizes are powers of two up to {largest}, and addresses multiples of them"
    )]
    BadAccess {
        /// Physical address, or offset in configuration space.
        address: u64,
        /// Size in bytes.
        size: u8,
        /// The largest size there is.
        largest: u8,
    },
    /// An in-process device did what makes the real one's program abort.
    #[error("{device}: {reason}")]
    DeviceAborted {
        /// The device.
        device: String,
        /// What it was made to do.
        reason: String,
    },
    /// There is no card with as much memory as was asked for.
    #[error(transparent)]
    Card(#[from] crate::CardSizeError),
    /// Guest RAM could not be set up.
    #[error(transparent)]
    Memory(#[from] crate::MemoryError),
    /// A recorded session does not go on as it was recorded.
    #[error(transparent)]
    Replay(#[from] crate::record::ReplayError),
    /// An operating system call failed.
    #[error("cannot {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

fn describe_status(status: &Option<ExitStatus>) -> String {
    match status {
        Some(status) => format!("ended ({status})"),
        None => "closed its connection".to_owned(),
    }
}

fn describe_output(output: &str) -> String {
    match output.trim() {
        "" => String::new(),
        text => format!(": {text}"),
    }
}
