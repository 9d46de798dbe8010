//! Stopping and removing a device (`pnpstatemachine.cpp`).

use std::sync::Arc;

use crate::flat::*;
use machine_nt::ke::stack::driver_call;

use super::{Phase, Pnp};
use crate::device::Device;
use crate::interrupt::Notify;
use crate::io::queue::PowerAction;
use crate::object;
use crate::trace;
use crate::wdm::{self, Irp};

impl Pnp {
    /// Whether the device is powered or sleeps with its driver's knowledge, so that leaving D0 was or is its driver's business.
    fn is_in_d0(&self) -> bool {
        self.power_state() == WdfPowerDeviceD0
    }

    /// Powers down if it must, and releases the hardware.
    pub(super) fn stop_hardware(&self, device: &Arc<Device>) {
        if self.is_in_d0()
            && let Err(status) = self.power_down(device, WdfPowerDeviceD3Final, Notify::Full)
        {
            trace::error(
                device.globals(),
                &format!("the device fails to power down: {status:#010x}"),
            );
            self.state.with(|state| state.internal_failure = true);
        }
        // A device that slept keeps no connection either.
        let _ = self.disconnect_interrupts(Notify::SurpriseRemoved);
        self.state.with(|state| state.power = WdfPowerDeviceD3Final);
        self.release_hardware(device);
    }

    /// Calls EvtDeviceReleaseHardware, once for each EvtDevicePrepareHardware, failed or not (`PnpReleaseHardware`).
    pub(super) fn release_hardware(&self, device: &Arc<Device>) {
        if !self
            .state
            .with(|state| std::mem::replace(&mut state.hardware_owned, false))
        {
            return;
        }
        let resources = self.resources.with(|resources| resources.clone());
        if let (Some(callback), Some(resources)) =
            (self.callbacks.EvtDeviceReleaseHardware, &resources)
        {
            // SAFETY: the driver registered the callback.
            let status =
                driver_call(|| unsafe { callback(device.handle(), resources.translated.handle()) });
            if !wdm::success(status) {
                trace::error(
                    device.globals(),
                    &format!("EvtDeviceReleaseHardware fails with {status:#010x}"),
                );
                self.state.with(|state| state.internal_failure = true);
            }
        }
        for interrupt in self.interrupts().into_iter().rev() {
            if interrupt.is_created_in_prepare_hardware() {
                object::delete(&interrupt);
            } else if interrupt.has_resource() {
                interrupt.revoke();
            }
        }
        if let Some(resources) = self.resources.with(Option::take) {
            object::delete(&resources.raw);
            object::delete(&resources.translated);
        }
    }

    /// Closes interfaces and power-managed queues for good, and flushes self-managed I/O (`PnpCleanupForRemove`).
    pub(super) fn clean_up(&self, device: &Arc<Device>) {
        if self
            .state
            .with(|state| std::mem::replace(&mut state.cleaned, true))
        {
            return;
        }
        device.interfaces().disable_all();
        device.io.power_off(PowerAction::PurgeManaged);
        self.self_managed.flush(device, &self.callbacks);
    }

    /// `IRP_MN_QUERY_STOP_DEVICE`.
    pub(super) fn on_query_stop(&self, device: &Arc<Device>, irp: Irp) -> NTSTATUS {
        self.query(
            device,
            irp,
            "EvtDeviceQueryStop",
            self.callbacks.EvtDeviceQueryStop,
            Phase::StopQueried,
        )
    }

    /// `IRP_MN_QUERY_REMOVE_DEVICE`.
    pub(super) fn on_query_remove(&self, device: &Arc<Device>, irp: Irp) -> NTSTATUS {
        if self.phase() == Phase::Initial {
            return self.pass_down_with(device, irp, STATUS_SUCCESS);
        }
        self.query(
            device,
            irp,
            "EvtDeviceQueryRemove",
            self.callbacks.EvtDeviceQueryRemove,
            Phase::RemoveQueried,
        )
    }

