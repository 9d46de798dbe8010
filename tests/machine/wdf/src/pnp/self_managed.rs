//! Self-managed I/O (`selfmanagediostatemachine.cpp`).

use crate::flat::*;
use machine_nt::ke::stack::driver_call;

use crate::device::Device;
use crate::lock::Record;
use crate::wdm;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Created,
    Started,
    Stopped,
    /// Init failed: nothing to suspend, but to flush and clean up.
    InitFailed,
    Failed,
    Flushed,
    Final,
}

/// The state of self-managed I/O.
#[derive(Default)]
pub(super) struct SelfManagedIo(Record<State>);

impl SelfManagedIo {
    /// EvtDeviceSelfManagedIoInit the first time, EvtDeviceSelfManagedIoRestart after that.
    ///
    /// # Errors
    /// The callback's.
    pub(super) fn start(
        &self,
        device: &Device,
        callbacks: &WDF_PNPPOWER_EVENT_CALLBACKS,
    ) -> Result<(), NTSTATUS> {
        let (callback, failed) = match self.0.get() {
            State::Created => (callbacks.EvtDeviceSelfManagedIoInit, State::InitFailed),
            State::Stopped | State::Flushed => {
                (callbacks.EvtDeviceSelfManagedIoRestart, State::Failed)
            }
            _ => return Ok(()),
        };
        let status = callback.map_or(STATUS_SUCCESS, |callback| {
            // SAFETY: the driver registered the callback.
            driver_call(|| unsafe { callback(device.handle()) })
        });
        self.0.set(if wdm::success(status) {
            State::Started
        } else {
            failed
        });
        wdm::check(status)
    }

    /// EvtDeviceSelfManagedIoSuspend, if it was started.
    ///
    /// # Errors
    /// The callback's.
    pub(super) fn suspend(
        &self,
        device: &Device,
        callbacks: &WDF_PNPPOWER_EVENT_CALLBACKS,
    ) -> Result<(), NTSTATUS> {
        if self.0.get() != State::Started {
            return Ok(());
        }
        let callback = callbacks.EvtDeviceSelfManagedIoSuspend;
        let status = callback.map_or(STATUS_SUCCESS, |callback| {
            // SAFETY: the driver registered the callback.
            driver_call(|| unsafe { callback(device.handle()) })
        });
        self.0.set(if wdm::success(status) {
            State::Stopped
        } else {
            State::Failed
        });
        wdm::check(status)
    }

    /// EvtDeviceSelfManagedIoFlush, if it ever started.
    pub(super) fn flush(&self, device: &Device, callbacks: &WDF_PNPPOWER_EVENT_CALLBACKS) {
        if !matches!(
            self.0.get(),
            State::Stopped | State::InitFailed | State::Failed
        ) {
            return;
        }
        if let Some(callback) = callbacks.EvtDeviceSelfManagedIoFlush {
            // SAFETY: the driver registered the callback.
            driver_call(|| unsafe { callback(device.handle()) });
        }
        self.0.set(State::Flushed);
    }

    /// EvtDeviceSelfManagedIoCleanup, if it ever started.
    pub(super) fn cleanup(&self, device: &Device, callbacks: &WDF_PNPPOWER_EVENT_CALLBACKS) {
        if self.0.get() == State::Flushed
            && let Some(callback) = callbacks.EvtDeviceSelfManagedIoCleanup
        {
            // SAFETY: the driver registered the callback.
            driver_call(|| unsafe { callback(device.handle()) });
        }
        self.0.set(State::Final);
    }
}
