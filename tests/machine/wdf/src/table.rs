//! The function table: every entry of KMDF 1.33, those not offered as thunks that stop the machine with the function's name.

use std::sync::OnceLock;

use crate::flat::*;

/// Entries of the table.
pub(crate) const COUNT: usize = WDF_FUNCTION_COUNT;

/// Stops the machine: `name` is not offered. Never returns.
pub(crate) fn stop_not_offered(name: &str) -> ! {
    machine_nt::bugcheck::stop_machine(
        machine_nt::bugcheck::Stop::Unimplemented,
        format!("the framework does not offer {name}"),
    )
}

/// The thunk of entry `INDEX`.
unsafe extern "win64" fn not_offered<const INDEX: usize>() -> ! {
    stop_not_offered(ddi_names()[INDEX].0)
}

/// The addresses of ten thunks from each of the given indices on.
macro_rules! tens {
    ($($start:literal)*) => {
        [$(
            not_offered::<{ $start }> as *const () as usize,
            not_offered::<{ $start + 1 }> as *const () as usize,
            not_offered::<{ $start + 2 }> as *const () as usize,
            not_offered::<{ $start + 3 }> as *const () as usize,
            not_offered::<{ $start + 4 }> as *const () as usize,
            not_offered::<{ $start + 5 }> as *const () as usize,
            not_offered::<{ $start + 6 }> as *const () as usize,
            not_offered::<{ $start + 7 }> as *const () as usize,
            not_offered::<{ $start + 8 }> as *const () as usize,
            not_offered::<{ $start + 9 }> as *const () as usize,
        )*]
    };
}

/// Lists the entries that are offered, each checked against the type the headers give it.
macro_rules! offered {
    ($($($module:ident)::+ { $($name:ident: $kind:ident),* $(,)? })*) => {
        $(use crate::$($module)::+::{$($name),*};)*

        fn offered() -> Vec<(&'static str, usize)> {
            vec![$($({
                let function: $kind = Some($name);
                (stringify!($name), function.map_or(0, |function| function as usize))
            },)*)*]
        }
    };
}

