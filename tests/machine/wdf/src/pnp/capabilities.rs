//! What a device can do and what it says about itself (`HandleQueryCapabilities`, `HandleQueryPnpDeviceState`).

use crate::flat::*;

/// The driver's word about the device, and the bus's about its power states.
#[derive(Clone, Copy)]
pub(crate) struct Capabilities {
    pnp: WDF_DEVICE_PNP_CAPABILITIES,
    power: Option<WDF_DEVICE_POWER_CAPABILITIES>,
    state: WDF_DEVICE_STATE,
    stop_count: u32,
    sleep_states: [DEVICE_POWER_STATE; PowerSystemMaximum as usize],
}

impl Default for Capabilities {
    fn default() -> Self {
        // SAFETY: all-zero bytes are a valid value of these plain structures.
        let (mut pnp, mut state): (WDF_DEVICE_PNP_CAPABILITIES, WDF_DEVICE_STATE) =
            unsafe { std::mem::zeroed() };
        for field in [
            &mut pnp.LockSupported,
            &mut pnp.EjectSupported,
            &mut pnp.Removable,
            &mut pnp.DockDevice,
            &mut pnp.UniqueID,
            &mut pnp.SilentInstall,
            &mut pnp.SurpriseRemovalOK,
            &mut pnp.HardwareDisabled,
            &mut pnp.NoDisplayInUI,
            &mut state.Disabled,
            &mut state.DontDisplayInUI,
            &mut state.Failed,
            &mut state.NotDisableable,
            &mut state.Removed,
            &mut state.ResourcesChanged,
            &mut state.AssignedToGuest,
        ] {
            *field = WdfUseDefault;
        }
        pnp.Address = ULONG::MAX;
        pnp.UINumber = ULONG::MAX;
        Self {
            pnp,
            power: None,
            state,
            stop_count: 0,
            sleep_states: [PowerDeviceD3; PowerSystemMaximum as usize],
        }
    }
}

impl Capabilities {
    /// `WdfDeviceSetPnpCapabilities`.
    pub(crate) fn set_pnp(&mut self, pnp: &WDF_DEVICE_PNP_CAPABILITIES) {
        self.pnp = *pnp;
    }

    /// `WdfDeviceSetPowerCapabilities`.
    pub(crate) fn set_power(&mut self, power: &WDF_DEVICE_POWER_CAPABILITIES) {
        self.power = Some(*power);
    }

    /// `WdfDeviceSetDeviceState`.
    pub(crate) fn set_state(&mut self, state: &WDF_DEVICE_STATE) {
        self.state = *state;
    }

    /// `WdfDeviceGetDeviceState`.
    pub(crate) fn state(&self) -> WDF_DEVICE_STATE {
        self.state
    }

    /// `WdfDeviceSetStaticStopRemove`: whether stops and removals are refused.
    pub(crate) fn set_stoppable(&mut self, stoppable: bool) {
        self.stop_count = if stoppable {
            self.stop_count.saturating_sub(1)
        } else {
            self.stop_count + 1
        };
    }

    /// Whether the device may not be stopped or removed now.
    pub(super) fn stop_disabled(&self) -> bool {
        self.stop_count != 0
    }

    /// What is said before the drivers below are asked.
    pub(super) fn apply_before(&self, capabilities: &mut DEVICE_CAPABILITIES) {
        let set = |choice: WDF_TRI_STATE| choice == WdfTrue;
        if set(self.pnp.LockSupported) {
            capabilities.set_LockSupported(1);
        }
        if set(self.pnp.EjectSupported) {
            capabilities.set_EjectSupported(1);
        }
        if set(self.pnp.Removable) {
            capabilities.set_Removable(1);
        }
        if set(self.pnp.SurpriseRemovalOK) {
            capabilities.set_SurpriseRemovalOK(1);
        }
        if set(self.pnp.NoDisplayInUI) {
            capabilities.set_NoDisplayInUI(1);
        }
    }

    /// What is said after they answered.
    pub(super) fn apply_after(&self, capabilities: &mut DEVICE_CAPABILITIES) {
        if self.pnp.Removable != WdfUseDefault {
            capabilities.set_Removable(u32::from(self.pnp.Removable == WdfTrue) as _);
        }
        if self.pnp.SurpriseRemovalOK != WdfUseDefault {
            capabilities
                .set_SurpriseRemovalOK(u32::from(self.pnp.SurpriseRemovalOK == WdfTrue) as _);
        }
        if self.pnp.Address != ULONG::MAX {
            capabilities.Address = self.pnp.Address;
        }
        if self.pnp.UINumber != ULONG::MAX {
            capabilities.UINumber = self.pnp.UINumber;
        }
        let Some(power) = &self.power else { return };
        for (shown, own) in capabilities
            .DeviceState
            .iter_mut()
            .zip(power.DeviceState)
            .skip(PowerSystemWorking as usize)
        {
            // A state deeper than the bus's is the driver's to ask for; PowerDeviceMaximum means no opinion.
            if own != PowerDeviceMaximum && own > *shown {
                *shown = own;
            }
        }
    }

    /// `PNP_DEVICE_*` for what the drivers below say.
    pub(super) fn device_state(&self, below: u32) -> u32 {
        let bits = [
            (self.state.Disabled, PNP_DEVICE_DISABLED),
            (self.state.DontDisplayInUI, PNP_DEVICE_DONT_DISPLAY_IN_UI),
            (self.state.Failed, PNP_DEVICE_FAILED),
            (self.state.NotDisableable, PNP_DEVICE_NOT_DISABLEABLE),
            (self.state.Removed, PNP_DEVICE_REMOVED),
            (
                self.state.ResourcesChanged,
                PNP_DEVICE_RESOURCE_REQUIREMENTS_CHANGED,
            ),
        ];
        bits.into_iter()
            .fold(below, |all, (choice, bit)| match choice {
                WdfTrue => all | bit,
                WdfFalse => all & !bit,
                _ => all,
            })
    }

    /// What the drivers below answered.
    pub(super) fn learn(&mut self, capabilities: &DEVICE_CAPABILITIES) {
        for (own, told) in self.sleep_states.iter_mut().zip(capabilities.DeviceState) {
            if (PowerDeviceD1..=PowerDeviceD3).contains(&told) {
                *own = told;
            }
        }
    }

    /// The device state for a sleep of the system.
    pub(super) fn sleep_state(&self, system: SYSTEM_POWER_STATE) -> DEVICE_POWER_STATE {
        let ideal = self
            .power
            .map(|power| power.IdealDxStateForSx)
            .filter(|state| (PowerDeviceD1..=PowerDeviceD3).contains(state));
        ideal.unwrap_or_else(|| {
            self.sleep_states
                .get(system as usize)
                .copied()
                .unwrap_or(PowerDeviceD3)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drivers_word_changes_single_bits_of_the_state() {
        let mut own = Capabilities::default();
        assert_eq!(own.device_state(PNP_DEVICE_DISABLED), PNP_DEVICE_DISABLED);
        let mut state = own.state();
        state.Disabled = WdfFalse;
        state.Failed = WdfTrue;
        own.set_state(&state);
        assert_eq!(own.device_state(PNP_DEVICE_DISABLED), PNP_DEVICE_FAILED);
    }

    #[test]
    fn stops_are_refused_as_long_as_anybody_refuses() {
        let mut own = Capabilities::default();
        own.set_stoppable(false);
        own.set_stoppable(false);
        own.set_stoppable(true);
        assert!(own.stop_disabled());
        own.set_stoppable(true);
        assert!(!own.stop_disabled());
    }
}
