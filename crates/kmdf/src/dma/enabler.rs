//! DMA enablers.

use wdk_sys::{
    _WDF_DMA_PROFILE, NTSTATUS, PAGE_SIZE, WDF_DMA_ENABLER_CONFIG, WDF_DMA_PROFILE, WDFDMAENABLER,
};

use super::Direction;
use super::transaction::{Errand, Idle, Transaction};
use crate::context::{self, Home};
use crate::device::{Device, DeviceEvents};
use crate::versioned::size;
use crate::{NtStatus, Result, ddi};

/// What a device does about DMA when its power comes and goes. All at PASSIVE_LEVEL, and not to be paged out.
///
/// The framework calls the first three in this order after `EvtDeviceD0Entry`, the last three in this order before
/// `EvtDeviceD0Exit`; interrupts are connected during all of them. When one of the first three fails, those of the last
/// three that it knows to be needless are left out, but not all: each has to do when its other half never ran.
pub trait PowerEvents: DeviceEvents {
    /// `EvtDmaEnablerFill`: makes ready what transfers need.
    ///
    /// # Errors
    ///
    /// Any, here and below; the device has then failed.
    fn fill(&self) -> Result<()>;

    /// `EvtDmaEnablerEnable`: lets the device do DMA.
    ///
    /// # Errors
    ///
    /// As above.
    fn enable(&self) -> Result<()>;

    /// `EvtDmaEnablerSelfManagedIoStart`: starts what the driver does about transfers by itself.
    ///
    /// # Errors
    ///
    /// As above.
    fn start_self_managed(&self) -> Result<()>;

    /// `EvtDmaEnablerSelfManagedIoStop`: the queues have stopped; ends what
    /// [`start_self_managed`](Self::start_self_managed) started.
    ///
    /// # Errors
    ///
    /// As above.
    fn stop_self_managed(&self) -> Result<()>;

    /// `EvtDmaEnablerDisable`: no DMA takes place from now on.
    ///
    /// # Errors
    ///
    /// As above.
    fn disable(&self) -> Result<()>;

    /// `EvtDmaEnablerFlush`: clears away what transfers left behind.
    ///
    /// # Errors
    ///
    /// As above.
    fn flush(&self) -> Result<()>;
}

/// What kind of DMA a device does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Profile {
    /// One contiguous piece at a time, at addresses of at most 32 bits.
    Packet,
    /// Any number of pieces at a time, at addresses of 64 bits, in both directions at the same time.
    ScatterGather64Duplex,
}

impl Profile {
    const fn raw(self) -> WDF_DMA_PROFILE {
        match self {
            Self::Packet => _WDF_DMA_PROFILE::WdfDmaProfilePacket,
            Self::ScatterGather64Duplex => _WDF_DMA_PROFILE::WdfDmaProfileScatterGather64Duplex,
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
    maximum_elements: u32,
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
            maximum_elements: 0,
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
            Profile::ScatterGather64Duplex => assert!(bits >= 24 && bits < 64, "24 to 63 bits"),
        }
        self.address_bits = bits;
        self
    }

    /// The device takes at most so many pieces for one transfer. The framework does not split a transfer that has more,
    /// but refuses it; so this is what the longest transfer can have, pages spanned plus 1.
    ///
    /// # Panics
    ///
    /// When the longest transfer could have more; in a constant that is a compile error.
    #[must_use]
    pub const fn with_elements(mut self, maximum: u32) -> Self {
        assert!(
            self.maximum_length.div_ceil(PAGE_SIZE as usize) < maximum as usize,
            "a transfer of the maximum length has one piece more than pages"
        );
        self.maximum_elements = maximum;
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
            (0, Profile::ScatterGather64Duplex) => 64,
            (bits, _) => bits,
        }
    }

    /// The DMA adapter interface asked for.
    pub const VERSION: u32 = 3;

    fn raw<T: PowerEvents>(&self) -> WDF_DMA_ENABLER_CONFIG {
        WDF_DMA_ENABLER_CONFIG {
            AddressWidthOverride: self.address_bits,
            ..config::<T>(self.profile.raw(), self.maximum_length)
        }
    }
}

