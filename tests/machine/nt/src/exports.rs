//! The kernel routines by their Windows names, and the table that resolves an image's imports from ntoskrnl.exe.

macro_rules! exports {
    ($($($module:ident)::+ { $($name:ident),* $(,)? })*) => {
        $(pub use crate::$($module)::+::{$($name),*};)*

        /// Name and address of every routine that an image can import.
        pub fn exports() -> Vec<(&'static str, usize)> {
            vec![$($((stringify!($name), $name as *const () as usize),)*)*]
        }

        /// Never called: not even instantiated: it compiles only if every routine has the type that the headers declare.
        #[allow(dead_code, clippy::extra_unused_type_parameters)]
        fn types_are_those_of_the_headers<T>() {
            $($(let _ = if true { nt_sys::$name } else { $name };)*)*
        }
    };
}

// Inline in the Windows headers, so no image imports it and the headers declare no routine of the name.
pub use crate::io::cancel::IoSetCancelRoutine;

exports! {
    ex::lookaside {
        ExInitializeLookasideListEx, ExDeleteLookasideListEx, ExAllocateFromLookasideListEx, ExFreeToLookasideListEx,
    }
    ex::pool { ExAllocatePool2, ExAllocatePoolWithTag, ExFreePool, ExFreePoolWithTag }
    ex::workitem { IoAllocateWorkItem, IoFreeWorkItem, IoQueueWorkItem, IoQueueWorkItemEx }
    hal {
        IoGetDmaAdapter, IoConnectInterruptEx, IoDisconnectInterruptEx, IoReportInterruptActive,
        IoReportInterruptInactive, IoGetDeviceProperty, IoGetDevicePropertyData, IoSetDevicePropertyData,
        IoOpenDeviceRegistryKey, IoInvalidateDeviceState, IoInvalidateDeviceRelations, IoRequestDeviceEject,
        PoRequestPowerIrp, MmMapIoSpaceEx, MmUnmapIoSpace,
    }
    io::cancel { IoAcquireCancelSpinLock, IoReleaseCancelSpinLock, IoCancelIrp }
    io::device {
        IoCreateDevice, IoDeleteDevice, IoAttachDeviceToDeviceStack, IoAttachDeviceToDeviceStackSafe, IoDetachDevice,
        IoGetAttachedDeviceReference, IoCreateSymbolicLink, IoDeleteSymbolicLink,
    }
    io::driver { IoAllocateDriverObjectExtension, IoGetDriverObjectExtension }
    io::interface { IoRegisterDeviceInterface, IoSetDeviceInterfaceState, IoGetDeviceInterfaces }
    io::irp {
        IoAllocateIrp, IoFreeIrp, IoInitializeIrp, IoReuseIrp, IofCallDriver, IoCallDriver, IofCompleteRequest,
        IoCompleteRequest, IoSetCompletionRoutineEx, IoIs32bitProcess,
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
        KeLeaveCriticalRegion, KeAreApcsDisabled,
    }
    ke::interrupt { KeAcquireInterruptSpinLock, KeReleaseInterruptSpinLock, KeSynchronizeExecution }
    ke::irql { KeGetCurrentIrql, KfRaiseIrql, KeRaiseIrqlToDpcLevel, KeLowerIrql }
    ke::spinlock {
        KeInitializeSpinLock, KeAcquireSpinLockRaiseToDpc, KeReleaseSpinLock, KeAcquireSpinLockAtDpcLevel,
        KeTryToAcquireSpinLockAtDpcLevel, KeReleaseSpinLockFromDpcLevel, KeAcquireInStackQueuedSpinLock,
        KeReleaseInStackQueuedSpinLock,
    }
    ke::thread {
        PsCreateSystemThread, PsTerminateSystemThread, PsGetCurrentThreadId, PsGetCurrentProcessId, KeGetCurrentThread,
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
        MmFreeContiguousMemory, MmFreeContiguousMemorySpecifyCache,
    }
    mm::map { MmMapLockedPagesSpecifyCache, MmUnmapLockedPages }
    mm::mdl {
        IoAllocateMdl, IoFreeMdl, MmSizeOfMdl, MmBuildMdlForNonPagedPool, MmProbeAndLockPages, MmUnlockPages,
        IoBuildPartialMdl, MmGetPhysicalAddress,
    }
    ob {
        ObfReferenceObject, ObfDereferenceObject, ObDereferenceObjectDeferDelete, ObReferenceObjectByHandle, ZwClose,
    }
}
