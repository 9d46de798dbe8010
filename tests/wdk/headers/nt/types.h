// The basic types of the Windows kernel, for 64-bit targets.
//
// Written from the public documentation. The layouts are checked in nt/layout.h and wdf/layout.h.
#pragma once

#if !defined(_WIN64)
#error "only 64-bit Windows targets are described"
#endif

#define CONST const
#define NTAPI
#define FASTCALL
#define NTKERNELAPI
#define NTSYSAPI
#define FORCEINLINE static __forceinline
#define DECLSPEC_ALIGN(x) __declspec(align(x))
#define MEMORY_ALLOCATION_ALIGNMENT 16
#define POINTER_ALIGNMENT DECLSPEC_ALIGN(8)

#define VOID void
#define TRUE 1
#define FALSE 0
#define NULL ((void *)0)

typedef unsigned __int64 size_t;
typedef __int64 ptrdiff_t;
typedef unsigned __int64 uintptr_t;
typedef unsigned short wchar_t;
typedef char *va_list;

typedef void *PVOID;
typedef const void *PCVOID;
typedef void *HANDLE;
typedef HANDLE *PHANDLE;

typedef char CHAR, CCHAR;
typedef CHAR *PCHAR, *PSTR, *PSZ;
typedef const CHAR *PCSTR, *LPCSTR, *PCSZ, *PCCH;
typedef unsigned char UCHAR, BOOLEAN, BYTE;
typedef UCHAR *PUCHAR, *PBYTE;
typedef BOOLEAN *PBOOLEAN;
typedef short SHORT, CSHORT;
typedef unsigned short USHORT, WORD;
typedef USHORT *PUSHORT;
typedef wchar_t WCHAR;
typedef WCHAR *PWCHAR, *PWCH, *PWSTR, *PZZWSTR;
typedef const WCHAR *PCWSTR, *PCWCH, *LPCWSTR;
typedef int INT;
typedef long LONG;
typedef LONG *PLONG;
typedef unsigned long ULONG, DWORD;
typedef ULONG *PULONG;
typedef __int64 LONGLONG, LONG64;
typedef LONGLONG *PLONGLONG, *PLONG64;
typedef unsigned __int64 ULONGLONG, ULONG64;
typedef ULONGLONG *PULONGLONG, *PULONG64;
typedef unsigned char UINT8;
typedef unsigned short UINT16;
typedef unsigned int UINT, UINT32;
typedef unsigned __int64 UINT64;
typedef __int64 LONG_PTR, INT_PTR;
typedef unsigned __int64 ULONG_PTR, UINT_PTR, SIZE_T, DWORD_PTR;
typedef ULONG_PTR *PULONG_PTR;
typedef SIZE_T *PSIZE_T;

typedef LONG NTSTATUS;
typedef NTSTATUS *PNTSTATUS;
typedef ULONG ACCESS_MASK, LCID, DEVICE_TYPE, DEVPROPTYPE, DEVPROPID;
typedef ACCESS_MASK *PACCESS_MASK;
typedef DEVPROPTYPE *PDEVPROPTYPE;
typedef UCHAR KIRQL;
typedef KIRQL *PKIRQL;
typedef CHAR KPROCESSOR_MODE;
typedef CCHAR KPRIORITY_BOOST;
typedef LONG KPRIORITY;
typedef ULONG_PTR KAFFINITY;
typedef KAFFINITY *PKAFFINITY;
typedef ULONG_PTR KSPIN_LOCK;
typedef KSPIN_LOCK *PKSPIN_LOCK;
typedef ULONG_PTR PFN_NUMBER;
typedef PFN_NUMBER *PPFN_NUMBER;
typedef ULONG NODE_REQUIREMENT;
typedef PVOID PSECURITY_DESCRIPTOR;

typedef union _LARGE_INTEGER {
    struct {
        ULONG LowPart;
        LONG HighPart;
    };
    struct {
        ULONG LowPart;
        LONG HighPart;
    } u;
    LONGLONG QuadPart;
} LARGE_INTEGER, *PLARGE_INTEGER;

typedef union _ULARGE_INTEGER {
    struct {
        ULONG LowPart;
        ULONG HighPart;
    };
    struct {
        ULONG LowPart;
        ULONG HighPart;
    } u;
    ULONGLONG QuadPart;
} ULARGE_INTEGER, *PULARGE_INTEGER;

