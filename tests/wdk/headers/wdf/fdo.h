// Function device objects, control devices and query-interface.
#pragma once

#include "types.h"

WDF_CALLBACK(NTSTATUS, WDF_DEVICE_FILTER_RESOURCE_REQUIREMENTS, WDFDEVICE Device,
             WDFIORESREQLIST IoResourceRequirementsList);
WDF_CALLBACK(NTSTATUS, WDF_DEVICE_REMOVE_ADDED_RESOURCES, WDFDEVICE Device, WDFCMRESLIST ResourcesRaw,
             WDFCMRESLIST ResourcesTranslated);

typedef struct _WDF_FDO_EVENT_CALLBACKS {
    ULONG Size;
    PFN_WDF_DEVICE_FILTER_RESOURCE_REQUIREMENTS EvtDeviceFilterAddResourceRequirements;
    PFN_WDF_DEVICE_FILTER_RESOURCE_REQUIREMENTS EvtDeviceFilterRemoveResourceRequirements;
    PFN_WDF_DEVICE_REMOVE_ADDED_RESOURCES EvtDeviceRemoveAddedResources;
} WDF_FDO_EVENT_CALLBACKS, *PWDF_FDO_EVENT_CALLBACKS;

WDF_CALLBACK(VOID, WDF_DEVICE_SHUTDOWN_NOTIFICATION, WDFDEVICE Device);

typedef enum _WDF_DEVICE_SHUTDOWN_FLAGS {
    WdfDeviceShutdown = 0x01,
    WdfDeviceLastChanceShutdown = 0x02,
} WDF_DEVICE_SHUTDOWN_FLAGS;

WDF_CALLBACK(NTSTATUS, WDF_DEVICE_PROCESS_QUERY_INTERFACE_REQUEST, WDFDEVICE Device, LPGUID InterfaceType,
             PINTERFACE ExposedInterface, PVOID ExposedInterfaceSpecificData);

typedef struct _WDF_QUERY_INTERFACE_CONFIG {
    ULONG Size;
    PINTERFACE Interface;
    CONST GUID *InterfaceType;
    BOOLEAN SendQueryToParentStack;
    PFN_WDF_DEVICE_PROCESS_QUERY_INTERFACE_REQUEST EvtDeviceProcessQueryInterfaceRequest;
    BOOLEAN ImportInterface;
} WDF_QUERY_INTERFACE_CONFIG, *PWDF_QUERY_INTERFACE_CONFIG;