/// As `WDF_DMA_ENABLER_CONFIG_INIT` sets it, the adapter's version, and the power callbacks of a `T`.
pub(super) fn config<T: PowerEvents>(
    profile: WDF_DMA_PROFILE,
    maximum_length: usize,
) -> WDF_DMA_ENABLER_CONFIG {
    WDF_DMA_ENABLER_CONFIG {
        Size: size::<WDF_DMA_ENABLER_CONFIG>(),
        EvtDmaEnablerFill: Some(fill::<T>),
        EvtDmaEnablerEnable: Some(enable::<T>),
        EvtDmaEnablerSelfManagedIoStart: Some(start_self_managed::<T>),
        EvtDmaEnablerSelfManagedIoStop: Some(stop_self_managed::<T>),
        EvtDmaEnablerDisable: Some(disable::<T>),
        EvtDmaEnablerFlush: Some(flush::<T>),
        Profile: profile,
        MaximumLength: maximum_length,
        WdmDmaVersionOverride: EnablerConfig::VERSION,
        ..WDF_DMA_ENABLER_CONFIG::default()
    }
}

/// An enabler. The framework deletes it with its device.
#[derive(Debug)]
pub struct Enabler {
    raw: WDFDMAENABLER,
    home: Home,
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
    pub fn create<T: PowerEvents>(device: &Device<T>, config: &EnablerConfig) -> Result<Self> {
        let enabler = Self::create_raw(device, config.raw::<T>())?;
        if config.maximum_elements > 0 {
            // SAFETY: the enabler is valid, and has no transactions yet.
            unsafe {
                ddi::WdfDmaEnablerSetMaximumScatterGatherElements(
                    enabler.raw,
                    config.maximum_elements as usize,
                );
            }
        }
        Ok(enabler)
    }

    /// Makes an enabler as `config` says.
    pub(super) fn create_raw<T: PowerEvents>(
        device: &Device<T>,
        mut config: WDF_DMA_ENABLER_CONFIG,
    ) -> Result<Self> {
        // SAFETY: the device is valid.
        let home = unsafe { Home::of::<T>(device.raw().cast()) }?;
        let mut attributes = context::attributes::<Home>();
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
        // SAFETY: the enabler has just been made, with room for this.
        unsafe { context::set(enabler.cast(), home) }?;
        Ok(Self { raw: enabler, home })
    }

    pub(super) const fn raw(&self) -> WDFDMAENABLER {
        self.raw
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
        let mut attributes = context::attributes::<Errand>();
        let mut transaction = core::ptr::null_mut();
        // SAFETY: the enabler is valid, and the others live across the call.
        let status = unsafe {
            ddi::WdfDmaTransactionCreate(self.raw, &raw mut attributes, &raw mut transaction)
        };
        NtStatus::from_code(status).ok()?;
        // SAFETY: the transaction has just been made, with room for this.
        unsafe { context::set(transaction.cast(), Errand::new(transaction, self.home)) }?;
        // SAFETY: as above. It lives as long as the transaction.
        let errand = unsafe { context::get(transaction.cast()) };
        let errand = errand.ok_or(NtStatus::INTERNAL_ERROR)?;
        // SAFETY: just created, and known to nobody else.
        Ok(unsafe { Transaction::of(errand) })
    }
}

/// Runs one of the power callbacks.
///
/// # Safety
///
/// `enabler` is valid for the duration of the call.
unsafe fn with_device<T: PowerEvents>(
    enabler: WDFDMAENABLER,
    callback: impl FnOnce(&T) -> Result<()>,
) -> NTSTATUS {
    // SAFETY: as the caller vouches for, and the device outlives its enabler.
    let outcome = unsafe { context::of_device::<T>(enabler.cast()) }
        .ok_or(NtStatus::INVALID_DEVICE_STATE)
        .and_then(callback);
    NtStatus::from(outcome).code()
}

/// The framework's callbacks, each for a method of [`PowerEvents`].
macro_rules! callbacks {
    ($($name:ident)*) => {$(
        unsafe extern "C" fn $name<T: PowerEvents>(enabler: WDFDMAENABLER) -> NTSTATUS {
            // SAFETY: the enabler is valid during its callback.
            unsafe { with_device(enabler, T::$name) }
        }
    )*};
}

callbacks! { fill enable start_self_managed stop_self_managed disable flush }
