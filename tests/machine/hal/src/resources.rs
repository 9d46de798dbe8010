//! Hardware resources: what a device needs (IO_RESOURCE_REQUIREMENTS_LIST) and what it is given (CM_RESOURCE_LIST, raw
//! and translated), as Rust values and as the structures drivers see.

use std::mem::offset_of;

use machine_bus::platform::DmaConnection;
use machine_nt::exports::{ExAllocatePool2, ExFreePoolWithTag};
use nt_sys::{
    _CM_SHARE_DISPOSITION, _IRQ_DEVICE_POLICY, _IRQ_PRIORITY, CM_FULL_RESOURCE_DESCRIPTOR,
    CM_PARTIAL_RESOURCE_DESCRIPTOR, CM_RESOURCE_INTERRUPT_LATCHED,
    CM_RESOURCE_INTERRUPT_LEVEL_SENSITIVE, CM_RESOURCE_INTERRUPT_MESSAGE,
    CM_RESOURCE_INTERRUPT_MESSAGE_TOKEN, CM_RESOURCE_LIST, CM_RESOURCE_MEMORY_BAR,
    CM_RESOURCE_MEMORY_PREFETCHABLE, CM_RESOURCE_MEMORY_READ_WRITE, CmResourceTypeDma,
    CmResourceTypeInterrupt, CmResourceTypeMemory, IO_RESOURCE_ALTERNATIVE, IO_RESOURCE_DESCRIPTOR,
    IO_RESOURCE_LIST, IO_RESOURCE_REQUIREMENTS_LIST, KAFFINITY, PCM_RESOURCE_LIST,
    PIO_RESOURCE_REQUIREMENTS_LIST, PNP_BUS_INFORMATION, POOL_FLAG_PAGED,
};

use crate::interrupt::vector::{Source, Vector};
use crate::{large_integer, quad_part};

const POOL_TAG: u32 = u32::from_le_bytes(*b"PpRe");

/// CM_RESOURCE_DMA_V3: the descriptor is a `DmaV3`.
const DMA_V3: u16 = 0x80;

/// Where the descriptors of a CM_RESOURCE_LIST begin.
const ASSIGNED: usize = offset_of!(CM_RESOURCE_LIST, List)
    + offset_of!(
        CM_FULL_RESOURCE_DESCRIPTOR,
        PartialResourceList.PartialDescriptors
    );

/// Where the lists of an IO_RESOURCE_REQUIREMENTS_LIST begin, and in each of them its descriptors.
const LISTS: usize = offset_of!(IO_RESOURCE_REQUIREMENTS_LIST, List);
const REQUIRED: usize = offset_of!(IO_RESOURCE_LIST, Descriptors);

/// What a device needs one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// Addresses for a memory BAR.
    Memory {
        /// Bytes; they are aligned to their number.
        length: u32,
        /// Reads have no side effects.
        prefetchable: bool,
        /// The addresses must lie from here.
        minimum: u64,
        /// And up to here.
        maximum: u64,
    },
    /// An interrupt line.
    Line(u32),
    /// So many messages in a row: all of a function with MSI, or one of a function with MSI-X.
    Messages(u16),
    /// A channel of the system DMA controller and the request line it serves.
    Dma(DmaConnection),
}

/// A requirement and, if there are any, what will do instead, in order of preference.
pub type Alternatives = Vec<Requirement>;

/// All that a device needs to run in one of the ways it can: an alternative list of its requirements.
pub type Configuration = Vec<Alternatives>;

/// What a device was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Physical addresses.
    Memory {
        /// The first.
        start: u64,
        /// How many.
        length: u32,
        /// Reads have no side effects.
        prefetchable: bool,
    },
    /// An interrupt: a line, or the first of `count` messages.
    Interrupt {
        /// Its vector.
        vector: Vector,
        /// 1 for a line.
        count: u16,
    },
    /// A channel of the system DMA controller.
    Dma(DmaConnection),
}

/// A structure of variable size in paged pool, freed when dropped.
#[derive(Debug)]
pub struct Block<T>(*mut T);

impl<T> Block<T> {
    /// A block of `bytes` bytes, all zero.
    fn new(bytes: usize) -> Self {
        // SAFETY: resource lists are made at PASSIVE_LEVEL, where paged pool may be allocated.
        let block = unsafe { ExAllocatePool2(POOL_FLAG_PAGED, bytes as u64, POOL_TAG) };
        if block.is_null() {
            crate::stop_internal("no pool for a resource list");
        }
        Self(block.cast())
    }

