//! Power requests (`fdopower.cpp`).
//!
//! The driver that owns the device's power policy answers a request of the system's with one of its own for the device, and lets the
//! system's go on when that is done.

use std::sync::Arc;

use crate::flat::*;
use machine_nt::exports::{KeGetCurrentIrql, PoRequestPowerIrp};
use machine_nt::ke::stack::machine_code;

use super::Pnp;
use crate::device::Device;
use crate::interrupt::Notify;
use crate::verifier;
use crate::wdm::Irp;

impl Pnp {
    /// `IRP_MJ_POWER`. `PASSIVE_LEVEL` if the device is power pageable, otherwise <= `DISPATCH_LEVEL`.
    pub(crate) fn dispatch_power(&self, device: &Arc<Device>, irp: Irp) -> NTSTATUS {
        if !self.remove_lock.acquire() {
            irp.start_next_power();
            return irp.complete_with(STATUS_DELETE_PENDING);
        }
        let (kind, state) = irp.power_state();
        match irp.minor() as _ {
            IRP_MN_SET_POWER if kind == SystemPowerState => {
                // SAFETY: the union's member of this kind of request.
                self.on_system_power(device, irp, unsafe { state.SystemState })
            }
            IRP_MN_SET_POWER => {
                // SAFETY: the union's member of this kind of request.
                self.on_device_power(device, irp, unsafe { state.DeviceState })
            }
            IRP_MN_QUERY_POWER if kind == DevicePowerState => {
                irp.set_status(STATUS_SUCCESS);
                self.power_pass_down(device, irp)
            }
            _ => self.power_pass_down(device, irp),
        }
    }

    fn power_pass_down(&self, device: &Device, irp: Irp) -> NTSTATUS {
        irp.start_next_power();
        irp.copy_stack_to_next();
        let status = irp.power_call(device.attached_object());
        self.remove_lock.release();
        status
    }

    fn complete_power(&self, irp: Irp, status: NTSTATUS) {
        irp.start_next_power();
        irp.set_status(status);
        irp.complete(IO_NO_INCREMENT as i8);
        self.remove_lock.release();
    }

    fn on_system_power(
        &self,
        device: &Arc<Device>,
        irp: Irp,
        system: SYSTEM_POWER_STATE,
    ) -> NTSTATUS {
        self.state.with(|state| state.system = system);
        if !self.power_policy_owner {
            return self.power_pass_down(device, irp);
        }
        irp.copy_stack_to_next();
        let context = Arc::as_ptr(device).cast_mut().cast();
        if system == PowerSystemWorking {
            irp.set_completion(system_working, context);
            return irp.power_call(device.attached_object());
        }
        irp.mark_pending();
        self.system_irp.set(Some(irp));
        irp.set_completion(system_sleeping, context);
        irp.power_call(device.attached_object());
        STATUS_PENDING
    }

    /// The drivers below know that the system sleeps: now the device is to.
    fn system_sleeps(&self, device: &Arc<Device>) {
        let (system, power) = self.state.with(|state| (state.system, state.power));
        if power != WdfPowerDeviceD0 {
            return self.finish_system_sleep();
        }
        let target = self.capabilities.with(|own| own.sleep_state(system));
        if !self.request(device, target) {
            self.finish_system_sleep();
        }
    }

    fn finish_system_sleep(&self) {
        if let Some(irp) = self.system_irp.with(Option::take) {
            self.complete_power(irp, STATUS_SUCCESS);
        }
    }

    /// Asks for a power request of the device (`PowerPolicySendDevicePowerRequest`).
    fn request(&self, device: &Arc<Device>, target: DEVICE_POWER_STATE) -> bool {
        // SAFETY: all-zero bytes are a valid value of this plain union.
        let mut state: POWER_STATE = unsafe { std::mem::zeroed() };
        state.DeviceState = target;
        self.state.with(|own| own.device_power_requested = true);
        let context = Arc::as_ptr(device).cast_mut().cast();
        // SAFETY: the physical device object lives as long as ours; the device outlives the request.
        let status = unsafe {
            PoRequestPowerIrp(
                device.physical_object(),
                IRP_MN_SET_POWER as UCHAR,
                state,
                Some(request_completed),
                context,
                std::ptr::null_mut(),
            )
        };
        status >= 0
    }

