//! WDFDMATRANSACTION: its states, and what all profiles share (`fxdmatransactionbase.cpp`).

use std::ffi::c_void;
use std::sync::Arc;

use super::adapter::{Adapter, Place};
use super::enabler::DmaEnabler;
use super::packet::{Packet, Staging};
use super::scatter_gather::List;
use super::system::Callbacks;
use crate::flat::*;
use crate::globals::DriverGlobals;
use crate::io::request::Request;
use crate::lock::{Ptr, Record, SpinCell};
use crate::object::{self, Attributes, Header, Held, Kind, Object, Parent, Typed};
use crate::wdm::Mdl;
use crate::{trace, verifier};
use machine_nt::failure;
use machine_nt::ke::stack::driver_call;

/// The states of a transaction; their numbers are the third parameter of bug check 0x10D/8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Phase {
    /// Made, never used.
    Created = 1,
    /// Map registers are being or are reserved.
    Reserved = 2,
    /// Ready to execute.
    Initialized = 3,
    /// Executing.
    Transfer = 4,
    /// Ended well.
    TransferCompleted = 5,
    /// Ended badly.
    TransferFailed = 6,
    /// Ready to be initialized again.
    Released = 7,
    /// Gone.
    Deleted = 8,
}

/// How a transfer is reported complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Completion {
    /// All of it.
    Full,
    /// So many bytes; the rest is transferred again.
    Partial(usize),
    /// So many bytes; nothing more is transferred.
    Final(usize),
}

/// A transaction's request: it has a reference on the IRP while the transaction executes.
enum Association {
    None,
    Weak(Arc<Request>),
    Strong(Held<Request>),
}

/// What changes during a transaction.
pub(super) struct State {
    /// The state.
    pub(super) phase: Phase,
    /// The adapter of the direction, from Initialize to the release of resources.
    pub(super) adapter: Option<Adapter>,
    /// `WriteToDevice`.
    pub(super) write: bool,
    /// The longest transfer of this transaction.
    pub(super) max_fragment: usize,
    /// Bytes of the transaction.
    pub(super) length: usize,
    /// Bytes not programmed yet.
    pub(super) remaining: usize,
    /// Bytes reported complete.
    pub(super) transferred: usize,
    /// Where the transaction begins.
    pub(super) start: (Mdl, usize),
    /// Where the present transfer begins.
    pub(super) current: (Mdl, usize),
    /// Bytes of the present transfer.
    pub(super) current_length: usize,
    /// The transaction may not be split.
    pub(super) single: bool,
    /// `DMA_SYNCHRONOUS_CALLBACK` or nothing.
    pub(super) flags: u32,
    /// EvtProgramDma.
    pub(super) program: PFN_WDF_PROGRAM_DMA,
    /// EvtReserveDma.
    pub(super) reserve: PFN_WDF_RESERVE_DMA,
    /// The context of either.
    pub(super) context: Ptr<c_void>,
    request: Association,
    /// What packet transactions have besides.
    pub(super) packet: Packet,
    /// What scatter/gather transactions have besides.
    pub(super) list: List,
}

/// A transaction.
pub(crate) struct DmaTransaction {
    header: Header,
    enabler: Arc<DmaEnabler>,
    transfer_context: Ptr<c_void>,
    state: Record<State>,
    /// Keeps one thread at a time staging packets.
    pub(super) staging: SpinCell<Staging>,
    /// What the driver registered for a system profile.
    pub(super) callbacks: Record<Callbacks>,
}

impl Object for DmaTransaction {
    fn header(&self) -> &Header {
        &self.header
    }

    fn dispose(&self) {
        let phase = self.phase();
        if phase == Phase::Transfer {
            trace::error(
                self.globals(),
                &format!(
                    "WDFDMATRANSACTION {:p} is deleted while it executes",
                    self.handle()
                ),
            );
            if self.globals().verifies_since(9) {
                self.fatal(phase, "the transaction is deleted while it executes");
            }
        }
        self.with(|state| state.phase = Phase::Deleted);
        self.release_resources(true);
        self.clear_request();
        self.free_list_buffer();
    }

    fn destroyed(&self) {
        self.enabler.free(self.transfer_context);
    }

    fn dump(&self) -> Vec<String> {
        let line = self.state.try_with(|state| {
            format!(
                "{:?}, {}, MDL {:p}, length {:#x}, transferred {:#x}, remaining {:#x}, current {:#x}, single transfer {}",
                state.phase,
                if state.write { "write" } else { "read" },
                state.start.0.raw(),
                state.length,
                state.transferred,
                state.remaining,
                state.current_length,
                state.single,
            )
        });
        line.into_iter().collect()
    }
}

