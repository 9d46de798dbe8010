// I/O queues.
#pragma once

#include "types.h"

typedef enum _WDF_IO_QUEUE_DISPATCH_TYPE {
    WdfIoQueueDispatchInvalid = 0,
    WdfIoQueueDispatchSequential,
    WdfIoQueueDispatchParallel,
    WdfIoQueueDispatchManual,
    WdfIoQueueDispatchMax,
} WDF_IO_QUEUE_DISPATCH_TYPE;

typedef enum _WDF_IO_QUEUE_STATE {
    WdfIoQueueAcceptRequests = 0x01,
    WdfIoQueueDispatchRequests = 0x02,
    WdfIoQueueNoRequests = 0x04,
    WdfIoQueueDriverNoRequests = 0x08,
    WdfIoQueuePnpHeld = 0x10,
} WDF_IO_QUEUE_STATE;

WDF_CALLBACK(VOID, WDF_IO_QUEUE_IO_DEFAULT, WDFQUEUE Queue, WDFREQUEST Request);
WDF_CALLBACK(VOID, WDF_IO_QUEUE_IO_STOP, WDFQUEUE Queue, WDFREQUEST Request, ULONG ActionFlags);
WDF_CALLBACK(VOID, WDF_IO_QUEUE_IO_RESUME, WDFQUEUE Queue, WDFREQUEST Request);
WDF_CALLBACK(VOID, WDF_IO_QUEUE_IO_READ, WDFQUEUE Queue, WDFREQUEST Request, size_t Length);
WDF_CALLBACK(VOID, WDF_IO_QUEUE_IO_WRITE, WDFQUEUE Queue, WDFREQUEST Request, size_t Length);
WDF_CALLBACK(VOID, WDF_IO_QUEUE_IO_DEVICE_CONTROL, WDFQUEUE Queue, WDFREQUEST Request, size_t OutputBufferLength,
             size_t InputBufferLength, ULONG IoControlCode);
WDF_CALLBACK(VOID, WDF_IO_QUEUE_IO_INTERNAL_DEVICE_CONTROL, WDFQUEUE Queue, WDFREQUEST Request,
             size_t OutputBufferLength, size_t InputBufferLength, ULONG IoControlCode);
WDF_CALLBACK(VOID, WDF_IO_QUEUE_IO_CANCELED_ON_QUEUE, WDFQUEUE Queue, WDFREQUEST Request);
WDF_CALLBACK(VOID, WDF_IO_QUEUE_STATE, WDFQUEUE Queue, WDFCONTEXT Context);

typedef struct _WDF_IO_QUEUE_CONFIG {
    ULONG Size;
    WDF_IO_QUEUE_DISPATCH_TYPE DispatchType;
    WDF_TRI_STATE PowerManaged;
    BOOLEAN AllowZeroLengthRequests;
    BOOLEAN DefaultQueue;
    PFN_WDF_IO_QUEUE_IO_DEFAULT EvtIoDefault;
    PFN_WDF_IO_QUEUE_IO_READ EvtIoRead;
    PFN_WDF_IO_QUEUE_IO_WRITE EvtIoWrite;
    PFN_WDF_IO_QUEUE_IO_DEVICE_CONTROL EvtIoDeviceControl;
    PFN_WDF_IO_QUEUE_IO_INTERNAL_DEVICE_CONTROL EvtIoInternalDeviceControl;
    PFN_WDF_IO_QUEUE_IO_STOP EvtIoStop;
    PFN_WDF_IO_QUEUE_IO_RESUME EvtIoResume;
    PFN_WDF_IO_QUEUE_IO_CANCELED_ON_QUEUE EvtIoCanceledOnQueue;
    union {
        struct {
            ULONG NumberOfPresentedRequests;
        } Parallel;
    } Settings;
    WDFDRIVER Driver;
} WDF_IO_QUEUE_CONFIG, *PWDF_IO_QUEUE_CONFIG;

typedef enum _WDF_IO_FORWARD_PROGRESS_ACTION {
    WdfIoForwardProgressActionInvalid = 0x0,
    WdfIoForwardProgressActionFailRequest,
    WdfIoForwardProgressActionUseReservedRequest,
} WDF_IO_FORWARD_PROGRESS_ACTION;

typedef enum _WDF_IO_FORWARD_PROGRESS_RESERVED_POLICY {
    WdfIoForwardProgressInvalidPolicy = 0x0,
    WdfIoForwardProgressReservedPolicyAlwaysUseReservedRequest,
    WdfIoForwardProgressReservedPolicyUseExamine,
    WdfIoForwardProgressReservedPolicyPagingIO,
} WDF_IO_FORWARD_PROGRESS_RESERVED_POLICY;

WDF_CALLBACK(NTSTATUS, WDF_IO_ALLOCATE_RESOURCES_FOR_RESERVED_REQUEST, WDFQUEUE Queue, WDFREQUEST Request);
WDF_CALLBACK(NTSTATUS, WDF_IO_ALLOCATE_REQUEST_RESOURCES, WDFQUEUE Queue, WDFREQUEST Request);
WDF_CALLBACK(WDF_IO_FORWARD_PROGRESS_ACTION, WDF_IO_WDM_IRP_FOR_FORWARD_PROGRESS, WDFQUEUE Queue, PIRP Irp);

typedef struct _WDF_IO_FORWARD_PROGRESS_RESERVED_POLICY_SETTINGS {
    union {
        struct {
            PFN_WDF_IO_WDM_IRP_FOR_FORWARD_PROGRESS EvtIoWdmIrpForForwardProgress;
        } ExaminePolicy;
    } Policy;
} WDF_IO_FORWARD_PROGRESS_RESERVED_POLICY_SETTINGS;

typedef struct _WDF_IO_QUEUE_FORWARD_PROGRESS_POLICY {
    ULONG Size;
    ULONG TotalForwardProgressRequests;
    WDF_IO_FORWARD_PROGRESS_RESERVED_POLICY ForwardProgressReservedPolicy;
    WDF_IO_FORWARD_PROGRESS_RESERVED_POLICY_SETTINGS ForwardProgressReservePolicySettings;
    PFN_WDF_IO_ALLOCATE_RESOURCES_FOR_RESERVED_REQUEST EvtIoAllocateResourcesForReservedRequest;
    PFN_WDF_IO_ALLOCATE_REQUEST_RESOURCES EvtIoAllocateRequestResources;
} WDF_IO_QUEUE_FORWARD_PROGRESS_POLICY, *PWDF_IO_QUEUE_FORWARD_PROGRESS_POLICY;
