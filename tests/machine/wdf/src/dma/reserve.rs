//! Reserving map registers and cancelling (`ReserveAdapter`, `ReleaseAdapter`, `CancelResourceAllocation`).

use std::ffi::c_void;
use std::sync::Arc;

use super::geometry::required_registers;
use super::transaction::{DmaTransaction, Phase};
use crate::flat::*;
use crate::lock::Ptr;
use crate::trace;
use crate::verifier;
use crate::wdm::Mdl;

impl DmaTransaction {
    /// Reserves map registers, `count` or as many as the initialized transaction spans; EvtReserveDma is called with them.
    ///
    /// # Errors
    /// `STATUS_BUFFER_TOO_SMALL`, those of the HAL; the state is TransferFailed then.
    pub(super) fn reserve(
        self: &Arc<Self>,
        count: u32,
        write: bool,
        callback: PFN_WDF_RESERVE_DMA,
        context: *mut c_void,
    ) -> Result<(), NTSTATUS> {
        let call = "WdfDmaTransactionAllocateResources";
        let phase = if count == 0 {
            self.expect(&[Phase::Initialized], call)
        } else {
            self.expect(&[Phase::Created, Phase::Initialized, Phase::Released], call)
        };
        if self.with(|state| state.packet.reserved) != 0 {
            self.fatal(phase, "map registers are reserved already");
        }
        let result = self.begin_reservation(count, write, callback, context);
        result.inspect_err(|status| {
            trace::error(
                self.globals(),
                &format!(
                    "WDFDMATRANSACTION {:p} reserves nothing: {status:#010x}",
                    self.handle()
                ),
            );
            self.with(|state| {
                state.phase = Phase::TransferFailed;
                state.reserve = None;
                state.context = Ptr::default();
                state.packet.reserved = 0;
            });
            self.release_request();
        })
    }

    fn begin_reservation(
        self: &Arc<Self>,
        count: u32,
        write: bool,
        callback: PFN_WDF_RESERVE_DMA,
        context: *mut c_void,
    ) -> Result<(), NTSTATUS> {
        let Some(adapter) = self.enabler().adapter(write) else {
            verifier::access_violation(
                self.globals(),
                "the enabler has no adapter for the direction",
            )
        };
        let (start, length) = self.with(|state| {
            state.adapter = Some(adapter);
            (state.start, state.length)
        });
        let reserved = if count != 0 {
            count
        } else if !self.enabler().profile().bus_master {
            adapter.map_registers
        } else {
            let span = required_registers(start.0, start.1, length as u32, adapter.map_registers);
            span.inspect_err(|_| self.release_for_reuse(true))?
                .registers
        };
        // What was initialized is forgotten: EvtReserveDma initializes again.
        self.with(|state| {
            state.packet.reserved = reserved;
            state.write = write;
            state.start = (Mdl::NULL, 0);
            state.current = (Mdl::NULL, 0);
            state.remaining = 0;
            state.length = 0;
            state.reserve = callback;
            state.context = Ptr(context);
        });
        self.initialize_context(&adapter);
        self.begin_packet();
        self.with(|state| state.phase = Phase::Reserved);
        self.start_packet()
    }

    /// Gives reserved map registers back (`ReleaseAdapter`).
    pub(super) fn free_reservation(&self) {
        self.expect(
            &[
                Phase::Reserved,
                Phase::Initialized,
                Phase::TransferCompleted,
                Phase::TransferFailed,
                Phase::Released,
            ],
            "WdfDmaTransactionFreeResources",
        );
        self.release_for_reuse(true);
    }

    /// Takes back a wait for map registers. True: no callback will come, the driver releases the transaction.
    pub(super) fn cancel(&self) -> bool {
        self.expect(
            &[
                Phase::Reserved,
                Phase::Initialized,
                Phase::Transfer,
                Phase::TransferCompleted,
                Phase::TransferFailed,
            ],
            "WdfDmaTransactionCancel",
        );
        let device = self.enabler().device().function_object();
        let canceled = self
            .adapter()
            .cancel_channel(device, self.transfer_context().0);
        if canceled {
            self.with(|state| state.phase = Phase::TransferFailed);
            self.release_request();
        }
        canceled
    }
}
