//! The checks of Driver Verifier's DMA verification, as bug check 0xE6 reports them.
//!
//! Every rule the adapters enforce is one [`Violation`]; the code that uses the adapter wrongly stops at
//! [`Violation::raise`]. docs/verifier.md lists the rules in the same order.

use machine_nt::bugcheck::{code, stop};
use thiserror::Error;

/// A mistake in the use of a DMA adapter. The parameters of the bug check follow its public description; where that
/// leaves a parameter unused or internal, it is zero.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Violation {
    /// 0x00/1: more bytes are flushed than are mapped.
    #[error("{routine}: flushed {requested} bytes where only {mapped} are mapped")]
    FlushedTooMuch {
        routine: &'static str,
        mapped: u64,
        requested: u64,
    },
    /// 0x00/2: a transfer needs more map registers than its allocation holds.
    #[error("{routine}: {needed} map registers are needed, {available} of the allocation are free")]
    OutOfMapRegisters {
        routine: &'static str,
        needed: u64,
        available: u64,
    },
    /// 0x03: a common buffer is freed that the adapter does not have.
    #[error(
        "FreeCommonBuffer: {address:#x} is no common buffer of this adapter with these properties"
    )]
    CommonBufferFreedTwice { address: u64 },
    /// 0x04: an adapter channel is freed that is not held.
    #[error("{routine}: the adapter channel is not allocated")]
    ChannelFreedTwice { routine: &'static str },
    /// 0x05: map registers are freed that are not allocated.
    #[error("FreeMapRegisters: {base:#x} holds {held} map registers, {freed} were freed")]
    MapRegistersFreedTwice { base: u64, held: u64, freed: u64 },
    /// 0x06: a scatter/gather list is put that the adapter did not build.
    #[error("PutScatterGatherList: {list:#x} is no list of this adapter")]
    ListFreedTwice {
        list: u64,
        allocated: u64,
        freed: u64,
    },
    /// 0x07: the adapter is put while common buffers exist.
    #[error("PutDmaAdapter: {count} common buffers of adapter {adapter:#x} are not freed")]
    CommonBuffersOutstanding { adapter: u64, count: u64 },
    /// 0x08: the adapter is put while its channel is allocated or waited for.
    #[error(
        "PutDmaAdapter: {count} adapter channels of adapter {adapter:#x} are allocated or waited for"
    )]
    ChannelsOutstanding { adapter: u64, count: u64 },
    /// 0x09: the adapter is put while map registers are allocated.
    #[error("PutDmaAdapter: {count} map registers of adapter {adapter:#x} are not freed")]
    MapRegistersOutstanding { adapter: u64, count: u64 },
    /// 0x0A: the adapter is put while scatter/gather lists exist.
    #[error("PutDmaAdapter: {count} scatter/gather lists of adapter {adapter:#x} are not put")]
    ListsOutstanding { adapter: u64, count: u64 },
    /// 0x0B: a device object has two requests of the version 1 and 2 routines outstanding, or holds two channels.
    #[error("{routine}: the device object already waits for this adapter or holds its channel")]
    ChannelAllocatedTwice {
        routine: &'static str,
        outstanding: u64,
    },
    /// 0x0C: one allocation asks for more map registers than the adapter was granted.
    #[error("{routine}: {required} map registers were asked for, the adapter has {maximum}")]
    TooManyMapRegisters {
        routine: &'static str,
        required: u64,
        maximum: u64,
    },
    /// 0x0D: map registers are freed or mapped again before the transfer was flushed.
    #[error("{routine}: {mapped} bytes are mapped and were not flushed")]
    NotFlushed {
        routine: &'static str,
        mapped: u64,
        maximum: u64,
    },
    /// 0x0E: the buffer's pages are not locked.
    #[error("{routine}: the pages of MDL {mdl:#x} are not locked")]
    BufferNotLocked { routine: &'static str, mdl: u64 },
    /// 0x0F/1 and 0x0F/2: the tag before or after a bounced buffer was overwritten.
    #[error("the tag {} the bounced buffer at {start:#x} ({length} bytes) was overwritten", side(*.after))]
    TagModified {
        after: bool,
        length: u64,
        start: u64,
    },
    /// 0x0F/3: a map register was written to while nothing was mapped through it.
    #[error(
        "a free map register was written to at physical address {address:#x}: the device wrote after its transfer had ended"
    )]
    FreeMapRegisterModified { address: u64 },
    /// 0x0F/4 and 0x0F/5: the padding before or after a bounced or common buffer was overwritten.
    #[error("the padding {} the buffer at {start:#x} was overwritten at {address:#x}", side(*.after))]
    PaddingModified {
        after: bool,
        start: u64,
        address: u64,
    },
    /// 0x10: map registers are freed while mapped, as FreeAdapterChannel and a put adapter do.
    #[error("{routine}: {count} map registers are freed while they are mapped")]
    FreedWhileMapped { routine: &'static str, count: u64 },
    /// 0x13/1: the routine must run at one IRQL.
    #[error("{routine}: called at IRQL {current}, must be {expected}")]
    IrqlNotEqual {
        routine: &'static str,
        expected: u64,
        current: u64,
    },
    /// 0x13/2: the routine has a highest IRQL.
    #[error("{routine}: called at IRQL {current}, at most {maximum} is allowed")]
    IrqlTooHigh {
        routine: &'static str,
        maximum: u64,
        current: u64,
    },
    /// 0x16: a flush names map registers through which nothing is mapped.
    #[error("{routine}: nothing is mapped through map registers {base:#x}")]
    FlushedUnmapped { routine: &'static str, base: u64 },
    /// 0x18: the adapter was put before.
    #[error("{routine}: adapter {adapter:#x} has been released")]
    AdapterReleased { routine: &'static str, adapter: u64 },
    /// 0x19: the adapter pointer is NULL.
    #[error("{routine}: the adapter is NULL")]
    AdapterNull { routine: &'static str },
    /// 0x1D: part of the buffer is already mapped by this adapter.
    #[error(
        "{routine}: {start:#x}..{end:#x} is already mapped (at {mapped:#x}): two live transfers use the same buffer"
    )]
    AlreadyMapped {
        routine: &'static str,
        start: u64,
        end: u64,
        mapped: u64,
    },
    /// 0x1F/1 and 0x1F/2: the buffer begins before or after the first MDL.
    #[error("{routine}: address {address:#x} lies {} the first MDL {mdl:#x}", side(*.after))]
    OutsideFirstMdl {
        routine: &'static str,
        after: bool,
        address: u64,
        mdl: u64,
    },
    /// 0x20: a flush covers something else than what was mapped.
    #[error(
        "{routine}: {address:#x} of MDL {mdl:#x} was not mapped through map registers {base:#x}"
    )]
    FlushedOther {
        routine: &'static str,
        base: u64,
        address: u64,
        mdl: u64,
    },
    /// 0x21: zero bytes are mapped.
    #[error("{routine}: a transfer of zero bytes is mapped")]
    ZeroLength { routine: &'static str },
    /// 0x22: the buffer has no system address although its pages must be copied through one.
    #[error("{routine}: MDL {mdl:#x} describes no pages")]
    BufferNotMapped { routine: &'static str, mdl: u64 },
    /// 0x23/0: a channel of the system DMA controller is flushed while it is running.
    #[error("{routine}: channel {channel} has neither completed nor been cancelled")]
    ChannelRunning {
        routine: &'static str,
        controller: u64,
        channel: u64,
    },
    /// 0x24: the MDL chain is shorter than the transfer.
    #[error("{routine}: the MDL chain is {missing} bytes too short")]
    BufferTooShort { routine: &'static str, missing: u64 },
    /// 0x25: IoGetDmaAdapter does not know the version of the device description.
    #[error("IoGetDmaAdapter: unknown device description version {version}")]
    UnknownVersion { version: u64 },
    /// 0x26: the device touched memory outside every live mapping.
    #[error("the device {} {address:#x}, which no live mapping covers", if *.write { "wrote to" } else { "read from" })]
    DeviceFault {
        device: u64,
        address: u64,
        write: bool,
    },
    /// 0x26 as well, where no IOMMU stands between: the device wrote into memory that was mapped for it to read.
    #[error("the device wrote to {address:#x}, which was mapped for it to read only")]
    SourceModified { device: u64, address: u64 },
}

fn side(after: bool) -> &'static str {
    if after { "after" } else { "before" }
}

impl Violation {
    /// The four parameters of the bug check.
    pub fn parameters(&self) -> [u64; 4] {
        match *self {
            Self::FlushedTooMuch {
                mapped, requested, ..
            } => [0x00, 1, mapped, requested],
            Self::OutOfMapRegisters {
                needed, available, ..
            } => [0x00, 2, needed, available],
            Self::CommonBufferFreedTwice { .. } => [0x03, 1, 0, 0],
            Self::ChannelFreedTwice { .. } => [0x04, 1, 0, 0],
            Self::MapRegistersFreedTwice { held, freed, .. } => {
                [0x05, freed - held.min(freed), 0, 0]
            }
            Self::ListFreedTwice {
                allocated, freed, ..
            } => [0x06, allocated, freed, 0],
            Self::CommonBuffersOutstanding { adapter, count } => [0x07, adapter, count, 0],
            Self::ChannelsOutstanding { adapter, count } => [0x08, adapter, count, 0],
            Self::MapRegistersOutstanding { adapter, count } => [0x09, adapter, count, 0],
            Self::ListsOutstanding { adapter, count } => [0x0A, adapter, count, 0],
            Self::ChannelAllocatedTwice { outstanding, .. } => [0x0B, outstanding, 0, 0],
            Self::TooManyMapRegisters {
                required, maximum, ..
            } => [0x0C, required, maximum, 0],
            Self::NotFlushed {
                mapped, maximum, ..
            } => [0x0D, mapped, maximum, 0],
            Self::BufferNotLocked { mdl, .. } => [0x0E, mdl, 0, 0],
            Self::TagModified {
                after,
                length,
                start,
            } => [0x0F, 1 + u64::from(after), length, start],
            Self::FreeMapRegisterModified { address } => [0x0F, 3, address, 0],
            Self::PaddingModified {
                after,
                start,
                address,
            } => [0x0F, 4 + u64::from(after), start, address],
            Self::FreedWhileMapped { count, .. } => [0x10, count, 0, 0],
            Self::IrqlNotEqual {
                expected, current, ..
            } => [0x13, 1, expected, current],
            Self::IrqlTooHigh {
                maximum, current, ..
            } => [0x13, 2, maximum, current],
            Self::FlushedUnmapped { base, .. } => [0x16, base, 0, 0],
            Self::AdapterReleased { adapter, .. } => [0x18, adapter, 0, 0],
            Self::AdapterNull { .. } => [0x19, 0, 0, 0],
            Self::AlreadyMapped {
                start, end, mapped, ..
            } => [0x1D, start, end, mapped],
            Self::OutsideFirstMdl {
                after,
                address,
                mdl,
                ..
            } => [0x1F, 1 + u64::from(after), address, mdl],
            Self::FlushedOther {
                base, address, mdl, ..
            } => [0x20, base, address, mdl],
            Self::ZeroLength { .. } => [0x21, 0, 0, 0],
            Self::BufferNotMapped { mdl, .. } => [0x22, mdl, 0, 0],
            Self::ChannelRunning {
                controller,
                channel,
                ..
            } => [0x23, 0, controller, channel],
            Self::BufferTooShort { missing, .. } => [0x24, missing, 0, 0],
            Self::UnknownVersion { version } => [0x25, version, 0, 0],
            Self::DeviceFault {
                device,
                address,
                write,
            } => [0x26, device, address, u64::from(write)],
            Self::SourceModified { device, address } => [0x26, device, address, 1],
        }
    }

    /// Stops the machine with bug check 0xE6.
    pub fn raise(&self) -> ! {
        stop(code::DRIVER_VERIFIER_DMA_VIOLATION, self.parameters(), self)
    }
}
