//! Looped transfers: a controller moves the same memory over and over, until it is stopped.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use wdk_sys::ntddk::{IoAllocateMdl, IoFreeMdl, MmBuildMdlForNonPagedPool};
use wdk_sys::{
    BOOLEAN, DMA_COMPLETION_STATUS, PMDL, PSCATTER_GATHER_LIST, PVOID, WDF_COMMON_BUFFER_CONFIG,
    WDF_DMA_DIRECTION, WDFCOMMONBUFFER, WDFCONTEXT, WDFDEVICE, WDFDMATRANSACTION,
};

use super::Direction;
use super::system::{ChannelAdapter, SystemEnabler, TransferEnd};
use crate::device::{self, DeviceEvents};
use crate::versioned::size;
use crate::{NtStatus, Result, context, ddi};

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

/// Words of memory that the processor and a controller use at the same time.
#[derive(Debug)]
pub struct LoopBuffer {
    words: NonNull<AtomicU32>,
    count: usize,
    list: PMDL,
    common: WDFCOMMONBUFFER,
}

// SAFETY: the memory belongs to no thread.
unsafe impl Send for LoopBuffer {}

// SAFETY: it is reached as atomics only.
unsafe impl Sync for LoopBuffer {}

impl LoopBuffer {
    /// Allocates `length` bytes, all zero: at most a page or a multiple of pages. PASSIVE_LEVEL. It is to be dropped
    /// before the enabler, at PASSIVE_LEVEL.
    ///
    /// # Errors
    ///
    /// `STATUS_INSUFFICIENT_RESOURCES`, and what else `WdfCommonBufferCreateWithConfig` returns.
    pub fn create(enabler: &SystemEnabler, length: u32) -> Result<Self> {
        let mut config = WDF_COMMON_BUFFER_CONFIG {
            Size: size::<WDF_COMMON_BUFFER_CONFIG>(),
            AlignmentRequirement: 63,
        };
        let mut attributes = context::plain_attributes();
        let mut common = core::ptr::null_mut();
        // SAFETY: the enabler is valid, and the others live across the call.
        let status = unsafe {
            ddi::WdfCommonBufferCreateWithConfig(
                enabler.raw(),
                length as usize,
                &raw mut config,
                &raw mut attributes,
                &raw mut common,
            )
        };
        NtStatus::from_code(status).ok()?;
        // SAFETY: the buffer has just been made.
        let start = unsafe { ddi::WdfCommonBufferGetAlignedVirtualAddress(common) };
        // SAFETY: the memory is nonpaged and stays as long as the list.
        let list = unsafe { IoAllocateMdl(start, length, 0, 0, core::ptr::null_mut()) };
        let (Some(words), false) = (NonNull::new(start.cast()), list.is_null()) else {
            // SAFETY: the buffer has just been made, and nobody else knows it.
            unsafe { ddi::WdfObjectDelete(common.cast()) };
            return Err(NtStatus::INSUFFICIENT_RESOURCES);
        };
        // SAFETY: the list describes nonpaged memory.
        unsafe { MmBuildMdlForNonPagedPool(list) };
        let buffer = Self {
            words,
            count: length as usize / size_of::<u32>(),
            list,
            common,
        };
        buffer.clear();
        Ok(buffer)
    }

    /// Sets everything to zero.
    pub fn clear(&self) {
        self.words()
            .iter()
            .for_each(|word| word.store(0, Ordering::Relaxed));
    }

    fn words(&self) -> &[AtomicU32] {
        // SAFETY: the buffer is so long, aligned, and lives as long as this value; every bit pattern is a value.
        unsafe { core::slice::from_raw_parts(self.words.as_ptr(), self.count) }
    }

    /// Copies from `offset` on into `bytes`, as far as either goes. Both in whole words.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) {
        let words = self.words().iter().skip(offset / size_of::<u32>());
        for (word, bytes) in words.zip(bytes.chunks_exact_mut(size_of::<u32>())) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
    }

    /// Copies `bytes` to `offset` and on, as far as either goes. Both in whole words.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        let words = self.words().iter().skip(offset / size_of::<u32>());
        for (word, bytes) in words.zip(bytes.as_chunks().0) {
            word.store(u32::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
    }
}

