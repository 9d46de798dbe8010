//! Enablers of system profiles (`ConfigureSystemAdapter`): each direction is given its channel after the enabler was made, and all
//! transfers share one list.

use std::ffi::c_void;
use std::sync::atomic::Ordering;

use machine_nt::counters::counters;

use super::enabler::DmaEnabler;
use crate::flat::*;
use crate::lock::Ptr;
use crate::object::Object;
use crate::{trace, verifier};

/// Memory for a list, and its bytes.
#[derive(Clone, Copy, Default)]
pub(super) struct SystemList {
    /// The list.
    pub(super) memory: Ptr<c_void>,
    /// Its bytes.
    pub(super) size: usize,
}

impl DmaEnabler {
    /// Gets the adapter of a direction of a system profile (`ConfigureSystemAdapter`).
    ///
    /// # Errors
    /// `STATUS_INVALID_PARAMETER` (configured already), `STATUS_UNSUCCESSFUL` (no adapter), `STATUS_INSUFFICIENT_RESOURCES`.
    pub(super) fn configure_system(
        &self,
        config: &WDF_DMA_SYSTEM_PROFILE_CONFIG,
        dma: (u32, u32),
        write: bool,
    ) -> Result<(), NTSTATUS> {
        if self.adapter(write).is_some() {
            trace::verbose(
                self.globals(),
                &format!(
                    "WDFDMAENABLER {:#x} is configured already for this direction",
                    self.header().handle()
                ),
            );
            verifier::break_point(self.globals());
            return Err(STATUS_INVALID_PARAMETER);
        }
        let name = match write {
            false => "reading is configured",
            true => "writing is configured",
        };
        machine_nt::trace::record(name, self.header().handle() as u64);
        let (channel, request_line) = dma;
        let direction = self.direction_index(write);
        if direction == 0 {
            self.described.store(true, Ordering::Relaxed);
        }
        let mut adapter = self.obtain(DEVICE_DESCRIPTION {
            Version: DEVICE_DESCRIPTION_VERSION3,
            MaximumLength: self.maximum_length,
            DemandMode: config.DemandMode,
            AutoInitialize: config.LoopedTransfer,
            DmaWidth: config.DmaWidth,
            DeviceAddress: config.DeviceAddress,
            InterfaceType: Internal,
            DmaChannel: channel,
            DmaRequestLine: request_line,
            ..DEVICE_DESCRIPTION::default()
        })?;
        adapter.list_size = size_of::<SCATTER_GATHER_LIST>()
            + adapter.map_registers as usize * size_of::<SCATTER_GATHER_ELEMENT>();
        self.adapters.with(|all| all[direction] = Some(adapter));
        self.allocate_system_list()
    }

    /// A list for all transfers, as long as the longer of both directions. The published source forgets the list of the direction that
    /// was configured before.
    fn allocate_system_list(&self) -> Result<(), NTSTATUS> {
        let size = self.list_size();
        let memory = self.allocate(size);
        let old = self
            .system_list
            .with(|list| std::mem::replace(list, SystemList { memory, size }));
        if !old.memory.0.is_null() {
            counters().framework_leaks.increment();
            trace::error(
                self.globals(),
                &format!(
                    "WDFDMAENABLER {:#x}: the list of the first direction, {:#x} bytes at {:p}, is leaked, as in the published source",
                    self.header().handle(),
                    old.size,
                    old.memory.0
                ),
            );
        }
        if memory.0.is_null() {
            return Err(STATUS_INSUFFICIENT_RESOURCES);
        }
        Ok(())
    }

    /// Where the transfers of a system profile have their lists.
    pub(super) fn system_list(&self) -> SystemList {
        self.system_list.get()
    }

    /// More memory for the list, for a single transfer that needs it (`SetNewSgListBuffer`).
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`.
    pub(super) fn grow_system_list(&self, size: usize) -> Result<(), NTSTATUS> {
        if size <= self.system_list().size {
            return Ok(());
        }
        let memory = self.allocate(size);
        if memory.0.is_null() {
            return Err(STATUS_INSUFFICIENT_RESOURCES);
        }
        let old = self
            .system_list
            .with(|list| std::mem::replace(list, SystemList { memory, size }));
        self.free(old.memory);
        Ok(())
    }
}
