//! Kernel routines that live in the HAL, its PnP manager and bus driver: exported here by their Windows names, so that
//! the framework needs this crate alone, and forwarded through a table that the HAL sets once.

use crate::bugcheck::{Stop, stop_machine};
use crate::entry::enter_with;
use crate::sched::{APC_LEVEL, DISPATCH_LEVEL, PASSIVE_LEVEL};
use nt_sys::*;
use std::ffi::c_void;
use std::sync::OnceLock;

macro_rules! forwarded {
    ($(
        $(#[$doc:meta])*
        $field:ident: fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?, at $irql:expr;
    )*) => {
        /// The HAL's routines. IRQL and trace are looked after here; the routines check everything else.
        pub struct HalHooks {
            $($(#[$doc])* pub $field: unsafe extern "win64" fn($($type),*) $(-> $result)?,)*
        }

        $(
            $(#[$doc])*
            ///
            /// # Safety
            /// As documented for the Windows routine of this name.
            pub unsafe extern "win64" fn $name($($argument: $type),*) $(-> $result)? {
                let _inside = enter_with(stringify!($name), $irql, 0);
                let routine = hooks(stringify!($name)).$field;
                // SAFETY: by the caller's promise, which is that of the routine forwarded to.
                unsafe { routine($($argument),*) }
            }
        )*
    };
}

static HOOKS: OnceLock<HalHooks> = OnceLock::new();

/// Sets the HAL's routines. The first call wins; there is one HAL in a machine.
pub fn set_hooks(hooks: HalHooks) {
    let _ = HOOKS.set(hooks);
}

fn hooks(routine: &'static str) -> &'static HalHooks {
    match HOOKS.get() {
        Some(hooks) => hooks,
        None => stop_machine(
            Stop::Internal,
            format!("{routine} was called in a machine without a HAL"),
        ),
    }
}

forwarded! {
    /// IoGetDmaAdapter. IRQL = PASSIVE_LEVEL.
    get_dma_adapter: fn IoGetDmaAdapter(
        pdo: PDEVICE_OBJECT, description: *mut DEVICE_DESCRIPTION, map_registers: PULONG
    ) -> PDMA_ADAPTER, at PASSIVE_LEVEL;
    /// IoConnectInterruptEx. IRQL = PASSIVE_LEVEL.
    connect_interrupt_ex: fn IoConnectInterruptEx(
        parameters: PIO_CONNECT_INTERRUPT_PARAMETERS
    ) -> NTSTATUS, at PASSIVE_LEVEL;
    /// IoDisconnectInterruptEx. IRQL = PASSIVE_LEVEL.
    disconnect_interrupt_ex: fn IoDisconnectInterruptEx(
        parameters: PIO_DISCONNECT_INTERRUPT_PARAMETERS
    ), at PASSIVE_LEVEL;
    /// IoReportInterruptActive. IRQL <= DISPATCH_LEVEL.
    report_interrupt_active: fn IoReportInterruptActive(
        parameters: PIO_REPORT_INTERRUPT_ACTIVE_STATE_PARAMETERS
    ), at DISPATCH_LEVEL;
    /// IoReportInterruptInactive. IRQL <= DISPATCH_LEVEL.
    report_interrupt_inactive: fn IoReportInterruptInactive(
        parameters: PIO_REPORT_INTERRUPT_ACTIVE_STATE_PARAMETERS
    ), at DISPATCH_LEVEL;
    /// IoGetDeviceProperty. IRQL = PASSIVE_LEVEL.
    get_device_property: fn IoGetDeviceProperty(
        device: PDEVICE_OBJECT, property: DEVICE_REGISTRY_PROPERTY, length: ULONG, buffer: *mut c_void,
        result_length: PULONG
    ) -> NTSTATUS, at PASSIVE_LEVEL;
    /// IoGetDevicePropertyData. IRQL <= APC_LEVEL.
    get_device_property_data: fn IoGetDevicePropertyData(
        pdo: PDEVICE_OBJECT, key: *const DEVPROPKEY, lcid: LCID, flags: ULONG, size: ULONG, data: *mut c_void,
        required_size: PULONG, property_type: PDEVPROPTYPE
    ) -> NTSTATUS, at APC_LEVEL;
    /// IoSetDevicePropertyData. IRQL = PASSIVE_LEVEL.
    set_device_property_data: fn IoSetDevicePropertyData(
        pdo: PDEVICE_OBJECT, key: *const DEVPROPKEY, lcid: LCID, flags: ULONG, property_type: DEVPROPTYPE, size: ULONG,
        data: *mut c_void
    ) -> NTSTATUS, at PASSIVE_LEVEL;
    /// IoOpenDeviceRegistryKey. IRQL = PASSIVE_LEVEL.
    open_device_registry_key: fn IoOpenDeviceRegistryKey(
        device: PDEVICE_OBJECT, key_type: ULONG, access: ACCESS_MASK, key: PHANDLE
    ) -> NTSTATUS, at PASSIVE_LEVEL;
    /// IoInvalidateDeviceState. IRQL <= DISPATCH_LEVEL.
    invalidate_device_state: fn IoInvalidateDeviceState(pdo: PDEVICE_OBJECT), at DISPATCH_LEVEL;
    /// IoInvalidateDeviceRelations. IRQL <= DISPATCH_LEVEL.
    invalidate_device_relations: fn IoInvalidateDeviceRelations(
        device: PDEVICE_OBJECT, relation: DEVICE_RELATION_TYPE
    ), at DISPATCH_LEVEL;
    /// IoRequestDeviceEject. IRQL <= DISPATCH_LEVEL.
    request_device_eject: fn IoRequestDeviceEject(pdo: PDEVICE_OBJECT), at DISPATCH_LEVEL;
    /// PoRequestPowerIrp. IRQL <= DISPATCH_LEVEL.
    request_power_irp: fn PoRequestPowerIrp(
        device: PDEVICE_OBJECT, minor: UCHAR, state: POWER_STATE, completion: PREQUEST_POWER_COMPLETE,
        context: *mut c_void, irp: *mut PIRP
    ) -> NTSTATUS, at DISPATCH_LEVEL;
    /// MmMapIoSpaceEx. IRQL <= DISPATCH_LEVEL.
    map_io_space_ex: fn MmMapIoSpaceEx(
        physical: PHYSICAL_ADDRESS, length: SIZE_T, protection: ULONG
    ) -> *mut c_void, at DISPATCH_LEVEL;
    /// MmUnmapIoSpace. IRQL <= DISPATCH_LEVEL.
    unmap_io_space: fn MmUnmapIoSpace(address: *mut c_void, length: SIZE_T), at DISPATCH_LEVEL;
}

/// MmMapIoSpace. IRQL <= DISPATCH_LEVEL. What MmMapIoSpaceEx is for readable and writable memory.
///
/// # Safety
/// As [`MmMapIoSpaceEx`].
pub unsafe extern "win64" fn MmMapIoSpace(
    physical: PHYSICAL_ADDRESS,
    length: SIZE_T,
    cache: MEMORY_CACHING_TYPE,
) -> *mut c_void {
    let caching = if cache == _MEMORY_CACHING_TYPE::MmNonCached {
        PAGE_NOCACHE
    } else {
        0
    };
    // SAFETY: by the caller's promise.
    unsafe { MmMapIoSpaceEx(physical, length, PAGE_READWRITE | caching) }
}
