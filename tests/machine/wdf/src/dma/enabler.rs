//! WDFDMAENABLER (`fxdmaenabler.cpp`).

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use machine_nt::exports::{ExAllocatePool2, ExFreePoolWithTag, IoGetDmaAdapter};
use machine_nt::ke::stack::driver_call;

use super::adapter::Adapter;
use super::geometry::PAGE;
use super::system_enabler::SystemList;
use crate::device::Device;
use crate::flat::*;
use crate::globals::DriverGlobals;
use crate::lock::{Ptr, Record};
use crate::object::{Header, Kind, Object, Typed};
use crate::wdm;
use crate::{trace, verifier};

type PowerCallback = Option<unsafe extern "win64" fn(WDFDMAENABLER) -> NTSTATUS>;

/// The default of the limit of scatter/gather elements.
const UNLIMITED: u32 = u32::MAX;

/// What a profile means (`FxDmaEnabler::Initialize`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Profile {
    /// The profile's own value.
    pub(crate) value: WDF_DMA_PROFILE,
    /// The device moves the data itself.
    pub(crate) bus_master: bool,
    /// It takes lists of buffers.
    pub(crate) scatter_gather: bool,
    /// Both directions at once.
    pub(crate) duplex: bool,
    wide: bool,
}

impl Profile {
    /// The meaning of a profile; None for an unknown one.
    pub(crate) fn new(value: WDF_DMA_PROFILE) -> Option<Self> {
        let (bus_master, scatter_gather, duplex, wide) = match value {
            WdfDmaProfilePacket => (true, false, false, false),
            WdfDmaProfilePacket64 => (true, false, false, true),
            WdfDmaProfileScatterGather => (true, true, false, false),
            WdfDmaProfileScatterGather64 => (true, true, false, true),
            WdfDmaProfileScatterGatherDuplex => (true, true, true, false),
            WdfDmaProfileScatterGather64Duplex => (true, true, true, true),
            WdfDmaProfileSystem => (false, false, false, false),
            WdfDmaProfileSystemDuplex => (false, false, true, false),
            _ => return None,
        };
        Some(Self {
            value,
            bus_master,
            scatter_gather,
            duplex,
            wide,
        })
    }

    /// Bus master, one buffer at a time.
    pub(crate) fn is_packet(&self) -> bool {
        self.bus_master && !self.scatter_gather
    }
}

/// An enabler.
pub(crate) struct DmaEnabler {
    header: Header,
    device: Arc<Device>,
    profile: Profile,
    pub(super) maximum_length: u32,
    version: u32,
    require_single: bool,
    preallocate: bool,
    pub(super) adapters: Record<[Option<Adapter>; 2]>,
    /// The read direction was described to the HAL: at creation for bus masters, by its configuration for system profiles.
    pub(super) described: AtomicBool,
    /// Where the transfers of a system profile have their lists.
    pub(super) system_list: Record<SystemList>,
    max_elements: AtomicU32,
    alignment: OnceLock<u32>,
    callbacks: Callbacks,
    added: AtomicBool,
    fill_failed: AtomicBool,
    enable_failed: AtomicBool,
    start_failed: AtomicBool,
}

#[derive(Clone, Copy)]
struct Callbacks {
    fill: PowerCallback,
    flush: PowerCallback,
    enable: PowerCallback,
    disable: PowerCallback,
    start: PowerCallback,
    stop: PowerCallback,
}

impl Object for DmaEnabler {
    fn header(&self) -> &Header {
        &self.header
    }

    fn dispose(&self) {
        self.put_adapters();
        if self.added.load(Ordering::Relaxed) {
            self.device.pnp.remove_enabler(self);
        }
    }

    fn destroyed(&self) {
        self.free(self.system_list.with(std::mem::take).memory);
    }

    fn dump(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "profile {}, version {}, maximum length {:#x}, maximum elements {:#x}, single transfer {}",
            self.profile.value,
            self.version,
            self.maximum_length,
            self.max_elements(),
            self.require_single,
        )];
        for (direction, adapter) in ["read", "write"]
            .iter()
            .zip(self.adapters.try_with(|all| *all).unwrap_or_default())
        {
            if let Some(adapter) = adapter {
                lines.push(format!(
                    "{direction}: adapter {:p}, {} map registers, fragments of {:#x}",
                    adapter.raw(),
                    adapter.map_registers,
                    adapter.max_fragment
                ));
            }
        }
        lines
    }
}

impl Typed for DmaEnabler {
    const KIND: Kind = Kind::DmaEnabler;
}

