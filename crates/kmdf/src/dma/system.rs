//! System mode: devices without a DMA engine of their own, whose data a system DMA controller moves.
//!
//! [`SystemEnabler`] exists configured only, so no transaction can be made too early: the framework decides when it makes
//! one whether there is room for what the controller needs (`fxdmatransactionbase.cpp`), by the read direction. It is made
//! in `EvtDevicePrepareHardware` and deleted when it is dropped, in `EvtDeviceReleaseHardware`: the framework gives
//! adapters back only with their enabler, and configures a direction only once.
//!
//! A [`SystemChannel`] is a [`Channel`] whose transfers can be stopped. The framework forgets neither callback when a
//! transaction is released, and does not promise to keep them: they are set for each use, and so is the device's address
//! offset, which every Initialize sets to zero.

use core::ops::Deref;

use wdk_sys::{
    _WDF_DMA_PROFILE, BOOLEAN, DMA_COMPLETION_STATUS, PDMA_ADAPTER, PHYSICAL_ADDRESS, PMDL, PVOID,
    WDF_DMA_DIRECTION, WDF_DMA_SYSTEM_PROFILE_CONFIG, WDFCONTEXT, WDFDEVICE, WDFDMATRANSACTION,
};

use super::enabler::{self, Enabler, PowerEvents};
use super::transaction::{DmaEvents, Executing, Transaction};
use super::{Channel, Concluded, Direction};
use crate::device::{self, Device};
use crate::request::CancelEvents;
use crate::resources::{DmaResource, MemoryResource};
use crate::versioned::size;
use crate::{NtStatus, Request, Result, ddi};

/// What a device does about the controller that moves its data. DISPATCH_LEVEL.
pub trait SystemDmaEvents: DmaEvents + CancelEvents {
    /// `EvtDmaTransactionConfigureDmaChannel`: a channel has been allocated for a transfer that is about to be mapped.
    fn configure(&self, channel: &ChannelAdapter);

    /// `EvtDmaTransactionDmaTransferComplete`: what the controller says of a transfer, or the framework of one that it
    /// could not map: [`SystemChannel::unmapped`] tells which.
    fn transferred(&self, direction: Direction, end: TransferEnd);
}

/// How a transfer has ended, for the controller. In every case it has let go of the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferEnd {
    /// All of it was moved.
    Complete,
    /// An error, or the transfer could not be mapped.
    Error,
    /// It was [stopped](SystemChannel::stop_transfer).
    Cancelled,
}

impl TransferEnd {
    pub(super) const fn from_raw(status: DMA_COMPLETION_STATUS::Type) -> Self {
        match status {
            DMA_COMPLETION_STATUS::DmaComplete => Self::Complete,
            DMA_COMPLETION_STATUS::DmaCancelled => Self::Cancelled,
            // An aborted one, and what there may be in future.
            _ => Self::Error,
        }
    }
}

/// How the controller reaches a device for one direction.
#[derive(Debug, Clone, Copy)]
pub struct Connection {
    resource: DmaResource,
    looped: bool,
}

impl Connection {
    /// By way of a resource, in demand mode: the device's request line paces the transfer.
    #[must_use]
    pub const fn new(resource: DmaResource) -> Self {
        Self {
            resource,
            looped: false,
        }
    }

    /// Transfers begin anew at their end, until they are stopped.
    #[must_use]
    pub const fn looped(mut self) -> Self {
        self.looped = true;
        self
    }
}

/// The connections of a device.
#[derive(Debug, Clone, Copy)]
pub enum Connections {
    /// One, for both directions: one transfer at a time.
    Simplex(Connection),
    /// One for each direction: both at the same time.
    Duplex {
        /// From the device to memory.
        read: Connection,
        /// From memory to the device.
        write: Connection,
    },
}

impl Connections {
    /// The same with looped transfers.
    #[must_use]
    pub const fn looped(self) -> Self {
        match self {
            Self::Simplex(both) => Self::Simplex(both.looped()),
            Self::Duplex { read, write } => Self::Duplex {
                read: read.looped(),
                write: write.looped(),
            },
        }
    }
}

/// An enabler of a system profile with its directions configured. It is deleted, with its transactions, when this is
/// dropped: at PASSIVE_LEVEL, when no transfer is left.
#[derive(Debug)]
pub struct SystemEnabler {
    enabler: Enabler,
}

