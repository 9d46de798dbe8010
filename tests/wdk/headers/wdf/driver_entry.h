// The image's entry point: binds the driver to the framework and hands over to its DriverEntry.
//
// C, not declarations: compiled once, into the object that wdk-sys builds from the whole set of headers, when
// WDK_DRIVER_ENTRY is defined. On Windows this code comes with the WDK, in WdfDriverEntry.lib.
#pragma once

#include "loader.h"

DRIVER_INITIALIZE DriverEntry;
DRIVER_INITIALIZE FxDriverEntry;
static DRIVER_UNLOAD FxStubDriverUnload;

const WDFFUNC *WdfFunctions;
PWDF_DRIVER_GLOBALS WdfDriverGlobals;
ULONG WdfFunctionCount;
ULONG WdfStructureCount;
WDF_STRUCT_INFO WdfStructures;
BOOLEAN WdfClientVersionHigherThanFramework;
static WDF_MINOR_VERSION WdfMinimumVersionRequired = KMDF_MINIMUM_VERSION_REQUIRED;

static WDF_BIND_INFO2 WdfBindInfo = {
    .V1 = {
        .Size = sizeof(WDF_BIND_INFO2),
        .Component = (PWCHAR)L"KmdfLibrary",
        .Version = {.Major = KMDF_VERSION_MAJOR, .Minor = KMDF_VERSION_MINOR, .Build = 0},
        .FuncCount = WdfFunctionTableNumEntries,
        .FuncTable = (WDFFUNC *)&WdfFunctions,
        .Module = NULL,
    },
    .MinimumVersionRequired = &WdfMinimumVersionRequired,
    .ClientVersionHigherThanFramework = &WdfClientVersionHigherThanFramework,
    .FuncCountPtr = &WdfFunctionCount,
    .StructCountPtr = &WdfStructureCount,
    .StructTable = &WdfStructures,
};

static UNICODE_STRING WdfRegistryPath;
static WCHAR WdfRegistryPathBuffer[260];
static PDRIVER_UNLOAD WdfDisplacedUnload;

static NTSTATUS FxStubUnbind(NTSTATUS Status)
{
    WdfVersionUnbind(&WdfRegistryPath, &WdfBindInfo.V1, (PWDF_COMPONENT_GLOBALS)WdfDriverGlobals);
    return Status;
}

static VOID FxStubDriverUnload(PDRIVER_OBJECT DriverObject)
{
    if (WdfDisplacedUnload != NULL) {
        WdfDisplacedUnload(DriverObject);
    }
    FxStubUnbind(STATUS_SUCCESS);
}

NTSTATUS FxDriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
    WdfRegistryPath.Buffer = WdfRegistryPathBuffer;
    WdfRegistryPath.MaximumLength = sizeof(WdfRegistryPathBuffer);
    RtlCopyUnicodeString(&WdfRegistryPath, RegistryPath);

    NTSTATUS status = WdfVersionBind(DriverObject, &WdfRegistryPath, &WdfBindInfo.V1,
                                     (PWDF_COMPONENT_GLOBALS *)&WdfDriverGlobals);
    if (!NT_SUCCESS(status)) {
        return status;
    }

    status = DriverEntry(DriverObject, RegistryPath);
    if (!NT_SUCCESS(status)) {
        return FxStubUnbind(status);
    }

    if (WdfDriverGlobals->DisplaceDriverUnload) {
        WdfDisplacedUnload = DriverObject->DriverUnload;
        DriverObject->DriverUnload = FxStubDriverUnload;
    }
    return STATUS_SUCCESS;
}
