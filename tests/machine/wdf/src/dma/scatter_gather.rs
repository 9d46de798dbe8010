//! Scatter/gather transactions (`fxdmatransactionscattergather.cpp`): a list of buffers at a time.

use std::ffi::c_void;
use std::sync::Arc;

use super::adapter::ListRequest;
use super::geometry::{advance, required_registers};
use super::transaction::DmaTransaction;
use crate::flat::*;
use crate::lock::{Ptr, at_dispatch};
use crate::{trace, verifier};
use machine_nt::ke::stack::machine_code;

/// What a scatter/gather transaction has besides.
#[derive(Default)]
pub(super) struct List {
    /// The list of the present transfer.
    current: Ptr<SCATTER_GATHER_LIST>,
    /// Memory for it, if it is allocated beforehand, and its bytes.
    buffer: Ptr<c_void>,
    size: u32,
}

impl DmaTransaction {
    /// Memory for the longest list the enabler foresees.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`.
    pub(super) fn allocate_list_buffer(&self) -> Result<(), NTSTATUS> {
        let size = self.enabler().list_size();
        let buffer = self.enabler().allocate(size);
        if buffer.0.is_null() {
            return Err(STATUS_INSUFFICIENT_RESOURCES);
        }
        self.with(|state| (state.list.buffer, state.list.size) = (buffer, size as u32));
        Ok(())
    }

    /// More memory, for a single transfer whose list is longer than foreseen.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`.
    pub(super) fn grow_list_buffer(&self, size: u32) -> Result<(), NTSTATUS> {
        if size <= self.with(|state| state.list.size) {
            return Ok(());
        }
        let buffer = self.enabler().allocate(size as usize);
        if buffer.0.is_null() {
            return Err(STATUS_INSUFFICIENT_RESOURCES);
        }
        self.free_list_buffer();
        self.with(|state| (state.list.buffer, state.list.size) = (buffer, size));
        Ok(())
    }

    /// Frees the memory for the list.
    pub(super) fn free_list_buffer(&self) {
        let buffer = self.with(|state| {
            state.list.size = 0;
            std::mem::take(&mut state.list.buffer)
        });
        self.enabler().free(buffer);
    }

    /// Whether every transfer the transaction would be cut into has few enough elements (`InitializeResources`). It does not foresee
    /// shorter transfers, of a smaller maximum length or of partial completions.
    ///
    /// # Errors
    /// `STATUS_WDF_TOO_FRAGMENTED`, `STATUS_BUFFER_TOO_SMALL`.
    pub(super) fn check_fragmentation(&self) -> Result<(), NTSTATUS> {
        let (single, length, max_fragment, start) =
            self.with(|state| (state.single, state.length, state.max_fragment, state.start));
        if single {
            return Ok(());
        }
        let registers = self.adapter().map_registers;
        let ((mut mdl, mut offset), mut left, mut last) = (start, length, 0);
        while left != 0 {
            (mdl, offset) = advance(mdl, offset, last);
            last = left.min(max_fragment);
            if mdl.is_null() {
                return self.too_small();
            }
            let Ok(span) = required_registers(mdl, offset, last as u32, registers) else {
                return self.too_small();
            };
            self.check_elements(span.registers)?;
            left -= last;
        }
        Ok(())
    }

    fn too_small(&self) -> Result<(), NTSTATUS> {
        trace::error(
            self.globals(),
            "the MDL chain is shorter than the transaction",
        );
        verifier::break_point(self.globals());
        Err(STATUS_BUFFER_TOO_SMALL)
    }

    fn check_elements(&self, elements: u32) -> Result<(), NTSTATUS> {
        let most = self.enabler().max_elements();
        if elements <= most {
            return Ok(());
        }
        let text = format!(
            "WDFDMATRANSACTION {:p} has {elements} elements, the device takes {most}",
            self.handle()
        );
        trace::error(self.globals(), &text);
        Err(STATUS_WDF_TOO_FRAGMENTED)
    }

    /// Has the next list built; EvtProgramDma gets it, usually before this returns (`StageTransfer`). There is no guard against recursion.
    ///
    /// # Errors
    /// `STATUS_WDF_TOO_FRAGMENTED`, those of the HAL.
    pub(super) fn stage_list(self: &Arc<Self>) -> Result<(), NTSTATUS> {
        let adapter = self.adapter();
        let single = self.with(|state| {
            state.current = advance(state.current.0, state.current.1, state.current_length);
            state.current_length = state.remaining.min(state.max_fragment);
            state.single
        });
        if !single {
            let place = self.place();
            let span = required_registers(
                place.mdl,
                place.offset,
                place.length as u32,
                adapter.map_registers,
            )?;
            self.with(|state| state.current_length = span.possible as usize);
            self.check_elements(span.registers)?;
        }
        self.with(|state| state.remaining -= state.current_length);
        let place = self.place();
        let (buffer, flags) = self.with(|state| {
            let buffer =
                (!state.list.buffer.0.is_null()).then_some((state.list.buffer, state.list.size));
            (buffer, state.flags)
        });
        // Before 1.15 the flag was not passed on when the list's memory was allocated beforehand.
        let flags = if buffer.is_some() && !self.globals().is_at_least(15) {
            0
        } else {
            flags
        };
        let request = ListRequest {
            device: self.enabler().device().function_object(),
            place,
            context: self.transfer_context(),
            flags,
            control: Some(list_control),
            argument: Ptr(Arc::as_ptr(self).cast_mut().cast()),
            buffer,
            version3: self.enabler().uses_v3(),
        };
        at_dispatch(|| adapter.scatter_gather(&request)).inspect_err(|status| {
            trace::error(
                self.globals(),
                &format!(
                    "WDFDMATRANSACTION {:p} gets no list: {status:#010x}",
                    self.handle()
                ),
            );
            self.with(|state| state.remaining += place.length);
        })
    }

    /// Gives the list back: the transfer is over, the data is where it belongs.
    pub(super) fn put_list(&self) {
        let (list, write) =
            self.with(|state| (std::mem::take(&mut state.list.current), state.write));
        if !list.0.is_null() {
            let adapter = self.adapter();
            at_dispatch(|| adapter.put_list(list.0, write));
        }
    }
}

unsafe extern "win64" fn list_control(
    _device: PDEVICE_OBJECT,
    _irp: PIRP,
    list: *mut SCATTER_GATHER_LIST,
    context: PVOID,
) {
    let _inside = machine_code();
    // SAFETY: the transaction that asked for the list; it lives until it gets it or cancels the wait.
    let transaction = unsafe { DmaTransaction::from_context(context.cast()) };
    transaction.with(|state| state.list.current = Ptr(list));
    transaction.call_program(list);
}
