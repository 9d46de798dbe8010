//! DMA enablers.

use wdk_sys::{_WDF_DMA_PROFILE, WDF_DMA_ENABLER_CONFIG, WDF_DMA_PROFILE, WDFDMAENABLER};

use super::Direction;
use super::transaction::{Idle, Transaction};
use crate::context;
use crate::device::{Device, DeviceEvents};
use crate::versioned::size;
use crate::{NtStatus, Result, ddi};

/// What kind of DMA a device does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Profile {
    /// One contiguous piece at a time, at addresses of at most 32 bits.
    Packet,
}

impl Profile {
    const fn raw(self) -> WDF_DMA_PROFILE {
        match self {
            Self::Packet => _WDF_DMA_PROFILE::WdfDmaProfilePacket,
        }
    }
}

/// What a device can do, told to the framework before the first transfer.
///
/// DMA version 3 is asked for always: on x64 the framework would otherwise use version 2, in which cancelling does
/// nothing, chained buffers are refused and a second packet transaction fails.
#[derive(Debug, Clone, Copy)]
pub struct EnablerConfig {
    profile: Profile,
    maximum_length: usize,
    address_bits: u32,
}

impl EnablerConfig {
    /// A device of the profile that moves at most `maximum_length` bytes in one transfer; the framework splits what
    /// is longer.
    ///
    /// # Panics
    ///
    /// When the length is 0, or so large that the framework's arithmetic on it could wrap; in a constant that is a
    /// compile error.
    #[must_use]
    pub const fn new(profile: Profile, maximum_length: usize) -> Self {
        assert!(
            maximum_length > 0 && maximum_length < 1 << 31,
            "the framework adds to the length in 32 bits"
        );
        Self {
            profile,
            maximum_length,
            address_bits: 0,
        }
    }

    /// The device drives addresses of only `bits` bits.
    ///
    /// # Panics
    ///
    /// When the framework does not accept the width: outside 24 to 63, or more than 32 for a profile of 32 bits; in a
    /// constant that is a compile error.
    #[must_use]
    pub const fn with_address_bits(mut self, bits: u32) -> Self {
        match self.profile {
            Profile::Packet => assert!(bits >= 24 && bits <= 32, "24 to 32 bits"),
        }
        self.address_bits = bits;
        self
    }

    /// Bytes that one transfer has at most, if the system grants that much.
    #[must_use]
    pub const fn maximum_length(&self) -> usize {
        self.maximum_length
    }

    /// Width of the device's addresses in bits.
    #[must_use]
    pub const fn address_bits(&self) -> u32 {
        match (self.address_bits, self.profile) {
            (0, Profile::Packet) => 32,
            (bits, _) => bits,
        }
    }

    /// The DMA adapter interface asked for.
    pub const VERSION: u32 = 3;

    /// As `WDF_DMA_ENABLER_CONFIG_INIT` sets it, and the overrides.
    fn raw(&self) -> WDF_DMA_ENABLER_CONFIG {
        WDF_DMA_ENABLER_CONFIG {
            Size: size::<WDF_DMA_ENABLER_CONFIG>(),
            Profile: self.profile.raw(),
            MaximumLength: self.maximum_length,
            AddressWidthOverride: self.address_bits,
            WdmDmaVersionOverride: Self::VERSION,
            ..WDF_DMA_ENABLER_CONFIG::default()
        }
    }
}

/// An enabler. The framework deletes it with its device.
#[derive(Debug)]
pub struct Enabler {
    raw: WDFDMAENABLER,
}

// SAFETY: the handle belongs to no thread.
unsafe impl Send for Enabler {}

// SAFETY: the functions called through a shared handle may be called by several threads at once.
unsafe impl Sync for Enabler {}

impl Enabler {
    /// Makes the enabler, after the device's alignment requirement has been set. PASSIVE_LEVEL.
    ///
    /// # Errors
    ///
    /// What `WdfDmaEnablerCreate` returns; `STATUS_UNSUCCESSFUL` when the system has no adapter for the device.
    pub fn create<T: DeviceEvents>(device: &Device<T>, config: &EnablerConfig) -> Result<Self> {
        let mut config = config.raw();
        let mut attributes = context::plain_attributes();
        let mut enabler = core::ptr::null_mut();
        // SAFETY: the device is valid, and the others live across the call.
        let status = unsafe {
            ddi::WdfDmaEnablerCreate(
                device.raw(),
                &raw mut config,
                &raw mut attributes,
                &raw mut enabler,
            )
        };
        NtStatus::from_code(status).ok()?;
        Ok(Self { raw: enabler })
    }

    /// Bytes that one transfer in this direction has at most: the maximum asked for, or less if the system grants fewer
    /// map registers. IRQL <= DISPATCH_LEVEL.
    #[must_use]
    pub fn fragment_length(&self, direction: Direction) -> usize {
        // SAFETY: the enabler is valid.
        unsafe { ddi::WdfDmaEnablerGetFragmentLength(self.raw, direction.raw()) }
    }

    /// Makes a transaction. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Errors
    ///
    /// What `WdfDmaTransactionCreate` returns.
    pub fn create_transaction(&self) -> Result<Transaction<Idle>> {
        let mut attributes = context::plain_attributes();
        let mut transaction = core::ptr::null_mut();
        // SAFETY: the enabler is valid, and the others live across the call.
        let status = unsafe {
            ddi::WdfDmaTransactionCreate(self.raw, &raw mut attributes, &raw mut transaction)
        };
        NtStatus::from_code(status).ok()?;
        // SAFETY: just created, and known to nobody else.
        Ok(unsafe { Transaction::from_raw(transaction) })
    }
}
