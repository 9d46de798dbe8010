//! Into D0 and out of it (`powerstatemachine.cpp`).

use std::sync::Arc;

use crate::flat::*;
use machine_nt::exports::PoSetPowerState;
use machine_nt::ke::stack::driver_call;

use super::Pnp;
use crate::device::Device;
use crate::interrupt::Notify;
use crate::io::queue::PowerAction;
use crate::trace;
use crate::wdm;

type Entry = Option<unsafe extern "win64" fn(WDFDEVICE, WDF_POWER_DEVICE_STATE) -> NTSTATUS>;

impl Pnp {
    /// Powers the device up: EvtDeviceD0Entry, interrupts, EvtDeviceD0EntryPostInterruptsEnabled, DMA enablers, queues,
    /// self-managed I/O. `PASSIVE_LEVEL`. `notify`: whether interrupts are connected or stay as they are.
    ///
    /// # Errors
    /// The first failing callback's status, after everything that had been done was undone as the published source does.
    pub(super) fn power_up(&self, device: &Arc<Device>, notify: Notify) -> Result<(), NTSTATUS> {
        let previous = self.power_state();
        self.call(
            device,
            "EvtDeviceD0Entry",
            self.callbacks.EvtDeviceD0Entry,
            previous,
        )?;
        let connected = self.connect_interrupts(notify).and_then(|()| {
            let callback = self.callbacks.EvtDeviceD0EntryPostInterruptsEnabled;
            self.call(
                device,
                "EvtDeviceD0EntryPostInterruptsEnabled",
                callback,
                previous,
            )
        });
        if let Err(status) = connected {
            self.undo_interrupts(device);
            return Err(status);
        }
        if let Err(status) = self.power_up_enablers() {
            self.undo_dma(device);
            return Err(status);
        }
        device.io.power_on();
        if let Err(status) = self.self_managed.start(device, &self.callbacks) {
            trace::error(
                device.globals(),
                &format!("self-managed I/O fails to start: {status:#010x}"),
            );
            device.io.power_off(PowerAction::Hold);
            self.undo_dma(device);
            return Err(status);
        }
        self.set_power_state(device, WdfPowerDeviceD0);
        Ok(())
    }

    /// Powers the device down: self-managed I/O, queues, DMA enablers, EvtDeviceD0ExitPreInterruptsDisabled, interrupts,
    /// EvtDeviceD0Exit. All is done whatever fails. `PASSIVE_LEVEL`.
    ///
    /// # Errors
    /// `STATUS_UNSUCCESSFUL` if any callback failed.
    pub(super) fn power_down(
        &self,
        device: &Arc<Device>,
        target: WDF_POWER_DEVICE_STATE,
        notify: Notify,
    ) -> Result<(), NTSTATUS> {
        let suspended = self.self_managed.suspend(device, &self.callbacks);
        device.io.power_off(PowerAction::Hold);
        let enablers = self.power_down_enablers();
        let before = self.call(
            device,
            "EvtDeviceD0ExitPreInterruptsDisabled",
            self.callbacks.EvtDeviceD0ExitPreInterruptsDisabled,
            target,
        );
        let interrupts = self.disconnect_interrupts(notify);
        let exit = self.call(
            device,
            "EvtDeviceD0Exit",
            self.callbacks.EvtDeviceD0Exit,
            target,
        );
        self.set_power_state(device, target);
        let failed = [suspended, enablers, before, interrupts, exit]
            .iter()
            .any(Result::is_err);
        if failed {
            Err(STATUS_UNSUCCESSFUL)
        } else {
            Ok(())
        }
    }

    fn call(
        &self,
        device: &Device,
        name: &'static str,
        callback: Entry,
        state: WDF_POWER_DEVICE_STATE,
    ) -> Result<(), NTSTATUS> {
        let Some(callback) = callback else {
            return Ok(());
        };
        machine_nt::trace::record(name, device.handle() as u64);
        // SAFETY: the driver registered the callback.
        let status = driver_call(|| unsafe { callback(device.handle(), state) });
        if !wdm::success(status) {
            trace::error(
                device.globals(),
                &format!("{name} fails with {status:#010x}"),
            );
        }
        wdm::check(status)
    }

    fn connect_interrupts(&self, notify: Notify) -> Result<(), NTSTATUS> {
        self.interrupts()
            .iter()
            .try_for_each(|interrupt| interrupt.connect(notify))
    }

    /// Disconnects in the reverse order; all of them, whatever fails.
    pub(super) fn disconnect_interrupts(&self, notify: Notify) -> Result<(), NTSTATUS> {
        self.interrupts()
            .iter()
            .rev()
            .map(|interrupt| interrupt.disconnect(notify))
            .fold(Ok(()), Result::and)
    }

    fn power_up_enablers(&self) -> Result<(), NTSTATUS> {
        self.enablers()
            .iter()
            .try_for_each(|enabler| enabler.power_up())
    }

    /// Every enabler, also those power-up never reached.
    fn power_down_enablers(&self) -> Result<(), NTSTATUS> {
        self.enablers()
            .iter()
            .map(|enabler| enabler.power_down())
            .fold(Ok(()), Result::and)
    }

    /// After a failure of the enablers or of self-managed I/O.
    fn undo_dma(&self, device: &Arc<Device>) {
        // The power-up failed already; what fails on the way back is traced where it happens.
        let _ = self.power_down_enablers();
        let _ = self.call(
            device,
            "EvtDeviceD0ExitPreInterruptsDisabled",
            self.callbacks.EvtDeviceD0ExitPreInterruptsDisabled,
            WdfPowerDeviceD3Final,
        );
        self.undo_interrupts(device);
    }

    /// After a failure to connect, or of EvtDeviceD0EntryPostInterruptsEnabled.
    fn undo_interrupts(&self, device: &Arc<Device>) {
        // As above.
        let _ = self.disconnect_interrupts(Notify::Full);
        let _ = self.call(
            device,
            "EvtDeviceD0Exit",
            self.callbacks.EvtDeviceD0Exit,
            WdfPowerDeviceD3Final,
        );
        self.set_power_state(device, WdfPowerDeviceD3Final);
    }

    fn set_power_state(&self, device: &Device, state: WDF_POWER_DEVICE_STATE) {
        self.state.with(|own| own.power = state);
        let shown =
            if state == WdfPowerDeviceD3Final || state == WdfPowerDevicePrepareForHibernation {
                PowerDeviceD3
            } else {
                state as DEVICE_POWER_STATE
            };
        // SAFETY: all-zero bytes are a valid value of this plain union.
        let mut power: POWER_STATE = unsafe { std::mem::zeroed() };
        power.DeviceState = shown;
        // SAFETY: the device object lives until the device is removed.
        unsafe { PoSetPowerState(device.function_object(), DevicePowerState, power) };
    }
}
