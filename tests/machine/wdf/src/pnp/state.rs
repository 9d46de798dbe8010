//! Where a device is in its life.

use crate::flat::*;

/// The phases of a device's life, coarser than `WDF_DEVICE_PNP_STATE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Added, never started.
    #[default]
    Initial,
    /// Started.
    Started,
    /// Asked whether it can be stopped, and said yes.
    StopQueried,
    /// Stopped, to be started with other resources.
    Stopped,
    /// Asked whether it can be removed, and said yes.
    RemoveQueried,
    /// Failed or surprise-removed: waits to be removed.
    Failed,
    /// Removed.
    Removed,
}

impl Phase {
    /// The state `WdfDeviceGetDevicePnpState` shows.
    pub(crate) fn pnp_state(self) -> WDF_DEVICE_PNP_STATE {
        match self {
            Self::Initial => WdfDevStatePnpInit,
            Self::Started => WdfDevStatePnpStarted,
            Self::StopQueried => WdfDevStatePnpQueryStopPending,
            Self::Stopped => WdfDevStatePnpStopped,
            Self::RemoveQueried => WdfDevStatePnpQueryRemovePending,
            Self::Failed => WdfDevStatePnpFailedWaitForRemove,
            Self::Removed => WdfDevStatePnpFinal,
        }
    }
}

/// What the package knows.
#[derive(Debug)]
pub(super) struct State {
    /// The phase.
    pub(super) phase: Phase,
    /// The device's power state; D3Final before the first start and after a stop.
    pub(super) power: WDF_POWER_DEVICE_STATE,
    /// EvtDevicePrepareHardware is running.
    pub(super) preparing: bool,
    /// EvtDevicePrepareHardware was called and EvtDeviceReleaseHardware was not.
    pub(super) hardware_owned: bool,
    /// The queues were emptied and the interfaces disabled for good.
    pub(super) cleaned: bool,
    /// The driver said the device failed.
    pub(super) failed: bool,
    /// The framework found that it failed.
    pub(super) internal_failure: bool,
    /// The system's power state.
    pub(super) system: SYSTEM_POWER_STATE,
    /// The framework asked for a power request of the device.
    pub(super) device_power_requested: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            phase: Phase::Initial,
            power: WdfPowerDeviceD3Final,
            preparing: false,
            hardware_owned: false,
            cleaned: false,
            failed: false,
            internal_failure: false,
            system: PowerSystemWorking,
            device_power_requested: false,
        }
    }
}
