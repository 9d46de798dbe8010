//! The framework's functions, each named and typed once.
//!
//! The framework hands a driver a table of functions; a header's inline functions hide it from C. Here each function
//! the crate uses is declared with the index and the type that `wdk-sys` generates, so a wrong argument does not compile.
//! [`complete`] checks once, before the first call, that the framework that was loaded fills all of them; after that a
//! call is a load and a jump, with nothing that could panic.
#![expect(non_snake_case, reason = "the functions are known by these names")]

use wdk_sys::*;

macro_rules! functions {
    ($(
        fn $name:ident($($parameter:ident: $kind:ty),* $(,)?) $(-> $result:ty)? = $pointer:ident[$index:ident];
    )*) => {
        $(
            /// # Safety
            ///
            /// [`complete`] has returned `true`, and the function's own documentation is observed.
            #[inline]
            pub(crate) unsafe fn $name($($parameter: $kind),*) $(-> $result)? {
                // SAFETY: `complete` has found this index to be inside the table.
                let entry = unsafe { entry(_WDFFUNCENUM::$index) };
                // SAFETY: the entry at a function's index has that function's type.
                let function: $pointer = unsafe { core::mem::transmute::<WDFFUNC, $pointer>(entry) };
                // SAFETY: the framework fills every entry of its table.
                let function = unsafe { function.unwrap_unchecked() };
                // SAFETY: set by the framework before the driver's entry point is called, and never again.
                let globals = unsafe { WdfDriverGlobals };
                // SAFETY: as the caller vouches for.
                unsafe { function(globals, $($parameter),*) }
            }
        )*

        /// One more than the highest index of a function used here.
        const TABLE_LENGTH: usize = {
            let mut length = 0;
            $(
                if length <= _WDFFUNCENUM::$index as usize {
                    length = _WDFFUNCENUM::$index as usize + 1;
                }
            )*
            length
        };
    };
}

/// Whether the framework that was loaded has every function used here. Any IRQL.
pub(crate) fn complete() -> bool {
    // SAFETY: set by the framework before the driver's entry point is called, and never again.
    let count = unsafe { WdfFunctionCount };
    count as usize >= TABLE_LENGTH
}

/// # Safety
///
/// `index` lies inside the table.
#[inline]
unsafe fn entry(index: _WDFFUNCENUM::Type) -> WDFFUNC {
    // SAFETY: set by the framework before the driver's entry point is called, and never again.
    let table = unsafe { WdfFunctions };
    // SAFETY: inside the table, as the caller vouches for.
    let entry = unsafe { table.add(index as usize) };
    // SAFETY: the table is filled before the driver's entry point is called and does not change.
    unsafe { entry.read() }
}

