//! Channels of the system DMA controller: what a transfer is told to do, and how the driver hears of its end.
//!
//! The controller interrupts when a channel has come to something; a DPC then calls the completion routines that were
//! passed to MapTransferEx.

use std::collections::{BTreeMap, VecDeque};

use machine_bus::system_dma::{DmaController, DmaEnd, DmaMode, DmaProgram, DmaStop};
use machine_nt::bugcheck::{Stop, stop_machine};
use machine_nt::ke::stack::driver_call;
use machine_nt::sched::{self, Interrupt};
use nt_sys::{
    DMA_COMPLETION_STATUS, NTSTATUS, PDEVICE_OBJECT, PDMA_ADAPTER, PDMA_COMPLETION_ROUTINE, PKDPC,
    PVOID, STATUS_CANCELLED, STATUS_INVALID_PARAMETER, STATUS_SUCCESS,
};

use super::buffer::Run;
use super::deferred::Dpc;
use super::transfer_context::TransferContext;
use super::verifier::Violation;
use super::{Dma, with};

/// The interrupt of the controller.
const VECTOR: u64 = 0xC0;
const IRQL: u8 = 12;

/// The controller's number, as bug checks name it.
const CONTROLLER: u64 = 0;

/// What a description says of a device that a channel serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemChannel {
    /// The channel.
    pub channel: u32,
    /// The request line it serves.
    pub request_line: u32,
    /// Bytes of one access to the device.
    pub width: u8,
    /// When data moves.
    pub mode: DmaMode,
    /// Transfers begin anew at their end.
    pub looped: bool,
    /// Physical address of the device's registers.
    pub device: u64,
}

/// The driver's part of a transfer that is mapped: who is told of its end.
#[derive(Clone, Copy)]
pub struct Completion {
    /// Bytes of the transfer.
    pub length: u64,
    /// It ended with an error.
    pub failed: bool,
    pub adapter: u64,
    pub device: u64,
    pub routine: PDMA_COMPLETION_ROUTINE,
    pub context: PVOID,
}

// SAFETY: the context is the driver's and only handed back to it.
unsafe impl Send for Completion {}

/// Transfers that are mapped, by channel, and those whose end was not reported yet.
#[derive(Default)]
pub struct Transfers {
    mapped: BTreeMap<u32, Completion>,
    ended: VecDeque<(u32, DMA_COMPLETION_STATUS::Type)>,
}

impl Dma {
    fn controller(&self) -> &dyn DmaController {
        self.board
            .dma_controller()
            .unwrap_or_else(|| super::stop_internal("an adapter of a controller that is not there"))
    }

    /// The channel that an adapter is for; `None` for a bus master's.
    pub fn system_channel(&mut self, routine: &'static str, adapter: u64) -> Option<SystemChannel> {
        self.adapter(routine, adapter).description.system
    }
}

impl Dma {
    /// Stops if a driver flushes more than was moved before an error: it takes what it has for data. Only the machine looks
    /// at this.
    fn verify_moved(
        &self,
        routine: &'static str,
        channel: u32,
        transfer: &Completion,
        flushed: u64,
    ) {
        let moved = transfer.length - self.controller().residue(channel);
        if transfer.failed && flushed > moved {
            stop_machine(
                Stop::Misuse,
                format_args!(
                    "{routine}: {flushed} bytes are flushed, and channel {channel} had moved {moved} when its transfer ended with an error"
                ),
            );
        }
    }
}

/// What is to be moved.
pub struct Start<'a> {
    /// Logical addresses and lengths.
    pub ranges: &'a [(u64, u64)],
    /// From the device's registers to the one that is meant.
    pub device_offset: u32,
    /// From memory to the device.
    pub to_device: bool,
    pub routine: PDMA_COMPLETION_ROUTINE,
    pub context: PVOID,
}

/// Whether MapTransferEx may go on: the channel is held by a request that was not stopped, and every access to the
/// device moves bytes that lie together.
pub fn check(routine: &'static str, adapter: u64, runs: &[Run]) -> Result<(), NTSTATUS> {
    with(|dma| {
        let adapter = dma.adapter(routine, adapter);
        let Some(system) = adapter.description.system else {
            return Ok(());
        };
        let Some(channel) = adapter.channel else {
            return Err(STATUS_INVALID_PARAMETER);
        };
        if channel.context.is_some_and(|context| context.is_stopped()) {
            return Err(STATUS_CANCELLED);
        }
        let width = u64::from(system.width);
        let whole =
            |run: &Run| run.physical.is_multiple_of(width) && run.length.is_multiple_of(width);
        if runs.iter().all(whole) {
            Ok(())
        } else {
            Err(STATUS_INVALID_PARAMETER)
        }
    })
}

/// Most ranges that a transfer of an adapter may have.
pub fn most_ranges(adapter: u64) -> usize {
    with(|dma| match dma.system_channel("MapTransferEx", adapter) {
        Some(_) => dma.controller().capabilities().ranges,
        None => usize::MAX,
    })
}

