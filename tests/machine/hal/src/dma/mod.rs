//! DMA adapters and their routines: packet and scatter/gather bus masters, versions 1 to 3, and channels of the system
//! DMA controller.
//!
//! A driver gets a [`DMA_ADAPTER`](nt_sys::DMA_ADAPTER) from `IoGetDmaAdapter` and reaches everything else through its
//! table of [`operations`]. What it may do wrong, [`verifier`] names. Pages a device does not reach are bounced through
//! [`registers`]; data the device wrote is copied back when the transfer is flushed and not before. With an IOMMU, the
//! device's addresses are valid between map and flush only.

mod adapter;
mod buffer;
mod bus;
mod channel;
mod common_buffer;
mod deferred;
mod iova;
mod list;
mod mapping;
mod occupied;
mod operations;
mod queue;
mod registers;
pub(crate) mod system;
mod transfer;
mod transfer_context;
pub(crate) mod verifier;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};

use machine_bus::{Board, FunctionAddress, MemoryError};
use machine_nt::bugcheck::{Stop, stop_machine};
use machine_nt::counters::counters;

use crate::config::Config;
use adapter::{Adapter, Description, Refusal};
use iova::Iova;
use mapping::Machine;
use queue::Request;
use registers::Pool;
use system::Transfers;
use verifier::Violation;

pub use common_buffer::memset;
pub use occupied::{Occupied, occupy};

pub(crate) use bus::get_dma_adapter;
pub(crate) use operations::get_adapter;

use crate::bus_interface::Requester;

/// What a 24-bit device reaches; the map registers lie below it.
const POOL_LIMIT: u64 = 1 << 24;

/// All adapters of the machine and what they share.
struct Dma {
    config: Config,
    board: Arc<dyn Board>,
    pool: Pool,
    iova: Iova,
    adapters: BTreeMap<u64, Adapter>,
    queue: VecDeque<Request>,
    transfers: Transfers,
}

static DMA: Mutex<Option<Dma>> = Mutex::new(None);

/// Sets up the map registers of a machine with this board.
pub fn install(config: Config, board: Arc<dyn Board>) -> Result<(), MemoryError> {
    let pool = Pool::new(board.memory().clone(), config.map_registers, POOL_LIMIT)?;
    let dma = Dma {
        config,
        board,
        pool,
        iova: Iova::default(),
        adapters: BTreeMap::new(),
        queue: VecDeque::new(),
        transfers: Transfers::default(),
    };
    *lock() = Some(dma);
    machine_nt::bugcheck::register_dumper("DMA adapters", Box::new(dump));
    Ok(())
}

/// From now on, every access to a common buffer allocated from now on is a switch point.
pub fn watch_common_buffers() {
    with(|dma| dma.config.watch_common_buffers = true);
}

/// Stops with 0xE6/0x0F if a free map register was written to. For the end of a run.
pub fn check_free_map_registers() {
    with(|dma| dma.pool.check_free());
}

/// The physical device object of the adapters of a function; 0 if it has none.
pub fn device_of(function: FunctionAddress) -> u64 {
    let of_function = |adapter: &&Adapter| adapter.function() == function;
    with(|dma| {
        dma.adapters
            .values()
            .find(of_function)
            .map_or(0, |adapter| adapter.requester.device)
    })
}

fn lock() -> std::sync::MutexGuard<'static, Option<Dma>> {
    DMA.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Runs `f` on the state. `f` calls no driver and passes no switch point.
fn with<R>(f: impl FnOnce(&mut Dma) -> R) -> R {
    match lock().as_mut() {
        Some(dma) => f(dma),
        None => stop_internal("DMA is used before the HAL is installed"),
    }
}

impl Dma {
    /// The adapter a driver passed to `routine`.
    fn adapter(&mut self, routine: &'static str, address: u64) -> &mut Adapter {
        if address == 0 {
            Violation::AdapterNull { routine }.raise();
        }
        match self.adapters.get_mut(&address) {
            Some(adapter) if !adapter.released => adapter,
            _ => Violation::AdapterReleased {
                routine,
                adapter: address,
            }
            .raise(),
        }
    }

    /// An adapter together with the map registers.
    fn adapter_and_pool(
        &mut self,
        routine: &'static str,
        address: u64,
    ) -> (&mut Adapter, &mut Pool) {
        self.adapter(routine, address);
        match self.adapters.get_mut(&address) {
            Some(adapter) => (adapter, &mut self.pool),
            None => stop_internal("an adapter vanished"),
        }
    }

    /// An adapter together with what mapping needs of the rest.
    fn parts(&mut self, routine: &'static str, address: u64) -> (&mut Adapter, Machine<'_>) {
        self.adapter(routine, address);
        let Some(adapter) = self.adapters.get_mut(&address) else {
            stop_internal("an adapter vanished")
        };
        let (function, width) = (adapter.function(), adapter.description.width);
        let device = adapter.requester.device;
        (
            adapter,
            Machine {
                board: &*self.board,
                iova: &mut self.iova,
                function,
                device,
                width,
            },
        )
    }

    /// A new adapter.
    fn create(&mut self, description: Description, requester: Requester) -> &Adapter {
        let needed = description
            .maximum_length
            .div_ceil(machine_bus::PAGE_SIZE as u32)
            .saturating_add(1);
        let granted = self
            .config
            .map_register_grant
            .unwrap_or(needed)
            .min(self.pool.capacity());
        let adapter = Adapter::new(
            description,
            requester,
            granted,
            operations::table(description.version),
        );
        counters().dma_adapters.increment();
        self.adapters.entry(adapter.address).or_insert(adapter)
    }
}

/// Reports why a description gets no adapter: NULL for the caller, except where the verifier stops.
fn refuse(refusal: Refusal, verifier: bool) {
    match refusal {
        Refusal::Version(version) if verifier => Violation::UnknownVersion {
            version: version.into(),
        }
        .raise(),
        Refusal::Version(_)
        | Refusal::Width(_)
        | Refusal::NoLength
        | Refusal::NoController
        | Refusal::Channel
        | Refusal::NoMaster => {}
    }
}

/// Takes a result that only a defect of the machine can make an error.
fn must<T, E: fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| stop_internal(error))
}

/// As [`must`], for guest memory: the addresses come from MDLs, so an error is a mistake of whoever built one.
fn memory_must<T>(result: Result<T, MemoryError>) -> T {
    must(result)
}

fn stop_internal(text: impl fmt::Display) -> ! {
    stop_machine(Stop::Internal, format_args!("DMA: {text}"))
}

/// One line an adapter, as `!dma` shows them.
fn dump(out: &mut dyn fmt::Write) {
    let Ok(guard) = DMA.try_lock() else { return };
    let Some(dma) = guard.as_ref() else { return };
    let _ = writeln!(
        out,
        "  map registers: {} of {} free, {} requests wait",
        dma.pool.free(),
        dma.pool.capacity(),
        dma.queue.len()
    );
    for adapter in dma.adapters.values() {
        let _ = writeln!(out, "  {adapter}");
    }
}
