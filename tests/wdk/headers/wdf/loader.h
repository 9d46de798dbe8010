// The loader, WDFLDR.SYS, and the information with which a driver binds to a version of the framework.
#pragma once

#include "globals.h"

typedef ULONG WDF_MAJOR_VERSION;
typedef ULONG WDF_MINOR_VERSION;
typedef ULONG WDF_BUILD_NUMBER;
typedef size_t *WDF_STRUCT_INFO;

typedef struct _WDF_VERSION {
    WDF_MAJOR_VERSION Major;
    WDF_MINOR_VERSION Minor;
    WDF_BUILD_NUMBER Build;
} WDF_VERSION;

typedef struct _WDF_BIND_INFO {
    ULONG Size;
    PWCHAR Component;
    WDF_VERSION Version;
    ULONG FuncCount;
    WDFFUNC *FuncTable;
    PVOID Module;
} WDF_BIND_INFO, *PWDF_BIND_INFO;

// From version 1.25 on. V1.Size is the size of the whole structure.
typedef struct _WDF_BIND_INFO2 {
    WDF_BIND_INFO V1;
    WDF_MINOR_VERSION *MinimumVersionRequired;
    BOOLEAN *ClientVersionHigherThanFramework;
    ULONG *FuncCountPtr;
    ULONG *StructCountPtr;
    WDF_STRUCT_INFO *StructTable;
} WDF_BIND_INFO2, *PWDF_BIND_INFO2;

// Class extensions are not described.
typedef struct _WDF_CLASS_BIND_INFO *PWDF_CLASS_BIND_INFO;

NTSTATUS WdfVersionBind(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath, PWDF_BIND_INFO BindInfo,
                        PWDF_COMPONENT_GLOBALS *ComponentGlobals);
NTSTATUS WdfVersionUnbind(PUNICODE_STRING RegistryPath, PWDF_BIND_INFO BindInfo,
                          PWDF_COMPONENT_GLOBALS ComponentGlobals);
NTSTATUS WdfVersionBindClass(PWDF_BIND_INFO BindInfo, PWDF_COMPONENT_GLOBALS Globals,
                             PWDF_CLASS_BIND_INFO ClassBindInfo);
VOID WdfVersionUnbindClass(PWDF_BIND_INFO BindInfo, PWDF_COMPONENT_GLOBALS Globals,
                           PWDF_CLASS_BIND_INFO ClassBindInfo);
