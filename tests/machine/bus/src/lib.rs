//! What is plugged in: physical memory, PCI functions, QEMU, in-process devices.
//!
//! [`Board`] is what the layers above see: configuration space, memory-mapped registers, interrupts and guest
//! RAM. Addresses are physical unless they are called *logical*, which is what a device puts on the bus.

#![cfg(target_os = "linux")]

mod board;
mod card;
mod device;
mod edu;
mod engine;
pub mod fault;
pub mod fifo;
mod iommu;
mod local;
pub mod memory;
pub mod pci;
pub mod platform;
mod process;
mod q35;
pub mod qemu;
pub mod record;
pub mod system_dma;
mod vfio_client;
mod watch;

pub use ::card::{
    Fault as CardFault, Faults as CardFaults, SizeError as CardSizeError, Timing as CardTiming,
};
pub use board::{Board, BoardError, BoardEvent, Message, Waited};
pub use card::CardDevice;
pub use device::{Device, DmaError, Port};
pub use edu::{Edu, Pace};
pub use engine::{Engine, Transfer};
pub use fault::FaultyBoard;
pub use fifo::{Fault as FifoFault, Faults as FifoFaults, Fifo, Way, Wiring};
pub use iommu::{Access, Iommu, IommuError};
pub use local::{LocalBoard, ThreadedBoard};
pub use memory::{MemoryConfig, MemoryError, PAGE_SIZE, PhysicalMemory, Zone};
pub use pci::FunctionAddress;
pub use qemu::{QemuBoard, QemuConfig};
pub use record::{RecordingBoard, ReplayBoard};
pub use vfio_client::{VfioUserBoard, VfioUserConfig, VfioUserServer, beside_this_program};