impl SystemEnabler {
    /// Makes the enabler of a device whose registers lie in `registers`, for transfers of at most `maximum_length`
    /// bytes. PASSIVE_LEVEL, in `EvtDevicePrepareHardware`.
    ///
    /// # Errors
    ///
    /// What `WdfDmaEnablerCreate` and `WdfDmaEnablerConfigureSystemProfile` return; `STATUS_UNSUCCESSFUL` on a system
    /// without a controller.
    pub fn create<T: PowerEvents>(
        device: &Device<T>,
        maximum_length: usize,
        registers: MemoryResource,
        connections: Connections,
    ) -> Result<Self> {
        let profile = match connections {
            Connections::Simplex(_) => _WDF_DMA_PROFILE::WdfDmaProfileSystem,
            Connections::Duplex { .. } => _WDF_DMA_PROFILE::WdfDmaProfileSystemDuplex,
        };
        let config = enabler::config::<T>(profile, maximum_length);
        // Deleted if one of the directions fails.
        let enabler = Self {
            enabler: Enabler::create_raw(device, config)?,
        };
        match connections {
            Connections::Simplex(both) => {
                enabler.configure(Direction::FromDevice, registers, both)?;
            }
            Connections::Duplex { read, write } => {
                enabler.configure(Direction::FromDevice, registers, read)?;
                enabler.configure(Direction::ToDevice, registers, write)?;
            }
        }
        Ok(enabler)
    }

    fn configure(
        &self,
        direction: Direction,
        registers: MemoryResource,
        connection: Connection,
    ) -> Result<()> {
        let mut descriptor = connection.resource.descriptor();
        let mut config = WDF_DMA_SYSTEM_PROFILE_CONFIG {
            Size: size::<WDF_DMA_SYSTEM_PROFILE_CONFIG>(),
            DemandMode: 1,
            LoopedTransfer: connection.looped.into(),
            DmaWidth: connection.resource.width.into(),
            DeviceAddress: PHYSICAL_ADDRESS {
                QuadPart: registers.start,
            },
            DmaDescriptor: &raw mut descriptor,
        };
        // SAFETY: the enabler is valid, and the structures live across the call, which keeps none.
        let status = unsafe {
            ddi::WdfDmaEnablerConfigureSystemProfile(
                self.enabler.raw(),
                &raw mut config,
                direction.raw(),
            )
        };
        NtStatus::from_code(status).ok()
    }

    /// Makes a channel, with a transaction of its own. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Errors
    ///
    /// What `WdfDmaTransactionCreate` returns.
    pub fn create_channel<R>(&self) -> Result<SystemChannel<R>> {
        Ok(SystemChannel {
            channel: Channel::new(self.enabler.create_transaction()?),
        })
    }

    fn adapter(&self, direction: Direction) -> PDMA_ADAPTER {
        // SAFETY: the enabler is valid; the adapter is its own, and lives as long.
        unsafe { ddi::WdfDmaEnablerWdmGetDmaAdapter(self.enabler.raw(), direction.raw()) }
    }
}

impl Deref for SystemEnabler {
    type Target = Enabler;

    fn deref(&self) -> &Enabler {
        &self.enabler
    }
}

impl Drop for SystemEnabler {
    fn drop(&mut self) {
        // SAFETY: the enabler is valid, and this is the only owner.
        unsafe { ddi::WdfObjectDelete(self.enabler.raw().cast()) };
    }
}

/// One request at a time, whose data a controller moves.
#[derive(Debug)]
pub struct SystemChannel<R> {
    channel: Channel<R>,
}

impl<R> Deref for SystemChannel<R> {
    type Target = Channel<R>;

    fn deref(&self) -> &Channel<R> {
        &self.channel
    }
}

impl<R> SystemChannel<R> {
    /// As [`Channel::begin`], with the device's data register `offset` bytes into its registers. `enabler` is the one
    /// that has made this channel.
    pub fn begin_at<T: SystemDmaEvents>(
        &self,
        enabler: &SystemEnabler,
        request: Request,
        offset: u32,
    ) -> Option<Concluded> {
        let adapter = enabler.adapter(request.wanted().direction);
        self.channel.begin_prepared::<T>(request, 0, |transaction| {
            let raw = transaction.raw();
            // SAFETY: the transaction is valid and this its owner; it is initialised and of a system profile.
            unsafe { ddi::WdfDmaTransactionSetDeviceAddressOffset(raw, offset) };
            // SAFETY: as above. The adapter outlives the transaction.
            unsafe {
                ddi::WdfDmaTransactionSetChannelConfigurationCallback(
                    raw,
                    Some(configure::<T>),
                    adapter.cast(),
                );
            }
            // SAFETY: as above.
            unsafe {
                ddi::WdfDmaTransactionSetTransferCompleteCallback(
                    raw,
                    Some(transferred::<T>),
                    core::ptr::null_mut(),
                );
            }
        })
    }

