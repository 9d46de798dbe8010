//! DMA adapters: what a driver got from `IoGetDmaAdapter`, and everything it holds of it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use machine_bus::FunctionAddress;
use machine_bus::system_dma::{DmaCapabilities, DmaMode};
use nt_sys::{
    _DMA_WIDTH, DEVICE_DESCRIPTION, DEVICE_DESCRIPTION_VERSION, DEVICE_DESCRIPTION_VERSION1,
    DEVICE_DESCRIPTION_VERSION2, DEVICE_DESCRIPTION_VERSION3, DMA_ADAPTER, DMA_OPERATIONS,
};

use super::common_buffer::CommonBuffer;
use super::mapping::{Mapping, Reach};
use super::registers::Registers;
use super::system::SystemChannel;
use super::transfer_context::TransferContext;
use super::verifier::Violation;
use crate::bus_interface::Requester;

/// What a driver said of its device, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Description {
    /// Version of the operations asked for, 1 to 3.
    pub version: u32,
    /// Address bits.
    pub width: u8,
    /// The device takes lists.
    pub scatter_gather: bool,
    /// Longest transfer in bytes.
    pub maximum_length: u32,
    /// The channel of the system DMA controller that makes the transfers; `None` for a bus master.
    pub system: Option<SystemChannel>,
}

/// Why there is no adapter for a description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The version is none that this system knows.
    Version(u32),
    /// Version 3 requires a width from 1 to 64.
    Width(u32),
    /// No transfer has any length.
    NoLength,
    /// No bus master, and there is no system DMA controller, or the description is older than version 3.
    NoController,
    /// The controller has no such channel, request line or width.
    Channel,
    /// A bus master where there can be none.
    NoMaster,
}

/// Address bits of a device that declares neither 32 nor 64: those of the ISA bus.
const NARROWEST: u8 = 24;

impl Description {
    /// Checks a description, in a machine with this system DMA controller, if any.
    pub fn new(
        raw: &DEVICE_DESCRIPTION,
        controller: Option<DmaCapabilities>,
    ) -> Result<Self, Refusal> {
        let version = match raw.Version {
            DEVICE_DESCRIPTION_VERSION | DEVICE_DESCRIPTION_VERSION1 => 1,
            DEVICE_DESCRIPTION_VERSION2 => 2,
            DEVICE_DESCRIPTION_VERSION3 => 3,
            other => return Err(Refusal::Version(other)),
        };
        if raw.MaximumLength == 0 {
            return Err(Refusal::NoLength);
        }
        if raw.Master == 0 {
            let controller = controller
                .filter(|_| version == 3)
                .ok_or(Refusal::NoController)?;
            return Ok(Self {
                version,
                width: controller.address_bits,
                scatter_gather: true,
                maximum_length: raw.MaximumLength,
                system: Some(system_channel(raw, controller)?),
            });
        }
        let scatter_gather = raw.ScatterGather != 0;
        let width = match version {
            3 => u8::try_from(raw.DmaAddressWidth)
                .ok()
                .filter(|width| (1..=64).contains(width))
                .ok_or(Refusal::Width(raw.DmaAddressWidth))?,
            _ if raw.Dma64BitAddresses != 0 => 64,
            _ if raw.Dma32BitAddresses != 0 || scatter_gather => 32,
            _ => NARROWEST,
        };
        Ok(Self {
            version,
            width,
            scatter_gather,
            maximum_length: raw.MaximumLength,
            system: None,
        })
    }
}

fn system_channel(
    raw: &DEVICE_DESCRIPTION,
    controller: DmaCapabilities,
) -> Result<SystemChannel, Refusal> {
    let width = match raw.DmaWidth {
        _DMA_WIDTH::Width8Bits => 1,
        _DMA_WIDTH::Width16Bits => 2,
        _DMA_WIDTH::Width32Bits => 4,
        _DMA_WIDTH::Width64Bits => 8,
        _ => return Err(Refusal::Channel),
    };
    if raw.DmaChannel >= controller.channels || raw.DmaRequestLine >= controller.request_lines {
        return Err(Refusal::Channel);
    }
    Ok(SystemChannel {
        channel: raw.DmaChannel,
        request_line: raw.DmaRequestLine,
        width,
        mode: if raw.DemandMode != 0 {
            DmaMode::Demand
        } else {
            DmaMode::Block
        },
        looped: raw.AutoInitialize != 0,
        device: crate::quad_part(raw.DeviceAddress) as u64,
    })
}

/// An allocated block of map registers and what is mapped through it.
#[derive(Debug)]
pub struct Allocation {
    /// The block.
    pub registers: Registers,
    /// Map registers in use by `mappings`.
    pub used: u32,
    /// Live transfers, in the order they were mapped.
    pub mappings: Vec<Mapping>,
}