    /// Where it is. Valid as long as the block.
    pub fn as_ptr(&self) -> *mut T {
        self.0
    }

    /// Hands the block over to whoever frees it.
    pub fn into_raw(self) -> *mut T {
        std::mem::ManuallyDrop::new(self).0
    }
}

impl<T> Drop for Block<T> {
    fn drop(&mut self) {
        // SAFETY: the block was allocated in `new` and is nobody else's.
        unsafe { ExFreePoolWithTag(self.0.cast(), POOL_TAG) };
    }
}

/// Which of the two lists of a start request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// As the bus sees them.
    Raw,
    /// As the processors see them.
    Translated,
}

/// A width in bytes as DMA_WIDTH and resource descriptors count it.
fn width_code(bytes: u8) -> u32 {
    bytes.trailing_zeros()
}

impl Resource {
    fn descriptor(&self, view: View, processors: KAFFINITY) -> CM_PARTIAL_RESOURCE_DESCRIPTOR {
        let mut descriptor = CM_PARTIAL_RESOURCE_DESCRIPTOR::default();
        match *self {
            Self::Memory {
                start,
                length,
                prefetchable,
            } => {
                descriptor.Type = CmResourceTypeMemory as u8;
                descriptor.ShareDisposition =
                    _CM_SHARE_DISPOSITION::CmResourceShareDeviceExclusive as u8;
                descriptor.Flags = memory_flags(prefetchable) | CM_RESOURCE_MEMORY_BAR as u16;
                descriptor.u.Memory.Start = large_integer(start as i64);
                descriptor.u.Memory.Length = length;
            }
            Self::Interrupt { vector, count } => {
                descriptor.Type = CmResourceTypeInterrupt as u8;
                descriptor.ShareDisposition = share(vector.is_level());
                descriptor.Flags = interrupt_flags(vector.is_level());
                descriptor.u.Interrupt.Affinity = processors;
                match (view, vector.source) {
                    (View::Translated, _) => {
                        descriptor.u.Interrupt.Level = vector.irql().into();
                        descriptor.u.Interrupt.Vector = vector.number.into();
                    }
                    (View::Raw, Source::Line(line)) => {
                        descriptor.u.Interrupt.Level = line;
                        descriptor.u.Interrupt.Vector = line;
                    }
                    (View::Raw, Source::Message(_)) => {
                        descriptor
                            .u
                            .MessageInterrupt
                            .__bindgen_anon_1
                            .Raw
                            .MessageCount = count;
                        descriptor.u.MessageInterrupt.__bindgen_anon_1.Raw.Vector =
                            vector.number.into();
                    }
                }
            }
            Self::Dma(connection) => {
                descriptor.Type = CmResourceTypeDma as u8;
                descriptor.ShareDisposition =
                    _CM_SHARE_DISPOSITION::CmResourceShareDeviceExclusive as u8;
                descriptor.Flags = DMA_V3;
                descriptor.u.DmaV3.Channel = connection.channel;
                descriptor.u.DmaV3.RequestLine = connection.request_line;
                descriptor.u.DmaV3.TransferWidth = width_code(connection.width) as u8;
            }
        }
        descriptor
    }
}

fn memory_flags(prefetchable: bool) -> u16 {
    let prefetchable = if prefetchable {
        CM_RESOURCE_MEMORY_PREFETCHABLE
    } else {
        0
    };
    (CM_RESOURCE_MEMORY_READ_WRITE | prefetchable) as u16
}

fn interrupt_flags(level: bool) -> u16 {
    let flags = if level {
        CM_RESOURCE_INTERRUPT_LEVEL_SENSITIVE
    } else {
        CM_RESOURCE_INTERRUPT_LATCHED | CM_RESOURCE_INTERRUPT_MESSAGE
    };
    flags as u16
}

fn share(level: bool) -> u8 {
    let disposition = if level {
        _CM_SHARE_DISPOSITION::CmResourceShareShared
    } else {
        _CM_SHARE_DISPOSITION::CmResourceShareDeviceExclusive
    };
    disposition as u8
}

