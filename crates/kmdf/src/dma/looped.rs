//! Looped transfers: a controller moves the same memory over and over, until it is stopped.

use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use wdk_sys::{
    BOOLEAN, DMA_COMPLETION_STATUS, PMDL, PSCATTER_GATHER_LIST, PVOID, WDF_DMA_DIRECTION,
    WDFCONTEXT, WDFDEVICE, WDFDMATRANSACTION,
};

use super::mdl::Mdl;
use super::system::{ChannelAdapter, SystemEnabler, TransferEnd};
use super::{CommonBuffer, Direction};
use crate::device::{self, DeviceEvents};
use crate::{NtStatus, Result, ddi};

/// What a device does about its looped transfers. DISPATCH_LEVEL.
pub trait LoopedEvents: DeviceEvents {
    /// The looped transfer of a direction, if there is one at present: [`LoopedTransfer::heard`] is to be called with
    /// `end`.
    fn looped(&self, direction: Direction, end: TransferEnd);

    /// A channel has been allocated for the looped transfer.
    fn configure_looped(&self, channel: &ChannelAdapter);

    /// The looped transfer of a direction is mapped, and goes on as the device's request line allows.
    fn looped_begins(&self, direction: Direction);
}

/// Of the buffer: what a burst may be.
const ALIGNMENT: u32 = 64;

/// Nothing is going on.
const IDLE: u8 = 0;
/// The framework has the transaction.
const RUNNING: u8 = 1;
/// The controller is being told to stop.
const STOPPING: u8 = 2;
/// It has been told, or has ended of its own accord: who hears of the end ends the transaction.
const STOPPED: u8 = 3;
/// It ended while it was being told; who tells it ends the transaction.
const ENDED: u8 = 4;

/// A transaction and the buffer that it moves again and again.
#[derive(Debug)]
pub struct LoopedTransfer {
    raw: WDFDMATRANSACTION,
    enabler: wdk_sys::WDFDMAENABLER,
    direction: Direction,
    buffer: CommonBuffer<AtomicU32>,
    /// Describes the buffer.
    list: Mdl,
    state: AtomicU8,
}

// SAFETY: the framework lets any thread work on a transaction; the state says who.
unsafe impl Send for LoopedTransfer {}

// SAFETY: as above.
unsafe impl Sync for LoopedTransfer {}

impl LoopedTransfer {
    /// Makes the transaction, with a buffer of `1 << WORDS_LOG2` words: at most a page or a multiple of pages. It is to
    /// be dropped before the enabler, which deletes the transaction and the buffer. PASSIVE_LEVEL.
    ///
    /// # Errors
    ///
    /// What `WdfDmaTransactionCreate` and [`CommonBuffer::create`] return; `STATUS_INSUFFICIENT_RESOURCES`.
    pub fn create<const WORDS_LOG2: u32>(
        enabler: &SystemEnabler,
        direction: Direction,
    ) -> Result<Self> {
        let buffer = CommonBuffer::create::<WORDS_LOG2>(enabler, ALIGNMENT)?;
        // SAFETY: a common buffer is nonpaged. This one lives as long as its enabler, and the list not so long.
        let list = unsafe { Mdl::describe(buffer.start().cast(), buffer.length()) }?;
        Ok(Self {
            raw: enabler.create_transaction()?.raw(),
            enabler: enabler.raw(),
            direction,
            buffer,
            list,
            state: AtomicU8::new(IDLE),
        })
    }

    /// What is moved.
    pub const fn buffer(&self) -> &CommonBuffer<AtomicU32> {
        &self.buffer
    }

    /// Whether nothing is going on, so that the device and the controller do not use the buffer.
    pub fn is_idle(&self) -> bool {
        self.state.load(Ordering::Acquire) == IDLE
    }

    fn change(&self, from: u8, to: u8) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Starts moving the buffer, all zero, from or to the data register at `offset`: as soon as there is a channel.
    /// IRQL <= DISPATCH_LEVEL.
    ///
    /// # Errors
    ///
    /// `STATUS_INVALID_DEVICE_STATE` if it is going on; what the framework returns.
    pub fn start<T: LoopedEvents>(&self, offset: u32) -> Result<()> {
        if !self.change(IDLE, RUNNING) {
            return Err(NtStatus::INVALID_DEVICE_STATE);
        }
        for position in 0..self.buffer.entries() {
            self.buffer.at(position).store(0, Ordering::Relaxed);
        }
        let outcome = self.execute::<T>(offset);
        if outcome.is_err() {
            self.release();
        }
        outcome
    }

