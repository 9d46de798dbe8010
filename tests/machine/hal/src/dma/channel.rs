//! The adapter channel: AllocateAdapterChannel, AllocateAdapterChannelEx, and how they end.

use machine_nt::ke::stack::driver_call;
use nt_sys::{
    _IO_ALLOCATION_ACTION, IO_ALLOCATION_ACTION, NTSTATUS, PDEVICE_OBJECT, PDRIVER_CONTROL, PVOID,
    STATUS_INSUFFICIENT_RESOURCES,
};

use super::queue::{Kind, Request, pump, submit};
use super::transfer_context::TransferContext;
use super::verifier::Violation;
use super::with;

/// The AdapterControl routine of a request.
pub struct ChannelRequest {
    /// The routine.
    pub routine: PDRIVER_CONTROL,
    /// Its context.
    pub argument: PVOID,
}

// SAFETY: the context is the driver's and only handed back to it.
unsafe impl Send for ChannelRequest {}

/// What a caller wants, common to both routines.
pub struct Wanted {
    pub adapter: u64,
    pub device: PDEVICE_OBJECT,
    pub registers: u32,
    pub context: Option<TransferContext>,
}

/// Checks a request against the adapter's grant.
pub fn check(routine: &'static str, wanted: &Wanted) -> Result<(), NTSTATUS> {
    let (granted, verifier) = with(|dma| {
        (
            dma.adapter(routine, wanted.adapter).granted,
            dma.config.verifier,
        )
    });
    if wanted.registers <= granted {
        return Ok(());
    }
    if verifier {
        let (required, maximum) = (wanted.registers.into(), granted.into());
        Violation::TooManyMapRegisters {
            routine,
            required,
            maximum,
        }
        .raise();
    }
    Err(STATUS_INSUFFICIENT_RESOURCES)
}

/// Allocates the channel and map registers and calls the routine, now or later.
pub fn allocate(
    wanted: Wanted,
    routine: PDRIVER_CONTROL,
    argument: PVOID,
    synchronous: bool,
) -> NTSTATUS {
    let request = Request {
        adapter: wanted.adapter,
        device: wanted.device as u64,
        registers: wanted.registers,
        context: wanted.context,
        kind: Kind::Channel(ChannelRequest { routine, argument }),
    };
    submit(request, synchronous)
}

/// Stops if the device object already has a version 1 or 2 request of this adapter outstanding: it has room for one.
pub fn verify_single(routine: &'static str, adapter: u64, device: PDEVICE_OBJECT) {
    let outstanding = with(|dma| {
        let device = device as u64;
        let waiting = dma
            .queue
            .iter()
            .filter(|r| r.device == device && r.context.is_none())
            .count();
        let held = dma
            .adapter(routine, adapter)
            .channel
            .is_some_and(|channel| channel.device == device);
        waiting + usize::from(held)
    });
    if outstanding > 0 {
        Violation::ChannelAllocatedTwice {
            routine,
            outstanding: outstanding as u64 + 1,
        }
        .raise();
    }
}

impl ChannelRequest {
    /// Calls the routine and does what it returns. At DISPATCH_LEVEL.
    pub fn run(self, adapter: u64, device: u64, handle: u64) {
        let device = device as PDEVICE_OBJECT;
        let irp = super::list::current_irp(device);
        let Some(routine) = self.routine else { return };
        let action = driver_call(|| {
            // SAFETY: the driver gave this routine for exactly this call.
            unsafe { routine(device, irp, handle as PVOID, self.argument) }
        });
        finish("AdapterControl", adapter, action);
    }
}

/// Gives up what `action` says of the adapter's channel.
pub fn finish(routine: &'static str, adapter: u64, action: IO_ALLOCATION_ACTION) {
    match action {
        _IO_ALLOCATION_ACTION::KeepObject => {}
        _IO_ALLOCATION_ACTION::DeallocateObject => free(routine, adapter),
        _IO_ALLOCATION_ACTION::DeallocateObjectKeepRegisters => {
            verify_idle(routine, adapter);
            take_channel(routine, adapter);
            pump();
        }
        _ => super::stop_internal(format_args!(
            "{routine} returned {action}, which is no IO_ALLOCATION_ACTION"
        )),
    }
}

/// Stops if the channel is one of the system DMA controller and has a transfer: it is kept until the last flush.
fn verify_idle(routine: &'static str, adapter: u64) {
    with(|dma| {
        let adapter = dma.adapter(routine, adapter);
        let held = adapter
            .channel
            .filter(|_| adapter.description.system.is_some());
        let Some(channel) = held else { return };
        let allocation = adapter.allocation(routine, channel.handle);
        let mapped = allocation.mapped();
        if mapped > 0 {
            let maximum = u64::from(allocation.registers.count) * machine_bus::PAGE_SIZE as u64;
            Violation::NotFlushed {
                routine,
                mapped,
                maximum,
            }
            .raise();
        }
    });
}

/// Frees the channel with its map registers.
pub fn free(routine: &'static str, adapter: u64) {
    let handle = take_channel(routine, adapter);
    with(|dma| {
        let (adapter, pool) = dma.adapter_and_pool(routine, adapter);
        // The driver may have freed the map registers by themselves.
        let Some(allocation) = adapter.allocations.remove(&handle) else {
            return;
        };
        if allocation.used > 0 {
            Violation::FreedWhileMapped {
                routine,
                count: allocation.used.into(),
            }
            .raise();
        }
        pool.release(&allocation.registers);
    });
    pump();
}

/// Frees `count` map registers that a routine kept.
pub fn free_map_registers(routine: &'static str, adapter: u64, handle: u64, count: u32) {
    with(|dma| {
        let (adapter, pool) = dma.adapter_and_pool(routine, adapter);
        let held = adapter
            .allocations
            .get(&handle)
            .map_or(0, |allocation| allocation.registers.count);
        match adapter.allocations.remove(&handle) {
            Some(allocation) if held == count && allocation.used > 0 => {
                Violation::FreedWhileMapped {
                    routine,
                    count: allocation.used.into(),
                }
                .raise()
            }
            Some(allocation) if held == count => pool.release(&allocation.registers),
            _ => Violation::MapRegistersFreedTwice {
                base: handle,
                held: held.into(),
                freed: count.into(),
            }
            .raise(),
        }
    });
    pump();
}

/// Takes the channel from whoever holds it and returns its map registers.
fn take_channel(routine: &'static str, adapter: u64) -> u64 {
    with(|dma| match dma.adapter(routine, adapter).channel.take() {
        Some(channel) => channel.handle,
        None => Violation::ChannelFreedTwice { routine }.raise(),
    })
}

/// Withdraws the request with this context; whether there was one, or none yet that has its resources.
pub fn cancel(routine: &'static str, adapter: u64, context: TransferContext) -> bool {
    let cancelled = with(|dma| {
        dma.adapter(routine, adapter);
        let cancelled = context.cancel();
        if cancelled {
            dma.queue.retain(|request| request.context != Some(context));
        }
        cancelled
    });
    if cancelled {
        // The request may have been what those behind it waited for.
        pump();
    }
    cancelled
}