impl Allocation {
    /// Bytes mapped.
    pub fn mapped(&self) -> u64 {
        self.mappings.iter().map(|mapping| mapping.length).sum()
    }
}

/// Who has the adapter's channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channel {
    /// Device object the channel was allocated for.
    pub device: u64,
    /// Its map registers.
    pub handle: u64,
    /// The version 3 request that got it.
    pub context: Option<TransferContext>,
}

/// A scatter/gather list given to a driver.
#[derive(Debug, Clone, Copy)]
pub struct List {
    /// The map registers behind it.
    pub handle: u64,
    /// The list's memory is the adapter's, not the driver's.
    pub owned: bool,
}

/// An adapter.
#[derive(Debug)]
pub struct Adapter {
    /// Address of the DMA_ADAPTER.
    pub address: u64,
    /// What it was made for.
    pub description: Description,
    /// Whose transfers these are.
    pub requester: Requester,
    /// Most map registers of one allocation.
    pub granted: u32,
    /// It was put: no routine may be called any more.
    pub released: bool,
    /// Whether the channel is allocated, and to whom.
    pub channel: Option<Channel>,
    /// Allocated map registers by handle.
    pub allocations: BTreeMap<u64, Allocation>,
    /// Scatter/gather lists by address.
    pub lists: BTreeMap<u64, List>,
    /// Lists ever built, and put.
    pub list_counts: (u64, u64),
    /// Common buffers by virtual address.
    pub common_buffers: BTreeMap<u64, CommonBuffer>,
}

impl Adapter {
    /// An adapter whose DMA_ADAPTER leads to `operations`.
    pub fn new(
        description: Description,
        requester: Requester,
        granted: u32,
        operations: &'static DMA_OPERATIONS,
    ) -> Self {
        let object = Box::new(DMA_ADAPTER {
            Version: 1,
            Size: size_of::<DMA_ADAPTER>() as u16,
            DmaOperations: std::ptr::from_ref(operations).cast_mut(),
        });
        Self {
            // Never freed: a driver that uses a released adapter must be recognised.
            address: std::ptr::from_mut(Box::leak(object)) as u64,
            description,
            requester,
            granted,
            released: false,
            channel: None,
            allocations: BTreeMap::new(),
            lists: BTreeMap::new(),
            list_counts: (0, 0),
            common_buffers: BTreeMap::new(),
        }
    }

    /// Where the requester sits.
    pub fn function(&self) -> FunctionAddress {
        self.requester.function
    }

    /// Which pages the device reaches.
    pub fn reach(&self, always_bounce: bool) -> Reach {
        let Description {
            width,
            scatter_gather,
            ..
        } = self.description;
        Reach {
            width,
            scatter_gather,
            always_bounce: always_bounce && !self.is_looped(),
        }
    }

    /// What a looped transfer reads or writes changes while it runs: a copy would not do.
    fn is_looped(&self) -> bool {
        self.description.system.is_some_and(|system| system.looped)
    }

    /// Address bits below which bounce pages must lie; `None` if the device never needs one.
    pub fn bounce_width(&self, always_bounce: bool) -> Option<u8> {
        let Reach {
            width,
            scatter_gather,
            always_bounce,
        } = self.reach(always_bounce);
        (always_bounce || !scatter_gather || width < 64).then_some(width)
    }

    /// The allocation behind `handle`, which the driver passed to `routine`.
    pub fn allocation(&mut self, routine: &'static str, handle: u64) -> &mut Allocation {
        match self.allocations.get_mut(&handle) {
            Some(allocation) => allocation,
            None => Violation::FlushedUnmapped {
                routine,
                base: handle,
            }
            .raise(),
        }
    }

    /// Where a live transfer already uses some of these addresses (by MDL).
    pub fn overlap(&self, extents: &[(u64, Range<u64>)]) -> Option<u64> {
        self.allocations
            .values()
            .flat_map(|a| &a.mappings)
            .find_map(|live| live.overlap(extents))
    }

