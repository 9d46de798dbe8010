//! The hardware resources that a device is given when it starts.

use core::marker::PhantomData;

use wdk_sys::{
    CM_PARTIAL_RESOURCE_DESCRIPTOR, CmResourceTypeDma as DMA, CmResourceTypeInterrupt as INTERRUPT,
    CmResourceTypeMemory as MEMORY, WDFCMRESLIST,
};

use crate::ddi;

/// A list of translated resources, for the duration of a callback.
#[derive(Debug, Clone, Copy)]
pub struct ResourceList<'a> {
    raw: WDFCMRESLIST,
    callback: PhantomData<&'a ()>,
}

/// One resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resource {
    /// A window of memory, in the order of the base address registers.
    Memory(MemoryResource),
    /// An interrupt. Interrupt objects made before the device starts get theirs from the framework.
    Interrupt,
    /// A connection to a system DMA controller.
    Dma(DmaResource),
    /// Of a kind this crate does not tell apart; the number is the descriptor's type.
    Other(u8),
}

/// A window of physical memory that is a device's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryResource {
    pub(crate) start: i64,
    pub(crate) length: usize,
}

/// A connection to a channel of a system DMA controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DmaResource {
    pub(crate) channel: u32,
    pub(crate) request_line: u32,
    pub(crate) width: u8,
}

impl DmaResource {
    /// Bytes of one access to the device, unless the width is none that there is.
    #[must_use]
    pub const fn width(self) -> Option<u32> {
        match self.width {
            0..=5 => Some(1 << self.width),
            _ => None,
        }
    }

    /// The descriptor that it came from.
    pub(crate) fn descriptor(self) -> CM_PARTIAL_RESOURCE_DESCRIPTOR {
        let mut descriptor = CM_PARTIAL_RESOURCE_DESCRIPTOR {
            Type: DMA as u8,
            ..CM_PARTIAL_RESOURCE_DESCRIPTOR::default()
        };
        let dma = wdk_sys::_CM_PARTIAL_RESOURCE_DESCRIPTOR__bindgen_ty_1__bindgen_ty_7 {
            Channel: self.channel,
            RequestLine: self.request_line,
            TransferWidth: self.width,
            ..Default::default()
        };
        descriptor.u.DmaV3 = dma;
        descriptor
    }
}

impl MemoryResource {
    /// Bytes of the window.
    #[must_use]
    pub const fn length(self) -> usize {
        self.length
    }

    /// The window from `start` bytes on; `None` if it is not that long.
    #[must_use]
    pub fn from(self, start: usize) -> Option<Self> {
        Some(Self {
            length: self.length.checked_sub(start)?,
            start: self.start.checked_add(i64::try_from(start).ok()?)?,
        })
    }
}

impl<'a> ResourceList<'a> {
    /// # Safety
    ///
    /// `raw` is a valid list during `'a`.
    pub(crate) const unsafe fn from_raw(raw: WDFCMRESLIST) -> Self {
        Self {
            raw,
            callback: PhantomData,
        }
    }

    /// The resources, in their order. PASSIVE_LEVEL.
    pub fn iter(self) -> impl Iterator<Item = Resource> + use<'a> {
        // SAFETY: the list is valid.
        let count = unsafe { ddi::WdfCmResourceListGetCount(self.raw) };
        (0..count).filter_map(move |index| {
            // SAFETY: the list is valid; for an index it does not have the result is null.
            let descriptor = unsafe { ddi::WdfCmResourceListGetDescriptor(self.raw, index) };
            // SAFETY: null, or a descriptor that lives as long as the list and is not changed by anybody meanwhile.
            unsafe { descriptor.as_ref() }.map(Resource::new)
        })
    }

    /// The windows of memory, in the order of the base address registers. PASSIVE_LEVEL.
    pub fn memory(self) -> impl Iterator<Item = MemoryResource> + use<'a> {
        self.iter().filter_map(|resource| match resource {
            Resource::Memory(memory) => Some(memory),
            _ => None,
        })
    }

    /// The connections to system DMA controllers, in the order in which firmware lists them. PASSIVE_LEVEL.
    pub fn dma(self) -> impl Iterator<Item = DmaResource> + use<'a> {
        self.iter().filter_map(|resource| match resource {
            Resource::Dma(dma) => Some(dma),
            _ => None,
        })
    }
}

impl Resource {
    fn new(descriptor: &CM_PARTIAL_RESOURCE_DESCRIPTOR) -> Self {
        match u32::from(descriptor.Type) {
            MEMORY => {
                // SAFETY: the type says that this is the member in use.
                let memory = unsafe { descriptor.u.Memory };
                let start = memory.Start;
                // SAFETY: every member of the union is the same 64 bits.
                let start = unsafe { start.QuadPart };
                Self::Memory(MemoryResource {
                    start,
                    length: memory.Length as usize,
                })
            }
            INTERRUPT => Self::Interrupt,
            DMA => {
                // SAFETY: the type says that this is the member in use.
                let dma = unsafe { descriptor.u.DmaV3 };
                Self::Dma(DmaResource {
                    channel: dma.Channel,
                    request_line: dma.RequestLine,
                    width: dma.TransferWidth,
                })
            }
            _ => Self::Other(descriptor.Type),
        }
    }
}