typedef LARGE_INTEGER PHYSICAL_ADDRESS, *PPHYSICAL_ADDRESS;

typedef struct _LIST_ENTRY {
    struct _LIST_ENTRY *Flink;
    struct _LIST_ENTRY *Blink;
} LIST_ENTRY, *PLIST_ENTRY;

typedef struct _SINGLE_LIST_ENTRY {
    struct _SINGLE_LIST_ENTRY *Next;
} SINGLE_LIST_ENTRY, *PSINGLE_LIST_ENTRY;

typedef union DECLSPEC_ALIGN(16) _SLIST_HEADER {
    struct {
        ULONGLONG Alignment;
        ULONGLONG Region;
    };
} SLIST_HEADER, *PSLIST_HEADER;

typedef struct _UNICODE_STRING {
    USHORT Length;
    USHORT MaximumLength;
    PWCH Buffer;
} UNICODE_STRING, *PUNICODE_STRING;
typedef const UNICODE_STRING *PCUNICODE_STRING;

typedef struct _STRING {
    USHORT Length;
    USHORT MaximumLength;
    PCHAR Buffer;
} STRING, ANSI_STRING, *PANSI_STRING;

typedef struct _GUID {
    ULONG Data1;
    USHORT Data2;
    USHORT Data3;
    UCHAR Data4[8];
} GUID, *LPGUID;
typedef const GUID *LPCGUID;

typedef struct _DEVPROPKEY {
    GUID fmtid;
    DEVPROPID pid;
} DEVPROPKEY, *PDEVPROPKEY;

typedef struct _GROUP_AFFINITY {
    KAFFINITY Mask;
    USHORT Group;
    USHORT Reserved[3];
} GROUP_AFFINITY, *PGROUP_AFFINITY;

typedef struct _PROCESSOR_NUMBER {
    USHORT Group;
    UCHAR Number;
    UCHAR Reserved;
} PROCESSOR_NUMBER, *PPROCESSOR_NUMBER;

typedef enum _MODE {
    KernelMode,
    UserMode,
    MaximumMode,
} MODE;

typedef enum _INTERFACE_TYPE {
    InterfaceTypeUndefined = -1,
    Internal,
    Isa,
    Eisa,
    MicroChannel,
    TurboChannel,
    PCIBus,
    VMEBus,
    NuBus,
    PCMCIABus,
    CBus,
    MPIBus,
    MPSABus,
    ProcessorInternal,
    InternalPowerBus,
    PNPISABus,
    PNPBus,
    Vmcs,
    ACPIBus,
    MaximumInterfaceType,
} INTERFACE_TYPE, *PINTERFACE_TYPE;

typedef struct _OBJECT_ATTRIBUTES {
    ULONG Length;
    HANDLE RootDirectory;
    PUNICODE_STRING ObjectName;
    ULONG Attributes;
    PVOID SecurityDescriptor;
    PVOID SecurityQualityOfService;
} OBJECT_ATTRIBUTES, *POBJECT_ATTRIBUTES;

#define OBJ_INHERIT 0x00000002L
#define OBJ_PERMANENT 0x00000010L
#define OBJ_EXCLUSIVE 0x00000020L
#define OBJ_CASE_INSENSITIVE 0x00000040L
#define OBJ_OPENIF 0x00000080L
#define OBJ_KERNEL_HANDLE 0x00000200L

typedef struct _OBJECT_TYPE *POBJECT_TYPE;
typedef struct _KTHREAD *PKTHREAD, *PETHREAD, *PRKTHREAD;
typedef struct _KPROCESS *PEPROCESS, *PKPROCESS;
typedef struct _KINTERRUPT *PKINTERRUPT, **PPKINTERRUPT;
typedef struct _CONTEXT *PCONTEXT;
typedef struct _EXCEPTION_RECORD *PEXCEPTION_RECORD;

#define DELETE 0x00010000L
#define READ_CONTROL 0x00020000L
#define WRITE_DAC 0x00040000L
#define WRITE_OWNER 0x00080000L
#define SYNCHRONIZE 0x00100000L
#define STANDARD_RIGHTS_REQUIRED 0x000F0000L
#define STANDARD_RIGHTS_ALL 0x001F0000L
#define MAXIMUM_ALLOWED 0x02000000L
#define GENERIC_ALL 0x10000000L
#define GENERIC_EXECUTE 0x20000000L
#define GENERIC_WRITE 0x40000000L
#define GENERIC_READ 0x80000000L
