// The entry code of a KMDF driver: what the WDK ships as WdfDriverEntry.lib.
//
// The image's entry point binds the driver to the framework, which fills in the function table, and only then calls
// DriverEntry. Unload goes the other way round. The steps are those of the framework's own documentation and of its
// published loader interface (fxldr.h).

#include <ntddk.h>
#include <wdf.h>
#include <wdf/loader.h>

// The framework's function table; its loader stores the address here.
const WDFFUNC *WdfFunctions = NULL;
// How many entries of it this driver may use; lowered by an older framework.
ULONG WdfFunctionCount = WdfFunctionTableNumEntries;
PWDF_DRIVER_GLOBALS WdfDriverGlobals = NULL;

// The rest of what the loader of 1.25 and later reports of an older framework.
static WDF_MINOR_VERSION MinimumVersionRequired = KMDF_VERSION_MINOR;
static BOOLEAN ClientVersionHigherThanFramework = FALSE;
static ULONG StructureCount = 0;
static WDF_STRUCT_INFO Structures = NULL;

static WDF_BIND_INFO2 BindInfo = {
    .V1 = {
        .Size = sizeof(WDF_BIND_INFO2),
        .Component = L"KmdfLibrary",
        .Version = { KMDF_VERSION_MAJOR, KMDF_VERSION_MINOR, 0 },
        .FuncCount = WdfFunctionTableNumEntries,
        .FuncTable = (WDFFUNC *)&WdfFunctions,
    },
    .MinimumVersionRequired = &MinimumVersionRequired,
    .ClientVersionHigherThanFramework = &ClientVersionHigherThanFramework,
    .FuncCountPtr = &WdfFunctionCount,
    .StructCountPtr = &StructureCount,
    .StructTable = &Structures,
};

// The system's string is gone when DriverEntry has returned, and unbinding needs it.
static WCHAR RegistryPathBuffer[260];
static UNICODE_STRING RegistryPath = {
    .MaximumLength = sizeof(RegistryPathBuffer),
    .Buffer = RegistryPathBuffer,
};

static PDRIVER_UNLOAD DriversOwnUnload;

NTSTATUS DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING Path);

static void Unbind(void)
{
    WdfVersionUnbind(&RegistryPath, &BindInfo.V1, (PWDF_COMPONENT_GLOBALS)WdfDriverGlobals);
}

static VOID Unload(PDRIVER_OBJECT DriverObject)
{
    if (DriversOwnUnload != NULL) {
        DriversOwnUnload(DriverObject);
    }
    Unbind();
}

NTSTATUS FxDriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING Path)
{
    NTSTATUS status;

    RtlCopyUnicodeString(&RegistryPath, Path);
    status = WdfVersionBind(DriverObject, &RegistryPath, &BindInfo.V1, (PWDF_COMPONENT_GLOBALS *)&WdfDriverGlobals);
    if (!NT_SUCCESS(status)) {
        return status;
    }
    status = DriverEntry(DriverObject, Path);
    if (!NT_SUCCESS(status)) {
        Unbind();
        return status;
    }
    if (WdfDriverGlobals->DisplaceDriverUnload) {
        DriversOwnUnload = DriverObject->DriverUnload;
        DriverObject->DriverUnload = Unload;
    }
    return status;
}