/// Whether the overrides of the configuration make sense: the DMA version and, for version 3, the address width.
fn version_and_width(
    globals: &DriverGlobals,
    profile: Profile,
    config: &WDF_DMA_ENABLER_CONFIG,
) -> Result<(u32, u32), NTSTATUS> {
    let refuse = |why: &str| {
        trace::error(globals, why);
        verifier::break_point(globals);
        Err(STATUS_INVALID_PARAMETER)
    };
    let mut version = if profile.bus_master {
        DEVICE_DESCRIPTION_VERSION2
    } else {
        DEVICE_DESCRIPTION_VERSION3
    };
    let mut width = 0;
    if config.AddressWidthOverride != 0 {
        if !profile.bus_master {
            return refuse("AddressWidthOverride must be zero for system profiles");
        }
        if !profile.wide && config.AddressWidthOverride > 32 {
            return refuse("AddressWidthOverride must be at most 32 for a 32-bit profile");
        }
        version = DEVICE_DESCRIPTION_VERSION3;
        width = config.AddressWidthOverride;
    }
    if config.WdmDmaVersionOverride != 0 {
        if config.WdmDmaVersionOverride < version {
            return refuse("WdmDmaVersionOverride is lower than what the configuration needs");
        }
        version = config.WdmDmaVersionOverride;
    }
    if version >= DEVICE_DESCRIPTION_VERSION3 && width == 0 {
        width = match (profile.bus_master, profile.wide) {
            (true, true) => 64,
            (true, false) => 32,
            (false, _) => 24,
        };
    }
    Ok((version, width))
}

impl DmaEnabler {
    /// An enabler for a configuration whose size, profile and length were checked, and its adapters, if it is a bus master's.
    ///
    /// # Errors
    /// `STATUS_INVALID_PARAMETER` (overrides, single transfers without version 3).
    pub(super) fn new(
        device: &Arc<Device>,
        profile: Profile,
        config: &WDF_DMA_ENABLER_CONFIG,
    ) -> Result<(Arc<Self>, u32), NTSTATUS> {
        let globals = device.globals();
        let (version, width) = version_and_width(globals, profile, config)?;
        let flags = config.Flags;
        let require_single = flags & WDF_DMA_ENABLER_CONFIG_REQUIRE_SINGLE_TRANSFER as u32 != 0;
        if require_single && (!globals.is_at_least(19) || version != DEVICE_DESCRIPTION_VERSION3) {
            trace::error(globals, "single transfers need KMDF 1.19 and DMA version 3");
            verifier::break_point(globals);
            return Err(STATUS_INVALID_PARAMETER);
        }
        let enabler = Arc::new(Self {
            header: Header::new(Kind::DmaEnabler, globals),
            device: device.clone(),
            profile,
            maximum_length: config.MaximumLength as u32,
            version,
            require_single,
            preallocate: flags & WDF_DMA_ENABLER_CONFIG_NO_SGLIST_PREALLOCATION as u32 == 0,
            adapters: Record::new([None, None]),
            described: AtomicBool::new(profile.bus_master),
            system_list: Record::new(SystemList::default()),
            max_elements: AtomicU32::new(UNLIMITED),
            alignment: OnceLock::new(),
            callbacks: Callbacks {
                fill: config.EvtDmaEnablerFill,
                flush: config.EvtDmaEnablerFlush,
                enable: config.EvtDmaEnablerEnable,
                disable: config.EvtDmaEnablerDisable,
                start: config.EvtDmaEnablerSelfManagedIoStart,
                stop: config.EvtDmaEnablerSelfManagedIoStop,
            },
            added: AtomicBool::new(false),
            fill_failed: AtomicBool::new(false),
            enable_failed: AtomicBool::new(false),
            start_failed: AtomicBool::new(false),
        });
        Ok((enabler, width))
    }

