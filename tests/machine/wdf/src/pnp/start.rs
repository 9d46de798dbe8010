//! Starting a device (`pnpstatemachine.cpp`: HardwareAvailable, StartingFromStopped, EnableInterfaces, Started).

use std::sync::Arc;

use crate::flat::*;
use machine_nt::exports::{IoInvalidateDeviceState, KeGetCurrentIrql};
use machine_nt::ke::stack::{driver_call, machine_code};

use super::{Phase, Pnp, Resources};
use crate::device::Device;
use crate::interrupt::Notify;
use crate::resource::ResourceList;
use crate::trace;
use crate::wdm::{self, Irp};

impl Pnp {
    /// `IRP_MN_START_DEVICE`: the drivers below start first.
    pub(super) fn on_start(&self, device: &Arc<Device>, irp: Irp) -> NTSTATUS {
        irp.mark_pending();
        irp.copy_stack_to_next();
        irp.set_completion(started_below, Arc::as_ptr(device).cast_mut().cast());
        irp.call(device.attached_object());
        STATUS_PENDING
    }

    /// The drivers below have started: the device's own part, and the end of the IRP. `PASSIVE_LEVEL`.
    fn continue_start(&self, device: &Arc<Device>, irp: Irp) {
        let result = self.start(device, irp);
        let status = result.err().unwrap_or(STATUS_SUCCESS);
        if result.is_err() {
            trace::error(
                device.globals(),
                &format!(
                    "WDFDEVICE {:p} fails to start: {status:#010x}",
                    device.handle()
                ),
            );
        }
        irp.set_status(status);
        irp.complete(IO_NO_INCREMENT as i8);
        if self.state.with(|state| state.internal_failure) {
            self.invalidate(device);
        }
        self.remove_lock.release();
    }

    fn start(&self, device: &Arc<Device>, irp: Irp) -> Result<(), NTSTATUS> {
        let phase = self.phase();
        if phase == Phase::Failed || phase == Phase::Removed {
            return Err(STATUS_INVALID_DEVICE_STATE);
        }
        if phase == Phase::Started {
            // New resources without a stop before: the old ones go first.
            self.stop_hardware(device);
        }
        self.prepare_hardware(device, irp)
            .inspect_err(|_| self.fail(device))?;
        if self.power_policy_owner {
            self.query_capabilities(device)
                .inspect_err(|_| self.fail(device))?;
        }
        if let Err(status) = self.power_up(device, Notify::Full) {
            trace::error(
                device.globals(),
                &format!("the device fails to power up: {status:#010x}"),
            );
            self.fail(device);
            return Err(STATUS_DEVICE_POWER_FAILURE);
        }
        device.interfaces().enable_all(device);
        self.state.with(|state| state.phase = Phase::Started);
        Ok(())
    }

    /// Gives interrupts their vectors and calls EvtDevicePrepareHardware (`PnpPrepareHardware`).
    fn prepare_hardware(&self, device: &Arc<Device>, irp: Irp) -> Result<(), NTSTATUS> {
        let (raw, translated) = irp.start_resources();
        let resources = Resources {
            // SAFETY: the lists of the start IRP, which lives until this returns.
            raw: unsafe { ResourceList::from_wdm(device, raw) }?,
            // SAFETY: as above.
            translated: unsafe { ResourceList::from_wdm(device, translated) }?,
        };
        self.match_interrupts(&resources);
        self.resources.with(|own| *own = Some(resources.clone()));
        self.state.with(|state| {
            state.preparing = true;
            state.hardware_owned = true;
            state.cleaned = false;
        });
        let status = match self.callbacks.EvtDevicePrepareHardware {
            // SAFETY: the driver registered the callback.
            Some(callback) => driver_call(|| unsafe {
                callback(
                    device.handle(),
                    resources.raw.handle(),
                    resources.translated.handle(),
                )
            }),
            None => STATUS_SUCCESS,
        };
        self.state.with(|state| state.preparing = false);
        if !wdm::success(status) {
            trace::error(
                device.globals(),
                &format!("EvtDevicePrepareHardware fails with {status:#010x}"),
            );
            self.state.with(|state| state.internal_failure = true);
            return Err(status);
        }
        let all = self.interrupts();
        for interrupt in &all {
            interrupt.set_synchronize_irql(&all);
        }
        Ok(())
    }

    /// Hands the interrupt descriptors to the interrupts of EvtDriverDeviceAdd, in order; a descriptor of several messages serves as
    /// many interrupts (`PnpMatchResources`).
    fn match_interrupts(&self, resources: &Resources) {
        let interrupts = self.interrupts();
        let mut waiting = interrupts
            .iter()
            .filter(|interrupt| !interrupt.is_created_in_prepare_hardware());
        for (raw, translated) in resources
            .raw
            .interrupts()
            .into_iter()
            .zip(resources.translated.interrupts())
        {
            for _ in 0..ResourceList::message_count(raw) {
                let Some(interrupt) = waiting.next() else {
                    return;
                };
                interrupt.assign(raw, translated);
            }
        }
    }

    /// A start that failed: the hardware is released, queues and interfaces are closed (`FailedOwnHardware`, `Failed`).
    fn fail(&self, device: &Arc<Device>) {
        self.state.with(|state| state.internal_failure = true);
        self.release_hardware(device);
        self.clean_up(device);
        self.state.with(|state| state.phase = Phase::Failed);
    }

    /// Has the PnP manager ask for the device's state.
    pub(super) fn invalidate(&self, device: &Device) {
        // SAFETY: the physical device object lives as long as the device is in its stack.
        unsafe { IoInvalidateDeviceState(device.physical_object()) };
    }
}

unsafe extern "win64" fn started_below(
    _object: PDEVICE_OBJECT,
    irp: PIRP,
    context: PVOID,
) -> NTSTATUS {
    let _inside = machine_code();
    // SAFETY: the lower driver completed the start.
    let irp = unsafe { Irp::new(irp) };
    let device: *const Device = context.cast();
    // SAFETY: the remove lock keeps the device; its own device object holds a strong count.
    unsafe { Arc::increment_strong_count(device) };
    // SAFETY: the count just taken.
    let device = unsafe { Arc::from_raw(device) };
    if !wdm::success(irp.status()) {
        device.pnp.remove_lock.release();
        return STATUS_CONTINUE_COMPLETION;
    }
    // SAFETY: callable at any IRQL.
    if unsafe { KeGetCurrentIrql() } == PASSIVE_LEVEL as KIRQL {
        device.pnp.continue_start(&device, irp);
    } else {
        let own = device.clone();
        device
            .worker()
            .run(move || own.pnp.continue_start(&own, irp));
    }
    STATUS_MORE_PROCESSING_REQUIRED
}
