//! Plug and Play requests (`fxpkgfdo.cpp`, `FxPkgPnp::Dispatch`).

use std::sync::Arc;

use crate::flat::*;
use machine_nt::exports::{IoAllocateIrp, IoFreeIrp};
use machine_nt::ke::stack::driver_call;

use super::Pnp;
use crate::device::Device;
use crate::wdm::{self, Irp};

impl Pnp {
    /// `IRP_MJ_PNP`. `PASSIVE_LEVEL`.
    pub(crate) fn dispatch_pnp(&self, device: &Arc<Device>, irp: Irp) -> NTSTATUS {
        if !self.remove_lock.acquire() {
            return irp.complete_with(STATUS_INVALID_DEVICE_STATE);
        }
        match irp.minor() as _ {
            IRP_MN_START_DEVICE => self.on_start(device, irp),
            IRP_MN_QUERY_STOP_DEVICE => self.on_query_stop(device, irp),
            IRP_MN_CANCEL_STOP_DEVICE | IRP_MN_CANCEL_REMOVE_DEVICE => {
                self.on_cancel_query(device, irp)
            }
            IRP_MN_STOP_DEVICE => self.on_stop(device, irp),
            IRP_MN_QUERY_REMOVE_DEVICE => self.on_query_remove(device, irp),
            IRP_MN_SURPRISE_REMOVAL => self.on_surprise_removal(device, irp),
            IRP_MN_REMOVE_DEVICE => self.on_remove(device, irp),
            IRP_MN_QUERY_CAPABILITIES => self.on_query_capabilities(device, irp),
            IRP_MN_QUERY_PNP_DEVICE_STATE => self.on_query_state(device, irp),
            IRP_MN_QUERY_DEVICE_RELATIONS => {
                self.notify_relations(device, irp);
                self.pass_down(device, irp)
            }
            _ => self.pass_down(device, irp),
        }
    }

    /// Passes a request to the drivers below as it is.
    pub(super) fn pass_down(&self, device: &Device, irp: Irp) -> NTSTATUS {
        irp.copy_stack_to_next();
        let status = irp.call(device.attached_object());
        self.remove_lock.release();
        status
    }

    /// Sets a status and passes the request down.
    pub(super) fn pass_down_with(&self, device: &Device, irp: Irp, status: NTSTATUS) -> NTSTATUS {
        irp.set_status(status);
        self.pass_down(device, irp)
    }

    /// Completes a request.
    pub(super) fn complete(&self, irp: Irp, status: NTSTATUS) -> NTSTATUS {
        irp.set_status(status);
        irp.complete(IO_NO_INCREMENT as i8);
        self.remove_lock.release();
        status
    }

    fn on_query_capabilities(&self, device: &Device, irp: Irp) -> NTSTATUS {
        let capabilities = irp.capabilities();
        // SAFETY: the asker's structure, valid until the IRP completes.
        self.capabilities
            .with(|own| own.apply_before(unsafe { &mut *capabilities }));
        let status = irp.send_and_wait(device.attached_object());
        if wdm::success(status) {
            // SAFETY: as above.
            self.capabilities
                .with(|own| own.apply_after(unsafe { &mut *capabilities }));
        }
        self.complete(irp, status)
    }

    fn on_query_state(&self, device: &Device, irp: Irp) -> NTSTATUS {
        let status = irp.send_and_wait(device.attached_object());
        if !wdm::success(status) && status != STATUS_NOT_SUPPORTED {
            return self.complete(irp, status);
        }
        let below = if wdm::success(status) {
            irp.information() as u32
        } else {
            0
        };
        let failed = self
            .state
            .with(|state| state.failed || state.internal_failure);
        let own = self.capabilities.with(|own| own.device_state(below));
        let shown = own | if failed { PNP_DEVICE_FAILED } else { 0 };
        irp.set_information(shown as usize);
        self.complete(irp, STATUS_SUCCESS)
    }

    fn notify_relations(&self, device: &Device, irp: Irp) {
        let Some(callback) = self.callbacks.EvtDeviceRelationsQuery else {
            return;
        };
        // SAFETY: the packet is the framework's.
        let parameters = unsafe { &*irp.parameters() };
        // SAFETY: the parameters of this minor function.
        let relation = unsafe { parameters.QueryDeviceRelations };
        // SAFETY: the driver registered the callback.
        driver_call(|| unsafe { callback(device.handle(), relation.Type) });
    }

    /// Asks the drivers below what the device can do: which power state goes with which of the system's (`QueryForCapabilities`).
    ///
    /// # Errors
    /// Those of the drivers below, `STATUS_INSUFFICIENT_RESOURCES`.
    pub(super) fn query_capabilities(&self, device: &Device) -> Result<(), NTSTATUS> {
        let attached = device.attached_object();
        // SAFETY: the device object below lives as long as ours is attached.
        let stack_size = unsafe { (*attached).StackSize };
        // SAFETY: callable at or below DISPATCH_LEVEL.
        let packet = unsafe { IoAllocateIrp(stack_size + 1, FALSE as BOOLEAN) };
        if packet.is_null() {
            return Err(STATUS_INSUFFICIENT_RESOURCES);
        }
        // SAFETY: just allocated; freed below.
        let irp = unsafe { Irp::new(packet) };
        // SAFETY: all-zero bytes are a valid value of this plain structure.
        let mut capabilities: DEVICE_CAPABILITIES = unsafe { std::mem::zeroed() };
        capabilities.Size = size_of::<DEVICE_CAPABILITIES>() as _;
        capabilities.Version = 1;
        capabilities.Address = ULONG::MAX;
        capabilities.UINumber = ULONG::MAX;
        irp.prepare_capabilities_query(&mut capabilities);
        let status = irp.send_and_wait(attached);
        // SAFETY: allocated above and complete.
        unsafe { IoFreeIrp(packet) };
        wdm::check(status)?;
        self.capabilities.with(|own| own.learn(&capabilities));
        Ok(())
    }
}
