//! DMA: an enabler per device, its transactions, and what the hardware is programmed with.

mod channel;
mod common_buffer;
mod enabler;
mod looped;
mod mdl;
mod reserve;
mod scatter_gather;
mod shape;
mod system;
mod transaction;

pub use channel::{Attempt, Channel, Concluded, Stopped};
pub use common_buffer::{CommonBuffer, DeviceShared};
pub use enabler::{Enabler, EnablerConfig, PowerEvents, Profile};
pub use looped::{LoopedEvents, LoopedTransfer};
pub use reserve::{Reservation, Reserved};
pub use scatter_gather::{BusAddress, Element, ScatterGather};
pub use shape::Shape;
pub use system::{
    ChannelAdapter, Connection, Connections, SystemChannel, SystemDmaEvents, SystemEnabler,
    TransferEnd,
};
pub use transaction::{
    DmaEvents, Ended, Executing, Idle, Initialized, Progress, Refused, Transaction,
};

use wdk_sys::{_WDF_DMA_DIRECTION, WDF_DMA_DIRECTION};

/// Which way data moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the device to memory: a read.
    FromDevice,
    /// From memory to the device: a write.
    ToDevice,
}

impl Direction {
    pub(crate) const fn raw(self) -> WDF_DMA_DIRECTION {
        match self {
            Self::FromDevice => _WDF_DMA_DIRECTION::WdfDmaDirectionReadFromDevice,
            Self::ToDevice => _WDF_DMA_DIRECTION::WdfDmaDirectionWriteToDevice,
        }
    }

    const fn from_raw(raw: WDF_DMA_DIRECTION) -> Self {
        match raw {
            _WDF_DMA_DIRECTION::WdfDmaDirectionReadFromDevice => Self::FromDevice,
            _ => Self::ToDevice,
        }
    }
}
