//! The watchdog of power requests: a driver that does not let go of one keeps the whole system from sleeping or waking.

use std::time::Duration;

use machine_nt::bugcheck::{self, code};
use machine_nt::exports::{KeCancelTimer, KeInitializeDpc, KeInitializeTimer, KeSetTimer};
use nt_sys::{KDPC, KTIMER, PIRP, PKDPC, PVOID};

use super::Node;

/// How long a device may take to change its power state.
const PATIENCE: Duration = Duration::from_secs(600);

/// Waits for one request; what is left of the wait ends with the value.
pub struct Watch(Box<State>);

struct State {
    timer: KTIMER,
    dpc: KDPC,
    device: u64,
    irp: u64,
}

impl Watch {
    /// A watch of a request to this device, not started.
    pub fn new(node: &Node) -> Self {
        let mut state = Box::new(State {
            timer: KTIMER::default(),
            dpc: KDPC::default(),
            device: node.pdo,
            irp: 0,
        });
        // SAFETY: the box stays where it is until the timer is cancelled.
        unsafe { KeInitializeTimer(&raw mut state.timer) };
        let context = (&raw mut *state).cast();
        // SAFETY: as above.
        unsafe { KeInitializeDpc(&raw mut state.dpc, Some(expired), context) };
        Self(state)
    }

    /// Starts it, for this request.
    pub fn start(&mut self, irp: PIRP) {
        self.0.irp = irp.addr() as u64;
        let due = crate::large_integer(-((PATIENCE.as_nanos() / 100) as i64));
        // SAFETY: timer and DPC are initialised and stay where they are.
        unsafe { KeSetTimer(&raw mut self.0.timer, due, &raw mut self.0.dpc) };
    }
}

impl Drop for Watch {
    /// What the DPC does never returns, so none is left behind.
    fn drop(&mut self) {
        // SAFETY: the timer is initialised.
        unsafe { KeCancelTimer(&raw mut self.0.timer) };
    }
}

unsafe extern "win64" fn expired(_dpc: PKDPC, context: PVOID, _: PVOID, _: PVOID) {
    // SAFETY: the context is the state of a watch that still runs.
    let state = unsafe { &*context.cast::<State>() };
    bugcheck::stop(
        code::DRIVER_POWER_STATE_FAILURE,
        [3, state.device, 0, state.irp],
        format_args!(
            "a driver of the device has kept a power request for {} s",
            PATIENCE.as_secs()
        ),
    )
}