impl Drop for LoopBuffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `create`, and no transfer uses it any more.
        unsafe { IoFreeMdl(self.list) };
        // SAFETY: as above.
        unsafe { ddi::WdfObjectDelete(self.common.cast()) };
    }
}

/// Nothing is going on.
const IDLE: u8 = 0;
/// The framework has the transaction.
const RUNNING: u8 = 1;
/// The controller is being told to stop.
const STOPPING: u8 = 2;
/// It has been told.
const STOPPED: u8 = 3;
/// It ended while it was being told; who tells it ends the transaction.
const ENDED: u8 = 4;

/// A transaction over a buffer that is moved again and again.
#[derive(Debug)]
pub struct LoopedTransfer {
    raw: WDFDMATRANSACTION,
    enabler: wdk_sys::WDFDMAENABLER,
    direction: Direction,
    state: AtomicU8,
}

// SAFETY: the framework lets any thread work on a transaction; the state says who.
unsafe impl Send for LoopedTransfer {}

// SAFETY: as above.
unsafe impl Sync for LoopedTransfer {}

impl LoopedTransfer {
    /// Makes the transaction. It is to be dropped before the enabler, which deletes the transaction.
    ///
    /// # Errors
    ///
    /// What `WdfDmaTransactionCreate` returns.
    pub fn create(enabler: &SystemEnabler, direction: Direction) -> Result<Self> {
        Ok(Self {
            raw: enabler.create_transaction()?.raw(),
            enabler: enabler.raw(),
            direction,
            state: AtomicU8::new(IDLE),
        })
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

    /// Starts moving `buffer` from or to the data register at `offset`: as soon as there is a channel.
    /// IRQL <= DISPATCH_LEVEL. The buffer must stay until the transfer is [idle](Self::is_idle) again.
    ///
    /// # Errors
    ///
    /// `STATUS_INVALID_DEVICE_STATE` if it is going on; what the framework returns.
    pub fn start<T: LoopedEvents>(&self, buffer: &LoopBuffer, offset: u32) -> Result<()> {
        if !self.change(IDLE, RUNNING) {
            return Err(NtStatus::INVALID_DEVICE_STATE);
        }
        let outcome = self.execute::<T>(buffer, offset);
        if outcome.is_err() {
            // SAFETY: the transaction is in no transfer. The result is always success (fxdmatransactionapi.cpp).
            let _ = unsafe { ddi::WdfDmaTransactionRelease(self.raw) };
            self.state.store(IDLE, Ordering::Release);
        }
        outcome
    }

    fn execute<T: LoopedEvents>(&self, buffer: &LoopBuffer, offset: u32) -> Result<()> {
        // SAFETY: the transaction is released, the list valid until the transfer has ended.
        let status = unsafe {
            ddi::WdfDmaTransactionInitialize(
                self.raw,
                Some(begins::<T>),
                self.direction.raw(),
                buffer.list,
                buffer.words.as_ptr().cast(),
                buffer.count * size_of::<u32>(),
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
        if !self.change(STOPPING, ENDED) {
            self.end();
        }
        false
    }

    /// Has the controller stop; the transfer is [idle](Self::is_idle) at once or later. IRQL <= DISPATCH_LEVEL.
    pub fn stop(&self) {
        if !self.change(RUNNING, STOPPING) {
            return;
        }
        // SAFETY: the transaction is in a transfer, or waits for its channel, and is not ended meanwhile.
        unsafe { ddi::WdfDmaTransactionStopSystemTransfer(self.raw) };
        if !self.change(STOPPING, STOPPED) {
            self.end();
        }
    }

    fn end(&self) {
        let mut status = NtStatus::SUCCESS.code();
        // SAFETY: the controller has ended the transfer, and only one caller comes here for it.
        unsafe { ddi::WdfDmaTransactionDmaCompletedFinal(self.raw, 0, &raw mut status) };
        // SAFETY: the transaction has ended. The result is always success (fxdmatransactionapi.cpp).
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
