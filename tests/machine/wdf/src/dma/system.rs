//! System transactions (`fxdmatransactionsystem.cpp`): packets that a channel of the system DMA controller moves.
//!
//! They stage as packets do, with a list, a channel that is kept, and two callbacks of the driver's.

use std::sync::Arc;

use super::transaction::{DmaTransaction, Phase};
use crate::flat::*;
use crate::lock::Ptr;
use crate::{trace, verifier};

use DMA_COMPLETION_STATUS::{DmaCancelled, DmaError};

/// What the driver registered. Release does not forget it, whatever the documentation says.
#[derive(Clone, Copy, Default)]
pub(super) struct Callbacks {
    /// EvtDmaTransactionConfigureDmaChannel and its context.
    pub(super) configure: (
        PFN_WDF_DMA_TRANSACTION_CONFIGURE_DMA_CHANNEL,
        Ptr<std::ffi::c_void>,
    ),
    /// EvtDmaTransactionDmaTransferComplete and its context.
    pub(super) complete: (
        PFN_WDF_DMA_TRANSACTION_DMA_TRANSFER_COMPLETE,
        Ptr<std::ffi::c_void>,
    ),
}

impl DmaTransaction {
    /// What every Initialize and every reservation begins with (`InitializeResources`).
    pub(super) fn begin_packet(&self) {
        self.with(|state| {
            state.packet.device_offset = 0;
            state.packet.stopped = false;
        });
    }

    /// Lets the driver configure the channel, before each transfer (`PreMapTransfer`): false if it has ended the transaction instead.
    pub(super) fn configure_channel(&self) -> bool {
        let (Some(configure), context) = self.callbacks.get().configure else {
            return true;
        };
        let (device, place) = (self.enabler().device().handle(), self.place());
        // SAFETY: the driver registered the callback.
        let goes_on = unsafe {
            configure(
                self.handle(),
                device,
                context.0.cast(),
                place.mdl.raw(),
                place.offset,
                place.length,
            )
        };
        goes_on != 0
    }

    /// Maps and programs the present transfer.
    ///
    /// # Errors
    /// Those of the mapping: `STATUS_CANCELLED` if the transfer was stopped.
    pub(super) fn stage_system(self: &Arc<Self>) -> Result<(), NTSTATUS> {
        let list = self.enabler().system_list();
        let memory: *mut SCATTER_GATHER_LIST = list.memory.0.cast();
        let reports = self.callbacks.get().complete.0.is_some();
        let completion = (
            reports.then_some(completed as unsafe extern "win64" fn(_, _, _, _)),
            Arc::as_ptr(self).cast_mut().cast(),
        );
        let device_offset = self.with(|state| state.packet.device_offset);
        let mapped = self.adapter().map_transfer_ex(
            &self.place(),
            self.map_register_base().0,
            device_offset,
            (memory, list.size as u32),
            completion,
        )?;
        self.take_note_of(mapped);
        self.call_program(memory);
        Ok(())
    }

    /// The first transfer was not staged: the driver hears of it by its transfer-complete callback, or not at all.
    pub(super) fn report_staging_failure(&self, status: NTSTATUS) {
        if !self.enabler().profile().bus_master {
            let reported = if status == STATUS_CANCELLED {
                DmaCancelled
            } else {
                DmaError
            };
            self.call_transfer_complete(reported);
        }
    }

    /// Calls EvtDmaTransactionDmaTransferComplete, if there is one (`CallEvtDmaCompleted`).
    pub(super) fn call_transfer_complete(&self, status: DMA_COMPLETION_STATUS::Type) {
        let (Some(complete), context) = self.callbacks.get().complete else {
            return;
        };
        let direction = if self.with(|state| state.write) {
            WdfDmaDirectionWriteToDevice
        } else {
            WdfDmaDirectionReadFromDevice
        };
        let device = self.enabler().device().handle();
        // SAFETY: the driver registered the callback.
        unsafe { complete(self.handle(), device, context.0.cast(), direction, status) };
    }

    /// Stops the transfer (`StopTransfer`): its completion is reported as cancelled, or the next one is not staged.
    pub(super) fn stop(&self) {
        let adapter = self.adapter();
        self.with(|state| state.packet.stopped = true);
        let stopped = adapter.cancel_mapped_transfer(self.transfer_context().0);
        if stopped.is_err() {
            let phase: Phase = self.phase();
            let why = "WdfDmaTransactionStopSystemTransfer: the transfer has already been stopped";
            trace::error(self.globals(), why);
            if self.globals().verifies_since(11) {
                self.fatal(phase, why);
            }
        }
    }

    /// Whether the transaction is a system profile's; a verifier break if not.
    pub(super) fn is_system(&self, call: &str) -> bool {
        let is_system = !self.enabler().profile().bus_master;
        if !is_system {
            trace::error(self.globals(), &format!("{call} is for system profiles"));
            verifier::break_point(self.globals());
        }
        is_system
    }
}

/// The HAL reports a transfer, or a period of it: to the driver now, or by the thread that is staging (`_SystemDmaCompletion`).
unsafe extern "win64" fn completed(
    _adapter: PDMA_ADAPTER,
    _device: PDEVICE_OBJECT,
    context: PVOID,
    status: DMA_COMPLETION_STATUS::Type,
) {
    // SAFETY: the transaction that mapped the transfer; it lives until it has flushed it.
    let transaction = unsafe { DmaTransaction::from_context(context.cast()) };
    let mut staging = transaction.staging.lock();
    if staging.active {
        staging.ended = Some(status);
        return;
    }
    drop(staging);
    transaction.call_transfer_complete(status);
}