impl Typed for DmaTransaction {
    const KIND: Kind = Kind::DmaTransaction;
}

impl DmaTransaction {
    /// A transaction of `enabler`, its parent.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`.
    pub(super) fn create(
        enabler: &Arc<DmaEnabler>,
        attributes: Option<&Attributes>,
    ) -> Result<Arc<Self>, NTSTATUS> {
        let mut transfer_context = Ptr::default();
        if enabler.uses_v3() {
            transfer_context = enabler.allocate(DMA_TRANSFER_CONTEXT_SIZE_V1 as usize);
            if transfer_context.0.is_null() {
                return Err(STATUS_INSUFFICIENT_RESOURCES);
            }
        }
        let transaction = Arc::new(Self {
            header: Header::new(Kind::DmaTransaction, enabler.globals()),
            enabler: enabler.clone(),
            transfer_context,
            state: Record::new(State {
                phase: Phase::Created,
                adapter: None,
                write: false,
                max_fragment: 0,
                length: 0,
                remaining: 0,
                transferred: 0,
                start: (Mdl::NULL, 0),
                current: (Mdl::NULL, 0),
                current_length: 0,
                single: enabler.requires_single_transfer(),
                flags: 0,
                program: None,
                reserve: None,
                context: Ptr::default(),
                request: Association::None,
                packet: Packet::default(),
                list: List::default(),
            }),
            staging: SpinCell::new(Staging::default()),
            callbacks: Record::new(Callbacks::default()),
        });
        if let Err(status) =
            object::commit(&transaction, attributes, Parent::Object(enabler.clone()))
        {
            enabler.free(transfer_context);
            return Err(status);
        }
        if enabler.preallocates()
            && let Err(status) = transaction.allocate_list_buffer()
        {
            object::delete_failed(transaction);
            return Err(status);
        }
        Ok(transaction)
    }

