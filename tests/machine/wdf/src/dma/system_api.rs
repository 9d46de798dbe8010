//! The DDIs of system transactions (`fxdmatransactionapi.cpp`).

use std::sync::Arc;

use super::transaction::DmaTransaction;
use crate::flat::*;
use crate::globals::DriverGlobals;
use crate::lock::Ptr;
use crate::object::handle;

fn transaction(globals: PWDF_DRIVER_GLOBALS, value: WDFDMATRANSACTION) -> Arc<DmaTransaction> {
    handle::get(DriverGlobals::from_ddi(globals), value as usize)
}

/// Registers what is called before each transfer is mapped; NULL for nothing. System profiles; otherwise ignored with a verifier break.
/// IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaTransactionSetChannelConfigurationCallback(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDMATRANSACTION,
    callback: PFN_WDF_DMA_TRANSACTION_CONFIGURE_DMA_CHANNEL,
    context: PVOID,
) {
    let transaction = transaction(globals, value);
    if transaction.is_system("WdfDmaTransactionSetChannelConfigurationCallback") {
        let registered = (callback, Ptr(context.cast()));
        transaction.callbacks.with(|all| all.configure = registered);
    }
}

/// Registers what is called when the controller has finished a transfer; NULL for nothing. System profiles; otherwise ignored with a
/// verifier break. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaTransactionSetTransferCompleteCallback(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDMATRANSACTION,
    callback: PFN_WDF_DMA_TRANSACTION_DMA_TRANSFER_COMPLETE,
    context: PVOID,
) {
    let transaction = transaction(globals, value);
    if transaction.is_system("WdfDmaTransactionSetTransferCompleteCallback") {
        let registered = (callback, Ptr(context.cast()));
        transaction.callbacks.with(|all| all.complete = registered);
    }
}

/// Where the device's data register is, from the configured address on; every Initialize sets it to zero. System profiles; otherwise
/// ignored with a verifier break. IRQL <= `DISPATCH_LEVEL`.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaTransactionSetDeviceAddressOffset(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDMATRANSACTION,
    offset: ULONG,
) {
    let transaction = transaction(globals, value);
    if transaction.is_system("WdfDmaTransactionSetDeviceAddressOffset") {
        transaction.with(|state| state.packet.device_offset = offset);
    }
}

/// Stops a transfer. System profiles; otherwise ignored with a verifier break. IRQL <= `DISPATCH_LEVEL`. Stops with 0x10D/8 if it was stopped
/// before and the verifier is on; an access violation, as in the published source, if the transaction has ended.
///
/// # Safety
/// As the KMDF documentation says of the DDI.
pub(crate) unsafe extern "win64" fn WdfDmaTransactionStopSystemTransfer(
    globals: PWDF_DRIVER_GLOBALS,
    value: WDFDMATRANSACTION,
) {
    let transaction = transaction(globals, value);
    if transaction.is_system("WdfDmaTransactionStopSystemTransfer") {
        transaction.stop();
    }
}