offered! {
    deferred::dpc {
        WdfDpcCreate: PFN_WDFDPCCREATE,
        WdfDpcEnqueue: PFN_WDFDPCENQUEUE,
        WdfDpcCancel: PFN_WDFDPCCANCEL,
        WdfDpcGetParentObject: PFN_WDFDPCGETPARENTOBJECT,
        WdfDpcWdmGetDpc: PFN_WDFDPCWDMGETDPC,
    }
    deferred::timer {
        WdfTimerCreate: PFN_WDFTIMERCREATE,
        WdfTimerStart: PFN_WDFTIMERSTART,
        WdfTimerStop: PFN_WDFTIMERSTOP,
        WdfTimerGetParentObject: PFN_WDFTIMERGETPARENTOBJECT,
    }
    deferred::work_item {
        WdfWorkItemCreate: PFN_WDFWORKITEMCREATE,
        WdfWorkItemEnqueue: PFN_WDFWORKITEMENQUEUE,
        WdfWorkItemGetParentObject: PFN_WDFWORKITEMGETPARENTOBJECT,
        WdfWorkItemFlush: PFN_WDFWORKITEMFLUSH,
    }
    device {
        WdfDeviceGetDeviceState: PFN_WDFDEVICEGETDEVICESTATE,
        WdfDeviceSetDeviceState: PFN_WDFDEVICESETDEVICESTATE,
        WdfWdmDeviceGetWdfDeviceHandle: PFN_WDFWDMDEVICEGETWDFDEVICEHANDLE,
        WdfDeviceWdmGetDeviceObject: PFN_WDFDEVICEWDMGETDEVICEOBJECT,
        WdfDeviceWdmGetAttachedDevice: PFN_WDFDEVICEWDMGETATTACHEDDEVICE,
        WdfDeviceWdmGetPhysicalDevice: PFN_WDFDEVICEWDMGETPHYSICALDEVICE,
        WdfDeviceGetDriver: PFN_WDFDEVICEGETDRIVER,
        WdfDeviceRetrieveDeviceName: PFN_WDFDEVICERETRIEVEDEVICENAME,
        WdfDeviceGetDevicePnpState: PFN_WDFDEVICEGETDEVICEPNPSTATE,
        WdfDeviceOpenRegistryKey: PFN_WDFDEVICEOPENREGISTRYKEY,
        WdfDeviceSetCharacteristics: PFN_WDFDEVICESETCHARACTERISTICS,
        WdfDeviceGetCharacteristics: PFN_WDFDEVICEGETCHARACTERISTICS,
        WdfDeviceGetAlignmentRequirement: PFN_WDFDEVICEGETALIGNMENTREQUIREMENT,
        WdfDeviceSetAlignmentRequirement: PFN_WDFDEVICESETALIGNMENTREQUIREMENT,
        WdfDeviceCreate: PFN_WDFDEVICECREATE,
        WdfDeviceSetStaticStopRemove: PFN_WDFDEVICESETSTATICSTOPREMOVE,
        WdfDeviceCreateDeviceInterface: PFN_WDFDEVICECREATEDEVICEINTERFACE,
        WdfDeviceSetDeviceInterfaceState: PFN_WDFDEVICESETDEVICEINTERFACESTATE,
        WdfDeviceRetrieveDeviceInterfaceString: PFN_WDFDEVICERETRIEVEDEVICEINTERFACESTRING,
        WdfDeviceCreateSymbolicLink: PFN_WDFDEVICECREATESYMBOLICLINK,
        WdfDeviceQueryProperty: PFN_WDFDEVICEQUERYPROPERTY,
        WdfDeviceSetPnpCapabilities: PFN_WDFDEVICESETPNPCAPABILITIES,
        WdfDeviceSetPowerCapabilities: PFN_WDFDEVICESETPOWERCAPABILITIES,
        WdfDeviceSetFailed: PFN_WDFDEVICESETFAILED,
        WdfDeviceGetDefaultQueue: PFN_WDFDEVICEGETDEFAULTQUEUE,
        WdfDeviceConfigureRequestDispatching: PFN_WDFDEVICECONFIGUREREQUESTDISPATCHING,
        WdfDeviceQueryPropertyEx: PFN_WDFDEVICEQUERYPROPERTYEX,
        WdfDeviceSetDeviceInterfaceStateEx: PFN_WDFDEVICESETDEVICEINTERFACESTATEEX,
    }
    device::init_api {
        WdfDeviceInitSetPnpPowerEventCallbacks: PFN_WDFDEVICEINITSETPNPPOWEREVENTCALLBACKS,
        WdfDeviceInitSetPowerPolicyOwnership: PFN_WDFDEVICEINITSETPOWERPOLICYOWNERSHIP,
        WdfDeviceInitSetIoType: PFN_WDFDEVICEINITSETIOTYPE,
        WdfDeviceInitSetExclusive: PFN_WDFDEVICEINITSETEXCLUSIVE,
        WdfDeviceInitSetPowerNotPageable: PFN_WDFDEVICEINITSETPOWERNOTPAGEABLE,
        WdfDeviceInitSetPowerPageable: PFN_WDFDEVICEINITSETPOWERPAGEABLE,
        WdfDeviceInitSetPowerInrush: PFN_WDFDEVICEINITSETPOWERINRUSH,
        WdfDeviceInitSetDeviceType: PFN_WDFDEVICEINITSETDEVICETYPE,
        WdfDeviceInitAssignName: PFN_WDFDEVICEINITASSIGNNAME,
        WdfDeviceInitAssignSDDLString: PFN_WDFDEVICEINITASSIGNSDDLSTRING,
        WdfDeviceInitSetCharacteristics: PFN_WDFDEVICEINITSETCHARACTERISTICS,
        WdfDeviceInitSetFileObjectConfig: PFN_WDFDEVICEINITSETFILEOBJECTCONFIG,
        WdfDeviceInitSetRequestAttributes: PFN_WDFDEVICEINITSETREQUESTATTRIBUTES,
        WdfDeviceInitSetIoInCallerContextCallback: PFN_WDFDEVICEINITSETIOINCALLERCONTEXTCALLBACK,
        WdfFdoInitWdmGetPhysicalDevice: PFN_WDFFDOINITWDMGETPHYSICALDEVICE,
        WdfFdoInitOpenRegistryKey: PFN_WDFFDOINITOPENREGISTRYKEY,
        WdfFdoInitQueryProperty: PFN_WDFFDOINITQUERYPROPERTY,
        WdfFdoInitSetFilter: PFN_WDFFDOINITSETFILTER,
        WdfDeviceInitSetReleaseHardwareOrderOnFailure: PFN_WDFDEVICEINITSETRELEASEHARDWAREORDERONFAILURE,
        WdfDeviceInitSetIoTypeEx: PFN_WDFDEVICEINITSETIOTYPEEX,
    }
    dma::common_buffer {
        WdfCommonBufferCreate: PFN_WDFCOMMONBUFFERCREATE,
        WdfCommonBufferGetAlignedVirtualAddress: PFN_WDFCOMMONBUFFERGETALIGNEDVIRTUALADDRESS,
        WdfCommonBufferGetAlignedLogicalAddress: PFN_WDFCOMMONBUFFERGETALIGNEDLOGICALADDRESS,
        WdfCommonBufferGetLength: PFN_WDFCOMMONBUFFERGETLENGTH,
        WdfCommonBufferCreateWithConfig: PFN_WDFCOMMONBUFFERCREATEWITHCONFIG,
    }
    dma::enabler_api {
        WdfDmaEnablerCreate: PFN_WDFDMAENABLERCREATE,
        WdfDmaEnablerGetMaximumLength: PFN_WDFDMAENABLERGETMAXIMUMLENGTH,
        WdfDmaEnablerGetMaximumScatterGatherElements: PFN_WDFDMAENABLERGETMAXIMUMSCATTERGATHERELEMENTS,
        WdfDmaEnablerSetMaximumScatterGatherElements: PFN_WDFDMAENABLERSETMAXIMUMSCATTERGATHERELEMENTS,
        WdfDmaEnablerGetFragmentLength: PFN_WDFDMAENABLERGETFRAGMENTLENGTH,
        WdfDmaEnablerWdmGetDmaAdapter: PFN_WDFDMAENABLERWDMGETDMAADAPTER,
        WdfDmaEnablerConfigureSystemProfile: PFN_WDFDMAENABLERCONFIGURESYSTEMPROFILE,
    }
    dma::system_api {
        WdfDmaTransactionSetChannelConfigurationCallback: PFN_WDFDMATRANSACTIONSETCHANNELCONFIGURATIONCALLBACK,
        WdfDmaTransactionSetTransferCompleteCallback: PFN_WDFDMATRANSACTIONSETTRANSFERCOMPLETECALLBACK,
        WdfDmaTransactionSetDeviceAddressOffset: PFN_WDFDMATRANSACTIONSETDEVICEADDRESSOFFSET,
        WdfDmaTransactionStopSystemTransfer: PFN_WDFDMATRANSACTIONSTOPSYSTEMTRANSFER,
    }
    dma::transaction_api {
        WdfDmaTransactionCreate: PFN_WDFDMATRANSACTIONCREATE,
        WdfDmaTransactionInitialize: PFN_WDFDMATRANSACTIONINITIALIZE,
        WdfDmaTransactionInitializeUsingRequest: PFN_WDFDMATRANSACTIONINITIALIZEUSINGREQUEST,
        WdfDmaTransactionExecute: PFN_WDFDMATRANSACTIONEXECUTE,
        WdfDmaTransactionRelease: PFN_WDFDMATRANSACTIONRELEASE,
        WdfDmaTransactionDmaCompleted: PFN_WDFDMATRANSACTIONDMACOMPLETED,
        WdfDmaTransactionDmaCompletedWithLength: PFN_WDFDMATRANSACTIONDMACOMPLETEDWITHLENGTH,
        WdfDmaTransactionDmaCompletedFinal: PFN_WDFDMATRANSACTIONDMACOMPLETEDFINAL,
        WdfDmaTransactionGetBytesTransferred: PFN_WDFDMATRANSACTIONGETBYTESTRANSFERRED,
        WdfDmaTransactionSetMaximumLength: PFN_WDFDMATRANSACTIONSETMAXIMUMLENGTH,
        WdfDmaTransactionGetRequest: PFN_WDFDMATRANSACTIONGETREQUEST,
        WdfDmaTransactionGetCurrentDmaTransferLength: PFN_WDFDMATRANSACTIONGETCURRENTDMATRANSFERLENGTH,
        WdfDmaTransactionGetDevice: PFN_WDFDMATRANSACTIONGETDEVICE,
        WdfDmaTransactionInitializeUsingOffset: PFN_WDFDMATRANSACTIONINITIALIZEUSINGOFFSET,
        WdfDmaTransactionGetTransferInfo: PFN_WDFDMATRANSACTIONGETTRANSFERINFO,
        WdfDmaTransactionSetImmediateExecution: PFN_WDFDMATRANSACTIONSETIMMEDIATEEXECUTION,
        WdfDmaTransactionAllocateResources: PFN_WDFDMATRANSACTIONALLOCATERESOURCES,
        WdfDmaTransactionFreeResources: PFN_WDFDMATRANSACTIONFREERESOURCES,
        WdfDmaTransactionCancel: PFN_WDFDMATRANSACTIONCANCEL,
        WdfDmaTransactionWdmGetTransferContext: PFN_WDFDMATRANSACTIONWDMGETTRANSFERCONTEXT,
        WdfDmaTransactionSetSingleTransferRequirement: PFN_WDFDMATRANSACTIONSETSINGLETRANSFERREQUIREMENT,
    }
    driver {
        WdfDriverCreate: PFN_WDFDRIVERCREATE,
        WdfDriverGetRegistryPath: PFN_WDFDRIVERGETREGISTRYPATH,
        WdfDriverWdmGetDriverObject: PFN_WDFDRIVERWDMGETDRIVEROBJECT,
        WdfDriverOpenParametersRegistryKey: PFN_WDFDRIVEROPENPARAMETERSREGISTRYKEY,
        WdfDriverRetrieveVersionString: PFN_WDFDRIVERRETRIEVEVERSIONSTRING,
        WdfDriverIsVersionAvailable: PFN_WDFDRIVERISVERSIONAVAILABLE,
    }
    fdo {
        WdfFdoQueryForInterface: PFN_WDFFDOQUERYFORINTERFACE,
    }
    interrupt::api {
        WdfInterruptCreate: PFN_WDFINTERRUPTCREATE,
        WdfInterruptQueueDpcForIsr: PFN_WDFINTERRUPTQUEUEDPCFORISR,
        WdfInterruptSynchronize: PFN_WDFINTERRUPTSYNCHRONIZE,
        WdfInterruptAcquireLock: PFN_WDFINTERRUPTACQUIRELOCK,
        WdfInterruptReleaseLock: PFN_WDFINTERRUPTRELEASELOCK,
        WdfInterruptEnable: PFN_WDFINTERRUPTENABLE,
        WdfInterruptDisable: PFN_WDFINTERRUPTDISABLE,
        WdfInterruptWdmGetInterrupt: PFN_WDFINTERRUPTWDMGETINTERRUPT,
        WdfInterruptGetInfo: PFN_WDFINTERRUPTGETINFO,
        WdfInterruptGetDevice: PFN_WDFINTERRUPTGETDEVICE,
        WdfInterruptQueueWorkItemForIsr: PFN_WDFINTERRUPTQUEUEWORKITEMFORISR,
    }
    io::file {
        WdfFileObjectGetFileName: PFN_WDFFILEOBJECTGETFILENAME,
        WdfFileObjectGetFlags: PFN_WDFFILEOBJECTGETFLAGS,
        WdfFileObjectGetDevice: PFN_WDFFILEOBJECTGETDEVICE,
        WdfFileObjectWdmGetFileObject: PFN_WDFFILEOBJECTWDMGETFILEOBJECT,
    }
    io::queue::api {
        WdfIoQueueCreate: PFN_WDFIOQUEUECREATE,
        WdfIoQueueGetState: PFN_WDFIOQUEUEGETSTATE,
        WdfIoQueueStart: PFN_WDFIOQUEUESTART,
        WdfIoQueueStop: PFN_WDFIOQUEUESTOP,
        WdfIoQueueStopSynchronously: PFN_WDFIOQUEUESTOPSYNCHRONOUSLY,
        WdfIoQueueGetDevice: PFN_WDFIOQUEUEGETDEVICE,
        WdfIoQueueRetrieveNextRequest: PFN_WDFIOQUEUERETRIEVENEXTREQUEST,
        WdfIoQueueRetrieveRequestByFileObject: PFN_WDFIOQUEUERETRIEVEREQUESTBYFILEOBJECT,
        WdfIoQueueFindRequest: PFN_WDFIOQUEUEFINDREQUEST,
        WdfIoQueueRetrieveFoundRequest: PFN_WDFIOQUEUERETRIEVEFOUNDREQUEST,
        WdfIoQueueDrainSynchronously: PFN_WDFIOQUEUEDRAINSYNCHRONOUSLY,
        WdfIoQueueDrain: PFN_WDFIOQUEUEDRAIN,
        WdfIoQueuePurgeSynchronously: PFN_WDFIOQUEUEPURGESYNCHRONOUSLY,
        WdfIoQueuePurge: PFN_WDFIOQUEUEPURGE,
        WdfIoQueueReadyNotify: PFN_WDFIOQUEUEREADYNOTIFY,
        WdfIoQueueStopAndPurge: PFN_WDFIOQUEUESTOPANDPURGE,
        WdfIoQueueStopAndPurgeSynchronously: PFN_WDFIOQUEUESTOPANDPURGESYNCHRONOUSLY,
    }
    io::request::api {
        WdfDeviceEnqueueRequest: PFN_WDFDEVICEENQUEUEREQUEST,
        WdfRequestGetStatus: PFN_WDFREQUESTGETSTATUS,
        WdfRequestMarkCancelable: PFN_WDFREQUESTMARKCANCELABLE,
        WdfRequestUnmarkCancelable: PFN_WDFREQUESTUNMARKCANCELABLE,
        WdfRequestIsCanceled: PFN_WDFREQUESTISCANCELED,
        WdfRequestIsFrom32BitProcess: PFN_WDFREQUESTISFROM32BITPROCESS,
        WdfRequestComplete: PFN_WDFREQUESTCOMPLETE,
        WdfRequestCompleteWithPriorityBoost: PFN_WDFREQUESTCOMPLETEWITHPRIORITYBOOST,
        WdfRequestCompleteWithInformation: PFN_WDFREQUESTCOMPLETEWITHINFORMATION,
        WdfRequestGetParameters: PFN_WDFREQUESTGETPARAMETERS,
        WdfRequestSetInformation: PFN_WDFREQUESTSETINFORMATION,
        WdfRequestGetInformation: PFN_WDFREQUESTGETINFORMATION,
        WdfRequestGetFileObject: PFN_WDFREQUESTGETFILEOBJECT,
        WdfRequestGetRequestorMode: PFN_WDFREQUESTGETREQUESTORMODE,
        WdfRequestForwardToIoQueue: PFN_WDFREQUESTFORWARDTOIOQUEUE,
        WdfRequestGetIoQueue: PFN_WDFREQUESTGETIOQUEUE,
        WdfRequestRequeue: PFN_WDFREQUESTREQUEUE,
        WdfRequestStopAcknowledge: PFN_WDFREQUESTSTOPACKNOWLEDGE,
        WdfRequestWdmGetIrp: PFN_WDFREQUESTWDMGETIRP,
        WdfRequestMarkCancelableEx: PFN_WDFREQUESTMARKCANCELABLEEX,
        WdfRequestIsReserved: PFN_WDFREQUESTISRESERVED,
        WdfRequestGetRequestorProcessId: PFN_WDFREQUESTGETREQUESTORPROCESSID,
    }
    io::request::buffers_api {
        WdfRequestRetrieveInputMemory: PFN_WDFREQUESTRETRIEVEINPUTMEMORY,
        WdfRequestRetrieveOutputMemory: PFN_WDFREQUESTRETRIEVEOUTPUTMEMORY,
        WdfRequestRetrieveInputBuffer: PFN_WDFREQUESTRETRIEVEINPUTBUFFER,
        WdfRequestRetrieveOutputBuffer: PFN_WDFREQUESTRETRIEVEOUTPUTBUFFER,
        WdfRequestRetrieveInputWdmMdl: PFN_WDFREQUESTRETRIEVEINPUTWDMMDL,
        WdfRequestRetrieveOutputWdmMdl: PFN_WDFREQUESTRETRIEVEOUTPUTWDMMDL,
    }
    memory {
        WdfMemoryCreate: PFN_WDFMEMORYCREATE,
        WdfMemoryCreatePreallocated: PFN_WDFMEMORYCREATEPREALLOCATED,
        WdfMemoryGetBuffer: PFN_WDFMEMORYGETBUFFER,
        WdfMemoryCopyToBuffer: PFN_WDFMEMORYCOPYTOBUFFER,
        WdfMemoryCopyFromBuffer: PFN_WDFMEMORYCOPYFROMBUFFER,
    }
    object {
        WdfObjectGetTypedContextWorker: PFN_WDFOBJECTGETTYPEDCONTEXTWORKER,
        WdfObjectAllocateContext: PFN_WDFOBJECTALLOCATECONTEXT,
        WdfObjectContextGetObject: PFN_WDFOBJECTCONTEXTGETOBJECT,
        WdfObjectReferenceActual: PFN_WDFOBJECTREFERENCEACTUAL,
        WdfObjectDereferenceActual: PFN_WDFOBJECTDEREFERENCEACTUAL,
        WdfObjectCreate: PFN_WDFOBJECTCREATE,
        WdfObjectDelete: PFN_WDFOBJECTDELETE,
        WdfObjectAcquireLock: PFN_WDFOBJECTACQUIRELOCK,
        WdfObjectReleaseLock: PFN_WDFOBJECTRELEASELOCK,
    }
    registry {
        WdfRegistryOpenKey: PFN_WDFREGISTRYOPENKEY,
        WdfRegistryClose: PFN_WDFREGISTRYCLOSE,
        WdfRegistryWdmGetHandle: PFN_WDFREGISTRYWDMGETHANDLE,
        WdfRegistryQueryValue: PFN_WDFREGISTRYQUERYVALUE,
        WdfRegistryQueryULong: PFN_WDFREGISTRYQUERYULONG,
        WdfRegistryAssignULong: PFN_WDFREGISTRYASSIGNULONG,
    }
    resource {
        WdfCmResourceListGetCount: PFN_WDFCMRESOURCELISTGETCOUNT,
        WdfCmResourceListGetDescriptor: PFN_WDFCMRESOURCELISTGETDESCRIPTOR,
    }
    spinlock {
        WdfSpinLockCreate: PFN_WDFSPINLOCKCREATE,
        WdfSpinLockAcquire: PFN_WDFSPINLOCKACQUIRE,
        WdfSpinLockRelease: PFN_WDFSPINLOCKRELEASE,
    }
    string {
        WdfStringCreate: PFN_WDFSTRINGCREATE,
        WdfStringGetUnicodeString: PFN_WDFSTRINGGETUNICODESTRING,
    }
    waitlock {
        WdfWaitLockCreate: PFN_WDFWAITLOCKCREATE,
        WdfWaitLockAcquire: PFN_WDFWAITLOCKACQUIRE,
        WdfWaitLockRelease: PFN_WDFWAITLOCKRELEASE,
    }
}