    fn execute<T: LoopedEvents>(&self, offset: u32) -> Result<()> {
        // SAFETY: the transaction is released, the list valid until the transfer has ended.
        let status = unsafe {
            ddi::WdfDmaTransactionInitialize(
                self.raw,
                Some(begins::<T>),
                self.direction.raw(),
                self.list.raw(),
                self.buffer.start().as_ptr().cast(),
                self.buffer.length() as usize,
            )
        };
        NtStatus::from_code(status).ok()?;
        // SAFETY: the transaction is initialised, of a system profile, and nobody else's.
        unsafe { ddi::WdfDmaTransactionSetDeviceAddressOffset(self.raw, offset) };
        // SAFETY: the enabler is valid.
        let adapter =
            unsafe { ddi::WdfDmaEnablerWdmGetDmaAdapter(self.enabler, self.direction.raw()) };
        // SAFETY: as for the offset. The adapter outlives the transaction.
        unsafe {
            ddi::WdfDmaTransactionSetChannelConfigurationCallback(
                self.raw,
                Some(configure::<T>),
                adapter.cast(),
            );
        }
        // SAFETY: as for the offset.
        unsafe {
            ddi::WdfDmaTransactionSetTransferCompleteCallback(
                self.raw,
                Some(looped::<T>),
                core::ptr::null_mut(),
            );
        }
        // SAFETY: the transaction is initialised.
        let status = unsafe { ddi::WdfDmaTransactionExecute(self.raw, core::ptr::null_mut()) };
        NtStatus::from_code(status).ok()
    }

    /// To be called in [`LoopedEvents::looped`]: whether it goes on.
    pub fn heard(&self, end: TransferEnd) -> bool {
        if end == TransferEnd::Complete {
            return true;
        }
        // Of its own accord, so that it need not be stopped any more; or before, or after, who stops it has come back.
        if self.change(RUNNING, STOPPED) || !self.change(STOPPING, ENDED) {
            self.end();
        }
        false
    }

    /// Takes it back if it waits for its channel, and else has the controller stop; the transfer is
    /// [idle](Self::is_idle) at once or soon. IRQL <= DISPATCH_LEVEL.
    pub fn stop(&self) {
        if !self.change(RUNNING, STOPPING) {
            return;
        }
        // SAFETY: the transaction is being executed, and is not ended meanwhile.
        if unsafe { ddi::WdfDmaTransactionCancel(self.raw) } != 0 {
            return self.release();
        }
        // SAFETY: as above.
        unsafe { ddi::WdfDmaTransactionStopSystemTransfer(self.raw) };
        if !self.change(STOPPING, STOPPED) {
            self.end();
        }
    }

    fn end(&self) {
        let mut status = NtStatus::SUCCESS.code();
        // SAFETY: the controller has ended the transfer, and only one caller comes here for it.
        unsafe { ddi::WdfDmaTransactionDmaCompletedFinal(self.raw, 0, &raw mut status) };
        self.release();
    }

    fn release(&self) {
        // SAFETY: the transaction is in no transfer. The result is always success (fxdmatransactionapi.cpp).
        let _ = unsafe { ddi::WdfDmaTransactionRelease(self.raw) };
        self.state.store(IDLE, Ordering::Release);
    }

    /// `ReadDmaCounter`: bytes up to the end of this round. IRQL <= DISPATCH_LEVEL.
    pub fn left(&self) -> u32 {
        // SAFETY: the enabler is valid.
        let raw = unsafe { ddi::WdfDmaEnablerWdmGetDmaAdapter(self.enabler, self.direction.raw()) };
        // SAFETY: the adapter lives as long as its enabler.
        let operations = unsafe { raw.as_ref() }.map(|adapter| adapter.DmaOperations);
        // SAFETY: an adapter's operations live as long as it does.
        let operations = operations.and_then(|operations| unsafe { operations.as_ref() });
        match operations.and_then(|operations| operations.ReadDmaCounter) {
            // SAFETY: the adapter is valid.
            Some(read) => unsafe { read(raw) },
            None => 0,
        }
    }
}

unsafe extern "C" fn begins<T: LoopedEvents>(
    _transaction: WDFDMATRANSACTION,
    device: WDFDEVICE,
    _context: PVOID,
    direction: WDF_DMA_DIRECTION,
    _list: PSCATTER_GATHER_LIST,
) -> BOOLEAN {
    // SAFETY: the device is valid during its callback.
    if let Some(context) = unsafe { device::context::<T>(device) } {
        context.looped_begins(Direction::from_raw(direction));
    }
    1
}

unsafe extern "C" fn configure<T: LoopedEvents>(
    _transaction: WDFDMATRANSACTION,
    device: WDFDEVICE,
    adapter: PVOID,
    _mdl: PMDL,
    _offset: usize,
    _length: usize,
) -> BOOLEAN {
    // SAFETY: the device is valid during its callback.
    if let Some(context) = unsafe { device::context::<T>(device) } {
        context.configure_looped(&ChannelAdapter::new(adapter.cast()));
    }
    1
}

unsafe extern "C" fn looped<T: LoopedEvents>(
    _transaction: WDFDMATRANSACTION,
    device: WDFDEVICE,
    _context: WDFCONTEXT,
    direction: WDF_DMA_DIRECTION,
    status: DMA_COMPLETION_STATUS::Type,
) {
    // SAFETY: the device is valid during its callback.
    if let Some(context) = unsafe { device::context::<T>(device) } {
        context.looped(
            Direction::from_raw(direction),
            TransferEnd::from_raw(status),
        );
    }
}