functions! {
    fn WdfDriverCreate(driver_object: PDRIVER_OBJECT, registry_path: PCUNICODE_STRING, attributes: PWDF_OBJECT_ATTRIBUTES, config: PWDF_DRIVER_CONFIG, driver: *mut WDFDRIVER) -> NTSTATUS = PFN_WDFDRIVERCREATE[WdfDriverCreateTableIndex];
    fn WdfDriverOpenParametersRegistryKey(driver: WDFDRIVER, access: ACCESS_MASK, attributes: PWDF_OBJECT_ATTRIBUTES, key: *mut WDFKEY) -> NTSTATUS = PFN_WDFDRIVEROPENPARAMETERSREGISTRYKEY[WdfDriverOpenParametersRegistryKeyTableIndex];
    fn WdfRegistryQueryULong(key: WDFKEY, name: PCUNICODE_STRING, value: PULONG) -> NTSTATUS = PFN_WDFREGISTRYQUERYULONG[WdfRegistryQueryULongTableIndex];
    fn WdfRegistryClose(key: WDFKEY) = PFN_WDFREGISTRYCLOSE[WdfRegistryCloseTableIndex];

    fn WdfFdoInitQueryProperty(init: PWDFDEVICE_INIT, property: DEVICE_REGISTRY_PROPERTY, length: ULONG, buffer: PVOID, result_length: PULONG) -> NTSTATUS = PFN_WDFFDOINITQUERYPROPERTY[WdfFdoInitQueryPropertyTableIndex];
    fn WdfDeviceInitSetPnpPowerEventCallbacks(init: PWDFDEVICE_INIT, callbacks: PWDF_PNPPOWER_EVENT_CALLBACKS) = PFN_WDFDEVICEINITSETPNPPOWEREVENTCALLBACKS[WdfDeviceInitSetPnpPowerEventCallbacksTableIndex];
    fn WdfDeviceInitSetFileObjectConfig(init: PWDFDEVICE_INIT, config: PWDF_FILEOBJECT_CONFIG, attributes: PWDF_OBJECT_ATTRIBUTES) = PFN_WDFDEVICEINITSETFILEOBJECTCONFIG[WdfDeviceInitSetFileObjectConfigTableIndex];
    fn WdfFileObjectGetDevice(file: WDFFILEOBJECT) -> WDFDEVICE = PFN_WDFFILEOBJECTGETDEVICE[WdfFileObjectGetDeviceTableIndex];
    fn WdfDeviceInitSetIoType(init: PWDFDEVICE_INIT, io_type: WDF_DEVICE_IO_TYPE) = PFN_WDFDEVICEINITSETIOTYPE[WdfDeviceInitSetIoTypeTableIndex];
    fn WdfDeviceInitSetCharacteristics(init: PWDFDEVICE_INIT, characteristics: ULONG, or_in_values: BOOLEAN) = PFN_WDFDEVICEINITSETCHARACTERISTICS[WdfDeviceInitSetCharacteristicsTableIndex];
    fn WdfDeviceInitAssignSDDLString(init: PWDFDEVICE_INIT, sddl: PCUNICODE_STRING) -> NTSTATUS = PFN_WDFDEVICEINITASSIGNSDDLSTRING[WdfDeviceInitAssignSDDLStringTableIndex];

    fn WdfDeviceCreate(init: *mut PWDFDEVICE_INIT, attributes: PWDF_OBJECT_ATTRIBUTES, device: *mut WDFDEVICE) -> NTSTATUS = PFN_WDFDEVICECREATE[WdfDeviceCreateTableIndex];
    fn WdfDeviceSetAlignmentRequirement(device: WDFDEVICE, mask: ULONG) = PFN_WDFDEVICESETALIGNMENTREQUIREMENT[WdfDeviceSetAlignmentRequirementTableIndex];
    fn WdfDeviceCreateDeviceInterface(device: WDFDEVICE, class: *const GUID, reference: PCUNICODE_STRING) -> NTSTATUS = PFN_WDFDEVICECREATEDEVICEINTERFACE[WdfDeviceCreateDeviceInterfaceTableIndex];
    fn WdfDeviceConfigureRequestDispatching(device: WDFDEVICE, queue: WDFQUEUE, request_type: WDF_REQUEST_TYPE) -> NTSTATUS = PFN_WDFDEVICECONFIGUREREQUESTDISPATCHING[WdfDeviceConfigureRequestDispatchingTableIndex];
    fn WdfDeviceSetFailed(device: WDFDEVICE, action: WDF_DEVICE_FAILED_ACTION) = PFN_WDFDEVICESETFAILED[WdfDeviceSetFailedTableIndex];
    fn WdfFdoQueryForInterface(device: WDFDEVICE, kind: LPCGUID, interface: PINTERFACE, size: USHORT, version: USHORT, data: PVOID) -> NTSTATUS = PFN_WDFFDOQUERYFORINTERFACE[WdfFdoQueryForInterfaceTableIndex];

    fn WdfObjectDelete(object: WDFOBJECT) = PFN_WDFOBJECTDELETE[WdfObjectDeleteTableIndex];
    fn WdfObjectGetTypedContextWorker(object: WDFOBJECT, type_info: PCWDF_OBJECT_CONTEXT_TYPE_INFO) -> PVOID = PFN_WDFOBJECTGETTYPEDCONTEXTWORKER[WdfObjectGetTypedContextWorkerTableIndex];

    fn WdfCmResourceListGetCount(list: WDFCMRESLIST) -> ULONG = PFN_WDFCMRESOURCELISTGETCOUNT[WdfCmResourceListGetCountTableIndex];
    fn WdfCmResourceListGetDescriptor(list: WDFCMRESLIST, index: ULONG) -> PCM_PARTIAL_RESOURCE_DESCRIPTOR = PFN_WDFCMRESOURCELISTGETDESCRIPTOR[WdfCmResourceListGetDescriptorTableIndex];

    fn WdfIoQueueCreate(device: WDFDEVICE, config: PWDF_IO_QUEUE_CONFIG, attributes: PWDF_OBJECT_ATTRIBUTES, queue: *mut WDFQUEUE) -> NTSTATUS = PFN_WDFIOQUEUECREATE[WdfIoQueueCreateTableIndex];
    fn WdfIoQueueStart(queue: WDFQUEUE) = PFN_WDFIOQUEUESTART[WdfIoQueueStartTableIndex];
    fn WdfIoQueueStop(queue: WDFQUEUE, complete: PFN_WDF_IO_QUEUE_STATE, context: WDFCONTEXT) = PFN_WDFIOQUEUESTOP[WdfIoQueueStopTableIndex];
    fn WdfRequestGetFileObject(request: WDFREQUEST) -> WDFFILEOBJECT = PFN_WDFREQUESTGETFILEOBJECT[WdfRequestGetFileObjectTableIndex];
    fn WdfRequestIsCanceled(request: WDFREQUEST) -> BOOLEAN = PFN_WDFREQUESTISCANCELED[WdfRequestIsCanceledTableIndex];
    fn WdfWaitLockCreate(attributes: PWDF_OBJECT_ATTRIBUTES, lock: *mut WDFWAITLOCK) -> NTSTATUS = PFN_WDFWAITLOCKCREATE[WdfWaitLockCreateTableIndex];
    fn WdfWaitLockAcquire(lock: WDFWAITLOCK, timeout: *mut LONGLONG) -> NTSTATUS = PFN_WDFWAITLOCKACQUIRE[WdfWaitLockAcquireTableIndex];
    fn WdfWaitLockRelease(lock: WDFWAITLOCK) = PFN_WDFWAITLOCKRELEASE[WdfWaitLockReleaseTableIndex];
    fn WdfIoQueueGetState(queue: WDFQUEUE, queued: PULONG, handed_out: PULONG) -> WDF_IO_QUEUE_STATE = PFN_WDFIOQUEUEGETSTATE[WdfIoQueueGetStateTableIndex];
    fn WdfIoQueueStopSynchronously(queue: WDFQUEUE) = PFN_WDFIOQUEUESTOPSYNCHRONOUSLY[WdfIoQueueStopSynchronouslyTableIndex];

    fn WdfRequestGetParameters(request: WDFREQUEST, parameters: PWDF_REQUEST_PARAMETERS) = PFN_WDFREQUESTGETPARAMETERS[WdfRequestGetParametersTableIndex];
    fn WdfRequestGetIoQueue(request: WDFREQUEST) -> WDFQUEUE = PFN_WDFREQUESTGETIOQUEUE[WdfRequestGetIoQueueTableIndex];
    fn WdfRequestForwardToIoQueue(request: WDFREQUEST, queue: WDFQUEUE) -> NTSTATUS = PFN_WDFREQUESTFORWARDTOIOQUEUE[WdfRequestForwardToIoQueueTableIndex];
    fn WdfRequestMarkCancelableEx(request: WDFREQUEST, cancel: PFN_WDF_REQUEST_CANCEL) -> NTSTATUS = PFN_WDFREQUESTMARKCANCELABLEEX[WdfRequestMarkCancelableExTableIndex];
    fn WdfRequestUnmarkCancelable(request: WDFREQUEST) -> NTSTATUS = PFN_WDFREQUESTUNMARKCANCELABLE[WdfRequestUnmarkCancelableTableIndex];
    fn WdfRequestStopAcknowledge(request: WDFREQUEST, requeue: BOOLEAN) = PFN_WDFREQUESTSTOPACKNOWLEDGE[WdfRequestStopAcknowledgeTableIndex];
    fn WdfRequestRetrieveInputBuffer(request: WDFREQUEST, minimum_length: usize, buffer: *mut PVOID, length: *mut usize) -> NTSTATUS = PFN_WDFREQUESTRETRIEVEINPUTBUFFER[WdfRequestRetrieveInputBufferTableIndex];
    fn WdfRequestRetrieveOutputBuffer(request: WDFREQUEST, minimum_length: usize, buffer: *mut PVOID, length: *mut usize) -> NTSTATUS = PFN_WDFREQUESTRETRIEVEOUTPUTBUFFER[WdfRequestRetrieveOutputBufferTableIndex];
    fn WdfRequestCompleteWithInformation(request: WDFREQUEST, status: NTSTATUS, information: ULONG_PTR) = PFN_WDFREQUESTCOMPLETEWITHINFORMATION[WdfRequestCompleteWithInformationTableIndex];

    fn WdfRequestRetrieveInputWdmMdl(request: WDFREQUEST, mdl: *mut PMDL) -> NTSTATUS = PFN_WDFREQUESTRETRIEVEINPUTWDMMDL[WdfRequestRetrieveInputWdmMdlTableIndex];
    fn WdfRequestRetrieveOutputWdmMdl(request: WDFREQUEST, mdl: *mut PMDL) -> NTSTATUS = PFN_WDFREQUESTRETRIEVEOUTPUTWDMMDL[WdfRequestRetrieveOutputWdmMdlTableIndex];

    fn WdfInterruptCreate(device: WDFDEVICE, config: PWDF_INTERRUPT_CONFIG, attributes: PWDF_OBJECT_ATTRIBUTES, interrupt: *mut WDFINTERRUPT) -> NTSTATUS = PFN_WDFINTERRUPTCREATE[WdfInterruptCreateTableIndex];
    fn WdfInterruptGetInfo(interrupt: WDFINTERRUPT, info: PWDF_INTERRUPT_INFO) = PFN_WDFINTERRUPTGETINFO[WdfInterruptGetInfoTableIndex];
    fn WdfInterruptQueueDpcForIsr(interrupt: WDFINTERRUPT) -> BOOLEAN = PFN_WDFINTERRUPTQUEUEDPCFORISR[WdfInterruptQueueDpcForIsrTableIndex];

    fn WdfTimerCreate(config: PWDF_TIMER_CONFIG, attributes: PWDF_OBJECT_ATTRIBUTES, timer: *mut WDFTIMER) -> NTSTATUS = PFN_WDFTIMERCREATE[WdfTimerCreateTableIndex];
    fn WdfTimerStart(timer: WDFTIMER, due_time: LONGLONG) -> BOOLEAN = PFN_WDFTIMERSTART[WdfTimerStartTableIndex];
    fn WdfTimerStop(timer: WDFTIMER, wait: BOOLEAN) -> BOOLEAN = PFN_WDFTIMERSTOP[WdfTimerStopTableIndex];
    fn WdfTimerGetParentObject(timer: WDFTIMER) -> WDFOBJECT = PFN_WDFTIMERGETPARENTOBJECT[WdfTimerGetParentObjectTableIndex];

    fn WdfWorkItemCreate(config: PWDF_WORKITEM_CONFIG, attributes: PWDF_OBJECT_ATTRIBUTES, item: *mut WDFWORKITEM) -> NTSTATUS = PFN_WDFWORKITEMCREATE[WdfWorkItemCreateTableIndex];
    fn WdfWorkItemEnqueue(item: WDFWORKITEM) = PFN_WDFWORKITEMENQUEUE[WdfWorkItemEnqueueTableIndex];
    fn WdfWorkItemFlush(item: WDFWORKITEM) = PFN_WDFWORKITEMFLUSH[WdfWorkItemFlushTableIndex];
    fn WdfWorkItemGetParentObject(item: WDFWORKITEM) -> WDFOBJECT = PFN_WDFWORKITEMGETPARENTOBJECT[WdfWorkItemGetParentObjectTableIndex];

    fn WdfDmaEnablerCreate(device: WDFDEVICE, config: PWDF_DMA_ENABLER_CONFIG, attributes: PWDF_OBJECT_ATTRIBUTES, enabler: *mut WDFDMAENABLER) -> NTSTATUS = PFN_WDFDMAENABLERCREATE[WdfDmaEnablerCreateTableIndex];
    fn WdfDmaEnablerGetFragmentLength(enabler: WDFDMAENABLER, direction: WDF_DMA_DIRECTION) -> usize = PFN_WDFDMAENABLERGETFRAGMENTLENGTH[WdfDmaEnablerGetFragmentLengthTableIndex];

    fn WdfCommonBufferCreateWithConfig(enabler: WDFDMAENABLER, length: usize, config: PWDF_COMMON_BUFFER_CONFIG, attributes: PWDF_OBJECT_ATTRIBUTES, buffer: *mut WDFCOMMONBUFFER) -> NTSTATUS = PFN_WDFCOMMONBUFFERCREATEWITHCONFIG[WdfCommonBufferCreateWithConfigTableIndex];
    fn WdfCommonBufferGetAlignedVirtualAddress(buffer: WDFCOMMONBUFFER) -> PVOID = PFN_WDFCOMMONBUFFERGETALIGNEDVIRTUALADDRESS[WdfCommonBufferGetAlignedVirtualAddressTableIndex];

    fn WdfDmaEnablerConfigureSystemProfile(enabler: WDFDMAENABLER, config: PWDF_DMA_SYSTEM_PROFILE_CONFIG, direction: WDF_DMA_DIRECTION) -> NTSTATUS = PFN_WDFDMAENABLERCONFIGURESYSTEMPROFILE[WdfDmaEnablerConfigureSystemProfileTableIndex];
    fn WdfDmaEnablerWdmGetDmaAdapter(enabler: WDFDMAENABLER, direction: WDF_DMA_DIRECTION) -> PDMA_ADAPTER = PFN_WDFDMAENABLERWDMGETDMAADAPTER[WdfDmaEnablerWdmGetDmaAdapterTableIndex];
    fn WdfDmaEnablerSetMaximumScatterGatherElements(enabler: WDFDMAENABLER, elements: usize) = PFN_WDFDMAENABLERSETMAXIMUMSCATTERGATHERELEMENTS[WdfDmaEnablerSetMaximumScatterGatherElementsTableIndex];

    fn WdfCommonBufferGetAlignedLogicalAddress(buffer: WDFCOMMONBUFFER) -> PHYSICAL_ADDRESS = PFN_WDFCOMMONBUFFERGETALIGNEDLOGICALADDRESS[WdfCommonBufferGetAlignedLogicalAddressTableIndex];

    fn WdfDmaTransactionCreate(enabler: WDFDMAENABLER, attributes: PWDF_OBJECT_ATTRIBUTES, transaction: *mut WDFDMATRANSACTION) -> NTSTATUS = PFN_WDFDMATRANSACTIONCREATE[WdfDmaTransactionCreateTableIndex];
    fn WdfDmaTransactionInitialize(transaction: WDFDMATRANSACTION, program: PFN_WDF_PROGRAM_DMA, direction: WDF_DMA_DIRECTION, mdl: PMDL, address: PVOID, length: usize) -> NTSTATUS = PFN_WDFDMATRANSACTIONINITIALIZE[WdfDmaTransactionInitializeTableIndex];
    fn WdfDmaTransactionInitializeUsingRequest(transaction: WDFDMATRANSACTION, request: WDFREQUEST, program: PFN_WDF_PROGRAM_DMA, direction: WDF_DMA_DIRECTION) -> NTSTATUS = PFN_WDFDMATRANSACTIONINITIALIZEUSINGREQUEST[WdfDmaTransactionInitializeUsingRequestTableIndex];
    fn WdfDmaTransactionExecute(transaction: WDFDMATRANSACTION, context: PVOID) -> NTSTATUS = PFN_WDFDMATRANSACTIONEXECUTE[WdfDmaTransactionExecuteTableIndex];
    fn WdfDmaTransactionGetBytesTransferred(transaction: WDFDMATRANSACTION) -> usize = PFN_WDFDMATRANSACTIONGETBYTESTRANSFERRED[WdfDmaTransactionGetBytesTransferredTableIndex];
    fn WdfDmaTransactionGetCurrentDmaTransferLength(transaction: WDFDMATRANSACTION) -> usize = PFN_WDFDMATRANSACTIONGETCURRENTDMATRANSFERLENGTH[WdfDmaTransactionGetCurrentDmaTransferLengthTableIndex];
    fn WdfDmaTransactionCancel(transaction: WDFDMATRANSACTION) -> BOOLEAN = PFN_WDFDMATRANSACTIONCANCEL[WdfDmaTransactionCancelTableIndex];
    fn WdfDmaTransactionDmaCompleted(transaction: WDFDMATRANSACTION, status: *mut NTSTATUS) -> BOOLEAN = PFN_WDFDMATRANSACTIONDMACOMPLETED[WdfDmaTransactionDmaCompletedTableIndex];
    fn WdfDmaTransactionDmaCompletedFinal(transaction: WDFDMATRANSACTION, length: usize, status: *mut NTSTATUS) -> BOOLEAN = PFN_WDFDMATRANSACTIONDMACOMPLETEDFINAL[WdfDmaTransactionDmaCompletedFinalTableIndex];
    fn WdfDmaTransactionRelease(transaction: WDFDMATRANSACTION) -> NTSTATUS = PFN_WDFDMATRANSACTIONRELEASE[WdfDmaTransactionReleaseTableIndex];
    fn WdfDmaTransactionSetImmediateExecution(transaction: WDFDMATRANSACTION, immediate: BOOLEAN) = PFN_WDFDMATRANSACTIONSETIMMEDIATEEXECUTION[WdfDmaTransactionSetImmediateExecutionTableIndex];
    fn WdfDmaTransactionSetMaximumLength(transaction: WDFDMATRANSACTION, length: usize) = PFN_WDFDMATRANSACTIONSETMAXIMUMLENGTH[WdfDmaTransactionSetMaximumLengthTableIndex];
    fn WdfDmaTransactionSetSingleTransferRequirement(transaction: WDFDMATRANSACTION, required: BOOLEAN) = PFN_WDFDMATRANSACTIONSETSINGLETRANSFERREQUIREMENT[WdfDmaTransactionSetSingleTransferRequirementTableIndex];
    fn WdfDmaTransactionAllocateResources(transaction: WDFDMATRANSACTION, direction: WDF_DMA_DIRECTION, registers: ULONG, reserve: PFN_WDF_RESERVE_DMA, context: PVOID) -> NTSTATUS = PFN_WDFDMATRANSACTIONALLOCATERESOURCES[WdfDmaTransactionAllocateResourcesTableIndex];
    fn WdfDmaTransactionFreeResources(transaction: WDFDMATRANSACTION) = PFN_WDFDMATRANSACTIONFREERESOURCES[WdfDmaTransactionFreeResourcesTableIndex];
    fn WdfDmaTransactionSetDeviceAddressOffset(transaction: WDFDMATRANSACTION, offset: ULONG) = PFN_WDFDMATRANSACTIONSETDEVICEADDRESSOFFSET[WdfDmaTransactionSetDeviceAddressOffsetTableIndex];
    fn WdfDmaTransactionSetChannelConfigurationCallback(transaction: WDFDMATRANSACTION, configure: PFN_WDF_DMA_TRANSACTION_CONFIGURE_DMA_CHANNEL, context: PVOID) = PFN_WDFDMATRANSACTIONSETCHANNELCONFIGURATIONCALLBACK[WdfDmaTransactionSetChannelConfigurationCallbackTableIndex];
    fn WdfDmaTransactionSetTransferCompleteCallback(transaction: WDFDMATRANSACTION, complete: PFN_WDF_DMA_TRANSACTION_DMA_TRANSFER_COMPLETE, context: PVOID) = PFN_WDFDMATRANSACTIONSETTRANSFERCOMPLETECALLBACK[WdfDmaTransactionSetTransferCompleteCallbackTableIndex];
    fn WdfDmaTransactionStopSystemTransfer(transaction: WDFDMATRANSACTION) = PFN_WDFDMATRANSACTIONSTOPSYSTEMTRANSFER[WdfDmaTransactionStopSystemTransferTableIndex];
}