/// The CM_RESOURCE_LIST of what a device on `bus` was given.
pub fn resource_list(
    resources: &[Resource],
    view: View,
    bus: &PNP_BUS_INFORMATION,
    processors: KAFFINITY,
) -> Block<CM_RESOURCE_LIST> {
    let size = ASSIGNED + resources.len() * size_of::<CM_PARTIAL_RESOURCE_DESCRIPTOR>();
    let block = Block::<CM_RESOURCE_LIST>::new(size.max(size_of::<CM_RESOURCE_LIST>()));
    let mut list = CM_RESOURCE_LIST {
        Count: 1,
        ..CM_RESOURCE_LIST::default()
    };
    let full = &mut list.List[0];
    full.InterfaceType = bus.LegacyBusType;
    full.BusNumber = bus.BusNumber;
    full.PartialResourceList.Version = 1;
    full.PartialResourceList.Revision = 1;
    full.PartialResourceList.Count = resources.len() as u32;
    // SAFETY: the block is at least as large as the structure.
    unsafe { block.as_ptr().write(list) };
    let first = block
        .as_ptr()
        .wrapping_byte_add(ASSIGNED)
        .cast::<CM_PARTIAL_RESOURCE_DESCRIPTOR>();
    for (index, resource) in resources.iter().enumerate() {
        // SAFETY: the block has room for a descriptor a resource.
        unsafe {
            first
                .wrapping_add(index)
                .write_unaligned(resource.descriptor(view, processors))
        };
    }
    block
}

impl Requirement {
    fn descriptor(&self, alternative: bool) -> IO_RESOURCE_DESCRIPTOR {
        let mut descriptor = IO_RESOURCE_DESCRIPTOR::default();
        if alternative {
            descriptor.Option = IO_RESOURCE_ALTERNATIVE as u8;
        }
        match *self {
            Self::Memory {
                length,
                prefetchable,
                minimum,
                maximum,
            } => {
                descriptor.Type = CmResourceTypeMemory as u8;
                descriptor.ShareDisposition =
                    _CM_SHARE_DISPOSITION::CmResourceShareDeviceExclusive as u8;
                descriptor.Flags = memory_flags(prefetchable) | CM_RESOURCE_MEMORY_BAR as u16;
                descriptor.u.Memory.Length = length;
                descriptor.u.Memory.Alignment = length;
                descriptor.u.Memory.MinimumAddress = large_integer(minimum as i64);
                descriptor.u.Memory.MaximumAddress = large_integer(maximum as i64);
            }
            Self::Line(_) | Self::Messages(_) => {
                let (level, first, last) = match *self {
                    Self::Messages(count) => {
                        let last = CM_RESOURCE_INTERRUPT_MESSAGE_TOKEN;
                        (false, last - (u32::from(count) - 1), last)
                    }
                    Self::Line(line) => (true, line, line),
                    Self::Memory { .. } | Self::Dma(_) => unreachable!("not matched here"),
                };
                descriptor.Type = CmResourceTypeInterrupt as u8;
                descriptor.ShareDisposition = share(level);
                descriptor.Flags = interrupt_flags(level);
                descriptor.u.Interrupt.MinimumVector = first;
                descriptor.u.Interrupt.MaximumVector = last;
                descriptor.u.Interrupt.AffinityPolicy = _IRQ_DEVICE_POLICY::IrqPolicyMachineDefault;
                descriptor.u.Interrupt.PriorityPolicy = _IRQ_PRIORITY::IrqPriorityUndefined;
                descriptor.u.Interrupt.TargetedProcessors = KAFFINITY::MAX;
            }
            Self::Dma(connection) => {
                descriptor.Type = CmResourceTypeDma as u8;
                descriptor.ShareDisposition =
                    _CM_SHARE_DISPOSITION::CmResourceShareDeviceExclusive as u8;
                descriptor.Flags = DMA_V3;
                descriptor.u.DmaV3.Channel = connection.channel;
                descriptor.u.DmaV3.RequestLine = connection.request_line;
                descriptor.u.DmaV3.TransferWidth = width_code(connection.width);
            }
        }
        descriptor
    }

