//! DEVICE_RESET_INTERFACE_STANDARD of a PCI function: function-level reset by its PCI Express capability.
//!
//! The function stays on the bus and its stack is left alone: when the reset has returned, configuration space is as it was
//! and everything else as at power-on. The documentation promises the first and the last of that; that Windows puts
//! configuration space back follows from the stack being left alone. There is no firmware that could reset more.

use std::mem::offset_of;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use machine_nt::bugcheck::{Stop, stop_machine};
use machine_nt::entry::enter_with;
use machine_nt::exports::KeDelayExecutionThread;
use machine_nt::sched::PASSIVE_LEVEL;
use nt_sys::{
    _DEVICE_RESET_TYPE, DEVICE_RESET_INTERFACE_STANDARD, DEVICE_RESET_INTERFACE_VERSION_1,
    DEVICE_RESET_INTERFACE_VERSION_2, DEVICE_RESET_INTERFACE_VERSION_3, DEVICE_RESET_TYPE,
    FUNCTION_LEVEL_DEVICE_RESET_PARAMETERS, GUID, NTSTATUS, PVOID, STATUS_INVALID_PARAMETER,
    STATUS_NOT_SUPPORTED, STATUS_SUCCESS, ULONG,
};

use super::interface::{dereference, reference};
use super::{PciFunction, device};
use crate::large_integer;

/// GUID_DEVICE_RESET_INTERFACE_STANDARD.
pub static RESET_INTERFACE: GUID = GUID::from_u128(0x649fdf26_3bc0_4813_ad24_7e0c1eda3fa3);

/// Whether functions offer it.
static OFFERED: AtomicBool = AtomicBool::new(true);

/// Has functions offer the interface, or not, as before Windows 10.
pub fn install(offered: bool) {
    OFFERED.store(offered, Ordering::Relaxed);
}

/// Whether a function offers it.
pub fn is_offered(function: &PciFunction) -> bool {
    OFFERED.load(Ordering::Relaxed) && function.is_resettable()
}

/// How long a function may take to reset, by the PCI Express specification.
const FUNCTION_LEVEL_RESET: Duration = Duration::from_millis(100);

/// In SupportedResetTypes.
const FUNCTION_LEVEL: ULONG = 1 << _DEVICE_RESET_TYPE::FunctionLevelDeviceReset;

/// How many bytes the interface of this version has; `None` if there is no such version.
pub fn size_of_version(version: u16) -> Option<usize> {
    let whole = size_of::<DEVICE_RESET_INTERFACE_STANDARD>();
    // What came with version 2 begins with the resets particular to a bus.
    let first = offset_of!(DEVICE_RESET_INTERFACE_STANDARD, QueryBusSpecificResetInfo);
    match u32::from(version) {
        DEVICE_RESET_INTERFACE_VERSION_1 => Some(first),
        DEVICE_RESET_INTERFACE_VERSION_2 | DEVICE_RESET_INTERFACE_VERSION_3 => Some(whole),
        _ => None,
    }
}

/// The interface, of this version, of the function behind physical device object `pdo`, which is the interface's context.
pub fn reset_interface(pdo: PVOID, version: u16) -> DEVICE_RESET_INTERFACE_STANDARD {
    DEVICE_RESET_INTERFACE_STANDARD {
        Size: size_of_version(version).unwrap_or(0) as u16,
        Version: version,
        Context: pdo,
        InterfaceReference: Some(reference),
        InterfaceDereference: Some(dereference),
        DeviceReset: Some(device_reset),
        SupportedResetTypes: FUNCTION_LEVEL,
        ..DEVICE_RESET_INTERFACE_STANDARD::default()
    }
}

/// DeviceReset. At PASSIVE_LEVEL.
unsafe extern "win64" fn device_reset(
    context: PVOID,
    kind: DEVICE_RESET_TYPE,
    flags: ULONG,
    parameters: PVOID,
) -> NTSTATUS {
    let inside = enter_with("DeviceReset", PASSIVE_LEVEL, context as usize);
    let Some(function) = device(context as u64) else {
        stop_machine(
            Stop::Misuse,
            format_args!("DeviceReset: the context {context:p} is not that of the interface"),
        )
    };
    // SAFETY: for this kind of reset the caller passes such a structure, or NULL.
    let parameters = unsafe {
        parameters
            .cast::<FUNCTION_LEVEL_DEVICE_RESET_PARAMETERS>()
            .as_ref()
    };
    if kind != _DEVICE_RESET_TYPE::FunctionLevelDeviceReset {
        return STATUS_NOT_SUPPORTED;
    }
    let known = |parameters: &FUNCTION_LEVEL_DEVICE_RESET_PARAMETERS| {
        parameters.Size as usize >= size_of_val(parameters)
    };
    if flags != 0 || !parameters.is_none_or(known) {
        return STATUS_INVALID_PARAMETER;
    }
    let status = match function.begin_reset() {
        Ok(()) => {
            wait(FUNCTION_LEVEL_RESET);
            function.end_reset();
            STATUS_SUCCESS
        }
        Err(status) => status,
    };
    drop(inside);
    if let Some((routine, context)) =
        parameters.and_then(|it| Some((it.DeviceResetCompletion?, it.CompletionContext)))
    {
        // SAFETY: the caller passes its routine with the routine's context.
        machine_nt::ke::stack::driver_call(|| unsafe { routine(status, context) });
    }
    status
}

fn wait(time: Duration) {
    let mut interval = large_integer(-(time.as_nanos() as i64 / 100));
    // SAFETY: the interval is valid.
    unsafe { KeDelayExecutionThread(0, 0, &raw mut interval) };
}