/// Starts the channel of an adapter on what was mapped.
pub fn start(adapter: u64, start: &Start<'_>) {
    with(|dma| {
        let Some(system) = dma.system_channel("MapTransferEx", adapter) else {
            return;
        };
        let device = dma.adapter("MapTransferEx", adapter).channel;
        let completion = Completion {
            length: start.ranges.iter().map(|(_, length)| length).sum(),
            failed: false,
            adapter,
            device: device.map_or(0, |channel| channel.device),
            routine: start.routine,
            context: start.context,
        };
        dma.transfers.mapped.insert(system.channel, completion);
        let program = DmaProgram {
            request_line: system.request_line,
            device: system.device + u64::from(start.device_offset),
            width: system.width,
            to_device: start.to_device,
            mode: system.mode,
            looped: system.looped,
            ranges: start.ranges.to_vec(),
        };
        dma.controller().start(system.channel, program);
    });
}

/// Whether a flush has anything to do: with `length` zero, and nothing mapped by a channel, it has not. Stops if the
/// channel is still running.
pub fn begin_flush(routine: &'static str, adapter: u64, length: u64) -> bool {
    with(|dma| {
        let Some(system) = dma.system_channel(routine, adapter) else {
            return true;
        };
        if !dma.transfers.mapped.contains_key(&system.channel) {
            return length > 0;
        }
        if dma.controller().is_running(system.channel) {
            if dma.config.verifier {
                Violation::ChannelRunning {
                    routine,
                    controller: CONTROLLER,
                    channel: system.channel.into(),
                }
                .raise();
            }
            dma.controller().stop(system.channel);
        }
        if let Some(transfer) = dma.transfers.mapped.remove(&system.channel)
            && dma.config.verifier
        {
            dma.verify_moved(routine, system.channel, &transfer, length);
        }
        dma.transfers
            .ended
            .retain(|(channel, _)| *channel != system.channel);
        true
    })
}

/// CancelMappedTransfer: nothing more is mapped for this context, and what is mapped is stopped.
pub fn cancel(routine: &'static str, adapter: u64, context: TransferContext) -> NTSTATUS {
    with(|dma| {
        let Some(system) = dma.system_channel(routine, adapter) else {
            return STATUS_INVALID_PARAMETER;
        };
        if !context.stop() {
            return STATUS_CANCELLED;
        }
        let held = dma.adapter(routine, adapter).channel;
        if held.is_some_and(|channel| channel.context == Some(context))
            && dma.controller().stop(system.channel) == DmaStop::Stopped
        {
            let cancelled = (system.channel, DMA_COMPLETION_STATUS::DmaCancelled);
            dma.transfers.ended.push_back(cancelled);
            interrupt();
        }
        STATUS_SUCCESS
    })
}

/// ReadDmaCounter: bytes that the present transfer has still to move.
pub fn counter(routine: &'static str, adapter: u64) -> u64 {
    with(|dma| match dma.system_channel(routine, adapter) {
        Some(system) if dma.transfers.mapped.contains_key(&system.channel) => {
            dma.controller().residue(system.channel)
        }
        _ => 0,
    })
}

/// ConfigureAdapterChannel: whether the controller has this function for the adapter's channel.
pub fn configure(routine: &'static str, adapter: u64, function: u32, value: u32) -> bool {
    with(|dma| match dma.system_channel(routine, adapter) {
        Some(system) => dma.controller().configure(system.channel, function, value),
        None => false,
    })
}

/// Takes what channels have come to, if the board has a controller. Called whenever the board was polled.
pub fn collect(controller: Option<&dyn DmaController>) {
    let Some(controller) = controller else { return };
    let ended = controller.take_ended();
    if ended.is_empty() {
        return;
    }
    with(|dma| {
        for (channel, end) in ended {
            let status = match end {
                DmaEnd::Complete | DmaEnd::Period => DMA_COMPLETION_STATUS::DmaComplete,
                DmaEnd::Error => DMA_COMPLETION_STATUS::DmaError,
                DmaEnd::Stopped => DMA_COMPLETION_STATUS::DmaCancelled,
            };
            if let Some(transfer) = dma.transfers.mapped.get_mut(&channel) {
                transfer.failed = end == DmaEnd::Error;
                dma.transfers.ended.push_back((channel, status));
            }
        }
    });
    interrupt();
}

fn interrupt() {
    let interrupt = Interrupt {
        irql: IRQL,
        vector: VECTOR,
        service: std::sync::Arc::new(|| DPC.queue()),
    };
    sched::request_interrupt(0, interrupt);
}

static DPC: Dpc = Dpc::new(report);

/// Calls the completion routines of what has ended.
unsafe extern "win64" fn report(_dpc: PKDPC, _context: PVOID, _first: PVOID, _second: PVOID) {
    while let Some((completion, status)) = with(next_ended) {
        let Some(routine) = completion.routine else {
            continue;
        };
        let (adapter, device) = (completion.adapter, completion.device);
        driver_call(|| {
            // SAFETY: the driver gave this routine for the transfer, which has not been flushed.
            unsafe {
                routine(
                    adapter as PDMA_ADAPTER,
                    device as PDEVICE_OBJECT,
                    completion.context,
                    status,
                )
            }
        });
    }
}

fn next_ended(dma: &mut Dma) -> Option<(Completion, DMA_COMPLETION_STATUS::Type)> {
    loop {
        let (channel, status) = dma.transfers.ended.pop_front()?;
        if let Some(completion) = dma.transfers.mapped.get(&channel) {
            return Some((*completion, status));
        }
    }
}
