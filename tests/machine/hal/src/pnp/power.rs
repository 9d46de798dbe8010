//! Power: the system's sleep and wake-up as drivers see them, and PoRequestPowerIrp.

use std::sync::Arc;

use machine_nt::bugcheck::{Stop, stop_machine};
use machine_nt::exports::IoFreeIrp;
use machine_nt::ke::stack::driver_call;
use machine_nt::sched::{self, PASSIVE_LEVEL};
use nt_sys::{
    _POWER_ACTION, _POWER_STATE_TYPE, _SYSTEM_POWER_STATE, IO_STACK_LOCATION, IRP_MJ_POWER,
    IRP_MN_QUERY_POWER, IRP_MN_SET_POWER, NTSTATUS, PDEVICE_OBJECT, PIRP, POWER_STATE,
    PREQUEST_POWER_COMPLETE, PVOID, STATUS_INVALID_PARAMETER_2, STATUS_MORE_PROCESSING_REQUIRED,
    STATUS_PENDING, SYSTEM_POWER_STATE, UCHAR, nt_success,
};

use super::watch::Watch;
use super::{Node, Phase, PnpError};
use crate::irp;

/// A request to change (or ask about changing) the system's power state.
fn system_power(minor: u32, state: SYSTEM_POWER_STATE) -> IO_STACK_LOCATION {
    let mut location = irp::location(IRP_MJ_POWER, minor);
    location.Parameters.Power.Type = _POWER_STATE_TYPE::SystemPowerState;
    location.Parameters.Power.State.SystemState = state;
    location.Parameters.Power.ShutdownType = _POWER_ACTION::PowerActionSleep;
    location
}

fn started(nodes: &[Arc<Node>]) -> impl DoubleEndedIterator<Item = &Arc<Node>> {
    nodes.iter().filter(|node| node.phase() == Phase::Started)
}

/// Puts all started devices to sleep: all are asked before the first is told.
pub fn suspend(nodes: &[Arc<Node>]) -> Result<(), PnpError> {
    const SLEEP: SYSTEM_POWER_STATE = _SYSTEM_POWER_STATE::PowerSystemSleeping3;
    for node in started(nodes).rev() {
        let status = irp::send(node.device(), system_power(IRP_MN_QUERY_POWER, SLEEP)).status;
        if !nt_success(status) {
            // Those that agreed are told that the system stays awake.
            resume(nodes)?;
            return Err(PnpError::QueryPower(status));
        }
    }
    set_power(started(nodes).rev(), SLEEP)
}

/// Wakes all started devices up.
pub fn resume(nodes: &[Arc<Node>]) -> Result<(), PnpError> {
    set_power(started(nodes), _SYSTEM_POWER_STATE::PowerSystemWorking)
}

fn set_power<'a>(
    nodes: impl Iterator<Item = &'a Arc<Node>>,
    state: SYSTEM_POWER_STATE,
) -> Result<(), PnpError> {
    let mut result = Ok(());
    for node in nodes {
        let location = system_power(IRP_MN_SET_POWER, state);
        let mut watch = Watch::new(node);
        let status = irp::send_with(node.device(), location, |irp| watch.start(irp)).status;
        drop(watch);
        if !nt_success(status) {
            result = Err(PnpError::SetPower(status));
        }
    }
    result
}

/// A power request of a driver.
struct Request {
    device: PDEVICE_OBJECT,
    minor: UCHAR,
    state: POWER_STATE,
    routine: PREQUEST_POWER_COMPLETE,
    context: PVOID,
}

/// PoRequestPowerIrp: sends a power request to the top of the caller's stack.
///
/// # Safety
/// As the kernel routine.
pub(crate) unsafe extern "win64" fn request_power_irp(
    device: PDEVICE_OBJECT,
    minor: UCHAR,
    state: POWER_STATE,
    routine: PREQUEST_POWER_COMPLETE,
    context: PVOID,
    irp: *mut PIRP,
) -> NTSTATUS {
    if ![IRP_MN_SET_POWER, IRP_MN_QUERY_POWER].contains(&minor.into()) {
        if u32::from(minor) == nt_sys::IRP_MN_WAIT_WAKE {
            stop_machine(Stop::Unimplemented, "PoRequestPowerIrp: IRP_MN_WAIT_WAKE");
        }
        return STATUS_INVALID_PARAMETER_2;
    }
    if sched::irql() > PASSIVE_LEVEL {
        stop_machine(Stop::Unimplemented, "PoRequestPowerIrp above PASSIVE_LEVEL");
    }
    let mut location = irp::location(IRP_MJ_POWER, minor.into());
    location.Parameters.Power.Type = _POWER_STATE_TYPE::DevicePowerState;
    location.Parameters.Power.State = state;
    location.Parameters.Power.ShutdownType = _POWER_ACTION::PowerActionNone;
    let request = Box::new(Request {
        device,
        minor,
        state,
        routine,
        context,
    });
    let sent = irp::start(device, location, complete, Box::into_raw(request).cast());
    if !irp.is_null() {
        // SAFETY: the caller passes NULL or where it wants the IRP's address.
        unsafe { irp.write(sent) };
    }
    STATUS_PENDING
}

unsafe extern "win64" fn complete(_device: PDEVICE_OBJECT, irp: PIRP, context: PVOID) -> NTSTATUS {
    // SAFETY: the context of this routine is the box made for this IRP.
    let request = unsafe { Box::from_raw(context.cast::<Request>()) };
    // SAFETY: the IRP is live until it is freed below.
    let mut status = unsafe { (*irp).IoStatus };
    if let Some(routine) = request.routine {
        driver_call(|| {
            // SAFETY: the driver gave this routine for exactly this call.
            unsafe {
                routine(
                    request.device,
                    request.minor,
                    request.state,
                    request.context,
                    &raw mut status,
                )
            }
        });
    }
    // SAFETY: nothing uses the IRP any more.
    unsafe { IoFreeIrp(irp) };
    STATUS_MORE_PROCESSING_REQUIRED
}
