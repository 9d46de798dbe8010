//! A system DMA controller as software sees it: channels that serve the request lines of platform devices.

use crate::FunctionAddress;

/// What a controller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaCapabilities {
    /// Number of channels.
    pub channels: u32,
    /// Number of request lines; any can be served by any channel.
    pub request_lines: u32,
    /// Bits of the memory addresses it drives.
    pub address_bits: u8,
    /// Most ranges of memory of one transfer.
    pub ranges: usize,
}

/// When a channel moves data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmaMode {
    /// While the device asserts its request line.
    Demand,
    /// From the start to the end, whatever the request line says: the device must keep up.
    Block,
}

/// What a channel is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DmaProgram {
    /// The request line to serve.
    pub request_line: u32,
    /// Physical address of the device's data register.
    pub device: u64,
    /// Bytes of one access to it.
    pub width: u8,
    /// From memory to the device.
    pub to_device: bool,
    /// When data moves.
    pub mode: DmaMode,
    /// Begin anew at the end (auto-initialise) until stopped.
    pub looped: bool,
    /// Ranges of logical addresses, start and bytes.
    pub ranges: Vec<(u64, u64)>,
}

/// What a channel has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmaEnd {
    /// All has been moved; the channel is idle.
    Complete,
    /// A period of a looped transfer; the channel goes on.
    Period,
    /// The device or memory answered with an error; the channel is idle.
    Error,
    /// It was stopped, and has stopped later.
    Stopped,
}

/// What stopping a channel comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmaStop {
    /// It was not running.
    Idle,
    /// It has stopped.
    Stopped,
    /// It goes on for a while, and then reports an end.
    Later,
}

/// A system DMA controller.
///
/// As all of a board's calls, these never switch fibers and may be made at any IRQL.
pub trait DmaController {
    /// What it can do.
    fn capabilities(&self) -> DmaCapabilities;

    /// Starts an idle channel.
    fn start(&self, channel: u32, program: DmaProgram);

    /// Stops a channel.
    fn stop(&self, channel: u32) -> DmaStop;

    /// Whether a channel is running.
    fn is_running(&self, channel: u32) -> bool;

    /// Bytes that a channel has still to move, up to the end of the present round for a looped transfer.
    fn residue(&self, channel: u32) -> u64;

    /// Invokes a custom function of a channel; false if there is none with this number, or not with this value.
    fn configure(&self, channel: u32, function: u32, value: u32) -> bool;

    /// What channels have come to since the last call.
    fn take_ended(&self) -> Vec<(u32, DmaEnd)>;
}

/// The requester that a channel's accesses to memory have, for the IOMMU: each channel is one of its own.
pub fn requester(channel: u32) -> FunctionAddress {
    FunctionAddress::new(0xFF, channel as u8, 0)
}
