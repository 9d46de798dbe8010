//! Map registers that a transaction keeps, and transactions that do not wait for any.
//!
//! A [`Reserved`] transaction exists only with its map registers; a [`Channel`] that [keeps](Channel::keep) it uses them
//! for each of its requests, and [gives them back](Channel::give_back) once, while it works on none. What the framework
//! answers with a bug check (`fxdmatransactionpacket.cpp`: reserving twice, freeing what was never reserved or is in a
//! transfer, reserving anew after a withdrawal) cannot be written: a reservation is made with a transaction of its own,
//! which is deleted if nothing comes of it.

use core::num::NonZeroU32;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use wdk_sys::{PAGE_SIZE, PVOID, WDFDMATRANSACTION};

use super::transaction::{Errand, Idle, Initialized, Transaction};
use super::{Channel, Direction, Enabler};
use crate::{NtStatus, Result, context, ddi, thread};

/// What is to be reserved.
#[derive(Debug, Clone, Copy)]
pub struct Reservation {
    /// For transfers in this direction. An enabler that is not duplex has one adapter, and this does not matter.
    pub direction: Direction,
    /// How many map registers: at most [`Enabler::most_map_registers`].
    pub registers: NonZeroU32,
    /// Not to wait for them.
    pub immediate: bool,
}

/// A transaction that has map registers of its own.
#[derive(Debug)]
#[must_use = "map registers that are lost are lost to the system"]
pub struct Reserved {
    transaction: Transaction<Idle>,
    registers: NonZeroU32,
}

impl Enabler {
    /// Map registers that the longest transfer in this direction needs, wherever in a page it begins. The adapter has as
    /// many. IRQL <= DISPATCH_LEVEL.
    #[must_use]
    pub fn most_map_registers(&self, direction: Direction) -> NonZeroU32 {
        const PAGE: usize = PAGE_SIZE as usize;
        let length = self.fragment_length(direction);
        let pages = length.saturating_add(PAGE - 1).div_ceil(PAGE);
        let pages = u32::try_from(pages).unwrap_or(u32::MAX);
        NonZeroU32::new(pages).unwrap_or(NonZeroU32::MIN)
    }

    /// `WdfDmaTransactionAllocateResources`: a transaction with map registers of its own, and in system mode with the
    /// channel of its direction. Waits for them until `give_up` says so. PASSIVE_LEVEL.
    ///
    /// # Errors
    ///
    /// `STATUS_INVALID_PARAMETER` for more than the adapter has, `STATUS_INSUFFICIENT_RESOURCES` if they are not there and
    /// the reservation is immediate, `STATUS_IO_TIMEOUT` if it was given up, and what `WdfDmaTransactionCreate` returns.
    pub fn reserve(
        &self,
        reservation: Reservation,
        give_up: impl FnMut() -> bool,
    ) -> Result<Reserved> {
        let Reservation {
            direction,
            registers,
            immediate,
        } = reservation;
        if registers > self.most_map_registers(direction) {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let transaction = self.create_transaction()?;
        if immediate {
            transaction.set_immediate();
        }
        match allocate(&transaction, direction, registers, give_up) {
            Ok(()) => Ok(Reserved {
                transaction,
                registers,
            }),
            Err(status) => {
                // One whose reservation was withdrawn can neither reserve again nor be freed.
                transaction.delete();
                Err(status)
            }
        }
    }
}

/// Has map registers reserved for a transaction that has just been made.
fn allocate(
    transaction: &Transaction<Idle>,
    direction: Direction,
    registers: NonZeroU32,
    give_up: impl FnMut() -> bool,
) -> Result<()> {
    let raw = transaction.raw();
    // SAFETY: the transaction is valid, of a packet or system profile, and has reserved nothing.
    let status = unsafe {
        ddi::WdfDmaTransactionAllocateResources(
            raw,
            direction.raw(),
            registers.get(),
            Some(reserved),
            core::ptr::null_mut(),
        )
    };
    NtStatus::from_code(status).ok()?;
    wait(transaction, give_up)
}

/// Waits until the map registers are there, or `give_up` says so and they can still be withdrawn.
fn wait(transaction: &Transaction<Idle>, mut give_up: impl FnMut() -> bool) -> Result<()> {
    let mut too_late = false;
    while !transaction.errand().granted.load(Ordering::Acquire) {
        if !too_late && give_up() {
            // SAFETY: the transaction reserves, and AllocateResources has returned.
            let withdrawn = unsafe { ddi::WdfDmaTransactionCancel(transaction.raw()) } != 0;
            if withdrawn {
                return Err(NtStatus::IO_TIMEOUT);
            }
            // Then EvtReserveDma has been called, or will be.
            too_late = true;
        }
        thread::pause();
    }
    Ok(())
}

/// `EvtReserveDma`: the map registers are there. DISPATCH_LEVEL, perhaps before AllocateResources has returned.
unsafe extern "C" fn reserved(transaction: WDFDMATRANSACTION, _context: PVOID) {
    // SAFETY: the transaction is valid during its callback.
    if let Some(errand) = unsafe { context::get::<Errand>(transaction.cast()) } {
        // The last thing done here: the transaction is with the one who waits from now on.
        errand.granted.store(true, Ordering::Release);
    }
}

impl Transaction<Idle> {
    /// `WdfObjectDelete`: with all that it has reserved. IRQL <= DISPATCH_LEVEL.
    fn delete(self) {
        // SAFETY: the transaction is valid, in no transfer, and this its only owner.
        unsafe { ddi::WdfObjectDelete(self.raw().cast()) };
    }

