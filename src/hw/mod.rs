//! The hardware behind a card.
//!
//! A kind of hardware is one implementation of [`Hardware`]: what it can do, as constants, and how its registers are
//! used. Everything else in the driver is the same for all of them.

pub(crate) mod edu;

use abi::info::DeviceKind;
use abi::window::{Span, Window};
use kmdf::dma::{BusAddress, Direction, EnablerConfig};
use kmdf::resources::ResourceList;
use kmdf::{DeviceGone, NtStatus, Result};

/// A kind of hardware with one DMA engine.
///
/// Nothing that the hardware says is trusted: it is compared with what it was told, and a read of all ones means that
/// it is gone.
pub(crate) trait Hardware: Sized + Send + Sync + 'static {
    /// How the interface calls it.
    const KIND: DeviceKind;
    /// The hardware identifier by which the system finds it.
    const HARDWARE_ID: &'static str;
    /// What its DMA can do.
    const DMA: EnablerConfig;
    /// Buffers must lie at multiples of this plus 1 bytes.
    const ALIGNMENT_MASK: u32;
    /// Its memory.
    const MEMORY: Window;
    /// What it was told about a transfer.
    type Told: Send;

    /// Maps the registers and makes sure that the hardware is what it was taken for. PASSIVE_LEVEL.
    fn map(resources: ResourceList<'_>) -> Result<Self>;

    /// What the hardware says it is.
    fn identity(&self) -> u32;

    /// Makes sure that the hardware is what it was taken for and can be used again after it had no power, with everything
    /// programmed that it may have forgotten. PASSIVE_LEVEL.
    fn wake(&self) -> Result<(), Fault>;

    /// Leaves no interrupt pending, and makes sure that the engine is idle. The caller owns the engine.
    fn quiesce(&self) -> Result<(), Fault>;

    /// Tells the engine to move `span` of its memory from or to `address`. The caller owns the engine.
    fn start(
        &self,
        span: Span,
        direction: Direction,
        address: BusAddress,
    ) -> Result<Self::Told, Fault>;

    /// What has become of a transfer. The caller owns the engine.
    fn state(&self, told: &Self::Told) -> Result<State, Fault>;

    /// Reads which causes of interrupt are pending, and acknowledges them. In the interrupt service routine.
    fn acknowledge(&self) -> Result<Cause, DeviceGone>;
}

/// Why the hardware interrupts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It does not.
    Nothing,
    /// A transfer has ended.
    Transfer,
    /// Something that the driver did not ask for.
    Other,
}

/// What a transfer is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The engine is at work on it, and on the buffer.
    Running,
    /// The engine says that it has moved all of it, and has let go of the buffer.
    Finished,
}

/// Why a transfer did not come about or cannot be relied on. In every case the engine is not using the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The hardware no longer answers.
    Gone,
    /// The engine is busy, with something that this driver did not tell it.
    Busy,
    /// What was found is not what it should be.
    Contradiction,
}

impl Fault {
    pub(crate) const fn status(self) -> NtStatus {
        match self {
            Self::Gone => NtStatus::DEVICE_REMOVED,
            Self::Busy => NtStatus::INVALID_DEVICE_STATE,
            Self::Contradiction => NtStatus::IO_DEVICE_ERROR,
        }
    }
}

impl From<DeviceGone> for Fault {
    fn from(_: DeviceGone) -> Self {
        Self::Gone
    }
}