    /// Gets the adapters of a bus master and joins the device's enablers.
    ///
    /// # Errors
    /// `STATUS_UNSUCCESSFUL` if the HAL has no adapter, that of `CalculateScatterGatherList`; adapters already got are put back.
    pub(super) fn initialize(self: &Arc<Self>, width: u32) -> Result<(), NTSTATUS> {
        if self.profile.bus_master {
            self.get_adapters(width)
                .inspect_err(|_| self.put_adapters())?;
        }
        self.device.pnp.add_enabler(self);
        self.added.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn get_adapters(&self, width: u32) -> Result<(), NTSTATUS> {
        let directions = if self.profile.duplex { 2 } else { 1 };
        for direction in 0..directions {
            let mut adapter = self.get_adapter(width)?;
            self.adapters.with(|all| all[direction] = Some(adapter));
            if self.profile.scatter_gather {
                adapter.list_size =
                    adapter.calculate_list((adapter.map_registers as usize * PAGE) as u32)?;
                self.adapters.with(|all| all[direction] = Some(adapter));
            }
        }
        if self.profile.scatter_gather {
            self.learn_alignment();
        }
        Ok(())
    }

    fn get_adapter(&self, width: u32) -> Result<Adapter, NTSTATUS> {
        self.obtain(DEVICE_DESCRIPTION {
            Version: self.version,
            Master: TRUE as BOOLEAN,
            ScatterGather: BOOLEAN::from(self.profile.scatter_gather),
            Dma32BitAddresses: TRUE as BOOLEAN,
            Dma64BitAddresses: BOOLEAN::from(self.profile.wide),
            InterfaceType: PCIBus,
            MaximumLength: self.maximum_length,
            DmaAddressWidth: width,
            ..DEVICE_DESCRIPTION::default()
        })
    }

    /// Asks the HAL for an adapter.
    pub(super) fn obtain(&self, mut description: DEVICE_DESCRIPTION) -> Result<Adapter, NTSTATUS> {
        let mut map_registers = 0;
        // SAFETY: the bus's device object, and two structures of ours.
        let object = unsafe {
            IoGetDmaAdapter(
                self.device.physical_object(),
                &raw mut description,
                &raw mut map_registers,
            )
        };
        if object.is_null() {
            trace::error(self.globals(), "the HAL has no DMA adapter for the enabler");
            return Err(STATUS_UNSUCCESSFUL);
        }
        // SAFETY: just obtained; put back by `put_adapters`.
        let mut adapter = unsafe { Adapter::new(object, map_registers) };
        let limit = (map_registers as usize).saturating_sub(1) * PAGE;
        adapter.max_fragment = limit.min(self.maximum_length as usize);
        let text = format!(
            "WDFDMAENABLER {:#x}: {map_registers} map registers, fragments of {:#x}",
            self.header.handle(),
            adapter.max_fragment
        );
        trace::verbose(self.globals(), &text);
        // A packet's list has one element, whatever its length.
        adapter.list_size = size_of::<SCATTER_GATHER_LIST>() + size_of::<SCATTER_GATHER_ELEMENT>();
        Ok(adapter)
    }

    /// The alignment of common buffers: the device's or the HAL's; known to scatter/gather enablers alone.
    fn learn_alignment(&self) {
        let Some(adapter) = self.adapter(false) else {
            return;
        };
        let mut alignment = adapter.alignment();
        if self.globals().is_at_least(11) && alignment > 0 {
            alignment -= 1;
        }
        // SAFETY: the device object lives until the device is removed.
        let own = unsafe { (*self.device.function_object()).AlignmentRequirement };
        // Set once: adapters are obtained once.
        let _ = self.alignment.set(alignment.max(own));
    }

    fn put_adapters(&self) {
        for adapter in self.adapters.with(std::mem::take).into_iter().flatten() {
            adapter.put();
        }
    }

    /// The driver's globals.
    pub(crate) fn globals(&self) -> &'static DriverGlobals {
        self.header.globals()
    }

    /// The device.
    pub(crate) fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// What the profile means.
    pub(crate) fn profile(&self) -> Profile {
        self.profile
    }

    /// Whether the routines of DMA version 3 are used: not by a system profile of which the read direction was not configured yet.
    pub(crate) fn uses_v3(&self) -> bool {
        self.version == DEVICE_DESCRIPTION_VERSION3 && self.described.load(Ordering::Relaxed)
    }

    /// Whether a transaction may span several MDLs: all but version 2 packets.
    pub(crate) fn supports_chains(&self) -> bool {
        self.uses_v3() || !self.profile.is_packet()
    }

    /// The configured maximum length.
    pub(crate) fn configured_length(&self) -> usize {
        self.maximum_length as usize
    }

    /// `WdfDmaEnablerGetMaximumLength`: 0 for a system enabler that was not configured.
    pub(crate) fn maximum_length(&self) -> usize {
        if self.described.load(Ordering::Relaxed) {
            self.maximum_length as usize
        } else {
            0
        }
    }

    /// Whether transactions must not be split by default.
    pub(crate) fn requires_single_transfer(&self) -> bool {
        self.require_single
    }

    /// Whether each transaction has memory for its list from the beginning.
    pub(crate) fn preallocates(&self) -> bool {
        self.profile.scatter_gather && self.preallocate
    }

    /// Bytes of a list allocated beforehand: the larger of both directions.
    pub(crate) fn list_size(&self) -> usize {
        self.adapters
            .get()
            .into_iter()
            .flatten()
            .map(|adapter| adapter.list_size)
            .max()
            .unwrap_or(0)
    }