    /// The driver's globals.
    pub(super) fn globals(&self) -> &'static DriverGlobals {
        self.header.globals()
    }

    /// The WDFDMATRANSACTION.
    pub(super) fn handle(&self) -> WDFDMATRANSACTION {
        self.header.handle() as WDFDMATRANSACTION
    }

    /// The enabler.
    pub(super) fn enabler(&self) -> &Arc<DmaEnabler> {
        &self.enabler
    }

    /// The HAL's context (version 3); null otherwise.
    pub(super) fn transfer_context(&self) -> Ptr<c_void> {
        self.transfer_context
    }

    /// Works on what changes. `work` must not call out.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        self.state.with(work)
    }

    /// The state.
    pub(super) fn phase(&self) -> Phase {
        self.with(|state| state.phase)
    }

    /// The adapter of the direction. The published source follows a null pointer where there is none; so do we, by name.
    pub(super) fn adapter(&self) -> Adapter {
        self.with(|state| state.adapter).unwrap_or_else(|| {
            verifier::access_violation(
                self.globals(),
                "the transaction has no adapter: it is not initialized, or was released",
            )
        })
    }

    /// Stops with 0x10D/8 (handle, state).
    pub(super) fn fatal(&self, phase: Phase, why: &str) -> ! {
        let why = format!("WDFDMATRANSACTION {:p} is {phase:?}: {why}", self.handle());
        verifier::bug_check(
            self.globals(),
            WDF_DMA_FATAL_ERROR,
            self.header.handle(),
            phase as usize,
            &why,
        )
    }

    /// Stops with 0x10D/8 unless the state is one of `allowed`.
    pub(super) fn expect(&self, allowed: &[Phase], call: &str) -> Phase {
        let phase = self.phase();
        if !allowed.contains(&phase) {
            self.fatal(phase, &format!("{call} is not allowed in this state"));
        }
        phase
    }

    /// The place of the present transfer.
    pub(super) fn place(&self) -> Place {
        self.with(|state| Place {
            mdl: state.current.0,
            offset: state.current.1,
            length: state.current_length,
            write: state.write,
        })
    }

    /// Prepares a transfer (`Initialize`).
    ///
    /// # Errors
    /// Those of single transfers and of scatter/gather; the transaction is released then.
    pub(super) fn initialize(
        self: &Arc<Self>,
        program: PFN_WDF_PROGRAM_DMA,
        write: bool,
        mdl: Mdl,
        offset: usize,
        length: u32,
    ) -> Result<(), NTSTATUS> {
        self.expect(
            &[Phase::Created, Phase::Reserved, Phase::Released],
            "WdfDmaTransactionInitialize",
        );
        let Some(adapter) = self.enabler.adapter(write) else {
            verifier::access_violation(
                self.globals(),
                "the enabler has no adapter for the direction",
            )
        };
        let single = self.with(|state| {
            state.adapter = Some(adapter);
            state.max_fragment = adapter.max_fragment;
            state.write = write;
            state.start = (mdl, offset);
            state.current = (mdl, offset);
            state.remaining = length as usize;
            state.length = length as usize;
            state.program = program;
            state.single
        });
        if self.enabler.uses_v3() {
            self.initialize_context(&adapter);
        }
        let mut prepared = Ok(());
        if single {
            self.with(|state| {
                state.max_fragment = state.max_fragment.max(self.enabler.configured_length())
            });
            prepared = self.prepare_single_transfer();
        }
        if failure::strikes(failure::Point::Initialize) {
            prepared = Err(STATUS_INSUFFICIENT_RESOURCES);
        }
        match prepared.and_then(|()| self.initialize_resources()) {
            Ok(()) => {
                self.with(|state| state.phase = Phase::Initialized);
                Ok(())
            }
            Err(status) => {
                trace::error(
                    self.globals(),
                    &format!(
                        "WDFDMATRANSACTION {:p} is not initialized: {status:#010x}",
                        self.handle()
                    ),
                );
                self.release_for_reuse(false);
                Err(status)
            }
        }
    }

    fn initialize_resources(&self) -> Result<(), NTSTATUS> {
        if self.enabler.profile().scatter_gather {
            self.check_fragmentation()
        } else {
            self.begin_packet();
            Ok(())
        }
    }

    /// `InitializeTransferContext`. The published source follows a null pointer if the transaction was created before the enabler was
    /// configured; so do we, by name.
    pub(super) fn initialize_context(&self, adapter: &Adapter) {
        if self.transfer_context.0.is_null() {
            verifier::access_violation(
                self.globals(),
                "the transaction has no transfer context: it was created before the read direction of its enabler was configured",
            );
        }
        adapter.initialize_context(self.transfer_context.0);
    }

    /// Begins the transaction; EvtProgramDma usually runs before this returns (`Execute`).
    ///
    /// # Errors
    /// `STATUS_WDF_BUSY`, `STATUS_WDF_TOO_FRAGMENTED`, those of the HAL; the driver must release the transaction then.
    pub(super) fn execute(self: &Arc<Self>, context: *mut c_void) -> Result<(), NTSTATUS> {
        self.expect(&[Phase::Initialized], "WdfDmaTransactionExecute");
        self.reference_request();
        self.with(|state| {
            state.phase = Phase::Transfer;
            state.context = Ptr(context);
        });
        let started = if self.enabler.profile().scatter_gather {
            self.stage_list()
        } else {
            self.start_packet()
        };
        started.inspect_err(|_| {
            self.with(|state| {
                state.phase = Phase::TransferFailed;
                state.context = Ptr::default();
            });
            self.release_request();
        })
    }

    /// Takes note of a finished transfer and programs the next one (`DmaCompleted`): true with the transaction's status when it has
    /// ended, false while it goes on.
    pub(super) fn dma_completed(self: &Arc<Self>, completion: Completion) -> (bool, NTSTATUS) {
        self.expect(&[Phase::Transfer], "WdfDmaTransactionDmaCompleted");
        let status = match self
            .account(completion)
            .and_then(|()| self.go_on(completion))
        {
            Ok(true) => return (false, STATUS_MORE_PROCESSING_REQUIRED),
            Ok(false) => STATUS_SUCCESS,
            Err(status) => status,
        };
        let phase = if status >= 0 {
            Phase::TransferCompleted
        } else {
            Phase::TransferFailed
        };
        self.with(|state| state.phase = phase);
        self.release_resources(false);
        self.release_request();
        self.with(|state| state.current_length = 0);
        (true, status)
    }

    /// Adds the bytes that were transferred. Errors: `STATUS_INVALID_PARAMETER` for more than were programmed.
    fn account(&self, completion: Completion) -> Result<(), NTSTATUS> {
        let counted = self.with(|state| match completion {
            Completion::Full => {
                state.transferred += state.current_length;
                Ok(())
            }
            Completion::Partial(bytes) | Completion::Final(bytes) => {
                let rest = state
                    .current_length
                    .checked_sub(bytes)
                    .ok_or(state.current_length)?;
                state.transferred += bytes;
                state.remaining += rest;
                // The flush covers what was transferred.
                state.current_length = bytes;
                Ok(())
            }
        });
        counted.map_err(|programmed: usize| {
            let text = format!("WDFDMATRANSACTION {:p}: more bytes are reported than the {programmed:#x} programmed", self.handle());
            trace::error(self.globals(), &text);
            verifier::break_point(self.globals());
            STATUS_INVALID_PARAMETER
        })
    }

    /// Ends the transfer and stages the next one; false if there is none.
    fn go_on(self: &Arc<Self>, completion: Completion) -> Result<bool, NTSTATUS> {
        let scatter_gather = self.enabler.profile().scatter_gather;
        if scatter_gather {
            self.put_list();
        } else {
            self.flush_packet()?;
        }
        let (single, remaining) = self.with(|state| (state.single, state.remaining));
        if single && remaining > 0 {
            trace::error(
                self.globals(),
                &format!("{remaining:#x} bytes remain of a single transfer"),
            );
            return Err(STATUS_WDF_TOO_MANY_TRANSFERS);
        }
        if remaining == 0 || matches!(completion, Completion::Final(_)) {
            return Ok(false);
        }
        if scatter_gather {
            self.stage_list()
        } else {
            self.stage_packets()
        }?;
        Ok(true)
    }

    /// Makes the transaction ready to be initialized again (`ReleaseForReuse`); `force` gives reserved map registers back too.
    pub(super) fn release_for_reuse(&self, force: bool) {
        let phase = self.phase();
        if !force {
            if phase == Phase::Released {
                return trace::warning(
                    self.globals(),
                    &format!("WDFDMATRANSACTION {:p} is released already", self.handle()),
                );
            }
            if phase == Phase::Transfer {
                trace::error(
                    self.globals(),
                    &format!(
                        "WDFDMATRANSACTION {:p} is released while it executes",
                        self.handle()
                    ),
                );
                if self.globals().verifies_since(11) {
                    self.fatal(phase, "the transaction is released while it executes");
                }
            }
        }
        self.with(|state| state.phase = Phase::Released);
        self.release_resources(force);
        self.reset();
        self.clear_request();
    }

    /// Gives map registers or the list back.
    pub(super) fn release_resources(&self, force: bool) {
        if self.enabler.profile().scatter_gather {
            self.put_list();
            self.with(|state| state.adapter = None);
        } else {
            self.release_packet(force);
        }
    }

    fn reset(&self) {
        let single = self.enabler.requires_single_transfer();
        self.with(|state| {
            state.max_fragment = 0;
            state.length = 0;
            state.write = false;
            state.remaining = 0;
            state.transferred = 0;
            state.start = (Mdl::NULL, 0);
            state.current = (Mdl::NULL, 0);
            state.current_length = 0;
            state.single = single;
            state.flags = 0;
            state.context = Ptr::default();
            state.program = None;
            state.reserve = None;
        });
    }

    /// The request of `WdfDmaTransactionInitializeUsingRequest`.
    pub(super) fn set_request(&self, request: &Arc<Request>) {
        self.replace_request(Association::Weak(request.clone()));
    }

    /// The associated request.
    pub(super) fn request(&self) -> Option<Arc<Request>> {
        self.with(|state| match &state.request {
            Association::None => None,
            Association::Weak(request) => Some(request.clone()),
            Association::Strong(request) => Some((**request).clone()),
        })
    }

    fn replace_request(&self, new: Association) {
        let old = self.with(|state| std::mem::replace(&mut state.request, new));
        if let Association::Strong(request) = &old {
            request.release_irp_reference();
        }
        // What `old` holds is given back here, outside of the record.
        drop(old);
    }

    fn reference_request(&self) {
        if let Some(request) = self.request() {
            request.add_irp_reference();
            self.replace_request(Association::Strong(Held::new(&request)));
        }
    }

    /// Drops the reference on the request and keeps the association (`ReleaseButRetainRequest`).
    pub(super) fn release_request(&self) {
        if let Some(request) = self.request() {
            self.replace_request(Association::Weak(request));
        }
    }

    fn clear_request(&self) {
        self.replace_request(Association::None);
    }

    /// Calls EvtProgramDma; its answer is ignored, as in the published source.
    pub(super) fn call_program(&self, list: *mut SCATTER_GATHER_LIST) {
        let (program, context, write) =
            self.with(|state| (state.program, state.context, state.write));
        let Some(program) = program else { return };
        let device = self.enabler.device().handle();
        let direction = if write {
            WdfDmaDirectionWriteToDevice
        } else {
            WdfDmaDirectionReadFromDevice
        };
        // SAFETY: the driver passed the callback; the list lives until the transfer completes.
        driver_call(|| unsafe {
            program(self.handle(), device, context.0.cast(), direction, list)
        });
    }

    /// The transaction a HAL callback was given.
    ///
    /// # Safety
    /// `context` is the address of a transaction that is alive.
    pub(super) unsafe fn from_context(context: *mut c_void) -> Arc<Self> {
        let transaction: *const Self = context.cast();
        // SAFETY: the caller's promise.
        unsafe { Arc::increment_strong_count(transaction) };
        // SAFETY: the count just taken.
        unsafe { Arc::from_raw(transaction) }
    }
}