    /// Checks that nothing is left of what the driver allocated; `waiting` requests of it are queued.
    pub fn verify_release(&self, waiting: usize) {
        let adapter = self.address;
        let buffers = self.common_buffers.len() as u64;
        if buffers > 0 {
            Violation::CommonBuffersOutstanding {
                adapter,
                count: buffers,
            }
            .raise();
        }
        let channels = waiting as u64 + u64::from(self.channel.is_some());
        if channels > 0 {
            Violation::ChannelsOutstanding {
                adapter,
                count: channels,
            }
            .raise();
        }
        let lists = self.lists.len() as u64;
        if lists > 0 {
            Violation::ListsOutstanding {
                adapter,
                count: lists,
            }
            .raise();
        }
        let registers = self
            .allocations
            .values()
            .map(|a| u64::from(a.registers.count))
            .sum();
        if registers > 0 {
            Violation::MapRegistersOutstanding {
                adapter,
                count: registers,
            }
            .raise();
        }
    }
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Description {
            version,
            width,
            scatter_gather,
            maximum_length,
            system,
        } = self.description;
        write!(
            f,
            "{:#x}: {} of {} version {version}, {width} bits, up to {maximum_length} bytes, {} map registers granted",
            self.address,
            match (system, scatter_gather) {
                (Some(_), _) => "system DMA",
                (None, true) => "scatter/gather",
                (None, false) => "packet",
            },
            self.requester.function,
            self.granted,
        )?;
        if self.released {
            return f.write_str("; released");
        }
        let (built, put) = self.list_counts;
        write!(
            f,
            "; lists {built} built {put} put, {} common buffers, channel {}",
            self.common_buffers.len(),
            if self.channel.is_some() {
                "allocated"
            } else {
                "free"
            },
        )?;
        for allocation in self.allocations.values() {
            let registers = &allocation.registers;
            let (handle, count, mapped) = (registers.handle, registers.count, allocation.mapped());
            write!(
                f,
                "\n    {handle:#x}: {count} map registers, {mapped} bytes mapped"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(change: impl FnOnce(&mut DEVICE_DESCRIPTION)) -> Result<Description, Refusal> {
        // SAFETY: the structure is plain data for which zero is valid.
        let mut raw: DEVICE_DESCRIPTION = unsafe { std::mem::zeroed() };
        raw.Version = DEVICE_DESCRIPTION_VERSION3;
        raw.Master = 1;
        raw.MaximumLength = 4096;
        raw.DmaAddressWidth = 28;
        change(&mut raw);
        Description::new(&raw, None)
    }

    #[test]
    fn version_3_takes_the_width() {
        let expected = Description {
            version: 3,
            width: 28,
            scatter_gather: false,
            maximum_length: 4096,
            system: None,
        };
        assert_eq!(raw(|_| {}), Ok(expected));
        assert_eq!(raw(|raw| raw.DmaAddressWidth = 0), Err(Refusal::Width(0)));
        assert_eq!(raw(|raw| raw.DmaAddressWidth = 65), Err(Refusal::Width(65)));
    }

    #[test]
    fn what_is_no_bus_master_needs_a_channel_that_exists() {
        let controller = DmaCapabilities {
            channels: 8,
            request_lines: 32,
            address_bits: 32,
            ranges: 16,
        };
        // SAFETY: the structure is plain data for which zero is valid.
        let mut raw: DEVICE_DESCRIPTION = unsafe { std::mem::zeroed() };
        raw.Version = DEVICE_DESCRIPTION_VERSION3;
        raw.MaximumLength = 4096;
        raw.DmaChannel = 7;
        raw.DmaRequestLine = 31;
        raw.DmaWidth = _DMA_WIDTH::Width32Bits;
        let system = |raw: &DEVICE_DESCRIPTION| {
            Description::new(raw, Some(controller)).map(|description| description.system)
        };
        let expected = SystemChannel {
            channel: 7,
            request_line: 31,
            width: 4,
            mode: DmaMode::Block,
            looped: false,
            device: 0,
        };
        assert_eq!(system(&raw), Ok(Some(expected)));
        for wrong in [
            |raw: &mut DEVICE_DESCRIPTION| raw.DmaChannel = 8,
            |raw: &mut DEVICE_DESCRIPTION| raw.DmaRequestLine = 32,
            |raw: &mut DEVICE_DESCRIPTION| raw.DmaWidth = _DMA_WIDTH::WidthNoWrap,
        ] {
            let mut raw = raw;
            wrong(&mut raw);
            assert_eq!(system(&raw), Err(Refusal::Channel));
        }
        raw.Version = DEVICE_DESCRIPTION_VERSION2;
        assert_eq!(system(&raw), Err(Refusal::NoController));
    }

    #[test]
    fn older_versions_take_the_flags() {
        let width = |change: fn(&mut DEVICE_DESCRIPTION)| {
            raw(|raw| {
                raw.Version = DEVICE_DESCRIPTION_VERSION2;
                change(raw);
            })
            .map(|description| description.width)
        };
        assert_eq!(width(|_| {}), Ok(24));
        assert_eq!(width(|raw| raw.Dma32BitAddresses = 1), Ok(32));
        assert_eq!(width(|raw| raw.ScatterGather = 1), Ok(32));
        assert_eq!(width(|raw| raw.Dma64BitAddresses = 1), Ok(64));
    }

    #[test]
    fn what_is_no_bus_master_is_refused() {
        assert_eq!(raw(|raw| raw.Version = 4), Err(Refusal::Version(4)));
        assert_eq!(raw(|raw| raw.Master = 0), Err(Refusal::NoController));
        assert_eq!(raw(|raw| raw.MaximumLength = 0), Err(Refusal::NoLength));
    }
}
