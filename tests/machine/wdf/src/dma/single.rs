//! Transactions that may not be split (`PrepareForSingleTransfer`), and how much a transaction needs (`GetTransferInfo`).

use super::adapter::Place;
use super::geometry::span_pages;
use super::transaction::{DmaTransaction, Phase};
use crate::flat::*;
use crate::trace;
use crate::wdm::Mdl;

impl DmaTransaction {
    fn whole(&self) -> Place {
        self.with(|state| Place {
            mdl: state.start.0,
            offset: state.start.1,
            length: state.length,
            write: state.write,
        })
    }

    /// Whether the transaction can be one transfer.
    ///
    /// # Errors
    /// `STATUS_WDF_TOO_MANY_TRANSFERS` (too long), `STATUS_WDF_NOT_ENOUGH_MAP_REGISTERS`, `STATUS_WDF_TOO_FRAGMENTED`,
    /// `STATUS_INSUFFICIENT_RESOURCES` (no memory for a longer list), those of the HAL.
    pub(super) fn prepare_single_transfer(&self) -> Result<(), NTSTATUS> {
        let refuse = |status: NTSTATUS, why: &str| {
            trace::error(
                self.globals(),
                &format!(
                    "WDFDMATRANSACTION {:p} cannot be a single transfer: {why}",
                    self.handle()
                ),
            );
            Err(status)
        };
        let place = self.whole();
        if place.length > self.with(|state| state.max_fragment) {
            return refuse(
                STATUS_WDF_TOO_MANY_TRANSFERS,
                "it is longer than the device's maximum",
            );
        }
        // SAFETY: all-zero bytes are a valid value of this plain structure.
        let mut info: DMA_TRANSFER_INFO = unsafe { std::mem::zeroed() };
        info.Version = DMA_TRANSFER_INFO_VERSION1;
        self.adapter().transfer_info(&place, &mut info)?;
        // SAFETY: the variant of the version asked for.
        let needs = unsafe { info.__bindgen_anon_1.V1 };
        if needs.MapRegisterCount > self.available_map_registers() {
            return refuse(
                STATUS_WDF_NOT_ENOUGH_MAP_REGISTERS,
                "it needs more map registers than there are",
            );
        }
        if needs.ScatterGatherElementCount > self.enabler().max_elements() {
            return refuse(
                STATUS_WDF_TOO_FRAGMENTED,
                "it has more elements than the device takes",
            );
        }
        if self.enabler().profile().is_packet() && needs.ScatterGatherElementCount > 1 {
            return refuse(STATUS_WDF_TOO_FRAGMENTED, "a packet has one element");
        }
        if self.enabler().preallocates() {
            self.grow_list_buffer(needs.ScatterGatherListSize)?;
        } else if !self.enabler().profile().bus_master {
            self.enabler()
                .grow_system_list(needs.ScatterGatherListSize as usize)?;
        }
        Ok(())
    }

    fn available_map_registers(&self) -> u32 {
        let reserved = self.with(|state| state.packet.reserved);
        if reserved > 0 {
            reserved
        } else {
            self.adapter().map_registers
        }
    }

    /// Map registers and elements the initialized transaction needs.
    ///
    /// Version 3 asks the HAL with a structure whose version is 0, as the published source does: a HAL that insists on version 1 leaves
    /// the counts 0.
    pub(super) fn transfer_info(&self) -> (u32, u32) {
        self.expect(&[Phase::Initialized], "WdfDmaTransactionGetTransferInfo");
        let place = self.whole();
        if !self.enabler().uses_v3() {
            let pages = worst_case(place.mdl, place.offset, place.length);
            return (pages, pages);
        }
        // SAFETY: all-zero bytes are a valid value of this plain structure.
        let mut info: DMA_TRANSFER_INFO = unsafe { std::mem::zeroed() };
        // The published source ignores the outcome.
        let _ = self.adapter().transfer_info(&place, &mut info);
        // SAFETY: plain words, zero unless the HAL filled them.
        let needs = unsafe { info.__bindgen_anon_1.V1 };
        (needs.MapRegisterCount, needs.ScatterGatherElementCount)
    }
}

/// Pages of the chain, MDL by MDL.
fn worst_case(mut mdl: Mdl, mut offset: usize, mut length: usize) -> u32 {
    let mut pages = 0;
    while !mdl.is_null() && length != 0 {
        let bytes = mdl.byte_count();
        if bytes <= offset {
            offset -= bytes;
        } else {
            let own = (bytes - offset).min(length);
            pages += span_pages(mdl.virtual_address() + offset, own);
            length -= own;
        }
        mdl = mdl.next();
    }
    pages
}