/// The table, made at the first binding.
pub(crate) fn functions() -> &'static [usize] {
    static TABLE: OnceLock<Vec<usize>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let thunks = tens!(0 10 20 30 40 50 60 70 80 90 100 110 120 130 140 150 160 170 180 190 200 210 220 230 240 250 260
            270 280 290 300 310 320 330 340 350 360 370 380 390 400 410 420 430 440 450);
        let mut table = thunks[..COUNT].to_vec();
        for (name, address) in offered() {
            let Some(index) = index_of(name) else { unreachable!("{name} is no entry of the table") };
            table[index] = machine_nt::gate::guard(index, name, address);
        }
        machine_nt::gate::complete();
        table
    })
}

/// The index of the entry called `name`.
fn index_of(name: &str) -> Option<usize> {
    ddi_names()
        .iter()
        .find(|(ddi, _)| *ddi == name)
        .map(|&(_, index)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offered_entry_has_a_place_of_its_own() {
        let offered = offered();
        let mut indices: Vec<usize> = offered
            .iter()
            .filter_map(|(name, _)| index_of(name))
            .collect();
        indices.sort_unstable();
        indices.dedup();
        assert_eq!(indices.len(), offered.len());
        assert_eq!(functions().len(), COUNT);
    }

    #[test]
    fn names_are_listed_by_index() {
        assert!(
            ddi_names()
                .iter()
                .enumerate()
                .all(|(place, &(_, index))| place == index)
        );
    }
}