    fn query(
        &self,
        device: &Arc<Device>,
        irp: Irp,
        name: &str,
        callback: Option<unsafe extern "win64" fn(WDFDEVICE) -> NTSTATUS>,
        agreed: Phase,
    ) -> NTSTATUS {
        let status = match callback {
            _ if self.capabilities.with(|caps| caps.stop_disabled()) => STATUS_INVALID_DEVICE_STATE,
            // SAFETY: the driver registered the callback.
            Some(callback) => driver_call(|| unsafe { callback(device.handle()) }),
            None => STATUS_SUCCESS,
        };
        if !wdm::success(status) {
            trace::warning(
                device.globals(),
                &format!("{name} refuses with {status:#010x}"),
            );
            return self.complete(irp, status);
        }
        self.state.with(|state| state.phase = agreed);
        self.pass_down_with(device, irp, STATUS_SUCCESS)
    }

    /// `IRP_MN_CANCEL_STOP_DEVICE` and `IRP_MN_CANCEL_REMOVE_DEVICE`: the drivers below first.
    pub(super) fn on_cancel_query(&self, device: &Arc<Device>, irp: Irp) -> NTSTATUS {
        irp.set_status(STATUS_SUCCESS);
        let status = irp.send_and_wait(device.attached_object());
        self.state.with(|state| {
            if matches!(state.phase, Phase::StopQueried | Phase::RemoveQueried) {
                state.phase = Phase::Started;
            }
        });
        self.complete(irp, status)
    }

    /// `IRP_MN_STOP_DEVICE`.
    pub(super) fn on_stop(&self, device: &Arc<Device>, irp: Irp) -> NTSTATUS {
        if matches!(self.phase(), Phase::Started | Phase::StopQueried) {
            self.stop_hardware(device);
            let failed = self.state.with(|state| state.internal_failure);
            if failed {
                self.clean_up(device);
            }
            self.state.with(|state| {
                state.phase = if failed {
                    Phase::Failed
                } else {
                    Phase::Stopped
                }
            });
        }
        self.pass_down_with(device, irp, STATUS_SUCCESS)
    }

    /// `IRP_MN_SURPRISE_REMOVAL`: EvtDeviceSurpriseRemoval, then the way down as for a removal.
    pub(super) fn on_surprise_removal(&self, device: &Arc<Device>, irp: Irp) -> NTSTATUS {
        if let Some(callback) = self.callbacks.EvtDeviceSurpriseRemoval {
            // SAFETY: the driver registered the callback.
            driver_call(|| unsafe { callback(device.handle()) });
        }
        self.take_down(device);
        self.state.with(|state| state.phase = Phase::Failed);
        self.pass_down_with(device, irp, STATUS_SUCCESS)
    }

    /// Whatever is still up comes down: power, hardware, interfaces, queues.
    fn take_down(&self, device: &Arc<Device>) {
        if self.phase() != Phase::Initial {
            self.stop_hardware(device);
        }
        self.clean_up(device);
    }

    /// A device that failed on its own (power): it comes down and waits to be removed.
    pub(super) fn fail_running(&self, device: &Arc<Device>) {
        self.state.with(|state| state.internal_failure = true);
        self.take_down(device);
        self.state.with(|state| state.phase = Phase::Failed);
        self.invalidate(device);
    }

    /// `IRP_MN_REMOVE_DEVICE`: what is left comes down, the children go, the IRP passes, the device object goes.
    pub(super) fn on_remove(&self, device: &Arc<Device>, irp: Irp) -> NTSTATUS {
        self.take_down(device);
        self.finish_removal(device);
        self.remove_lock.release_and_wait();
        irp.set_status(STATUS_SUCCESS);
        irp.copy_stack_to_next();
        let status = irp.call(device.attached_object());
        device.detach_and_delete();
        object::delete_early_disposed(device);
        status
    }

    /// The end of what the driver sees of the device (`PnpEventRemovedCommonCode`).
    fn finish_removal(&self, device: &Arc<Device>) {
        device.io.power_off(PowerAction::PurgeNonManaged);
        self.self_managed.cleanup(device, &self.callbacks);
        self.state.with(|state| state.phase = Phase::Removed);
        object::early_dispose(device);
        object::destroy_children(device);
        device.globals().passive_worker().wait_until_idle();
    }

    /// EvtDriverDeviceAdd failed after the device was created: the same, without IRP.
    pub(crate) fn add_failed(&self, device: &Arc<Device>) {
        self.clean_up(device);
        device.io.power_off(PowerAction::PurgeNonManaged);
        self.self_managed.cleanup(device, &self.callbacks);
        self.state.with(|state| state.phase = Phase::Removed);
    }
}
