//! Packet transactions (`fxdmatransactionpacket.cpp`): one buffer, contiguous for the device, at a time.
//!
//! Version 2 allows one in flight for each device. A transfer completed from within EvtProgramDma, or by another processor while this
//! one is still staging, does not program the next one itself: the thread that stages does.

use std::ffi::c_void;
use std::sync::Arc;

use super::adapter::Adapter;
use super::geometry::{PAGE, span_pages};
use super::transaction::{DmaTransaction, Phase};
use crate::flat::*;
use crate::lock::{Ptr, at_dispatch};
use crate::{trace, verifier};
use machine_nt::ke::stack::{driver_call, machine_code};

/// What a packet transaction has besides.
#[derive(Default)]
pub(super) struct Packet {
    /// Map registers the present transaction needs.
    pub(super) needed: u32,
    /// Map registers kept over transactions; 0 if none are reserved.
    pub(super) reserved: u32,
    /// The HAL's base of the map registers; the HAL may give a null one.
    pub(super) base: Option<Ptr<c_void>>,
    /// System profiles: from the device's address to the register that is meant.
    pub(super) device_offset: u32,
    /// System profiles: the transfer was stopped.
    pub(super) stopped: bool,
}

/// Who stages, and whether it is to stage once more.
#[derive(Default)]
pub(super) struct Staging {
    pub(super) active: bool,
    again: bool,
    /// What the HAL has reported meanwhile.
    pub(super) ended: Option<DMA_COMPLETION_STATUS::Type>,
}

/// Room for a list of one element.
#[repr(C)]
struct OneElement {
    list: SCATTER_GATHER_LIST,
    element: SCATTER_GATHER_ELEMENT,
}

impl DmaTransaction {
    /// Gets map registers and stages the first transfer (`StartTransfer`).
    ///
    /// # Errors
    /// `STATUS_WDF_BUSY` (version 2: the device has a packet in flight), those of the HAL.
    pub(super) fn start_packet(self: &Arc<Self>) -> Result<(), NTSTATUS> {
        self.acquire_device()?;
        let adapter = self.adapter();
        let bus_master = self.enabler().profile().bus_master;
        let reserving = self.with(|state| {
            let fragment = state.remaining.min(state.max_fragment);
            state.current_length = fragment;
            state.current.1 = state.start.1;
            let reserving = state.phase == Phase::Reserved;
            state.packet.needed = if reserving {
                state.packet.reserved
            } else if !bus_master {
                adapter.map_registers
            } else if fragment == state.remaining {
                span_pages(
                    state.current.0.virtual_address() + state.current.1,
                    fragment,
                )
            } else {
                // A later transfer may begin anywhere in its page.
                span_pages(PAGE - 1, fragment)
            };
            reserving
        });
        let use_reserved = !reserving && self.with(|state| state.packet.reserved > 0);
        self.allocate_channel(&adapter, use_reserved)
            .inspect_err(|status| {
                trace::error(
                    self.globals(),
                    &format!(
                        "WDFDMATRANSACTION {:p} gets no map registers: {status:#010x}",
                        self.handle()
                    ),
                );
                self.release_device();
            })
    }

    /// Version 2: takes the device's one packet transaction.
    fn acquire_device(&self) -> Result<(), NTSTATUS> {
        if self.enabler().uses_v3() || self.enabler().device().acquire_packet_transaction() {
            return Ok(());
        }
        trace::error(
            self.globals(),
            "only one packet transaction at a time can be in flight with DMA version 2",
        );
        verifier::break_point(self.globals());
        Err(STATUS_WDF_BUSY)
    }

    fn release_device(&self) {
        if !self.enabler().uses_v3() {
            self.enabler().device().release_packet_transaction();
        }
    }

    fn allocate_channel(
        self: &Arc<Self>,
        adapter: &Adapter,
        use_reserved: bool,
    ) -> Result<(), NTSTATUS> {
        let device = self.enabler().device().function_object();
        let argument = Arc::as_ptr(self).cast_mut().cast();
        let (needed, flags, base) = self.with(|state| {
            (
                state.packet.needed,
                state.flags,
                state.packet.base.unwrap_or_default(),
            )
        });
        at_dispatch(|| {
            if use_reserved {
                self.channel_allocated(base);
                Ok(())
            } else if self.enabler().uses_v3() {
                adapter.allocate_channel_ex(
                    device,
                    self.transfer_context().0,
                    needed,
                    flags,
                    Some(adapter_control),
                    argument,
                )
            } else {
                adapter.allocate_channel(device, needed, Some(adapter_control), argument)
            }
        })
    }

    /// The map registers are there: EvtReserveDma or the first transfer (`_AdapterControl`). `DISPATCH_LEVEL`.
    fn channel_allocated(self: &Arc<Self>, base: Ptr<c_void>) {
        let reserve = self.with(|state| {
            state.packet.base.get_or_insert(base);
            (state.phase == Phase::Reserved).then(|| (state.reserve.take(), state.context))
        });
        match reserve {
            Some((callback, context)) => {
                if let Some(callback) = callback {
                    // SAFETY: the driver passed the callback.
                    driver_call(|| unsafe { callback(self.handle(), context.0.cast()) });
                }
            }
            None => {
                if let Err(status) = self.stage_packets() {
                    // A bus master's mapping does not fail; the published source only asserts it.
                    trace::error(
                        self.globals(),
                        &format!(
                            "WDFDMATRANSACTION {:p} is not staged: {status:#010x}",
                            self.handle()
                        ),
                    );
                    self.report_staging_failure(status);
                }
            }
        }
    }