    /// `None` for a kind of resource that only describes others or that the machine does not have.
    fn from_descriptor(descriptor: &IO_RESOURCE_DESCRIPTOR) -> Option<Self> {
        match u32::from(descriptor.Type) {
            kind if kind == CmResourceTypeMemory => {
                // SAFETY: the type names this member.
                let memory = unsafe { descriptor.u.Memory };
                Some(Self::Memory {
                    length: memory.Length,
                    prefetchable: u32::from(descriptor.Flags) & CM_RESOURCE_MEMORY_PREFETCHABLE
                        != 0,
                    minimum: quad_part(memory.MinimumAddress) as u64,
                    maximum: quad_part(memory.MaximumAddress) as u64,
                })
            }
            kind if kind == CmResourceTypeInterrupt => {
                // SAFETY: the type names this member.
                let interrupt = unsafe { descriptor.u.Interrupt };
                if u32::from(descriptor.Flags) & CM_RESOURCE_INTERRUPT_MESSAGE == 0 {
                    return Some(Self::Line(interrupt.MinimumVector));
                }
                let count = interrupt
                    .MaximumVector
                    .wrapping_sub(interrupt.MinimumVector)
                    .wrapping_add(1);
                u16::try_from(count).ok().map(Self::Messages)
            }
            kind if kind == CmResourceTypeDma && descriptor.Flags & DMA_V3 != 0 => {
                // SAFETY: the type and its flag name this member.
                let dma = unsafe { descriptor.u.DmaV3 };
                Some(Self::Dma(DmaConnection {
                    channel: dma.Channel,
                    request_line: dma.RequestLine,
                    width: 1_u8.checked_shl(dma.TransferWidth)?,
                }))
            }
            _ => None,
        }
    }
}

/// The IO_RESOURCE_REQUIREMENTS_LIST of a device in this slot of `bus`: its configurations in order of preference.
pub fn requirements_list(
    configurations: &[Configuration],
    bus: &PNP_BUS_INFORMATION,
    slot: u32,
) -> Block<IO_RESOURCE_REQUIREMENTS_LIST> {
    let count = |configuration: &Configuration| configuration.iter().map(Vec::len).sum::<usize>();
    let length = |configuration: &Configuration| {
        REQUIRED + count(configuration) * size_of::<IO_RESOURCE_DESCRIPTOR>()
    };
    let size = LISTS + configurations.iter().map(length).sum::<usize>();
    let block = Block::<IO_RESOURCE_REQUIREMENTS_LIST>::new(
        size.max(size_of::<IO_RESOURCE_REQUIREMENTS_LIST>()),
    );
    let head = IO_RESOURCE_REQUIREMENTS_LIST {
        ListSize: size as u32,
        InterfaceType: bus.LegacyBusType,
        BusNumber: bus.BusNumber,
        SlotNumber: slot,
        AlternativeLists: configurations.len() as u32,
        ..IO_RESOURCE_REQUIREMENTS_LIST::default()
    };
    // SAFETY: the block is at least as large as the structure.
    unsafe { block.as_ptr().write(head) };
    let mut list = block.as_ptr().wrapping_byte_add(LISTS).cast::<u8>();
    for configuration in configurations {
        // The head of an IO_RESOURCE_LIST: version and revision 1.
        let head = [0x0001_0001, count(configuration) as u32];
        // SAFETY: the block has room for the list.
        unsafe { list.cast::<[u32; 2]>().write(head) };
        let first = list.wrapping_add(REQUIRED).cast::<IO_RESOURCE_DESCRIPTOR>();
        let descriptors = configuration
            .iter()
            .flat_map(|alternatives| alternatives.iter().enumerate())
            .map(|(index, requirement)| requirement.descriptor(index > 0));
        for (index, descriptor) in descriptors.enumerate() {
            // SAFETY: the block has room for all descriptors.
            unsafe { first.wrapping_add(index).write(descriptor) };
        }
        list = list.wrapping_add(length(configuration));
    }
    block
}

/// What the alternative lists of a requirements list ask for; a device without such a list needs nothing.
///
/// # Safety
/// `list` is NULL or points to a requirements list.
pub unsafe fn read_requirements(list: PIO_RESOURCE_REQUIREMENTS_LIST) -> Vec<Configuration> {
    if list.is_null() {
        return vec![Configuration::new()];
    }
    // SAFETY: the caller vouches for the pointer.
    let count = unsafe { (*list).AlternativeLists };
    let mut next = list.wrapping_byte_add(LISTS).cast::<u8>();
    let mut configurations = Vec::new();
    for _ in 0..count {
        // SAFETY: there are as many lists as it says, one after the other.
        let [_, descriptors] = unsafe { next.cast::<[u32; 2]>().read() };
        let first = next.wrapping_add(REQUIRED).cast::<IO_RESOURCE_DESCRIPTOR>();
        // SAFETY: the list has as many descriptors as it says.
        configurations.push(unsafe { read_configuration(first, descriptors as usize) });
        next = first.wrapping_add(descriptors as usize).cast();
    }
    configurations
}