    fn on_device_power(
        &self,
        device: &Arc<Device>,
        irp: Irp,
        target: DEVICE_POWER_STATE,
    ) -> NTSTATUS {
        let requested = self
            .state
            .with(|own| std::mem::replace(&mut own.device_power_requested, false));
        if self.power_policy_owner && !requested {
            verifier::bug_check(
                device.globals(),
                WDF_POWER_MULTIPLE_PPO,
                device.function_object() as usize,
                irp.raw() as usize,
                "somebody else asked for a power request of a device whose power policy this driver owns",
            );
        }
        irp.mark_pending();
        let context = Arc::as_ptr(device).cast_mut().cast();
        if target == PowerDeviceD0 {
            irp.copy_stack_to_next();
            irp.set_completion(powered_below, context);
            irp.power_call(device.attached_object());
        } else {
            run_passive(device, move |device| device.pnp.lower(device, irp, target));
        }
        STATUS_PENDING
    }

    fn notify(device: &Device) -> Notify {
        if device.is_power_pageable() {
            Notify::Full
        } else {
            Notify::NonPageable
        }
    }

    /// The device leaves D0, then the drivers below (`LowerDevicePower`).
    fn lower(&self, device: &Arc<Device>, irp: Irp, target: DEVICE_POWER_STATE) {
        let mut failed = false;
        if self.power_state() == WdfPowerDeviceD0 {
            failed = self
                .power_down(
                    device,
                    target as WDF_POWER_DEVICE_STATE,
                    Self::notify(device),
                )
                .is_err();
        }
        irp.set_status(STATUS_SUCCESS);
        self.power_pass_down(device, irp);
        if failed {
            self.fail_running(device);
        }
    }

    /// The drivers below are in D0: now the device (`RaiseDevicePowerCompletion`).
    fn raise(&self, device: &Arc<Device>, irp: Irp) {
        let sleeping =
            self.phase() == super::Phase::Started && self.power_state() != WdfPowerDeviceD0;
        let failed = sleeping && self.power_up(device, Self::notify(device)).is_err();
        self.complete_power(irp, STATUS_SUCCESS);
        if failed {
            self.fail_running(device);
        }
    }
}

/// Runs something at `PASSIVE_LEVEL`: here, or on the device's worker.
fn run_passive(device: &Arc<Device>, work: impl FnOnce(&Arc<Device>) + Send + 'static) {
    // SAFETY: callable at any IRQL.
    if unsafe { KeGetCurrentIrql() } == PASSIVE_LEVEL as KIRQL {
        work(device);
    } else {
        let own = device.clone();
        device.worker().run(move || work(&own));
    }
}

/// The device a completion routine was given.
fn device(context: PVOID) -> Arc<Device> {
    let device: *const Device = context.cast();
    // SAFETY: the remove lock keeps the device while a power request is in its driver.
    unsafe { Arc::increment_strong_count(device) };
    // SAFETY: the count just taken.
    unsafe { Arc::from_raw(device) }
}

unsafe extern "win64" fn system_working(
    _object: PDEVICE_OBJECT,
    irp: PIRP,
    context: PVOID,
) -> NTSTATUS {
    let _inside = machine_code();
    // SAFETY: the lower driver completed the request.
    let irp = unsafe { Irp::new(irp) };
    let device = device(context);
    if device.pnp.phase() == super::Phase::Started && device.pnp.power_state() != WdfPowerDeviceD0 {
        // A request that cannot be made leaves the device asleep, as in Windows.
        let _ = device.pnp.request(&device, PowerDeviceD0);
    }
    irp.start_next_power();
    if irp.pending_returned() {
        irp.mark_pending();
    }
    device.pnp.remove_lock.release();
    irp.status()
}

unsafe extern "win64" fn system_sleeping(
    _object: PDEVICE_OBJECT,
    _irp: PIRP,
    context: PVOID,
) -> NTSTATUS {
    let _inside = machine_code();
    run_passive(&device(context), |device| device.pnp.system_sleeps(device));
    STATUS_MORE_PROCESSING_REQUIRED
}

unsafe extern "win64" fn powered_below(
    _object: PDEVICE_OBJECT,
    irp: PIRP,
    context: PVOID,
) -> NTSTATUS {
    let _inside = machine_code();
    // SAFETY: the lower driver completed the request.
    let irp = unsafe { Irp::new(irp) };
    run_passive(&device(context), move |device| {
        device.pnp.raise(device, irp)
    });
    STATUS_MORE_PROCESSING_REQUIRED
}

unsafe extern "win64" fn request_completed(
    _object: PDEVICE_OBJECT,
    _minor: UCHAR,
    _state: POWER_STATE,
    context: PVOID,
    _status: PIO_STATUS_BLOCK,
) {
    let _inside = machine_code();
    run_passive(&device(context), |device| device.pnp.finish_system_sleep());
}
