//! Memory-mapped registers: MmMapIoSpaceEx gives a driver an address at which every access goes to the board.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use machine_bus::Board;
use machine_nt::bugcheck::{Stop, stop_machine};
use machine_nt::sched::{self, Point};
use machine_nt::{counters, trace};
use machine_pe::trap::{self, RegisterSpace};
use nt_sys::{PHYSICAL_ADDRESS, PVOID, SIZE_T, ULONG};

use crate::interrupt::controller;
use crate::quad_part;

/// A mapped range of registers.
struct Registers {
    physical: u64,
    board: Arc<dyn Board>,
}

/// Ranges of functions that are gone: nothing answers there any more.
static GONE: Mutex<Vec<Range<u64>>> = Mutex::new(Vec::new());

/// Mapped ranges: their length by virtual address.
static MAPPED: Mutex<BTreeMap<usize, usize>> = Mutex::new(BTreeMap::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on nothing answers at these physical addresses: reads are all ones, writes go nowhere.
pub fn remove(range: Range<u64>) {
    lock(&GONE).push(range);
}

impl Registers {
    fn is_gone(&self, offset: u64) -> bool {
        let address = self.physical + offset;
        lock(&GONE).iter().any(|range| range.contains(&address))
    }
}

impl RegisterSpace for Registers {
    fn read(&self, offset: u64, size: u8) -> u64 {
        counters().mmio_reads.increment();
        trace::record("register read", offset);
        if self.is_gone(offset) {
            return u64::MAX >> (64 - 8 * u32::from(size));
        }
        self.board
            .read(self.physical + offset, size)
            .unwrap_or_else(|error| stop_machine(Stop::Board, error))
    }

    fn write(&self, offset: u64, size: u8, value: u64) {
        counters().mmio_writes.increment();
        trace::record("register write", offset);
        if self.is_gone(offset) {
            return;
        }
        if let Err(error) = self.board.write(self.physical + offset, size, value) {
            stop_machine(Stop::Board, error);
        }
    }

    fn done(&self) {
        sched::switch_point(Point::Register);
    }
}

/// MmMapIoSpaceEx: NULL if the range is no part of the board's registers.
///
/// # Safety
/// None: the caller may pass anything.
pub unsafe extern "win64" fn map_io_space_ex(
    physical: PHYSICAL_ADDRESS,
    length: SIZE_T,
    _protection: ULONG,
) -> PVOID {
    let physical = quad_part(physical) as u64;
    let board = controller().board().clone();
    let window = board.register_window();
    let inside = physical
        .checked_add(length)
        .is_some_and(|end| physical >= window.start && end <= window.end);
    if length == 0 || !inside {
        return std::ptr::null_mut();
    }
    let length = length as usize;
    match trap::map(length, Arc::new(Registers { physical, board })) {
        Ok(address) => {
            lock(&MAPPED).insert(address as usize, length);
            address.cast()
        }
        Err(error) => crate::stop_internal(error),
    }
}

/// MmUnmapIoSpace.
///
/// # Safety
/// Nothing refers to the range any more.
pub unsafe extern "win64" fn unmap_io_space(address: PVOID, length: SIZE_T) {
    let mapped = lock(&MAPPED).remove(&(address as usize));
    if mapped != Some(length as usize) {
        stop_machine(
            Stop::Internal,
            format_args!(
                "MmUnmapIoSpace: {length:#x} bytes at {address:p} are not what was mapped there"
            ),
        );
    }
    if let Err(error) = trap::unmap(address.cast()) {
        crate::stop_internal(error);
    }
}