/// What an alternative list asks for.
///
/// # Safety
/// There are `count` descriptors from `first` on.
unsafe fn read_configuration(first: *const IO_RESOURCE_DESCRIPTOR, count: usize) -> Configuration {
    let mut configuration = Configuration::new();
    for index in 0..count {
        // SAFETY: the caller vouches for the descriptors.
        let descriptor = unsafe { first.wrapping_add(index).read() };
        let Some(requirement) = Requirement::from_descriptor(&descriptor) else {
            continue;
        };
        match configuration.last_mut() {
            Some(last) if u32::from(descriptor.Option) & IO_RESOURCE_ALTERNATIVE != 0 => {
                last.push(requirement)
            }
            _ => configuration.push(vec![requirement]),
        }
    }
    configuration
}

/// The descriptors of a CM_RESOURCE_LIST.
///
/// # Safety
/// `list` is NULL or points to a resource list.
unsafe fn descriptors(list: PCM_RESOURCE_LIST) -> Vec<CM_PARTIAL_RESOURCE_DESCRIPTOR> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: the caller vouches for the list.
    let count = unsafe { (*list).List[0].PartialResourceList.Count } as usize;
    let first = list
        .wrapping_byte_add(ASSIGNED)
        .cast::<CM_PARTIAL_RESOURCE_DESCRIPTOR>();
    // SAFETY: the list has as many descriptors as it says.
    (0..count)
        .map(|index| unsafe { first.wrapping_add(index).read_unaligned() })
        .collect()
}

/// The memory ranges of a CM_RESOURCE_LIST, start and length: what a bus driver programs into BARs.
///
/// # Safety
/// `list` is NULL or points to a resource list.
pub unsafe fn read_memory(list: PCM_RESOURCE_LIST) -> Vec<(u64, u32)> {
    // SAFETY: the caller vouches for the list.
    let descriptors = unsafe { descriptors(list) };
    let is_memory = |descriptor: &CM_PARTIAL_RESOURCE_DESCRIPTOR| {
        u32::from(descriptor.Type) == CmResourceTypeMemory
    };
    descriptors
        .into_iter()
        .filter(is_memory)
        .map(|descriptor| {
            // SAFETY: the type names this member.
            let memory = unsafe { descriptor.u.Memory };
            (quad_part(memory.Start) as u64, memory.Length)
        })
        .collect()
}

/// The vectors of the messages in a pair of CM_RESOURCE_LISTs: a raw descriptor says of how many.
///
/// # Safety
/// `raw` and `translated` are both NULL or the two lists of one start request.
pub unsafe fn read_messages(raw: PCM_RESOURCE_LIST, translated: PCM_RESOURCE_LIST) -> Vec<u8> {
    // SAFETY: the caller vouches for the list.
    let raw = unsafe { descriptors(raw) };
    // SAFETY: as above.
    let translated = unsafe { descriptors(translated) };
    let is_message = |(descriptor, _): &(CM_PARTIAL_RESOURCE_DESCRIPTOR, _)| {
        u32::from(descriptor.Type) == CmResourceTypeInterrupt
            && u32::from(descriptor.Flags) & CM_RESOURCE_INTERRUPT_MESSAGE != 0
    };
    let vectors = |(raw, translated): (
        CM_PARTIAL_RESOURCE_DESCRIPTOR,
        CM_PARTIAL_RESOURCE_DESCRIPTOR,
    )| {
        // SAFETY: the raw half of a message interrupt.
        let message = unsafe { raw.u.MessageInterrupt };
        // SAFETY: as above.
        let count = unsafe { message.__bindgen_anon_1.Raw.MessageCount };
        // SAFETY: the type names this member.
        let first = unsafe { translated.u.Interrupt.Vector };
        (0..u32::from(count)).map(move |number| (first + number) as u8)
    };
    raw.into_iter()
        .zip(translated)
        .filter(is_message)
        .flat_map(vectors)
        .collect()
}