    /// Maps and programs the next transfer, and again as often as it is completed meanwhile (`StageTransfer`).
    ///
    /// # Errors
    /// Those of the mapping.
    pub(super) fn stage_packets(self: &Arc<Self>) -> Result<(), NTSTATUS> {
        let mut staging = self.staging.lock();
        if staging.active {
            staging.again = true;
            return Ok(());
        }
        staging.active = true;
        drop(staging);
        loop {
            let staged = self.stage_one();
            let mut staging = self.staging.lock();
            if let Some(status) = staging.ended.take() {
                drop(staging);
                self.call_transfer_complete(status);
                staging = self.staging.lock();
            }
            if !std::mem::take(&mut staging.again) {
                staging.active = false;
                drop(staging);
                return staged;
            }
        }
    }

    fn stage_one(self: &Arc<Self>) -> Result<(), NTSTATUS> {
        self.with(|state| {
            state.current_length = state.remaining.min(state.max_fragment);
            state.current.1 = state.start.1 + state.transferred;
            let short = state.packet.reserved > 0 && state.packet.needed > state.packet.reserved;
            if !state.single && short {
                let (mut mdl, mut offset) = state.current;
                while mdl.byte_count() < offset && !mdl.next().is_null() {
                    offset -= mdl.byte_count();
                    mdl = mdl.next();
                }
                let first = PAGE - (mdl.byte_offset() + offset) % PAGE;
                let most = (state.packet.reserved as usize - 1) * PAGE + first;
                state.current_length = state.current_length.min(most);
            }
            state.remaining -= state.current_length;
        });
        if self.with(|state| state.packet.stopped) {
            return Err(STATUS_CANCELLED);
        }
        // The driver has ended the transaction if it does not want the transfer.
        if !self.configure_channel() {
            return Ok(());
        }
        if !self.enabler().profile().bus_master {
            return self.stage_system();
        }
        // SAFETY: all-zero bytes are a valid value of this plain structure.
        let mut one: OneElement = unsafe { std::mem::zeroed() };
        let mapped = self.map_packet(&mut one)?;
        self.take_note_of(mapped);
        self.call_program(&raw mut one.list);
        Ok(())
    }

    /// So many bytes of the present transfer were mapped; the others are for the next.
    pub(super) fn take_note_of(&self, mapped: usize) {
        self.with(|state| {
            let left = state.current_length - mapped;
            state.remaining += left;
            state.current_length = mapped;
        });
    }

    fn map_packet(&self, one: &mut OneElement) -> Result<usize, NTSTATUS> {
        let adapter = self.adapter();
        let (place, base) = (self.place(), self.map_register_base());
        let list = (&raw mut *one).cast::<SCATTER_GATHER_LIST>();
        if self.enabler().uses_v3() {
            let list = (list, size_of::<OneElement>() as u32);
            return adapter.map_transfer_ex(&place, base.0, 0, list, (None, std::ptr::null_mut()));
        }
        let (logical, mapped) = adapter.map_transfer(&place, base.0);
        one.list.NumberOfElements = 1;
        one.element.Address.QuadPart = logical;
        one.element.Length = mapped as ULONG;
        Ok(mapped)
    }

    pub(super) fn map_register_base(&self) -> Ptr<c_void> {
        self.with(|state| state.packet.base).unwrap_or_default()
    }

    /// The transfer is over: the data is where it belongs (`TransferCompleted`).
    ///
    /// # Errors
    /// The HAL's.
    pub(super) fn flush_packet(&self) -> Result<(), NTSTATUS> {
        let adapter = self.adapter();
        let (place, base) = (self.place(), self.map_register_base());
        let flushed = if self.enabler().uses_v3() {
            adapter.flush_ex(&place, base.0)
        } else {
            adapter.flush(&place, base.0)
        };
        flushed.inspect_err(|status| {
            trace::error(
                self.globals(),
                &format!(
                    "WDFDMATRANSACTION {:p} is not flushed: {status:#010x}",
                    self.handle()
                ),
            );
            verifier::break_point(self.globals());
        })
    }

    /// Gives the map registers back, reserved ones only if `force` (`ReleaseResources`).
    pub(super) fn release_packet(&self, force: bool) {
        let due =
            self.with(|state| state.packet.base.is_some() && (state.packet.reserved == 0 || force));
        if !due {
            return;
        }
        let adapter = self.adapter();
        let (base, count) = self.with(|state| {
            let count = if state.packet.reserved > 0 {
                state.packet.reserved
            } else {
                state.packet.needed
            };
            (state.packet.base.take().unwrap_or_default(), count)
        });
        if !self.enabler().profile().bus_master {
            at_dispatch(|| adapter.free_channel());
        } else if !base.0.is_null() {
            // A null base must not be freed, even if the HAL gave it.
            at_dispatch(|| adapter.free_map_registers(base.0, count));
        }
        self.release_device();
        self.with(|state| {
            state.adapter = None;
            state.packet.reserved = 0;
        });
    }
}

unsafe extern "win64" fn adapter_control(
    _device: PDEVICE_OBJECT,
    _irp: PIRP,
    base: PVOID,
    context: PVOID,
) -> IO_ALLOCATION_ACTION {
    let _inside = machine_code();
    // SAFETY: the transaction that asked for the channel; it lives until it gets it or cancels the wait.
    let transaction = unsafe { DmaTransaction::from_context(context.cast()) };
    // The transaction may be gone when the channel was used.
    let action = if transaction.enabler().profile().bus_master {
        DeallocateObjectKeepRegisters
    } else {
        KeepObject
    };
    transaction.channel_allocated(Ptr(base.cast()));
    action
}
