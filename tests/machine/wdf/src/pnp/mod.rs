//! Plug and Play and power of a device (`fxpkgpnp.cpp`, `fxpkgfdo.cpp`, the three state machines).
//!
//! The real framework runs three event-driven machines; here the same sequences are procedures, run at `PASSIVE_LEVEL` by whoever
//! brings the IRP: [`start`] and [`stop`] for the device's life, [`power`] for the ways into and out of D0, in exactly the order
//! of the published source, failures included. Section 2.7 of the framework's behaviour tells that order.

use std::sync::Arc;

use crate::flat::*;

use crate::device::Device;
use crate::dma::enabler::DmaEnabler;
use crate::interrupt::Interrupt;
use crate::lock::Record;
use crate::resource::ResourceList;

mod capabilities;
mod irps;
mod power;
mod power_irps;
mod remove_lock;
mod self_managed;
mod start;
mod state;
mod stop;

pub(crate) use capabilities::Capabilities;
pub(crate) use state::Phase;

use remove_lock::RemoveLock;
use self_managed::SelfManagedIo;
use state::State;

/// The Plug and Play and power package of a device.
pub(crate) struct Pnp {
    callbacks: WDF_PNPPOWER_EVENT_CALLBACKS,
    power_policy_owner: bool,
    state: Record<State>,
    remove_lock: RemoveLock,
    interrupts: Record<Vec<Arc<Interrupt>>>,
    enablers: Record<Vec<Arc<DmaEnabler>>>,
    resources: Record<Option<Resources>>,
    self_managed: SelfManagedIo,
    capabilities: Record<Capabilities>,
    system_irp: Record<Option<crate::wdm::Irp>>,
}

/// What the device was started with.
#[derive(Clone)]
struct Resources {
    raw: Arc<ResourceList>,
    translated: Arc<ResourceList>,
}

impl Pnp {
    /// The package for the callbacks of `WdfDeviceInitSetPnpPowerEventCallbacks`.
    pub(crate) fn new(
        callbacks: Option<WDF_PNPPOWER_EVENT_CALLBACKS>,
        power_policy_owner: bool,
    ) -> Self {
        Self {
            // SAFETY: all-zero bytes are a valid value of this plain structure: no callbacks.
            callbacks: callbacks.unwrap_or_else(|| unsafe { std::mem::zeroed() }),
            power_policy_owner,
            state: Record::new(State::default()),
            remove_lock: RemoveLock::new(),
            interrupts: Record::default(),
            enablers: Record::default(),
            resources: Record::default(),
            self_managed: SelfManagedIo::default(),
            capabilities: Record::default(),
            system_irp: Record::default(),
        }
    }

    /// Whether EvtDriverDeviceAdd has not been followed by a start yet (`WdfDevStatePnpInit`).
    pub(crate) fn is_initial(&self) -> bool {
        self.state
            .with(|state| state.phase == Phase::Initial && !state.preparing)
    }

    /// The driver says that the device failed: the PnP manager is told.
    pub(crate) fn set_failed(&self, device: &Device) {
        self.state.with(|state| state.failed = true);
        self.invalidate(device);
    }

    /// Whether EvtDevicePrepareHardware is running.
    pub(crate) fn is_preparing_hardware(&self) -> bool {
        self.state.with(|state| state.preparing)
    }

    /// The present phase of the device's life.
    pub(crate) fn phase(&self) -> Phase {
        self.state.with(|state| state.phase)
    }

    /// The device's power state.
    pub(crate) fn power_state(&self) -> WDF_POWER_DEVICE_STATE {
        self.state.with(|state| state.power)
    }

    /// What the driver says the device can do.
    pub(crate) fn capabilities(&self) -> &Record<Capabilities> {
        &self.capabilities
    }

    /// The number the next interrupt gets.
    pub(crate) fn next_message_number(&self) -> usize {
        self.interrupts.with(|all| all.len())
    }

    /// A new interrupt.
    pub(crate) fn add_interrupt(&self, interrupt: &Arc<Interrupt>) {
        self.interrupts.with(|all| all.push(interrupt.clone()));
    }

    /// An interrupt that is going.
    pub(crate) fn remove_interrupt(&self, interrupt: &Interrupt) {
        let gone = self.interrupts.with(|all| {
            let index = all
                .iter()
                .position(|other| std::ptr::eq(Arc::as_ptr(other), interrupt));
            index.map(|index| all.remove(index))
        });
        drop(gone);
    }

    fn interrupts(&self) -> Vec<Arc<Interrupt>> {
        self.interrupts.with(|all| all.clone())
    }

    /// A new DMA enabler: its power callbacks run in the order of creation.
    pub(crate) fn add_enabler(&self, enabler: &Arc<DmaEnabler>) {
        self.enablers.with(|all| all.push(enabler.clone()));
    }

    /// An enabler that is going.
    pub(crate) fn remove_enabler(&self, enabler: &DmaEnabler) {
        let gone = self.enablers.with(|all| {
            let index = all
                .iter()
                .position(|other| std::ptr::eq(Arc::as_ptr(other), enabler));
            index.map(|index| all.remove(index))
        });
        drop(gone);
    }

    fn enablers(&self) -> Vec<Arc<DmaEnabler>> {
        self.enablers.with(|all| all.clone())
    }

    /// The lines of the device's dump.
    pub(crate) fn dump(&self) -> Vec<String> {
        self.state
            .try_with(|state| format!("{state:?}"))
            .into_iter()
            .collect()
    }
}