    fn set_immediate(&self) {
        // SAFETY: the transaction is valid, and in no transfer.
        unsafe { ddi::WdfDmaTransactionSetImmediateExecution(self.raw(), 1) };
    }

    /// `WdfDmaTransactionFreeResources`: who waits for them gets them before this returns. IRQL <= DISPATCH_LEVEL.
    fn free(&self) {
        // SAFETY: the transaction is valid, in no transfer, and has reserved something.
        unsafe { ddi::WdfDmaTransactionFreeResources(self.raw()) };
    }
}

/// How a channel's transactions get their map registers.
#[derive(Debug, Default)]
pub(super) struct Resources {
    /// Map registers of the transaction, 0 if it has none of its own. Changed by the owner of the transaction.
    registers: AtomicU32,
    /// Not to wait for any.
    immediate: AtomicBool,
}

impl Resources {
    /// Each transaction anew: Release forgets it.
    pub(super) fn prepare(&self, transaction: &Transaction<Initialized>) {
        if self.immediate.load(Ordering::Acquire) {
            // SAFETY: the transaction is valid and initialized.
            unsafe { ddi::WdfDmaTransactionSetImmediateExecution(transaction.raw(), 1) };
        }
    }

    fn free(&self, transaction: &Transaction<Idle>) {
        if self.registers.swap(0, Ordering::AcqRel) != 0 {
            transaction.free();
        }
    }
}

impl<R> Channel<R> {
    /// Whether requests do not wait for map registers: they end with `STATUS_INSUFFICIENT_RESOURCES` instead. Any IRQL.
    pub fn is_immediate(&self) -> bool {
        self.resources.immediate.load(Ordering::Acquire)
    }

    /// Whether requests that begin from now on do not wait for map registers. Any IRQL.
    pub fn set_immediate(&self, immediate: bool) {
        self.resources.immediate.store(immediate, Ordering::Release);
    }

    /// Map registers that are the channel's own, 0 if there are none. Any IRQL.
    pub fn map_registers(&self) -> u32 {
        self.resources.registers.load(Ordering::Acquire)
    }

    /// From now on requests use these map registers: they wait for none, and are split as far as need be. What the channel
    /// had before is given back. `reserved` comes from the enabler of the channel. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Errors
    ///
    /// `STATUS_DEVICE_BUSY` if a request is being worked on: the map registers are given back.
    pub fn keep(&self, reserved: Reserved) -> Result<()> {
        let Reserved {
            transaction,
            registers,
        } = reserved;
        let Some(before) = self.slot.take_idle() else {
            transaction.free();
            transaction.delete();
            return Err(NtStatus::DEVICE_BUSY);
        };
        self.resources.free(&before);
        self.handle.exchange(&transaction);
        self.resources
            .registers
            .store(registers.get(), Ordering::Release);
        self.put_idle(transaction);
        before.delete();
        Ok(())
    }

    /// Gives back the map registers of its own, if the channel has any. Who waits for them may get them before this
    /// returns. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Errors
    ///
    /// `STATUS_DEVICE_BUSY` if a request is being worked on: nothing has changed.
    pub fn give_back(&self) -> Result<()> {
        let transaction = self.slot.take_idle().ok_or(NtStatus::DEVICE_BUSY)?;
        self.resources.free(&transaction);
        self.put_idle(transaction);
        Ok(())
    }
}
