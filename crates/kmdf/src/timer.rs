//! Timers.

use wdk_sys::{WDF_TIMER_CONFIG, WDFTIMER};

use crate::context;
use crate::device::{self, Device, DeviceEvents};
use crate::versioned::size;
use crate::{NtStatus, Result, ddi};

/// What a device does when its timer expires.
pub trait TimerEvents: DeviceEvents {
    /// `EvtTimerFunc`. DISPATCH_LEVEL.
    ///
    /// It may run, once, after the timer has been stopped or started anew.
    fn expired(&self);
}

/// A timer of a device. The framework deletes it with its device.
#[derive(Debug)]
pub struct Timer {
    raw: WDFTIMER,
}

// SAFETY: the handle belongs to no thread.
unsafe impl Send for Timer {}

// SAFETY: the functions called through a shared handle may be called by several threads at once.
unsafe impl Sync for Timer {}

impl Timer {
    /// Makes a timer, which is not running. PASSIVE_LEVEL.
    ///
    /// # Errors
    ///
    /// What `WdfTimerCreate` returns.
    pub fn create<T: TimerEvents>(device: &Device<T>) -> Result<Self> {
        let mut config = WDF_TIMER_CONFIG {
            Size: size::<WDF_TIMER_CONFIG>(),
            EvtTimerFunc: Some(expired::<T>),
            ..WDF_TIMER_CONFIG::default()
        };
        let mut attributes = context::plain_attributes();
        attributes.ParentObject = device.raw().cast();
        let mut timer = core::ptr::null_mut();
        // SAFETY: the structures are valid, and all live across the call.
        let status =
            unsafe { ddi::WdfTimerCreate(&raw mut config, &raw mut attributes, &raw mut timer) };
        NtStatus::from_code(status).ok()?;
        Ok(Self { raw: timer })
    }

    /// Has the timer expire once, `milliseconds` from now; an earlier start that has not expired is forgotten.
    /// IRQL <= DISPATCH_LEVEL.
    pub fn start(&self, milliseconds: u32) {
        // Relative, in units of 100 ns.
        let due = -i64::from(milliseconds) * 10_000;
        // SAFETY: the timer is valid. The result says whether it was running.
        unsafe { ddi::WdfTimerStart(self.raw, due) };
    }

    /// Stops the timer; what has expired already may run yet. IRQL <= DISPATCH_LEVEL.
    pub fn stop(&self) {
        // SAFETY: the timer is valid. The result says whether it was running.
        unsafe { ddi::WdfTimerStop(self.raw, 0) };
    }

    /// Stops the timer, and waits until what has expired has run. PASSIVE_LEVEL; not in the timer's own callback.
    pub fn stop_and_wait(&self) {
        // SAFETY: the timer is valid. The result says whether it was running.
        unsafe { ddi::WdfTimerStop(self.raw, 1) };
    }
}

unsafe extern "C" fn expired<T: TimerEvents>(timer: WDFTIMER) {
    // SAFETY: the timer is valid during its callback.
    let device = unsafe { ddi::WdfTimerGetParentObject(timer) };
    // SAFETY: the device outlives its timer.
    if let Some(context) = unsafe { device::context::<T>(device.cast()) } {
        context.expired();
    }
}