    /// To be called first of all in [`DmaEvents::program`]. The controller has the transfer already, so whoever wants the
    /// request to end, it is to be [put](Channel::put_running) into the channel, and stopped when it has been taken out
    /// again. `None` if it is not the channel's, a defect. DISPATCH_LEVEL.
    pub fn arrive(&self, transfer: Transaction<Executing>) -> Option<Transaction<Executing>> {
        self.channel.arrive_mapped(transfer)
    }

    /// Whether somebody wanted the request to end, or back, perhaps while [`begin_at`](Self::begin_at) or
    /// [`complete`](Channel::complete) was under way. The transfer cannot be [taken out](Channel::take_running) while the
    /// channel tries to take it back: so who has called either has to look for it then. Any IRQL.
    pub fn is_wanted_back(&self) -> bool {
        self.channel.is_wanted_back()
    }

    /// `WdfDmaTransactionStopSystemTransfer`: has the controller stop, and then say so by
    /// [`SystemDmaEvents::transferred`], at once or later, unless it has ended the transfer before. At most once a
    /// transfer. IRQL <= DISPATCH_LEVEL.
    pub fn stop_transfer(&self, transfer: &Transaction<Executing>) {
        // SAFETY: the transaction is in a transfer, and its owner does not report the end meanwhile.
        unsafe { ddi::WdfDmaTransactionStopSystemTransfer(transfer.raw()) };
    }

    /// To be called in [`SystemDmaEvents::transferred`] when the end is not [complete](TransferEnd::Complete): if it is
    /// about a transfer that could not be mapped, the request ends with `status`. `None` if it is about one that was.
    pub fn unmapped(&self, status: NtStatus) -> Option<Option<Concluded>> {
        self.channel.unmapped(status)
    }
}

/// The channel of a controller that is about to move a transfer.
#[derive(Debug)]
pub struct ChannelAdapter {
    raw: PDMA_ADAPTER,
}

impl ChannelAdapter {
    /// The adapter that a callback was registered with.
    pub(super) const fn new(raw: PDMA_ADAPTER) -> Self {
        Self { raw }
    }

    /// `ConfigureAdapterChannel`: a function of the controller that the system knows nothing about, with its argument.
    /// DISPATCH_LEVEL.
    ///
    /// # Errors
    ///
    /// `STATUS_NOT_IMPLEMENTED` if the controller does not have it.
    pub fn configure(&self, function: u32, mut argument: u32) -> Result<()> {
        // SAFETY: the adapter is valid during the callback.
        let adapter = unsafe { self.raw.as_ref() }.ok_or(NtStatus::INTERNAL_ERROR)?;
        // SAFETY: an adapter's operations live as long as it does.
        let operations = unsafe { adapter.DmaOperations.as_ref() };
        let configure = operations
            .and_then(|operations| operations.ConfigureAdapterChannel)
            .ok_or(NtStatus::NOT_SUPPORTED)?;
        // SAFETY: the channel is allocated, and the argument lives across the call.
        let status = unsafe { configure(self.raw, function, (&raw mut argument).cast()) };
        NtStatus::from_code(status).ok()
    }
}

unsafe extern "C" fn configure<T: SystemDmaEvents>(
    _transaction: WDFDMATRANSACTION,
    device: WDFDEVICE,
    adapter: PVOID,
    _mdl: PMDL,
    _offset: usize,
    _length: usize,
) -> BOOLEAN {
    // SAFETY: the device is valid during its callback.
    if let Some(context) = unsafe { device::context::<T>(device) } {
        context.configure(&ChannelAdapter::new(adapter.cast()));
    }
    1
}

unsafe extern "C" fn transferred<T: SystemDmaEvents>(
    _transaction: WDFDMATRANSACTION,
    device: WDFDEVICE,
    _context: WDFCONTEXT,
    direction: WDF_DMA_DIRECTION,
    status: DMA_COMPLETION_STATUS::Type,
) {
    // SAFETY: the device is valid during its callback.
    if let Some(context) = unsafe { device::context::<T>(device) } {
        context.transferred(
            Direction::from_raw(direction),
            TransferEnd::from_raw(status),
        );
    }
}
