//! What I/O verification watches: for every IRP, at which stack locations drivers are called, whether the IRP has
//! passed them again, and how.

use super::packet::iomanager;
use nt_sys::{NTSTATUS, PIRP, STATUS_PENDING};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How an IRP went back up past a location.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passed {
    /// The location was marked pending.
    pub(super) pending: bool,
    /// IoStatus.Status at that moment.
    pub(super) status: NTSTATUS,
}

/// A call of a driver at one location; None until the IRP has gone back up past it.
pub(super) type Call = Arc<Mutex<Option<Passed>>>;

#[derive(Debug, Default)]
struct Flight {
    /// Calls under way by index of their location.
    calls: BTreeMap<i8, Call>,
    /// Allocated with IoAllocateIrp.
    allocated: bool,
}

static FLIGHTS: Mutex<BTreeMap<usize, Flight>> = Mutex::new(BTreeMap::new());

fn flights() -> MutexGuard<'static, BTreeMap<usize, Flight>> {
    FLIGHTS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(call: &Call) -> Option<Passed> {
    *call.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An IRP comes into being, or begins anew.
pub(super) fn begin(irp: PIRP, allocated: bool) {
    let flight = Flight {
        allocated,
        ..Flight::default()
    };
    flights().insert(irp.addr(), flight);
}

/// Whether the IRP is from IoAllocateIrp.
pub(super) fn is_allocated(irp: PIRP) -> bool {
    flights()
        .get(&irp.addr())
        .is_some_and(|flight| flight.allocated)
}

/// Whether a driver still has the IRP.
pub(super) fn is_in_use(irp: PIRP) -> bool {
    flights()
        .get(&irp.addr())
        .is_some_and(|flight| flight.calls.values().any(|call| read(call).is_none()))
}

/// The IRP is freed.
pub(super) fn end(irp: PIRP) {
    flights().remove(&irp.addr());
}

/// IRPs from IoAllocateIrp that were not freed.
pub(crate) fn live() -> usize {
    flights().values().filter(|flight| flight.allocated).count()
}

/// A driver is called at a location. A driver that skipped its location shares it, and its record, with the next.
pub(super) fn call(irp: PIRP, index: i8) -> Call {
    let mut flights = flights();
    let flight = flights.entry(irp.addr()).or_default();
    match flight.calls.get(&index).filter(|call| read(call).is_none()) {
        Some(shared) => shared.clone(),
        None => {
            let call = Call::default();
            flight.calls.insert(index, call.clone());
            call
        }
    }
}

/// The IRP goes up past a location.
pub(super) fn pass(irp: PIRP, index: i8, passed: Passed) {
    if let Some(call) = flights()
        .get(&irp.addr())
        .and_then(|flight| flight.calls.get(&index))
    {
        *call.lock().unwrap_or_else(PoisonError::into_inner) = Some(passed);
    }
}

/// What the dispatch routine of a driver left behind.
pub(super) struct Returned {
    pub(super) irp: PIRP,
    pub(super) routine: usize,
    pub(super) status: NTSTATUS,
    /// The location has been passed, or what it looks like while the IRP is still below or at it: whether it is marked
    /// pending, and whether the IRP is at it (not passed down).
    pub(super) here: Option<(bool, bool)>,
}

/// The pending rules: STATUS_PENDING is returned if and only if the location is marked pending, and otherwise the IRP
/// has been completed with the status returned, or passed down. Codes 0x23D, 0x23E, 0x224, 0x226.
pub(super) fn check_return(call: &Call, returned: &Returned) {
    let Returned {
        irp,
        routine,
        status,
        here,
    } = *returned;
    let stop = |code: u64, why: &str| -> ! {
        let explanation = format!(
            "the dispatch routine {routine:#x} returned {status:#x} for IRP {irp:p}: {why}"
        );
        let status = u64::from(status.cast_unsigned());
        iomanager(
            [code, routine as u64, irp.addr() as u64, status],
            explanation,
        )
    };
    let is_pending = status == STATUS_PENDING;
    match (read(call), here) {
        (Some(passed), _) => {
            if is_pending && !passed.pending {
                stop(0x23D, "the IRP was not marked pending");
            }
            if !is_pending && passed.pending {
                stop(0x23E, "the IRP was marked pending");
            }
            if !is_pending && passed.status != status {
                stop(
                    0x224,
                    &format!("the IRP was completed with {:#x}", passed.status),
                );
            }
        }
        (None, Some((marked, at))) => {
            if is_pending && !marked && at {
                stop(0x23D, "the IRP was not marked pending");
            }
            if !is_pending && marked {
                stop(0x23E, "the IRP was marked pending");
            }
            if !is_pending {
                stop(
                    0x226,
                    "the IRP was neither completed nor is its completion awaited",
                );
            }
        }
        (None, None) => {}
    }
}
