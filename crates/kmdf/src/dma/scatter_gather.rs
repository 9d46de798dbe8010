//! Where the device finds the memory of a transfer.

use core::marker::PhantomData;

use wdk_sys::{PSCATTER_GATHER_LIST, SCATTER_GATHER_ELEMENT};

/// An address on the device's bus: what a device may be given, and the only thing it may be given.
///
/// It is neither a physical nor a virtual address. That of a transfer's memory is valid only until the transfer has been
/// completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BusAddress(u64);

impl BusAddress {
    pub(super) const fn new(bits: u64) -> Self {
        Self(bits)
    }

    /// The address, for the device's registers: all 64 bits of it.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }
}

/// One contiguous piece of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element {
    /// Where it begins.
    pub address: BusAddress,
    /// Its number of bytes.
    pub length: u32,
}

/// The pieces of a transfer, for the duration of [`DmaEvents::program`](super::DmaEvents::program).
#[derive(Debug)]
pub struct ScatterGather<'a> {
    raw: PSCATTER_GATHER_LIST,
    callback: PhantomData<&'a ()>,
}

impl ScatterGather<'_> {
    /// # Safety
    ///
    /// `raw` is a valid list that nobody changes during the lifetime.
    pub(crate) const unsafe fn from_raw(raw: PSCATTER_GATHER_LIST) -> Self {
        Self {
            raw,
            callback: PhantomData,
        }
    }

    /// The only piece; `None` if there are none or several, which a packet profile never has.
    #[must_use]
    pub fn single(&self) -> Option<Element> {
        if self.count() == 1 {
            self.iter().next()
        } else {
            None
        }
    }

    /// The number of pieces.
    #[must_use]
    pub fn count(&self) -> u32 {
        // SAFETY: the list is valid.
        let count = unsafe { &raw const (*self.raw).NumberOfElements };
        // SAFETY: as above.
        unsafe { count.read() }
    }

    /// The pieces, in their order.
    pub fn iter(&self) -> impl Iterator<Item = Element> {
        // SAFETY: the elements follow the header of the valid list.
        let elements = unsafe { &raw const (*self.raw).Elements };
        let elements = elements.cast::<SCATTER_GATHER_ELEMENT>();
        (0..self.count() as usize).map(move |index| {
            // SAFETY: there are more than this many.
            let element = unsafe { elements.add(index) };
            let SCATTER_GATHER_ELEMENT {
                Address: address,
                Length: length,
                ..
                // SAFETY: as above.
            } = unsafe { element.read() };
            // SAFETY: every member of the union is the same 64 bits.
            let address = unsafe { address.QuadPart };
            Element {
                address: BusAddress(address.cast_unsigned()),
                length,
            }
        })
    }
}
