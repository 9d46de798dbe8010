//! Where the driver's IRPs arrive (`FxDevice::DispatchWithLock`).

use std::sync::Arc;

use crate::flat::*;
use machine_nt::ke::stack::machine_code;

use super::Device;
use crate::wdm::Irp;

/// The entry for every major function.
///
/// # Safety
/// The I/O manager calls it with a device object of the framework and a packet for it.
pub(crate) unsafe extern "win64" fn dispatch(object: PDEVICE_OBJECT, irp: PIRP) -> NTSTATUS {
    let _inside = machine_code();
    // SAFETY: the framework creates all device objects of its drivers.
    let device = unsafe { Device::from_object(object) };
    // SAFETY: the packet is the framework's now.
    let irp = unsafe { Irp::new(irp) };
    device.dispatch(irp)
}

impl Device {
    fn dispatch(self: &Arc<Self>, irp: Irp) -> NTSTATUS {
        match irp.major() as _ {
            IRP_MJ_READ | IRP_MJ_WRITE | IRP_MJ_DEVICE_CONTROL | IRP_MJ_INTERNAL_DEVICE_CONTROL => {
                self.io.dispatch(self, irp)
            }
            IRP_MJ_CREATE => self.files.create(self, irp),
            IRP_MJ_CLEANUP => self.files.cleanup(self, irp),
            IRP_MJ_CLOSE => self.files.close(self, irp),
            IRP_MJ_PNP => self.pnp.dispatch_pnp(self, irp),
            IRP_MJ_POWER => self.pnp.dispatch_power(self, irp),
            // No WMI provider is registered: what is asked passes by.
            IRP_MJ_SYSTEM_CONTROL => self.forward(irp),
            IRP_MJ_SHUTDOWN if !self.settings().filter => irp.complete_with(STATUS_SUCCESS),
            _ if self.settings().filter => self.forward(irp),
            _ => irp.complete_with(STATUS_INVALID_DEVICE_REQUEST),
        }
    }

    /// Passes a packet to the driver below, untouched.
    pub(crate) fn forward(&self, irp: Irp) -> NTSTATUS {
        irp.skip_stack_location();
        irp.call(self.attached_object())
    }
}
