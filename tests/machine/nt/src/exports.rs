//! The kernel routines by their Windows names, and the table that resolves an image's imports from ntoskrnl.exe.

macro_rules! exports {
    ($($($module:ident)::+ { $($name:ident),* $(,)? })*) => {
        $(pub use crate::$($module)::+::{$($name),*};)*

        /// Name and address of the routines whose types the headers declare.
        fn declared() -> Vec<(&'static str, usize)> {
            vec![$($((stringify!($name), $name as *const () as usize),)*)*]
        }

        /// Never called; it compiles only if every routine has the type that the headers declare.
        #[allow(dead_code, clippy::extra_unused_type_parameters)]
        fn types_are_those_of_the_headers<T>() {
            $($(let _ = if true { nt_sys::$name } else { $name };)*)*
        }
    };
}

exports! {
    dbg { vDbgPrintEx, vDbgPrintExWithPrefix }
    ex::fastmutex { ExAcquireFastMutex, ExTryToAcquireFastMutex, ExReleaseFastMutex }
    ex::lookaside {
        ExInitializeLookasideListEx, ExDeleteLookasideListEx, ExAllocateFromLookasideListEx, ExFreeToLookasideListEx,
    }
    ex::pool { ExAllocatePool2, ExAllocatePoolWithTag, ExFreePool, ExFreePoolWithTag }
    ex::rundown {
        ExInitializeRundownProtection, ExAcquireRundownProtection, ExReleaseRundownProtection,
        ExWaitForRundownProtectionRelease,
    }
    ex::workitem { IoAllocateWorkItem, IoFreeWorkItem, IoQueueWorkItem, IoQueueWorkItemEx }
    hal {
        IoGetDmaAdapter, IoConnectInterruptEx, IoDisconnectInterruptEx, IoReportInterruptActive,
        IoReportInterruptInactive, IoGetDeviceProperty, IoGetDevicePropertyData, IoSetDevicePropertyData,
        IoOpenDeviceRegistryKey, IoInvalidateDeviceState, IoInvalidateDeviceRelations, IoRequestDeviceEject,
        PoRequestPowerIrp, MmMapIoSpaceEx, MmUnmapIoSpace, MmMapIoSpace,
    }
    io::cancel { IoAcquireCancelSpinLock, IoReleaseCancelSpinLock, IoCancelIrp }
    io::device {
        IoCreateDevice, IoDeleteDevice, IoAttachDeviceToDeviceStack, IoAttachDeviceToDeviceStackSafe, IoDetachDevice,
        IoGetAttachedDeviceReference, IoCreateSymbolicLink, IoDeleteSymbolicLink,
    }
    io::driver { IoAllocateDriverObjectExtension, IoGetDriverObjectExtension, IoOpenDriverRegistryKey }
    io::interface { IoRegisterDeviceInterface, IoSetDeviceInterfaceState, IoGetDeviceInterfaces }
    io::irp {
        IoAllocateIrp, IoFreeIrp, IoInitializeIrp, IoReuseIrp, IofCallDriver, IoCallDriver, IofCompleteRequest,
        IoCompleteRequest, IoSetCompletionRoutineEx, IoIs32bitProcess, IoGetRequestorProcessId,
    }
    io::power { PoStartNextPowerIrp, PoCallDriver, PoSetPowerState }
    io::request { IoBuildSynchronousFsdRequest, IoBuildDeviceIoControlRequest }
    ke::dpc {
        KeInitializeDpc, KeInitializeThreadedDpc, KeInsertQueueDpc, KeRemoveQueueDpc, KeSetImportanceDpc,
        KeSetTargetProcessorDpc, KeSetTargetProcessorDpcEx, KeFlushQueuedDpcs,
    }
    ke::event {
        KeInitializeEvent, KeSetEvent, KeClearEvent, KeResetEvent, KeReadStateEvent, KeInitializeMutex, KeReleaseMutex,
        KeReadStateMutex, KeInitializeSemaphore, KeReleaseSemaphore, KeReadStateSemaphore, KeEnterCriticalRegion,
        KeLeaveCriticalRegion, KeAreApcsDisabled, KeEnterGuardedRegion,
        KeLeaveGuardedRegion, KeAreAllApcsDisabled,
    }
    ke::interrupt { KeAcquireInterruptSpinLock, KeReleaseInterruptSpinLock, KeSynchronizeExecution }
    ke::irql { KeGetCurrentIrql, KfRaiseIrql, KeRaiseIrqlToDpcLevel, KeLowerIrql }
    ke::spinlock {
        KeInitializeSpinLock, KeAcquireSpinLockRaiseToDpc, KeReleaseSpinLock, KeAcquireSpinLockAtDpcLevel,
        KeTryToAcquireSpinLockAtDpcLevel, KeReleaseSpinLockFromDpcLevel, KeAcquireInStackQueuedSpinLock,
        KeReleaseInStackQueuedSpinLock, KeAcquireInStackQueuedSpinLockAtDpcLevel,
        KeReleaseInStackQueuedSpinLockFromDpcLevel,
    }
    ke::thread {
        PsCreateSystemThread, PsTerminateSystemThread, PsGetCurrentThreadId, PsGetCurrentProcessId, KeGetCurrentThread, IoGetCurrentProcess, PsGetProcessId,
        KeSetPriorityThread, KeGetCurrentProcessorNumberEx, KeQueryActiveProcessorCountEx,
        KeQueryMaximumProcessorCountEx, KeGetProcessorIndexFromNumber, KeGetProcessorNumberFromIndex, KeBugCheckEx,
        DbgBreakPoint,
    }
    ke::timer {
        KeInitializeTimer, KeInitializeTimerEx, KeSetTimer, KeSetTimerEx, KeSetCoalescableTimer, KeCancelTimer,
        KeReadStateTimer, KeStallExecutionProcessor, KeQueryPerformanceCounter, KeQuerySystemTimePrecise,
        KeQueryInterruptTime, KeQueryInterruptTimePrecise, KeQueryUnbiasedInterruptTime, KeQueryTimeIncrement,
    }
    ke::wait { KeWaitForSingleObject, KeWaitForMultipleObjects, KeDelayExecutionThread }
    mm::contiguous {
        MmAllocateContiguousMemory, MmAllocateContiguousMemorySpecifyCache, MmAllocateContiguousNodeMemory,
        MmAllocateContiguousMemorySpecifyCacheNode,
        MmFreeContiguousMemory, MmFreeContiguousMemorySpecifyCache,
    }
    mm::map { MmMapLockedPagesSpecifyCache, MmUnmapLockedPages }
    mm::mdl {
        IoAllocateMdl, IoFreeMdl, MmSizeOfMdl, MmBuildMdlForNonPagedPool, MmProbeAndLockPages, MmUnlockPages,
        IoBuildPartialMdl, MmGetPhysicalAddress, MmIsAddressValid, KeFlushIoBuffers,
    }
    ob {
        ObfReferenceObject, ObfDereferenceObject, ObDereferenceObjectDeferDelete, ObReferenceObjectByHandle, ZwClose,
    }
    registry { ZwOpenKey, ZwCreateKey, ZwDeleteKey, ZwQueryValueKey, ZwSetValueKey, ZwDeleteValueKey }
    rtl {
        RtlInitUnicodeString, RtlCopyUnicodeString, RtlAppendUnicodeStringToString, RtlCompareUnicodeString,
        RtlEqualUnicodeString, RtlFreeUnicodeString, RtlStringFromGUID, RtlGUIDFromString, RtlCompareMemory, memcpy,
        memmove, memset, memcmp, strlen,
    }
}

pub use crate::dbg::{DbgPrint, DbgPrintEx};
use crate::image;
pub use crate::support::{__C_specific_handler, __chkstk};

/// Name and address of every routine that an image can import. What an image allocates and locks
/// is told apart from what the machine does on its behalf.
pub fn exports() -> Vec<(&'static str, usize)> {
    let mut all = vec![
        ("DbgPrint", DbgPrint as *const () as usize),
        ("DbgPrintEx", DbgPrintEx as *const () as usize),
        ("__chkstk", __chkstk as *const () as usize),
        (
            "__C_specific_handler",
            __C_specific_handler as *const () as usize,
        ),
    ];
    all.extend(image::exports());
    let named: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    all.extend(
        declared()
            .into_iter()
            .filter(|(name, _)| !named.contains(name)),
    );
    all
}
