//! Power: what of it does not live in the PnP manager.

use super::irp::IofCallDriver;
use crate::entry::enter_with;
use crate::sched::DISPATCH_LEVEL;
use nt_sys::{NTSTATUS, PDEVICE_OBJECT, PIRP, POWER_STATE, POWER_STATE_TYPE};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Power states that drivers have reported, by device object and kind of state.
static STATES: Mutex<BTreeMap<(usize, i64), i32>> = Mutex::new(BTreeMap::new());

/// PoStartNextPowerIrp. IRQL <= DISPATCH_LEVEL. Nothing waits for it since Windows Vista.
///
/// # Safety
/// `irp` is an IRP.
pub unsafe extern "win64" fn PoStartNextPowerIrp(irp: PIRP) {
    let _inside = enter_with("PoStartNextPowerIrp", DISPATCH_LEVEL, irp.addr());
}

/// PoCallDriver. IRQL <= DISPATCH_LEVEL. What IoCallDriver is, since Windows Vista.
///
/// # Safety
/// As [`IofCallDriver`].
pub unsafe extern "win64" fn PoCallDriver(device: PDEVICE_OBJECT, irp: PIRP) -> NTSTATUS {
    // SAFETY: by the caller's promise.
    unsafe { IofCallDriver(device, irp) }
}

/// PoSetPowerState. IRQL <= DISPATCH_LEVEL. The state reported before.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn PoSetPowerState(
    device: PDEVICE_OBJECT,
    state_type: POWER_STATE_TYPE,
    state: POWER_STATE,
) -> POWER_STATE {
    let _inside = enter_with("PoSetPowerState", DISPATCH_LEVEL, device.addr());
    // SAFETY: both members of the union are the same kind of number.
    let new = unsafe { state.DeviceState };
    let mut states = STATES.lock().unwrap_or_else(PoisonError::into_inner);
    let before = states
        .insert((device.addr(), i64::from(state_type)), new)
        .unwrap_or(0);
    POWER_STATE {
        DeviceState: before,
    }
}