    /// The limit of scatter/gather elements.
    pub(crate) fn max_elements(&self) -> u32 {
        self.max_elements.load(Ordering::Relaxed)
    }

    /// Sets the limit of scatter/gather elements.
    pub(super) fn set_max_elements(&self, elements: u32) {
        self.max_elements.store(elements, Ordering::Relaxed);
    }

    /// The mask that common buffers are aligned to.
    pub(super) fn alignment(&self) -> u32 {
        self.alignment.get().copied().unwrap_or(0)
    }

    pub(super) fn direction_index(&self, write: bool) -> usize {
        usize::from(write && self.profile.duplex)
    }

    /// The adapter of a direction.
    pub(crate) fn adapter(&self, write: bool) -> Option<Adapter> {
        self.adapters.with(|all| all[self.direction_index(write)])
    }

    fn call(&self, name: &'static str, callback: PowerCallback) -> Result<(), NTSTATUS> {
        let Some(callback) = callback else {
            return Ok(());
        };
        machine_nt::trace::record(name, self.header.handle() as u64);
        // SAFETY: the driver registered the callback.
        let status = driver_call(|| unsafe { callback(self.header.handle() as WDFDMAENABLER) });
        if !wdm::success(status) {
            trace::error(
                self.globals(),
                &format!(
                    "{name} of WDFDMAENABLER {:#x} fails with {status:#010x}",
                    self.header.handle()
                ),
            );
        }
        wdm::check(status)
    }

    /// Fill, Enable, SelfManagedIoStart; the first failure ends it (`PowerUp`). `PASSIVE_LEVEL`.
    ///
    /// # Errors
    /// The callback's.
    pub(crate) fn power_up(&self) -> Result<(), NTSTATUS> {
        let steps = [
            ("EvtDmaEnablerFill", self.callbacks.fill, &self.fill_failed),
            (
                "EvtDmaEnablerEnable",
                self.callbacks.enable,
                &self.enable_failed,
            ),
            (
                "EvtDmaEnablerSelfManagedIoStart",
                self.callbacks.start,
                &self.start_failed,
            ),
        ];
        steps.into_iter().try_for_each(|(name, callback, failed)| {
            self.call(name, callback)
                .inspect_err(|_| failed.store(true, Ordering::Relaxed))
        })
    }

    /// SelfManagedIoStop always, Disable unless Fill failed, Flush unless Fill or Enable failed; what failed once is remembered
    /// for good (`PowerDown`). `PASSIVE_LEVEL`.
    ///
    /// # Errors
    /// The last failing callback's; all are called.
    pub(crate) fn power_down(&self) -> Result<(), NTSTATUS> {
        let fill_failed = self.fill_failed.load(Ordering::Relaxed);
        let enable_failed = self.enable_failed.load(Ordering::Relaxed);
        let steps = [
            (true, "EvtDmaEnablerSelfManagedIoStop", self.callbacks.stop),
            (!fill_failed, "EvtDmaEnablerDisable", self.callbacks.disable),
            (
                !fill_failed && !enable_failed,
                "EvtDmaEnablerFlush",
                self.callbacks.flush,
            ),
        ];
        let mut result = Ok(());
        for (_, name, callback) in steps.into_iter().filter(|(due, ..)| *due) {
            result = self.call(name, callback).and(result);
        }
        result
    }

    /// Memory for a transfer context or a list: non-paged pool with the driver's tag. Null without memory.
    pub(super) fn allocate(&self, size: usize) -> Ptr<c_void> {
        let tag = self.globals().tag();
        // SAFETY: any size may be asked for.
        let memory = unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED as _, size as _, tag) };
        Ptr(memory.cast())
    }

    /// Frees what [`DmaEnabler::allocate`] gave; null is allowed.
    pub(super) fn free(&self, memory: Ptr<c_void>) {
        if !memory.0.is_null() {
            // SAFETY: from `allocate`, and used no more.
            unsafe { ExFreePoolWithTag(memory.0.cast(), self.globals().tag()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_eight_profiles() {
        assert_eq!((1..=8).filter_map(Profile::new).count(), 8);
        assert!(Profile::new(WdfDmaProfileInvalid).is_none());
        assert!(Profile::new(9).is_none());
        assert!(Profile::new(WdfDmaProfilePacket).is_some_and(|profile| profile.is_packet()));
        assert!(
            Profile::new(WdfDmaProfileSystem)
                .is_some_and(|profile| !profile.is_packet() && !profile.bus_master)
        );
    }
}
